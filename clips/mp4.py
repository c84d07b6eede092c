"""A clip as one virtual MP4 file: `moov` from frame tables, media from the chunks' fragments, any byte range of it.

Kept true: the same clip has the same bytes and ETag in any process; every media byte is checked in its fragment before
it leaves; nothing but the asked pictures and sounds is in the file. An absence is a jump in the time stamps: players
hold the last picture as long as it lasted (docs/design/clips.md says why no edit list does this).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from typing import Final

import numpy as np

from base.media import StreamConfig
from base.units import MEDIA_HZ
from chunks.boxes import AUDIO_TRACK, VIDEO_TRACK, box, ftyp, full_box, mvhd, trak, walk
from chunks.codecs import dimensions, sample_entry
from clips.layout import Track, lay_out
from clips.plan import ClipPlan
from clips.tables import Parts, sample_parts

Block = bytes | memoryview
_MDAT_HEAD: Final = struct.Struct(">I4sQ")
_SILENCE_BLOCK_BYTES: Final = 1 << 18
_LAYOUT_VERSION: Final = b"clip 4"  # a change of how clips are laid out changes every ETag


class ClipFile:
    """A clip to be read at any offset; made from a plan, it keeps `moov` and where the media lies, not the tables."""

    def __init__(self, plan: ClipPlan) -> None:
        self.start_us = plan.start_us
        self.end_us = plan.end_us
        layout = lay_out(plan)
        self._rows = [piece.chunk.row for piece in plan.pieces]
        self._stream_name = plan.stream_name
        self._store = plan.store
        self._regions = layout.regions
        self._silence = layout.silence.data if layout.silence else b""
        media_bytes = int(layout.regions.start[-1])
        kind = ftyp(b"isom", b"iso6", b"mp41")
        mdat = _MDAT_HEAD.pack(1, b"mdat", media_bytes + _MDAT_HEAD.size)
        self._head = memoryview(_head(kind, plan, layout.video, layout.audio, mdat)).toreadonly()
        self.size = len(self._head) + media_bytes
        self.etag = _etag(plan)

    @property
    def head_bytes(self) -> int:
        """Bytes before the media: all that a player needs to know."""
        return len(self._head)

    @property
    def nbytes(self) -> int:
        """Memory this object holds."""
        regions = self._regions
        return len(self._head) + sum(
            column.nbytes for column in (regions.start, regions.skip, regions.piece, regions.fragment)
        )

    def read(self, start: int, end: int) -> Iterator[Block]:
        """Bytes [start, end) of the file; `DamageError` where a fragment fails its check, before any byte of it."""
        start, end = max(0, start), min(end, self.size)
        head = len(self._head)
        if start < min(end, head):
            yield self._head[start : min(end, head)]
        at, stop = max(start, head) - head, end - head
        if at >= stop:
            return
        bounds = self._regions.start
        part = int(np.searchsorted(bounds, at, "right")) - 1
        held: tuple[int, bytes] = (-1, b"")
        while at < stop:
            part_end = min(int(bounds[part + 1]), stop)
            if at < part_end:
                inside = at - int(bounds[part])
                if part % 3 == 0:
                    yield from self._silent(inside, part_end - at)
                else:
                    if held[0] != part // 3:
                        held = (part // 3, self._fragment(part // 3))
                    first = int(self._regions.skip[part]) + inside
                    yield memoryview(held[1])[first : first + part_end - at]
                at = part_end
            part += 1

    def _silent(self, inside: int, size: int) -> Iterator[Block]:
        """`size` bytes of repeated silent frames, from byte `inside` of their run."""
        frame = self._silence
        block = frame * (_SILENCE_BLOCK_BYTES // len(frame) + 2)
        while size > 0:
            phase = inside % len(frame)
            piece = memoryview(block)[phase : phase + min(size, _SILENCE_BLOCK_BYTES)]
            yield piece
            inside += len(piece)
            size -= len(piece)

    def _fragment(self, index: int) -> bytes:
        chunk = self._store.open(self._stream_name, self._rows[int(self._regions.piece[index])])
        return self._store.fragment(chunk, int(self._regions.fragment[index]))


def _head(kind: bytes, plan: ClipPlan, video: Track | None, audio: Track | None, mdat: bytes) -> bytearray:
    """Everything before the media, `moov` between `kind` and `mdat`; its chunk offsets count from the file's start."""
    last = plan.pieces[-1]
    duration = last.end_90k + last.shift_90k - plan.pieces[0].shown_90k - plan.pieces[0].shift_90k
    shape = max(plan.pieces, key=lambda piece: _area(piece.config)).config
    tracks = []
    if video is not None:
        entries = [sample_entry(config, in_band=False) for config in plan.video_configs]
        tracks.append(_trak(VIDEO_TRACK, shape, entries, video, duration, plan))
    if audio is not None:
        entries = [sample_entry(config, in_band=False) for config in plan.audio_configs]
        sounding = next(piece.config for piece in plan.pieces if piece.config.audio)
        tracks.append(_trak(AUDIO_TRACK, sounding, entries, audio, duration, plan))
    header = mvhd(MEDIA_HZ, duration, AUDIO_TRACK + 1, plan.start_us)
    sizes = [sum(map(len, track)) for track in tracks]
    moov = struct.pack(">I4s", 8 + len(header) + sum(sizes), b"moov")
    head = bytearray().join([kind, moov, header, *(part for track in tracks for part in track), mdat])
    end = len(head) - len(mdat)
    laid_out = [laid for laid in (video, audio) if laid is not None]
    for size, laid in reversed(list(zip(sizes, laid_out, strict=True))):
        count = len(laid.table.chunk_offset)
        offsets = np.frombuffer(head, ">u8", count, end - 8 * count)
        offsets += np.uint64(len(head))
        end -= size
    return head


