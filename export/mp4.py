"""One stream's evidence file: whole stored fragments in an MP4 after the ONVIF Export File Format (see docs/format).

Kept true: every stored fragment that a picture of the range lies in is in the file, whole and in order; beside each one
stand the bytes that make the stored fragment again, so the recorder's own hash of it can be checked from the file
alone; memory is that of some fragments, whatever the range; what is signed is the file with zeros for its signature.
"""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Final, NamedTuple, Protocol

import msgspec
import numpy as np

from base.errors import DamageError
from base.units import ticks_to_us
from chunks.boxes import AUDIO_TRACK, VIDEO_TRACK, box
from chunks.format import pack_mfra
from clips.fragmented import FragmentedClip
from clips.plan import ClipPlan, Piece
from clips.store import OpenChunk
from export.onvif import BRANDS, ExportUnit, Source, file_meta, start_times, surveillance_export
from export.verifier.video import CHUNK_UUID, ORIGIN_UUID
from native.moof import SEAL_SIZE

_READ_AHEAD: Final = 4  # fragments read, checked and hashed beside the one that is written


class Signer(Protocol):
    """Signs a file's SHA-256 by RSASSA-PSS with a salt of 20 bytes."""

    @property
    def certificate(self) -> bytes:
        """X.509, DER."""

    @property
    def signature_bytes(self) -> int:
        """Length of a signature."""

    def sign_digest(self, digest: bytes) -> bytes:
        """The signature of a SHA-256 digest."""


class FragmentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A fragment as exported: where it lies in the file, which stored one it is, and the recorder's hash of that."""

    n: int  # from 1, in this file
    offset: int  # of the boxes that belong to it: origin, moof, mdat
    length: int
    sequence: int  # of the chunk
    number: int  # in the chunk
    start_us: int
    end_us: int
    key: bool
    leaf: str  # SHA-256 of 0x00 and the stored fragment
    frame: str  # SHA-256 of the boxes without the media
    pictures: int
    lost_packets: int = 0
    incomplete_units: int = 0
    camera_us: int = 0


class FileSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a finished file is; front and tail are what stands before the first and after the last fragment."""

    bytes: int
    sha256: str
    front_bytes: int
    front_sha256: str
    tail_bytes: int
    tail_sha256: str
    signed_sha256: str  # of the file with zeros for its signature: what the signature signs
    fragments: int
    pictures: int
    hidden_us: int  # decoded before the first picture shown
    origin_us: int  # UTC of media time 0


class _Read(NamedTuple):
    piece: Piece
    i: int
    until_90k: int
    data: bytes
    leaf: str


def whole_fragments(plan: ClipPlan) -> ClipPlan:
    """The same range, with every stored fragment it touches kept whole; what is shown stays the same."""
    return replace(plan, pieces=tuple(_whole(piece) for piece in plan.pieces))


def _whole(piece: Piece) -> Piece:
    table = piece.chunk.table
    first = int(np.searchsorted(table.video_first, piece.video[0], "right")) - 1
    end = piece.last - 1
    video = int(table.video_first[first]), int(table.video_first[end] + table.video_count[end])
    audio = int(table.audio_first[first]), int(table.audio_first[end] + table.audio_count[end])
    return replace(piece, first=first, video=video, audio=audio if piece.config.audio else (0, 0))


class StreamFile:
    """The evidence file of a plan. `parts` can be run once; `summary` is there when it is done."""

    def __init__(
        self,
        plan: ClipPlan,
        *,
        unit: ExportUnit,
        source: Source,
        signer: Signer,
        information: str,
        record: Callable[[FragmentRecord], None],
        shown_until_us: int = 0,
    ) -> None:
        self.plan = whole_fragments(plan)
        self.summary: FileSummary | None = None
        self._clip = FragmentedClip(self.plan, brands=BRANDS, shown_until_us=shown_until_us)
        self._unit, self._source, self._signer, self._information = unit, source, signer, information
        self._record = record
        self._hash = hashlib.sha256()
        self._offset = 0
        self._keys: list[tuple[int, int]] = []

    @property
    def origin_us(self) -> int:
        """UTC of media time 0, where decoding begins."""
        return self.plan.start_us - ticks_to_us(self._clip.hidden_90k)

    def parts(self) -> Iterator[bytes | memoryview]:
        """The file's bytes, in order."""
        front = self._clip.init()
        yield self._put(front)
        number = pictures = 0
        chunk: OpenChunk | None = None
        for read in self._read_ahead():
            if read.piece.chunk is not chunk:
                chunk = read.piece.chunk
                yield self._put(chunk_box(chunk))
            number += 1
            pictures += int(chunk.table.video_count[read.i])
            offset = self._offset
            parts = self._fragment(number, read)
            for part in parts:
                yield self._put(part)
            frame = hashlib.sha256(parts[0]).hexdigest()
            self._record(_record(number, offset, self._offset - offset, read, frame))
        yield from self._end(front, number, pictures)

    def _put(self, part: bytes | memoryview) -> bytes | memoryview:
        self._hash.update(part)
        self._offset += len(part)
        return part

    def _fragment(self, number: int, read: _Read) -> list[bytes | memoryview]:
        """Origin, moof and mdat of one stored fragment."""
        piece, i, data = read.piece, read.i, read.data
        head_bytes = int(piece.chunk.table.head_length[i])
        parts = self._clip.fragment(number, piece, i, read.until_90k, data)
        if sum(len(part) for part in parts[1:]) != len(data) - head_bytes - SEAL_SIZE:
            raise DamageError(
                f"{piece.chunk.file.path}: a fragment holds bytes that are no samples; run `keyreel check`"
            )
        origin = origin_box(data, head_bytes)
        if piece.chunk.table.key[i]:
            table, first = piece.chunk.table, int(piece.chunk.table.video_first[i])
            at_90k = int(table.video_dts[first] + table.video_cts[first]) + piece.shift_90k + self._clip.lead_90k
            self._keys.append((at_90k, self._offset + len(origin)))
        return [origin + bytes(parts[0]), *parts[1:]]

    def _end(self, front: bytes, number: int, pictures: int) -> Iterator[bytes]:
        """meta with the signature, and mfra; the hash of zeros and the hash of the file part here."""
        tracks = [VIDEO_TRACK, *([AUDIO_TRACK] if self.plan.audio else [])]
        suep = surveillance_export(self._unit, [(track, self._source) for track in tracks])
        cstb = start_times([(track, self.origin_us) for track in tracks])
        zeros = bytes(self._signer.signature_bytes)
        cert = self._signer.certificate
        mfra = pack_mfra(self._keys)
        signed = self._hash.copy()
        signed.update(file_meta(suep, cstb, zeros, cert, self._information) + mfra)
        signature = self._signer.sign_digest(signed.digest())
        assert len(signature) == len(zeros)
        tail = file_meta(suep, cstb, signature, cert, self._information) + mfra
        yield bytes(self._put(tail))
        self.summary = FileSummary(
            bytes=self._offset,
            sha256=self._hash.hexdigest(),
            front_bytes=len(front),
            front_sha256=hashlib.sha256(front).hexdigest(),
            tail_bytes=len(tail),
            tail_sha256=hashlib.sha256(tail).hexdigest(),
            signed_sha256=signed.hexdigest(),
            fragments=number,
            pictures=pictures,
            hidden_us=ticks_to_us(self._clip.hidden_90k),
            origin_us=self.origin_us,
        )

    def _read_ahead(self) -> Iterator[_Read]:
        """The stored fragments in order; a thread reads, checks and hashes the next ones meanwhile."""
        waiting: deque[Future[_Read]] = deque()
        with ThreadPoolExecutor(1, "export-read") as pool:
            try:
                for piece, i, until_90k in self._clip.stored():
                    waiting.append(pool.submit(self._read, piece, i, until_90k))
                    if len(waiting) > _READ_AHEAD:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _read(self, piece: Piece, i: int, until_90k: int) -> _Read:
        data = self.plan.store.fragment(piece.chunk, i)
        leaf = hashlib.sha256(b"\0")
        leaf.update(data)
        return _Read(piece, i, until_90k, data, leaf.hexdigest())


def chunk_box(chunk: OpenChunk) -> bytes:
    """The stored chunk's own header, byte for byte, before its first fragment in the file."""
    return box(b"uuid", CHUNK_UUID, chunk.file.read_header())


def origin_box(data: bytes, head_bytes: int) -> bytes:
    """What is stored around a fragment's media: its head (prft, moof, mdat header) and its seal."""
    return box(b"uuid", ORIGIN_UUID, struct.pack(">I", head_bytes), data[:head_bytes], data[-SEAL_SIZE:])


def _record(number: int, offset: int, length: int, read: _Read, frame: str) -> FragmentRecord:
    table, i = read.piece.chunk.table, read.i
    return FragmentRecord(
        n=number,
        offset=offset,
        length=length,
        sequence=read.piece.chunk.row.sequence,
        number=int(table.number[i]),
        start_us=int(table.wall_us[i]),
        end_us=int(table.end_us[i]),
        key=bool(table.key[i]),
        leaf=read.leaf,
        frame=frame,
        pictures=int(table.video_count[i]),
        lost_packets=int(table.lost_packets[i]),
        incomplete_units=int(table.incomplete_units[i]),
        camera_us=int(table.camera_us[i]),
    )
