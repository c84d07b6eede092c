"""A plan laid out as a file: one video and one audio track as numpy columns, and where each byte comes from.

Kept true: per fragment the file holds silence that is due before it, then its pictures, then its sounds; offsets count
from the start of the media data. Nothing here touches a disk, and no step is per sample in Python.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from base.units import MEDIA_HZ
from clips.plan import ClipPlan, Piece
from clips.silence import SilentFrame, frame_ticks, silence_before, silent_frame
from clips.tables import DELTA_MAX, Column, Int64s, TrackTable, steps


@dataclass(frozen=True, slots=True)
class Track:
    """One track: its samples, its clock, and which part of its media time is presented."""

    table: TrackTable
    timescale: int
    shown_from: int  # media time where the clip begins
    empty_90k: int = 0  # of the clip before this track begins


@dataclass(frozen=True, slots=True)
class Regions:
    """Media data as parts that lie one after another, three per fragment: silence, pictures, sounds.

    Part r belongs to fragment r // 3 of these columns; `skip` is where it begins inside the stored fragment.
    """

    start: Int64s  # of each part, and the end of all
    skip: Int64s
    piece: Int64s  # per fragment: index into the plan's pieces
    fragment: Int64s  # per fragment: row in its chunk's table


@dataclass(frozen=True, slots=True)
class Layout:
    """What a virtual file is made from."""

    video: Track | None
    audio: Track | None
    regions: Regions
    silence: SilentFrame | None


@dataclass(frozen=True, slots=True)
class _Spread:
    """One kind of sample of a whole plan, concatenated, and its share of each fragment."""

    size: Column
    low: Int64s  # first sample of each fragment's share
    high: Int64s
    skip: Int64s  # bytes before the share inside the stored fragment

    @property
    def before(self) -> Int64s:
        """Bytes before each sample, and after all."""
        return np.concatenate(([0], np.cumsum(self.size, dtype=np.int64)))

    @property
    def bytes(self) -> Int64s:
        """Bytes of each fragment's share; shares lie one after another. A fifth of the time of a running sum."""
        total = np.zeros(len(self.low), np.int64)
        used = self.high > self.low
        if len(self.size):
            total[used] = np.add.reduceat(self.size, self.low[used], dtype=np.int64)
        return total


@dataclass(frozen=True, slots=True)
class _Sound:
    """The audio track before it has its place in the file."""

    spread: _Spread
    dts: Int64s  # of the recorded frames, in the clip's audio clock
    start: int  # where the clip begins, and where it ends
    end: int
    ticks: Column
    holes: Int64s
    counts: Int64s  # silent frames before each hole's sample
    frame: SilentFrame | None


def lay_out(plan: ClipPlan) -> Layout:
    """Tracks and regions of a plan."""
    pieces = plan.pieces
    fragments = [np.arange(piece.first, piece.last) for piece in pieces]
    piece_of = np.repeat(np.arange(len(pieces)), [len(rows) for rows in fragments])
    pictures = _spread(pieces, "video")
    sound = _sound(plan)
    sizes = np.zeros((len(piece_of), 3), np.int64)
    skip = np.zeros((len(piece_of), 3), np.int64)
    if plan.pictures:
        sizes[:, 1], skip[:, 1] = pictures.bytes, pictures.skip
    if sound is not None:
        sizes[:, 2], skip[:, 2] = sound.spread.bytes, sound.spread.skip
        if sound.frame is not None:
            homes = np.searchsorted(sound.spread.high, sound.holes, "right")
            np.add.at(sizes[:, 0], homes, sound.counts * len(sound.frame.data))
    start = np.concatenate(([0], np.cumsum(sizes)))
    regions = Regions(start, skip.ravel(), piece_of, np.concatenate(fragments))
    entries = {config: 1 + i for i, config in enumerate(plan.video_configs)}
    entry = np.array([entries[piece.config.video] for piece in pieces])[piece_of]
    video = _video_track(pieces, pictures, start[1:-1:3], entry) if plan.pictures else None
    audio = None if sound is None else _audio_track(plan, sound, regions)
    return Layout(video, audio, regions, sound.frame if sound else None)


def _spread(pieces: tuple[Piece, ...], kind: str) -> _Spread:
    """The samples of `kind`, "video" or "audio", of all pieces."""
    sizes, lows, highs, skips, base = [], [], [], [], 0
    for piece in pieces:
        table, rows, (start, stop) = piece.chunk.table, slice(piece.first, piece.last), getattr(piece, kind)
        size = getattr(table, f"{kind}_size")[start:stop]
        first = getattr(table, f"{kind}_first")[rows]
        low = np.clip(first, start, stop)
        high = np.clip(first + getattr(table, f"{kind}_count")[rows], start, stop)
        skip = getattr(table, f"{kind}_at")[rows] - table.offset[rows]
        for i in np.flatnonzero((low > first) & (high > low)):  # the first fragment alone can be entered inside
            skip[i] += int(getattr(table, f"{kind}_size")[first[i] : low[i]].sum(dtype=np.int64))
        sizes.append(size)
        lows.append(low - start + base)
        highs.append(high - start + base)
        skips.append(skip)
        base += len(size)
    return _Spread(np.concatenate(sizes), np.concatenate(lows), np.concatenate(highs), np.concatenate(skips))


