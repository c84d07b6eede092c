"""The chunk's boxes: golden files, the page that describes them, round trips."""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import DamageError, FormatError
from base.media import AudioConfig, StreamConfig, VideoConfig
from chunks import format as chunk_format
from chunks.boxes import walk
from chunks.format import Seal, header_size, pack_config, pack_header, unpack_config, unpack_header
from chunks.reader import ChunkFile
from chunks.records import ChunkHead, ClockState, GapCause
from chunks.recover import scan
from native.crc import crc32c
from native.fragment import Fragment, FragmentBuilder
from native.moof import SEAL_SIZE, SEAL_UUID, SEAL_VERSION
from tests.chunks.media import START_US, Bench, Media, build

GOLDEN = Path(__file__).parent / "golden"
PAGE = Path(__file__).parents[2] / "docs" / "format" / "chunk.md"
SIZES = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i64": "q", "16 bytes": "16s"}
SPS = bytes.fromhex("6742c00ada0a18c8f00884d4")
PPS = bytes.fromhex("68ce3c80")


def head() -> ChunkHead:
    return ChunkHead(
        node=bytes(range(16)), volume=bytes(range(16, 32)), opening=bytes(range(32, 48)), stream_id=7,
        stream_name="gate.main", sequence=3, epoch=2, run=5, start_us=START_US, monotonic_us=123_456_789,
        clock_state=ClockState.SYNCED, clock_error_us=1500, origin_90k=153_000_000_000_000,
        gap_start_us=START_US - 9_000_000, gap_cause=GapCause.OFFLINE,
    )  # fmt: skip


def page_table(section: str) -> list[tuple[str, str]]:
    text = PAGE.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| (\w+) \| ([\w ]+) \|", text, re.M)[1:]


@pytest.mark.parametrize(
    ("section", "fields"),
    [
        ("Head", chunk_format.HEAD_FIELDS),
        ("Seal", chunk_format.SEAL_FIELDS),
        ("Table", chunk_format.TABLE_FIELDS),
    ],
)
def test_the_page_and_the_code_agree(section: str, fields: struct.Struct) -> None:
    rows = page_table(section)
    assert ">" + "".join(SIZES[kind] for _, kind in rows) == fields.format
    if section == "Seal":
        assert tuple(name for name, _ in rows) == Seal._fields


def test_the_page_names_the_constants() -> None:
    text = PAGE.read_text()
    for raw in (chunk_format.HEAD_UUID, SEAL_UUID, chunk_format.TABLE_UUID):
        spelled = raw.hex()
        assert "-".join([spelled[:8], spelled[8:12], spelled[12:16], spelled[16:20], spelled[20:]]) in text
    assert f"Format version {chunk_format.FORMAT_VERSION}." in text
    assert f"{SEAL_SIZE} bytes with its box header" in text
    assert chunk_format.FORMAT_VERSION == SEAL_VERSION == 1
    causes = re.findall(r"^\| (\d+) \| (\w+) \|", text.split("## Causes of gaps")[1], re.M)
    assert [(int(number), name) for number, name in causes] == [(cause, cause.name.lower()) for cause in GapCause]


def golden_fragments() -> list[Fragment]:
    fragments: list[Fragment] = []
    builder = FragmentBuilder("h264", fragments.append, audio_rate_hz=8000, fragment_90k=18_000)
    for i, frame in enumerate((0, 3, 1, 2, 6, 4, 5)):
        nals = (SPS, PPS, b"\x65" + bytes(40)) if i == 0 else (bytes([0x41, frame]) * 9,)
        data = b"".join(len(nal).to_bytes(4, "big") + nal for nal in nals)
        builder.push_video(900_000 + frame * 3600, 10_000_000 + i * 40_000, data, i != 5, 2 if i == 5 else 0)
        for half in range(2):
            builder.push_audio((2 * i + half) * 160, 10_000_000 + i * 40_000, bytes([i, half]) * 80)
    builder.finish()
    return fragments


