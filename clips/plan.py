"""What a clip is made of: which fragments and samples of which chunks, and where they lie on the clip's time line.

Kept true: the first picture shown is the first decodable one at or after `start`, the last one begins before `end`;
media is never stretched: inside a run the camera's own clock counts, and each new run starts at its wall time, so an
absence is as long in the clip as it was in the world, unless long frames of sound would get out of step with it.
Fragments known to be damaged, and pictures that need them, are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np

from base.errors import DamageError, IndexDamage, NotFound, UserError
from base.media import AudioConfig, StreamConfig, VideoConfig
from base.units import MEDIA_HZ, format_time, us_to_90k
from chunks.records import Gap, GapCause
from clips.holes import refuse_unexplained
from clips.silence import frame_ticks
from clips.store import ChunkStore, OpenChunk
from clips.tables import Int64s
from index import Snapshot

_RANGES_TOLD: Final = 5  # sub-ranges named when a clip would mix codecs
_APART_S: Final = 0.015  # of the 20 ms that sound may be off
_FRAMES_LOOKED_AT: Final = 64  # to see how long a frame of sound usually is
_FRAMES_S_MIN: Final = 5  # longer frames are none that we know
_PREPARED: Final = 32  # chunks whose tables are unpacked together, so few that none has left memory when its turn comes
REFRESH_90K_MAX: Final = 10 * 90_000  # decoded before the first picture shown where there is no key frame to begin with
_Kind = tuple[str, str, int, int]  # video codec, audio codec, its rate and channels


@dataclass(frozen=True, slots=True)
class Piece:
    """Fragments [first, last) of one chunk, without a break; samples are counted from the chunk's first.

    Times with `_90k` are the chunk's own until `shift_90k` is added, which makes them the clip's media time.
    """

    chunk: OpenChunk
    config: StreamConfig
    first: int
    last: int
    video: tuple[int, int]  # pictures [from, to) in decode order, the first a key frame if there is any
    audio: tuple[int, int]
    shown_90k: int  # presentation time of the first picture shown
    end_90k: int  # presentation time where the last picture ends
    shown_us: int
    end_us: int
    shift_90k: int = 0


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """Pieces in time order and the wall time they cover; `gaps` are the declared absences inside."""

    store: ChunkStore
    stream_id: int
    stream_name: str
    start_us: int  # of the first picture shown
    end_us: int
    pieces: tuple[Piece, ...]
    gaps: tuple[Gap, ...]
    pictures: bool = True  # False: of the tracks only the sound is wanted

    @property
    def video_configs(self) -> list[VideoConfig]:
        """The different picture configurations, in order of appearance."""
        return list(dict.fromkeys(piece.config.video for piece in self.pieces))

    @property
    def audio_configs(self) -> list[AudioConfig]:
        """The different sound configurations, in order of appearance."""
        return list(dict.fromkeys(piece.config.audio for piece in self.pieces if piece.config.audio))

    @property
    def audio(self) -> AudioConfig | None:
        """The sound's configuration; None for a silent clip."""
        return next((piece.config.audio for piece in self.pieces if piece.config.audio), None)

    def only(self, track: str) -> ClipPlan:
        """The same clip with its "video" or its "audio" alone; `NotFound` when it has no sound."""
        if track == "video":
            silent = (replace(p, config=StreamConfig(p.config.video), audio=(0, 0)) for p in self.pieces)
            return replace(self, pieces=tuple(silent))
        if not any(piece.audio[1] > piece.audio[0] for piece in self.pieces):
            raise NotFound(f"{self.stream_name} has no sound in this range; ask for its video", reason="no-footage")
        return replace(self, pictures=False)