def _video_track(pieces: tuple[Piece, ...], spread: _Spread, start: Int64s, entry: Column) -> Track:
    parts = [(piece.chunk.table, slice(*piece.video), piece.shift_90k) for piece in pieces]
    dts = np.concatenate([table.video_dts[rows] + shift for table, rows, shift in parts])
    cts = np.concatenate([table.video_cts[rows] for table, rows, _ in parts])
    key = np.concatenate([table.video_key[rows] for table, rows, _ in parts])
    end = max(pieces[-1].end_90k + pieces[-1].shift_90k, int(dts[-1]) + 1)
    counts = spread.high - spread.low
    used = counts > 0
    shown = pieces[0].shown_90k + pieces[0].shift_90k
    divisor = 1
    while int(steps(dts, end).max()) // divisor > DELTA_MAX:
        divisor *= 10  # an absence of more than six hours: coarser ticks, as readers take 31 bits
    if divisor > 1:
        dts, cts, end, shown = dts // divisor, cts // divisor, end // divisor, shown // divisor
    table = TrackTable(spread.size, dts, end, start[used], counts[used], entry[used], cts=cts, key=key)
    return Track(table, MEDIA_HZ // divisor, shown)


def _sound(plan: ClipPlan) -> _Sound | None:
    """The sounds of a plan in one clock; None when it has none."""
    pieces, config = plan.pieces, plan.audio
    if config is None or not any(piece.audio[1] > piece.audio[0] for piece in pieces):
        return None
    rate = config.rate_hz
    spread = _spread(pieces, "audio")
    dts = np.concatenate(
        [
            piece.chunk.table.audio_dts[slice(*piece.audio)] + (piece.shift_90k * rate + MEDIA_HZ // 2) // MEDIA_HZ
            for piece in pieces
        ]
    )
    steps = np.arange(len(dts))
    dts = np.maximum.accumulate(dts - steps) + steps  # a reader wants every frame to last at least one tick
    start = (pieces[0].shown_90k + pieces[0].shift_90k) * rate // MEDIA_HZ
    end = (pieces[-1].end_90k + pieces[-1].shift_90k) * rate // MEDIA_HZ
    ticks = frame_ticks(config, spread.size, dts)
    usual = int(np.median(ticks))
    frame = silent_frame(config, usual)
    due = start if dts[0] <= start else int(dts[0]) + (start - int(dts[0])) // usual * usual  # whole frames before it
    holes, counts = silence_before(dts, ticks, min(due, int(dts[0])), usual)
    if frame is None:
        holes = counts = np.zeros(0, np.int64)
    return _Sound(spread, dts, start, end, ticks, holes, counts, frame)


def _audio_track(plan: ClipPlan, sound: _Sound, regions: Regions) -> Track:
    """Recorded frames and silence in one table."""
    spread, holes, counts = sound.spread, sound.holes, sound.counts
    size, dts = _with_silence(sound)
    part_start = regions.start[:-1].reshape(-1, 3)
    starts = np.sort(np.concatenate((spread.low[spread.high > spread.low], holes)))
    starts = starts[np.diff(starts, prepend=-1) > 0]
    home = np.searchsorted(spread.high, starts, "right")
    heard = spread.before
    offset = part_start[home, 2] + heard[starts] - heard[spread.low[home]]
    samples = np.diff(starts, append=len(spread.size))
    entries = {config: 1 + i for i, config in enumerate(plan.audio_configs)}
    of_piece = np.array([entries[piece.config.audio] if piece.config.audio else 1 for piece in plan.pieces])
    entry = of_piece[regions.piece[home]]
    filled = np.flatnonzero(counts)
    if sound.frame is not None and len(filled):
        bytes_each = counts[filled] * len(sound.frame.data)
        silent_home = np.searchsorted(spread.high, holes[filled], "right")
        earlier = np.cumsum(bytes_each) - bytes_each
        inside = earlier - earlier[np.searchsorted(silent_home, silent_home, "left")]
        at = np.searchsorted(starts, holes[filled])
        offset = np.insert(offset, at, part_start[silent_home, 0] + inside)
        samples = np.insert(samples, at, counts[filled])
        entry = np.insert(entry, at, entry[at])
    rate = plan.audio.rate_hz if plan.audio else 1
    zero = int(dts[0])
    end = max(int(sound.dts[-1] + sound.ticks[-1]), int(dts[-1]) + 1) - zero
    table = TrackTable(size, dts - zero, end, offset, samples, entry)
    late = max(0, zero - sound.start)
    return Track(table, rate, max(0, sound.start - zero), late * MEDIA_HZ // rate)


def _with_silence(sound: _Sound) -> tuple[Column, Int64s]:
    """(sizes, decode times) with silent frames spread evenly over each hole."""
    if sound.frame is None or not sound.counts.any():
        return sound.spread.size, sound.dts
    filled = sound.counts > 0
    holes, counts = sound.holes[filled], sound.counts[filled]
    ends = np.concatenate((sound.dts[:-1] + sound.ticks[:-1], [0]))
    first = int(sound.dts[0]) - int(counts[0]) * sound.frame.ticks if holes[0] == 0 else 0
    due = np.where(holes == 0, first, ends[holes - 1])
    missing = sound.dts[holes] - due
    nth = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    times = np.repeat(due, counts) + nth * np.repeat(missing, counts) // np.repeat(counts, counts)
    where = np.repeat(holes, counts)
    return (
        np.insert(sound.spread.size, where, len(sound.frame.data)),
        np.insert(sound.dts, where, times),
    )