def _trak(
    track: int, config: StreamConfig, entries: list[bytes], laid: Track, duration_90k: int, plan: ClipPlan
) -> Parts:
    """One track, its sample tables last; its edit list says what of the media is presented, and nothing else."""
    edits = [(laid.empty_90k, -1)] if laid.empty_90k else []
    edits.append((duration_90k - laid.empty_90k, laid.shown_from))
    rows = b"".join(struct.pack(">QqI", length, media, 1 << 16) for length, media in edits)
    made = trak(
        track,
        config,
        b"",
        entries,
        movie_duration=duration_90k,
        media_duration=laid.table.end,
        edits=box(b"edts", full_box(b"elst", 1, 0, struct.pack(">I", len(edits)), rows)),
        created_us=plan.start_us,
    )
    if track == VIDEO_TRACK and laid.timescale != MEDIA_HZ:
        made = _with_timescale(made, laid.timescale)
    tables = sample_parts(laid.table)
    return [_widened(made, sum(map(len, tables))), *tables]


def _widened(made: bytes, more: int) -> bytes:
    """A track whose last box, `stbl`, and all around it, count `more` bytes that will follow."""
    out, at = bytearray(made), 0
    while True:
        size, kind = struct.unpack_from(">I4s", out, at)
        struct.pack_into(">I", out, at, size + more)
        if kind == b"stbl":
            return bytes(out)
        at = next(start - 8 for _, start, end in walk(made, at + 8) if end == len(made))


def _with_timescale(made: bytes, timescale: int) -> bytes:
    """The same track with another number in `mdhd`."""
    _, trak_at, trak_end = next(walk(made))
    mdia = next(start for kind, start, _ in walk(made, trak_at, trak_end) if kind == b"mdia")
    mdhd = next(start for kind, start, _ in walk(made, mdia, trak_end) if kind == b"mdhd")
    at = mdhd + 4 + 16  # version and flags, creation and modification times
    return made[:at] + struct.pack(">I", timescale) + made[at + 4 :]


def _area(config: StreamConfig) -> int:
    width, height = dimensions(config.video)
    return width * height


def _etag(plan: ClipPlan) -> str:
    """A strong tag: every byte follows from which samples of which chunk openings lie where, and how they are laid out.

    The head itself is not hashed: of a 25 h clip it is 17 MB.
    """
    digest = hashlib.blake2b(_LAYOUT_VERSION, digest_size=16)
    for piece in plan.pieces:
        chunk = piece.chunk.file.head
        digest.update(chunk.opening + struct.pack(">4I", chunk.stream_id, chunk.sequence, piece.first, piece.last))
        digest.update(struct.pack(">7q", *piece.video, *piece.audio, piece.shown_90k, piece.end_90k, piece.shift_90k))
    digest.update(struct.pack(">2q?", plan.start_us, plan.end_us, plan.pictures))
    return f'"{digest.hexdigest()}"'