def plan(snapshot: Snapshot, store: ChunkStore, stream_id: int, start_us: int, end_us: int) -> ClipPlan:
    """The clip of `stream_id` over wall time [start_us, end_us)."""
    if end_us <= start_us:
        raise UserError("end is not after start; swap them or ask for a later end", reason="bad-range")
    stream = snapshot.stream_by_id(stream_id)
    if stream is None:
        raise NotFound(f"there is no stream {stream_id}; see the list of streams")
    gaps = snapshot.gaps(stream_id, start_us, end_us)
    pieces: list[Piece] = []
    rows = snapshot.chunks(stream_id, start_us, end_us)
    refuse_unexplained(snapshot, store.roots, stream, rows, gaps, start_us, end_us)
    for i, row in enumerate(rows):
        if i % _PREPARED == 0:
            store.prepare(stream.name, rows[i : i + _PREPARED])
        try:
            chunk = store.open(stream.name, row)
            config = chunk.config(snapshot)
        except IndexDamage:
            raise
        except DamageError:
            gaps.append(Gap(stream_id, row.start_us, row.end_us, GapCause.DAMAGE))
            continue
        for first, last in whole_stretches(chunk, store.damaged(row), gaps):
            piece = _cut(chunk, config, first, last, start_us, end_us)
            if piece is not None:
                pieces.append(piece)
    if not pieces:
        raise NotFound(
            f"{stream.name} has no footage from {format_time(start_us)} to {format_time(end_us)}; its timeline says "
            "what there is",
            reason="no-footage",
        )
    placed = tuple(_placed(pieces))
    _refuse_mixed(placed)
    gaps.sort(key=lambda gap: gap.start_us)
    return ClipPlan(store, stream_id, stream.name, placed[0].shown_us, placed[-1].end_us, placed, tuple(gaps))


def whole_stretches(chunk: OpenChunk, damaged: list[int], gaps: list[Gap]) -> Iterator[tuple[int, int]]:
    """Ranges [first, last) of fragments that begin with a key frame, follow one another and hold no damage.

    A chunk that begins without a key frame is of a camera that sends none; it may be entered anywhere, unless its
    first fragment is what is missing. Where fragments are missing in the middle, that becomes one of the gaps.
    """
    table = chunk.table
    has_keys = len(table) == 0 or bool(table.key[0]) or int(table.number[0]) > 1
    bad = np.zeros(len(table.offset), bool)
    bad[[i for i in damaged if i < len(bad)]] = True
    for gap in gaps:
        if gap.cause == GapCause.DAMAGE:
            bad |= (table.wall_us < gap.end_us) & (table.end_us > gap.start_us)
    lost = np.flatnonzero(np.diff(table.number) > 1) + 1
    for i in lost.tolist():
        missing = Gap(chunk.row.stream_id, int(table.end_us[i - 1]), int(table.wall_us[i]), GapCause.DAMAGE)
        if missing not in gaps:
            gaps.append(missing)
    starts = sorted({0, *lost.tolist(), *(np.flatnonzero(bad) + 1).tolist()})
    for first, after in pairwise([*starts, len(bad) + 1]):
        last = after - 1 if after > len(bad) or bad[after - 1] else after
        keys = np.flatnonzero(table.key[first:last])
        if len(keys) and has_keys:
            yield first + int(keys[0]), last
        elif first < last and not has_keys:
            yield first, last


def picture_walls(chunk: OpenChunk, first: int, last: int) -> tuple[Int64s, Int64s]:
    """(presentation time in the chunk, wall time in µs) of each picture of fragments [first, last), in decode order."""
    table = chunk.table
    at = table.video_first[first:last].astype(np.int64)
    counts = table.video_count[first:last].astype(np.int64)
    samples = slice(int(at[0]), int(at[-1] + counts[-1]))
    pts = table.video_dts[samples] + table.video_cts[samples]
    lead = int(table.video_cts[0])  # a fragment's wall time is that of its first decode time plus the chunk's lead
    base = np.repeat(table.video_dts[at] + lead, counts)
    return pts, np.repeat(table.wall_us[first:last], counts) + (pts - base) * 100 // 9


