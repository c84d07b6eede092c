"""The chunk file's own boxes: head, seal, table, and the standard mfra (docs/format/chunk.md).

Kept true: what is here and on that page is the same, a test compares them; numbers are big-endian, as in all of MP4;
every CRC but the head's own is seeded with that of the chunk's opening id, so no other file's bytes pass for ours.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

import zstandard

from base.errors import DamageError, FormatError
from base.media import AUDIO_CODECS, VIDEO_CODECS, AudioConfig, StreamConfig, VideoConfig
from chunks.boxes import VIDEO_TRACK, box, fragmented_moov, ftyp, full_box
from chunks.records import ChunkHead, ClockState, FragmentStored, Gap, GapCause
from native.crc import crc32c
from native.moof import SEAL_SIZE, SEAL_UUID, SEAL_VERSION

FORMAT_VERSION: Final = 1
HEAD_UUID: Final = bytes.fromhex("b0a3a6c11ae841e7a9fab00a9a020e03")
TABLE_UUID: Final = bytes.fromhex("2f6d1692ef1741a1be4d7bef37965baa")
HEAD_FIELDS: Final = struct.Struct(">HH16s16s16sIIIIqqqqqHHII")
SEAL_FIELDS: Final = struct.Struct(">HHIIIQIIqqqqqIHHIIIII")
TABLE_FIELDS: Final = struct.Struct(">HHIIIIq")
TABLE_END: Final = struct.Struct(">QI")
BLOCK_FIELDS: Final = struct.Struct(">II")
BLOCK_BYTES: Final = 64 << 10  # of records, before compression
UUID_BOX: Final = struct.Struct(">I4s16s")
MFRO_BYTES: Final = 16
NTP: Final = struct.Struct(">II")
PRFT_CLOCK: Final = slice(16, 24)  # NTP time in the prft that begins a fragment
NTP_UNIX_S: Final = 2_208_988_800  # 1900 to 1970
PRFT_TIME: Final = slice(24, 32)  # presentation time of the first picture, in the prft that begins a fragment
HEADER_BYTES_MAX: Final = 4 << 20  # more than 32 + 256 parameter sets of ordinary size
TABLE_BYTES_MAX: Final = 256 << 20

assert UUID_BOX.size + SEAL_FIELDS.size == SEAL_SIZE


class Seal(NamedTuple):
    """The fields of a seal box, in file order; `length` is the whole fragment's, `crc` is over all before it."""

    version: int
    flags: int
    stream_id: int
    sequence: int
    number: int
    offset: int
    length: int
    head_length: int
    wall_us: int
    end_us: int
    camera_us: int
    gap_start_us: int
    gap_end_us: int
    gap_packets: int
    gap_cause: int
    incomplete_units: int
    lost_packets: int
    video_samples: int
    audio_samples: int
    media_bytes: int
    crc: int


@dataclass(frozen=True, slots=True)
class Header:
    """The beginning of a chunk file: what it is, and where its first fragment begins."""

    head: ChunkHead
    config: StreamConfig
    size: int
    mended: bool = False  # a bit of it is flipped in the file, and was put right in memory


@dataclass(frozen=True, slots=True)
class Table:
    """A sealed chunk's frame table: fragment records as `Fragment.table_record` makes them."""

    offset: int
    fragments: int
    end_us: int
    records: bytes


def seed_of(head: ChunkHead) -> int:
    """Where this chunk's CRCs start from."""
    return crc32c(head.opening)


def pack_config(config: StreamConfig) -> bytes:
    """The epoch's configuration, byte for byte."""
    video = config.video
    parts = [struct.pack(">B", VIDEO_CODECS.index(video.codec) + 1)]
    for sets in (video.vps, video.sps, video.pps):
        parts.append(struct.pack(">H", len(sets)))
        parts += [struct.pack(">H", len(nal)) + nal for nal in sets]
    audio = config.audio
    if audio is None:
        return b"".join([*parts, b"\0"])
    number = AUDIO_CODECS.index(audio.codec) + 1
    parts.append(struct.pack(">BIBH", number, audio.rate_hz, audio.channels, len(audio.config)) + audio.config)
    return b"".join(parts)


def unpack_config(data: bytes) -> StreamConfig:
    """Inverse of pack_config, on bytes that passed their CRC."""
    at = 1
    kinds: list[tuple[bytes, ...]] = []
    for _ in range(3):
        (count,) = struct.unpack_from(">H", data, at)
        at += 2
        sets = []
        for _ in range(count):
            (size,) = struct.unpack_from(">H", data, at)
            sets.append(data[at + 2 : at + 2 + size])
            at += 2 + size
        kinds.append(tuple(sets))
    video = VideoConfig("h264" if data[0] == 1 else "h265", *kinds)
    if data[at] == 0:
        return StreamConfig(video)
    number, rate_hz, channels, size = struct.unpack_from(">BIBH", data, at)
    codec = AUDIO_CODECS[number - 1]
    return StreamConfig(video, AudioConfig(codec, rate_hz, channels, data[at + 8 : at + 8 + size]))


