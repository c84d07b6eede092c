"""Media for chunks made without a camera."""

from __future__ import annotations

from tests.chunks.conftest import media  # noqa: F401 (a fixture)