def _cut(chunk: OpenChunk, config: StreamConfig, first: int, last: int, start_us: int, end_us: int) -> Piece | None:
    """The part of fragments [first, last) that [start_us, end_us) shows; None if it shows none of their pictures."""
    table = chunk.table
    if start_us <= int(table.wall_us[first]) and int(table.end_us[last - 1]) <= end_us:
        return _uncut(chunk, config, first, last)
    pts, walls = picture_walls(chunk, first, last)
    shown = np.flatnonzero((walls >= start_us) & (walls < end_us) & (pts >= pts[0]))
    if not len(shown):
        return None
    at = int(table.video_first[first])
    keys = np.flatnonzero(table.video_key[at : at + len(pts)])
    opening = shown[np.argmin(pts[shown])]
    shown_90k = int(pts[opening])
    usable = keys[pts[keys] <= shown_90k]
    decode_from = int(usable[-1]) if len(usable) else int(np.argmax(pts >= shown_90k - REFRESH_90K_MAX))
    decode_to = int(shown[-1]) + 1
    latest = shown[np.argmax(pts[shown])]
    stop_us = min(end_us, int(table.end_us[last - 1]))
    end_90k = int(pts[latest]) + max(1, us_to_90k(stop_us - int(walls[latest])))
    video = (at + decode_from, at + decode_to)
    whole = start_us <= int(walls[0])
    audio = _audio_range(chunk, config.audio, (first, last), shown_90k, end_90k, whole=whole)
    spans = [_fragments_of(table.video_first[first:last], video), _fragments_of(table.audio_first[first:last], audio)]
    touched = [span for span in spans if span is not None]
    return Piece(
        chunk,
        config,
        first + min(span[0] for span in touched),
        first + max(span[1] for span in touched),
        video,
        audio,
        shown_90k,
        end_90k,
        int(walls[opening]),
        max(stop_us, int(walls[latest]) + 1),
    )


def _uncut(chunk: OpenChunk, config: StreamConfig, first: int, last: int) -> Piece:
    """Fragments [first, last) whole."""
    table = chunk.table
    video = int(table.video_first[first]), int(table.video_first[last - 1] + table.video_count[last - 1])
    audio = int(table.audio_first[first]), int(table.audio_first[last - 1] + table.audio_count[last - 1])
    start_us, end_us = int(table.wall_us[first]), int(table.end_us[last - 1])
    shown_90k = int(table.video_dts[video[0]] + table.video_cts[video[0]])
    tail_pts, tail_walls = picture_walls(chunk, last - 1, last)
    latest = int(np.argmax(tail_pts))
    end_90k = int(tail_pts[latest]) + max(1, us_to_90k(end_us - int(tail_walls[latest])))
    heard = audio if config.audio else (0, 0)
    return Piece(chunk, config, first, last, video, heard, shown_90k, end_90k, start_us, end_us)


def _fragments_of(firsts: Int64s, samples: tuple[int, int]) -> tuple[int, int] | None:
    """Which fragments, given their first samples, hold [from, to); None when that is empty."""
    low, high = samples
    if low >= high:
        return None
    return int(np.searchsorted(firsts, low, "right")) - 1, int(np.searchsorted(firsts, high, "left"))


