"""What a camera signed itself (ONVIF Media Signing): an export that ends on a signature, and the judgement of its file.

Kept true: pictures are judged from the bytes of the exported file alone; a signature comes after what it signs, so
where a camera signs, the file goes on to the fragment of the next one behind the range; what is read is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from base.errors import DamageError, NotFound, UserError
from base.media import VideoCodec
from base.units import US, parse_time
from chunks.format import unpack_header, unpack_seal
from chunks.frametable import FrameTable
from clips.plan import ClipPlan, Piece, plan
from clips.recorded import GAP, Picture, connection_of
from clips.store import ChunkStore
from evidence.mediasigning import StreamReport, Trust, verify_stream
from evidence.mediasigning.sei import is_signing_sei
from evidence.mediasigning.units import Kind, header_bytes, kind_of, nals_of
from export.verifier.files import Files, Findings
from export.verifier.video import CHUNK_UUID, Record, fragment_at, read_records
from index import Snapshot
from native.moof import SEAL_SIZE

BEHIND_US: Final = 30 * US  # so far behind the range a signature is looked for
LOOKED_MAX: Final = 64  # fragments in which one is looked for, before the end and behind it
UNITS_MAX: Final = 16  # of the beginning of a connection


def signing_units(codec: VideoCodec, sample: bytes | memoryview) -> Iterator[memoryview]:
    """The NAL units of a sample that carry signatures."""
    for nal in nals_of(sample):
        if kind_of(nal, codec == "h265") is Kind.SEI and is_signing_sei(nal, header_bytes(codec)):
            yield nal


def is_signed(planned: ClipPlan) -> bool:
    """A signature lies in the last fragments of a plan."""
    piece = planned.pieces[-1]
    return any(_has_signature(planned, piece, i) for i in range(piece.last - 1, piece.first - 1, -1)[:LOOKED_MAX])


def signed_until(snapshot: Snapshot, store: ChunkStore, planned: ClipPlan) -> int:
    """Where the fragment with the next signature behind a plan ends, UTC µs; 0 when the camera does not sign."""
    last = planned.pieces[-1]
    end_us = int(last.chunk.table.end_us[last.last - 1])
    try:
        if not is_signed(planned):
            return 0
        behind = plan(snapshot, store, planned.stream_id, end_us, end_us + BEHIND_US)
    except (NotFound, DamageError, UserError):
        return 0
    place = last.chunk.row.sequence, int(last.chunk.table.number[last.last - 1])
    following = [(one, i) for one in behind.pieces for i in range(one.first, one.last)]
    for piece, i in following[: 2 * LOOKED_MAX]:
        now = piece.chunk.row.sequence, int(piece.chunk.table.number[i])
        if now <= place:
            continue
        if now not in ((place[0], place[1] + 1), (place[0] + 1, 1)) or piece.config != last.config:
            return 0  # what follows does not join
        if _has_signature(behind, piece, i):
            return int(piece.chunk.table.end_us[i])
        place = now
    return 0


def first_signatures(snapshot: Snapshot, store: ChunkStore, planned: ClipPlan) -> list[bytes]:
    """Signing units of the first fragment of the connection: cameras may send their certificate only there."""
    row = connection_of(snapshot, [piece.chunk.row for piece in planned.pieces[:1]])
    if row is None:
        return []
    try:
        chunk = store.open(planned.stream_name, row)
        data = chunk.read_fragment(0)
    except DamageError:
        return []
    codec = chunk.file.config.video.codec
    found = [
        bytes(nal) for _, sample in _pictures(chunk.table.first(1), data, 0) for nal in signing_units(codec, sample)
    ]
    return found[:UNITS_MAX]


def _has_signature(planned: ClipPlan, piece: Piece, i: int) -> bool:
    try:
        data = planned.store.fragment(piece.chunk, i)
    except DamageError:
        return False
    codec, table = piece.config.video.codec, piece.chunk.table
    return any(True for _, sample in _pictures(table, data, i) for _ in signing_units(codec, sample))


def _pictures(table: FrameTable, data: bytes, i: int) -> Iterator[Picture]:
    """The pictures of a fragment, from its bytes and its row of a table."""
    first, count = int(table.video_first[i]), int(table.video_count[i])
    at, view = int(table.head_length[i]), memoryview(data)
    for k in range(first, first + count):
        behind_us = (int(table.video_dts[k]) - int(table.video_dts[first])) * 100 // 9
        yield int(table.wall_us[i]) + behind_us, view[at : at + int(table.video_size[k])]
        at += int(table.video_size[k])


def judge_file(path: str, document: dict[str, Any], trust: Trust) -> StreamReport:
    """What the camera's own signatures say of an exported stream."""
    exported = _Exported(path, document)
    codec = document["epochs"][0]["codec"]
    start_us, end_us = (exported.asked_us[word] for word in ("start", "end"))
    prefix = (bytes.fromhex(unit) for unit in document.get("camera_signing", {}).get("first_units", []))
    known = [len(unit).to_bytes(4, "big") + unit for unit in prefix]
    return verify_stream(exported.pictures(), codec, trust, start_us=start_us, end_us=end_us, known=known)


class _Exported:
    """The pictures of an exported file."""

    def __init__(self, path: str, document: dict[str, Any]) -> None:
        self._files, self._name = Files(path, Findings()), document["file"]
        self._records = read_records(self._files, document["fragments"])
        self.asked_us = {word: parse_time(document["shown"][word]) for word in ("start", "end")}

    def pictures(self) -> Iterator[Picture]:
        """In order; GAP where something is known to be missing, or cannot be read."""
        at = run = -1
        number = 0
        for record in self._records:
            between = self._files.read(self._name, max(at, 0), max(0, record.offset - max(at, 0)))
            place = between.find(b"uuid" + CHUNK_UUID)
            if place >= 4:
                try:
                    now = unpack_header(between[place + 20 :]).head
                    if now.run != run or now.gap_start_us:
                        yield record.start_us, GAP
                    run = now.run
                except DamageError:
                    yield record.start_us, GAP
            elif record.number != number + 1:
                yield record.start_us, GAP
            at, number = record.offset + record.length, record.number
            yield from self._fragment(record)

    def _fragment(self, record: Record) -> Iterator[Picture]:
        data = self._files.read(self._name, record.offset, record.length)
        parts = fragment_at(data)
        if parts is None or parts[2] != len(data):
            yield record.start_us, GAP
            return
        head, media, _ = parts
        frame = data[28 : 28 + head + SEAL_SIZE]
        seal = unpack_seal(frame, head)
        try:
            table = FrameTable.from_records(frame)
        except DamageError:
            yield record.start_us, GAP
            return
        if seal is not None and seal.gap_end_us > seal.gap_start_us:
            yield record.start_us, GAP
        yield from _pictures(table, data[28 : 28 + head] + data[media:], 0)