def pack_header(head: ChunkHead, config: StreamConfig) -> bytes:
    """ftyp, moov and the head box: the bytes before the first fragment."""
    front = ftyp(b"iso6", b"iso6", b"cmfc") + fragmented_moov(config, in_band=True, created_us=head.start_us)
    name, packed = head.stream_name.encode(), pack_config(config)
    if len(name) > 128:
        raise ValueError(f"stream name of {len(name)} bytes; 128 is the most a chunk holds")
    fields = HEAD_FIELDS.pack(
        FORMAT_VERSION, head.clock_state, head.node, head.volume, head.opening, head.stream_id, head.sequence,
        head.epoch, head.run, head.start_us, head.monotonic_us, head.clock_error_us, head.origin_90k,
        head.gap_start_us, head.gap_cause, len(name), len(packed), len(front),
    )  # fmt: skip
    size = UUID_BOX.size + len(fields) + len(name) + len(packed) + 4
    body = front + UUID_BOX.pack(size, b"uuid", HEAD_UUID) + fields + name + packed
    return body + struct.pack(">I", crc32c(body))


def header_size(data: bytes) -> int:
    """How many bytes the header has, read from its first ones; 0 when more are needed to tell."""
    at = 0
    for _ in range(4):
        if at + UUID_BOX.size > len(data):
            return 0
        size, kind, uuid = UUID_BOX.unpack_from(data, at)
        size = int(size)
        if size < 8 or at + size > HEADER_BYTES_MAX:
            break
        at += size
        if kind == b"uuid" and uuid == HEAD_UUID:
            return at
        if kind not in (b"ftyp", b"moov"):
            break
    raise DamageError(
        "this is not a chunk file, or its head is damaged: no head box after ftyp and moov", reason="head"
    )


def unpack_header(data: bytes) -> Header:
    """The header of a chunk file from exactly its bytes (see header_size)."""
    if crc32c(data[:-4]) != int.from_bytes(data[-4:], "big"):
        raise DamageError("the chunk's head fails its CRC", reason="head")
    (front,) = struct.unpack_from(">I", data, _head_at(data) + UUID_BOX.size + HEAD_FIELDS.size - 4)
    at = front + UUID_BOX.size
    (
        version, clock_state, node, volume, opening, stream_id, sequence, epoch, run, start_us, monotonic_us,
        clock_error_us, origin_90k, gap_start_us, gap_cause, name_bytes, config_bytes, _,
    ) = HEAD_FIELDS.unpack_from(data, at)  # fmt: skip
    if version != FORMAT_VERSION:
        raise FormatError(f"chunk format {version}; this version reads {FORMAT_VERSION}, use a newer one")
    at += HEAD_FIELDS.size
    name = data[at : at + name_bytes].decode()
    config = unpack_config(data[at + name_bytes : at + name_bytes + config_bytes])
    head = ChunkHead(
        node, volume, opening, stream_id, name, sequence, epoch, run, start_us, monotonic_us, ClockState(clock_state),
        clock_error_us, origin_90k, gap_start_us, GapCause(gap_cause),
    )  # fmt: skip
    return Header(head, config, len(data))


def _head_at(data: bytes) -> int:
    at = 0
    while data[at + 4 : at + 8] != b"uuid":
        at += int.from_bytes(data[at : at + 4], "big")
    return at


def unpack_seal(data: bytes, at: int = 0) -> Seal | None:
    """The seal box at data[at:], or None when there is none."""
    if at < 0 or len(data) - at < SEAL_SIZE:
        return None
    size, kind, uuid = UUID_BOX.unpack_from(data, at)
    if size != SEAL_SIZE or kind != b"uuid" or uuid != SEAL_UUID:
        return None
    seal = Seal._make(SEAL_FIELDS.unpack_from(data, at + UUID_BOX.size))
    return seal if seal.version == SEAL_VERSION else None


def gap_cause(number: int) -> GapCause:
    """A seal is read before its CRC is: a spoilt or newer cause is none, and the gap stays."""
    try:
        return GapCause(number)
    except ValueError:
        return GapCause.UNKNOWN


def clock_us(fragment: bytes, near_us: int) -> int:
    """What the node's wall clock showed at a fragment's first picture; NTP begins anew every 136 years (2036)."""
    seconds, fraction = map(int, NTP.unpack(fragment[PRFT_CLOCK]))
    era = round((near_us / 1e6 + NTP_UNIX_S - seconds) / (1 << 32))
    return (seconds + (era << 32) - NTP_UNIX_S) * 1_000_000 + (fraction * 1_000_000 + (1 << 31) >> 32)