def _audio_range(
    chunk: OpenChunk,
    audio: AudioConfig | None,
    fragments: tuple[int, int],
    start_90k: int,
    end_90k: int,
    *,
    whole: bool,
) -> tuple[int, int]:
    """Audio frames heard from `start_90k` to `end_90k`; with `whole`, from the first one stored."""
    if audio is None:
        return 0, 0
    first, last = fragments
    table = chunk.table
    low = int(table.audio_first[first])
    high = int(table.audio_first[last - 1] + table.audio_count[last - 1])
    dts = table.audio_dts[low:high]
    stop = int(np.searchsorted(dts, end_90k * audio.rate_hz // 90_000, "left"))
    start = 0 if whole else max(0, int(np.searchsorted(dts, start_90k * audio.rate_hz // 90_000, "right")) - 1)
    return low + start, low + max(start, stop)


def _placed(pieces: list[Piece]) -> Iterator[Piece]:
    """The pieces with their `shift_90k`: the first sample's decode time is 0 in the clip."""
    before: Piece | None = None
    heard: Piece | None = None  # the first piece with sound
    zero_90k = zero_us = 0
    for piece in pieces:
        row, dts = piece.chunk.row, piece.chunk.table.video_dts
        if before is None:
            shift = -int(dts[piece.video[0]])
            zero_90k, zero_us = piece.shown_90k + shift, piece.shown_us
        elif before.chunk.row.run == row.run:
            shift = before.shift_90k + row.origin_90k - before.chunk.row.origin_90k
        else:
            shift = zero_90k + us_to_90k(piece.shown_us - zero_us) - piece.shown_90k
        if before is not None:  # a camera clock ahead of the wall must not make pieces overlap
            decoded = int(before.chunk.table.video_dts[before.video[1] - 1]) + before.shift_90k
            last_shown = int(_pts(before).max()) + before.shift_90k
            least = max(decoded + 1 - int(dts[piece.video[0]]), last_shown + 1 - piece.shown_90k)
            shift = max(shift, least)
            if heard is not None and before.chunk.row.run != row.run:
                shift = _on_grid(heard, replace(piece, shift_90k=shift), least)
        before = replace(piece, shift_90k=shift)
        heard = heard or (before if before.audio[1] > before.audio[0] else None)
        yield before


def _on_grid(heard: Piece, piece: Piece, least_90k: int) -> int:
    """The shift of a new run, moved as little as keeps its sound within `_APART_S` of its pictures.

    Sound is played frame after frame whatever its times say, and an absence of sound is filled with whole silent
    frames (`clips.silence`), so it is up to half a frame off.
    """
    config, other, table = piece.config.audio, heard.config.audio, piece.chunk.table
    low, high = piece.audio
    if config is None or other is None or low == high or config.rate_hz != other.rate_hz:
        return piece.shift_90k
    some = slice(low, min(high, low + _FRAMES_LOOKED_AT))
    frame = int(np.median(frame_ticks(config, table.audio_size[some], table.audio_dts[some])))
    if frame > config.rate_hz // _FRAMES_S_MIN:
        return piece.shift_90k
    off = (_audio_ticks(piece, low) - _audio_ticks(heard, heard.audio[0]) + frame // 2) % frame - frame // 2
    apart = int(_APART_S * config.rate_hz)
    for late in (off, off - frame):
        moved = piece.shift_90k - (late - min(max(late, -apart), apart)) * MEDIA_HZ // config.rate_hz
        if moved >= least_90k:
            return moved
    return piece.shift_90k


def _audio_ticks(piece: Piece, sample: int) -> int:
    """Time of an audio frame on the clip's time line, in ticks of its own clock, as `clips.layout` counts them."""
    assert piece.config.audio is not None
    moved = (piece.shift_90k * piece.config.audio.rate_hz + MEDIA_HZ // 2) // MEDIA_HZ
    return int(piece.chunk.table.audio_dts[sample]) + moved


def _pts(piece: Piece) -> Int64s:
    """Presentation times of the last pictures of a piece; 64 are more than any reorder depth."""
    table, (low, high) = piece.chunk.table, piece.video
    tail = slice(max(low, high - 64), high)
    found: Int64s = table.video_dts[tail] + table.video_cts[tail]
    return found


def _refuse_mixed(pieces: tuple[Piece, ...]) -> None:
    """One track has one codec; say which parts can be asked for instead."""
    parts: list[tuple[_Kind, int, int]] = []
    for piece in pieces:
        kind = _kind(piece.config)
        if parts and kind == parts[-1][0]:
            parts[-1] = (kind, parts[-1][1], piece.end_us)
        else:
            parts.append((kind, piece.shown_us, piece.end_us))
    videos, sounds = {kind[0] for kind, _, _ in parts}, {kind[1:] for kind, _, _ in parts if kind[1]}
    if len(videos) == 1 and len(sounds) <= 1:
        return
    told = "; ".join(
        f"{format_time(start)} to {format_time(end)} ({'+'.join(filter(None, kind[:2]))})"
        for kind, start, end in parts[:_RANGES_TOLD]
    )
    more = f" and {len(parts) - _RANGES_TOLD} more" if len(parts) > _RANGES_TOLD else ""
    raise UserError(
        f"the codec changes inside this range and one clip has one; ask for the parts: {told}{more}",
        reason="mixed-codecs",
    )


def _kind(config: StreamConfig) -> _Kind:
    audio = config.audio
    return (config.video.codec, audio.codec, audio.rate_hz, audio.channels) if audio else (config.video.codec, "", 0, 0)
