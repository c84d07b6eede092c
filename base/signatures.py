"""What each stream's camera last signed, so that it is noticed when one that signed no longer does.

    DATA/camera-signatures.json   {"<stream>": {"verdict": "authentic", "signed_us": …, "stopped_us": 0, …}}

Kept true: the file is read and replaced under a lock, by any number of processes; one that cannot be read means that no
camera was ever seen to sign.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from base.datadir import replace_synced
from base.identities import locked

DAY_US: Final = 86_400_000_000
FILE_NAME: Final = "camera-signatures.json"


class CameraSignature(msgspec.Struct, kw_only=True, frozen=True):
    """The last look at a camera's own signatures."""

    verdict: str  # authentic, authentic-with-missing-units, not-authentic, not-signed, not-covered
    reason: str = ""  # short stable word
    detail: str = ""
    provenance: str = ""  # trusted, untrusted, not-valid-then, no-anchors; empty without a good signature
    subject: str = ""  # of the certificate
    key: str = ""  # SHA-256 of the certificate
    start_us: int = 0  # of the pictures that were judged
    end_us: int = 0
    signed_us: int = 0  # newest pictures in which the camera's signatures were seen, 0 never
    stopped_us: int = 0  # first pictures without any, of a camera that signed before; 0 it did not, or signs


def read_signatures(folder: Path) -> dict[str, CameraSignature]:
    """By stream, as they were last seen."""
    try:
        return msgspec.json.decode((folder / FILE_NAME).read_bytes(), type=dict[str, CameraSignature])
    except (OSError, msgspec.DecodeError, msgspec.ValidationError):
        return {}


def remember(folder: Path, stream: str, seen: CameraSignature, signs: bool) -> tuple[CameraSignature, CameraSignature]:
    """(what was known before, what is known now) when a stream was looked at again.

    Of cameras that never signed nothing is kept, and the file is written only for what matters after a restart.
    """
    path = folder / FILE_NAME
    with locked(path):
        known = read_signatures(folder)
        before = known.get(stream, CameraSignature(verdict=""))
        signed_us = seen.end_us if signs else before.signed_us
        stopped_us = 0 if signs or not before.signed_us else before.stopped_us or seen.start_us
        now = msgspec.structs.replace(seen, signed_us=signed_us, stopped_us=stopped_us)
        if now.signed_us and _matter(now) != _matter(before):
            _write(path, known | {stream: now})
    return before, now


def forget(folder: Path, streams: Iterable[str]) -> None:
    """What these streams' cameras signed is of no account any more."""
    path = folder / FILE_NAME
    with locked(path):
        known = read_signatures(folder)
        left = {name: one for name, one in known.items() if name not in set(streams)}
        if len(left) < len(known):
            _write(path, left)


def _matter(one: CameraSignature) -> tuple[str | int, ...]:
    return one.verdict, one.reason, one.provenance, one.key, one.stopped_us, one.signed_us // DAY_US


def _write(path: Path, known: dict[str, CameraSignature]) -> None:
    replace_synced(path, msgspec.json.format(msgspec.json.encode(dict(sorted(known.items())))))