def stored_record(seal: Seal) -> FragmentStored:
    """What the index is told of a sealed fragment."""
    gap = None
    if seal.gap_end_us > seal.gap_start_us:
        gap = Gap(seal.stream_id, seal.gap_start_us, seal.gap_end_us, gap_cause(seal.gap_cause), seal.gap_packets)
    return FragmentStored(
        seal.stream_id, seal.sequence, seal.number, seal.offset, seal.length, seal.wall_us, seal.end_us,
        bool(seal.flags & 1), seal.video_samples, seal.media_bytes, seal.lost_packets, gap,
    )  # fmt: skip


class TableBuilder:
    """A growing chunk's frame table and key frames, kept small by compressing each BLOCK_BYTES of records."""

    __slots__ = ("_blocks", "_keys", "_open", "_open_bytes", "fragments")

    def __init__(self) -> None:
        self.fragments = 0
        self._blocks: list[bytes] = []
        self._open: list[bytes] = []
        self._open_bytes = 0
        self._keys: list[tuple[int, int]] = []

    def add(self, record: bytes, offset: int, *, key: bool) -> None:
        """One fragment's table record; a key frame's time in the chunk is that of its prft."""
        self.fragments += 1
        self._open.append(record)
        self._open_bytes += len(record)
        if key:
            self._keys.append((int.from_bytes(record[PRFT_TIME], "big"), offset + PRFT_TIME.stop))
        if self._open_bytes >= BLOCK_BYTES:
            self._close_block()

    def _close_block(self) -> None:
        if self._open:
            packed = zstandard.ZstdCompressor(level=3).compress(b"".join(self._open))
            self._blocks.append(BLOCK_FIELDS.pack(self._open_bytes, len(packed)) + packed)
            self._open, self._open_bytes = [], 0

    def footer(self, head: ChunkHead, offset: int, end_us: int) -> bytes:
        """The table box for this place in the file, and mfra."""
        self._close_block()
        size = UUID_BOX.size + TABLE_FIELDS.size + sum(map(len, self._blocks)) + TABLE_END.size
        fields = TABLE_FIELDS.pack(
            FORMAT_VERSION, 0, head.stream_id, head.sequence, self.fragments, len(self._blocks), end_us
        )
        body = b"".join([UUID_BOX.pack(size, b"uuid", TABLE_UUID), fields, *self._blocks, struct.pack(">Q", offset)])
        table = body + struct.pack(">I", crc32c(body, seed_of(head)))
        return table + pack_mfra(self._keys)


def pack_mfra(keys: list[tuple[int, int]]) -> bytes:
    """The chunk's end for players: (presentation time, offset of its moof) of each key frame."""
    entries = b"".join([struct.pack(">QQ3B", time_90k, offset, 1, 1, 1) for time_90k, offset in keys])
    tfra = full_box(b"tfra", 1, 0, struct.pack(">III", VIDEO_TRACK, 0, len(keys)), entries)
    mfro = full_box(b"mfro", 0, 0, struct.pack(">I", 8 + len(tfra) + MFRO_BYTES))
    return box(b"mfra", tfra, mfro)


def unpack_table(data: bytes, offset: int, head: ChunkHead) -> Table:
    """The table box that lies at `offset` of the chunk with this head; DamageError when it is not it."""
    fixed = UUID_BOX.size + TABLE_FIELDS.size
    if len(data) < fixed + TABLE_END.size or UUID_BOX.unpack_from(data)[1:] != (b"uuid", TABLE_UUID):
        raise DamageError("the frame table is not where the chunk's end says", reason="table")
    own_offset, crc = TABLE_END.unpack_from(data, len(data) - TABLE_END.size)
    if crc32c(memoryview(data)[:-4], seed_of(head)) != crc or own_offset != offset:
        raise DamageError("the frame table fails its CRC", reason="table")
    _, _, stream_id, sequence, fragments, blocks, end_us = TABLE_FIELDS.unpack_from(data, UUID_BOX.size)
    if (stream_id, sequence) != (head.stream_id, head.sequence):
        raise DamageError("the frame table is another chunk's", reason="table")
    at, parts = fixed, []
    for _ in range(blocks):
        size, packed = BLOCK_FIELDS.unpack_from(data, at)
        at += BLOCK_FIELDS.size
        parts.append(zstandard.ZstdDecompressor().decompress(data[at : at + packed], max_output_size=size))
        at += packed
    return Table(offset, fragments, end_us, b"".join(parts))
