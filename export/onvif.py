"""The boxes of the ONVIF Export File Format (release 26.06): who exported what, when it begins, its signature.

Kept true: field by field what the specification lays out (§5.2 suep, §5.3 cstb, §5.6 ipro to cert); the signature's
place is known before the signature is, as it signs the whole file with zeros there.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from chunks.boxes import MAC_UNIX_S, box, full_box

SCHEME_TYPE: Final = b"oeff"
SCHEME_VERSION: Final = 0x0001_0000
FILETIME_UNIX_S: Final = 11_644_473_600  # 1601 to 1970
BRANDS: Final = (b"isom", b"iso6", b"mp41")


@dataclass(frozen=True, slots=True)
class Source:
    """What a track shows, as far as it is known."""

    name: str
    url: str = ""
    mac: str = ""
    line: str = ""


@dataclass(frozen=True, slots=True)
class ExportUnit:
    """Who exported, and when the export began (UTC µs)."""

    name: str
    time_us: int
    operator: str
    url: str = ""
    mac: str = ""


def surveillance_export(unit: ExportUnit, tracks: list[tuple[int, Source]]) -> bytes:
    """SurveillanceExportBox: the exporting unit, and (track id, source) of each track."""
    parts = [_string(unit.name), _string(unit.url), _string(unit.mac)]
    parts += [struct.pack(">Q", unit.time_us // 1_000_000 + MAC_UNIX_S), _string(unit.operator)]
    parts.append(struct.pack(">I", len(tracks)))
    for track, source in tracks:
        parts.append(struct.pack(">H", track))
        parts += [_string(text) for text in (source.name, source.url, source.mac, source.line)]
    return full_box(b"suep", 1, 0, *parts)


def start_times(tracks: list[tuple[int, int]]) -> bytes:
    """CorrectStartTimeBox: (track id, UTC µs of its media time 0)."""
    entries = [struct.pack(">IQ", track, time_us * 10 + FILETIME_UNIX_S * 10_000_000) for track, time_us in tracks]
    return box(b"cstb", struct.pack(">I", len(tracks)), *entries)


def file_meta(suep: bytes, cstb: bytes, signature: bytes, certificate: bytes, information: str) -> bytes:
    """The file's meta box; `signature` is as many zeros as the key has bytes, until it is known."""
    schm = full_box(b"schm", 0, 0, SCHEME_TYPE, struct.pack(">I", SCHEME_VERSION))
    schi = box(b"schi", box(b"sibo", signature), box(b"cert", certificate), box(b"auib", _string(information)))
    ipro = full_box(b"ipro", 0, 0, struct.pack(">H", 1), box(b"sinf", cstb, schm, schi))
    hdlr = full_box(b"hdlr", 0, 0, bytes(4), b"null", bytes(12), b"\0")
    return full_box(b"meta", 0, 0, hdlr, suep, ipro)


def _string(text: str) -> bytes:
    """UTF-8 with its null; a null inside would end it early."""
    return text.replace("\0", " ").encode("utf-8", "replace") + b"\0"