def golden_chunk() -> bytes:
    config = StreamConfig(VideoConfig("h264", (), (SPS,), (PPS,)), AudioConfig("pcmu", 8000))
    data = pack_header(head(), config)
    table, fragments = chunk_format.TableBuilder(), golden_fragments()
    base = fragments[0].first_dts_90k
    for number, fragment in enumerate(fragments, 1):
        fragment.prepare(
            number=number, stream_id=7, sequence=3, video_base_90k=base, audio_base=0, wall_us=START_US + number,
            end_us=START_US + number + 1, camera_us=START_US - 5, gap_start_us=START_US - 4 if number == 2 else 0,
            gap_end_us=START_US - 3 if number == 2 else 0, gap_cause=3, gap_packets=2, seed=crc32c(head().opening),
        )  # fmt: skip
        table.add(fragment.table_record(len(data)), len(data), key=fragment.key)
        data += fragment.to_bytes(len(data))
    return data + table.footer(head(), len(data), START_US + 10)


def test_golden_chunk() -> None:
    """Bytes of version 1; when this fails, files in the field can no longer be read, or the version must rise."""
    path = GOLDEN / "chunk-v1.mp4"
    made = golden_chunk()
    stored = path.read_bytes()
    table_at = made.index(chunk_format.TABLE_UUID)
    assert made[:table_at] == stored[:table_at]  # zstd may pack the table otherwise in another version
    records = scan(path)
    assert [type(record).__name__ for record in records] == ["ChunkOpened", *["FragmentStored"] * 2, "ChunkSealed"]
    file = ChunkFile(path)
    assert file.head == head()
    table = file.table()
    assert file.sealed
    assert all(file.read_fragment(i, table) for i in range(len(table)))
    assert table.video_size.tolist() == [69, 22, 22, 22, 22, 22, 22]
    assert (table.video_dts + table.video_cts).tolist() == [3600 + 3600 * i for i in (0, 3, 1, 2, 6, 4, 5)]
    assert table.lost_packets.tolist() == [0, 2]


configs = st.builds(
    StreamConfig,
    st.builds(
        VideoConfig,
        st.sampled_from(["h264", "h265"]),
        *[st.lists(st.binary(max_size=50), max_size=4).map(tuple) for _ in range(3)],
    ),
    st.none()
    | st.builds(
        AudioConfig,
        st.sampled_from(["aac", "pcma", "pcmu", "opus", "l16"]),
        st.integers(1, 192_000),
        st.integers(1, 8),
        st.binary(max_size=9),
    ),
)


@given(configs)
def test_configurations_come_back(config: StreamConfig) -> None:
    assert unpack_config(pack_config(config)) == config


def test_headers_come_back() -> None:
    config = StreamConfig(VideoConfig("h264", (), (SPS,), (PPS,)))
    data = pack_header(head(), config)
    assert header_size(data + b"more") == len(data)
    found = unpack_header(data)
    assert (found.head, found.config, found.size) == (head(), config, len(data))


def test_a_newer_format_is_refused() -> None:
    config = StreamConfig(VideoConfig("h264", (), (SPS,), (PPS,)))
    data = bytearray(pack_header(head(), config))
    at = data.index(chunk_format.HEAD_UUID) + 16
    data[at : at + 2] = b"\0\2"
    data[-4:] = crc32c(data[:-4]).to_bytes(4, "big")
    with pytest.raises(FormatError, match="newer"):
        unpack_header(bytes(data))


def test_a_name_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="128"):
        pack_header(replace(head(), stream_name="x" * 129), StreamConfig(VideoConfig("h264", (), (SPS,), (PPS,))))


@given(st.binary(max_size=400))
def test_header_size_never_fails_otherwise(data: bytes) -> None:
    with contextlib.suppress(DamageError):
        assert header_size(data) >= 0


def test_boxes_fill_the_file(bench: Bench, media: Callable[..., Media]) -> None:
    source = media()
    chunk = bench.write(source.config, build(source))
    bench.writer.stop()
    data = chunk.path.read_bytes()
    boxes = list(walk(data))
    assert boxes[-1][2] == len(data)
    kinds = [kind for kind, _, _ in boxes]
    assert kinds == [b"ftyp", b"moov", b"uuid", *[b"prft", b"moof", b"mdat", b"uuid"] * 3, b"uuid", b"mfra"]
    media_bytes = sum(end - start for kind, start, end in boxes if kind == b"mdat")
    assert (len(data) - media_bytes) / 3 < 1200
