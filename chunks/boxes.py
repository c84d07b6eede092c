"""ISO base media boxes (ISO/IEC 14496-12): building them, walking them, and the moov that chunks and clips share.

Kept true: every time and duration field is written in its 64-bit version; a walk never reads past the bytes given.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final

from base.media import StreamConfig
from base.units import MEDIA_HZ
from chunks.codecs import dimensions, sample_entry

VIDEO_TRACK: Final = 1
AUDIO_TRACK: Final = 2
MAC_UNIX_S: Final = 2_082_844_800  # 1904-01-01 to 1970-01-01
MATRIX: Final = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_LANGUAGE_UND: Final = 0x55C4
KEY_FLAGS: Final = 0x02000000
NOT_KEY_FLAGS: Final = 0x01010000


def box(kind: bytes, *payload: bytes | bytearray | memoryview) -> bytes:
    """One box; beyond 4 GiB with the 64-bit size."""
    body = b"".join(payload)
    if len(body) + 8 < 1 << 32:
        return struct.pack(">I4s", len(body) + 8, kind) + body
    return struct.pack(">I4sQ", 1, kind, len(body) + 16) + body


def full_box(kind: bytes, version: int, flags: int, *payload: bytes | bytearray | memoryview) -> bytes:
    """A box with version and flags."""
    return box(kind, struct.pack(">I", version << 24 | flags), *payload)


def walk(data: bytes | memoryview, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start of payload, end) of each whole box in data[start:end]; stops at the first that does not fit."""
    at, stop = start, len(data) if end is None else min(end, len(data))
    while at + 8 <= stop:
        size, kind = struct.unpack_from(">I4s", data, at)
        payload = at + 8
        if size == 1 and at + 16 <= stop:
            (size,) = struct.unpack_from(">Q", data, payload)
            payload += 8
        if size < payload - at or at + size > stop:
            return
        yield kind, payload, at + size
        at += size


def ftyp(major: bytes, *compatible: bytes) -> bytes:
    """File type: what reader it is for."""
    return box(b"ftyp", major, bytes(4), major, *compatible)


def mvhd(timescale: int, duration: int, next_track: int, created_us: int = 0) -> bytes:
    """Movie header."""
    made = created_us // 1_000_000 + MAC_UNIX_S if created_us else 0
    fields = struct.pack(">QQIQIH10x", made, made, timescale, duration, 0x10000, 0x100)
    return full_box(b"mvhd", 1, 0, fields, MATRIX, bytes(24), struct.pack(">I", next_track))


def trak(
    track: int,
    config: StreamConfig,
    tables: bytes,
    entries: Sequence[bytes],
    *,
    movie_duration: int = 0,
    media_duration: int = 0,
    edits: bytes = b"",
    created_us: int = 0,
) -> bytes:
    """A track with its sample entries and `tables`, the boxes of stbl after stsd; `edits` is an edts box or empty."""
    audio = config.audio if track == AUDIO_TRACK else None
    made = created_us // 1_000_000 + MAC_UNIX_S if created_us else 0
    width, height = (0, 0) if audio else dimensions(config.video)
    header = struct.pack(">QQIIQ8xHHHH", made, made, track, 0, movie_duration, 0, 0, 0x100 if audio else 0, 0)
    tkhd = full_box(b"tkhd", 1, 3, header, MATRIX, struct.pack(">II", width << 16, height << 16))
    rate = audio.rate_hz if audio else MEDIA_HZ
    mdhd = full_box(b"mdhd", 1, 0, struct.pack(">QQIQHH", made, made, rate, media_duration, _LANGUAGE_UND, 0))
    handler, name = (b"soun", b"audio\0") if audio else (b"vide", b"video\0")
    hdlr = full_box(b"hdlr", 0, 0, bytes(4), handler, bytes(12), name)
    kind = full_box(b"smhd", 0, 0, bytes(4)) if audio else full_box(b"vmhd", 0, 1, bytes(8))
    dinf = box(b"dinf", full_box(b"dref", 0, 0, struct.pack(">I", 1), full_box(b"url ", 0, 1)))
    stsd = full_box(b"stsd", 0, 0, struct.pack(">I", len(entries)), *entries)
    minf = box(b"minf", kind, dinf, box(b"stbl", stsd, tables))
    return box(b"trak", tkhd, edits, box(b"mdia", mdhd, hdlr, minf))


def empty_tables() -> bytes:
    """The tables of a track whose samples are all in fragments."""
    nothing = bytes(4)
    return (
        full_box(b"stts", 0, 0, nothing)
        + full_box(b"stsc", 0, 0, nothing)
        + full_box(b"stsz", 0, 0, nothing, nothing)
        + full_box(b"stco", 0, 0, nothing)
    )


def fragmented_moov(config: StreamConfig, *, in_band: bool, created_us: int = 0) -> bytes:
    """moov with mvex: one video track, an audio track where there is audio, samples in fragments only."""
    tracks = [
        trak(VIDEO_TRACK, config, empty_tables(), [sample_entry(config.video, in_band=in_band)], created_us=created_us)
    ]
    extends = [full_box(b"trex", 0, 0, struct.pack(">5I", VIDEO_TRACK, 1, 0, 0, NOT_KEY_FLAGS))]
    if config.audio is not None:
        entry = sample_entry(config.audio, in_band=in_band)
        tracks.append(trak(AUDIO_TRACK, config, empty_tables(), [entry], created_us=created_us))
        extends.append(full_box(b"trex", 0, 0, struct.pack(">5I", AUDIO_TRACK, 1, 0, 0, KEY_FLAGS)))
    header = mvhd(MEDIA_HZ, 0, len(tracks) + 1, created_us)
    return box(b"moov", header, *tracks, box(b"mvex", *extends))


def init_segment(config: StreamConfig, *, in_band: bool = False, created_us: int = 0) -> bytes:
    """ftyp and moov of a fragmented stream, as players fetch it first."""
    return ftyp(b"iso6", b"cmfc", b"mp41") + fragmented_moov(config, in_band=in_band, created_us=created_us)
