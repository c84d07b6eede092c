"""The command `keyreel`: configuration, wiring of the programs, and everything the operator types."""

from __future__ import annotations

from importlib import metadata


def version() -> str:
    """The installed version, or a marked guess when run from a bare source tree."""
    try:
        return metadata.version("keyreel")
    except metadata.PackageNotFoundError:
        return "0+source"
