"""A clip as fragmented MP4 (ISO/IEC 14496-12 §8.8), made while it is sent: its first byte needs no table of the whole.

Kept true: the same samples as in the clip's one file, each fragment checked before a byte of it leaves; times are the
clip's own, so a pause stays a pause; what is decoded and not shown comes before the edit list's start. Unlike the file
it has no length beforehand, no ranges, and no silence in the holes of its sound.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from base.units import MEDIA_HZ, us_to_90k
from chunks.boxes import (
    AUDIO_TRACK,
    KEY_FLAGS,
    NOT_KEY_FLAGS,
    VIDEO_TRACK,
    box,
    empty_tables,
    ftyp,
    full_box,
    mvhd,
    trak,
)
from chunks.codecs import sample_entry
from clips.plan import ClipPlan, Piece
from clips.tables import Column, Int64s

_TFHD_FLAGS: Final = 0x020002  # default-base-is-moof, sample description index
_TRUN_FLAGS: Final = 0x000F01  # data offset; duration, size, flags and composition offset of each sample
_FOLLOWS_90K: Final = MEDIA_HZ  # a piece that begins this soon after the one before goes on from it


class _Run(NamedTuple):
    """One track's samples of one fragment; times in the track's clock."""

    track: int
    entry: int
    start: int
    lasts: Int64s
    sizes: Column
    flags: Int64s
    cts: Int64s
    data: memoryview


class FragmentedClip:
    """The parts of a plan's clip, one after another."""

    def __init__(
        self, plan: ClipPlan, *, brands: tuple[bytes, ...] = (b"iso6", b"mp41"), shown_until_us: int = 0
    ) -> None:
        """`shown_until_us`: what the plan has beyond this wall time is hidden; 0 shows all."""
        self._shown_us = shown_until_us - plan.start_us if 0 < shown_until_us < plan.end_us else 0
        self._plan = plan
        self._brands = brands
        self.start_us, self.end_us = plan.start_us, plan.end_us
        self._videos = {config: 1 + i for i, config in enumerate(plan.video_configs)}
        self._sounds = {config: 1 + i for i, config in enumerate(plan.audio_configs)}
        self.lead_90k = _lead(plan)

    @property
    def hidden_90k(self) -> int:
        """Media time of the first picture shown: how much is decoded before it."""
        first = self._plan.pieces[0]
        return first.shown_90k + first.shift_90k + self.lead_90k

    def parts(self) -> Iterator[bytes]:
        """The init segment, then a fragment for each that is stored; `DamageError` before any byte of a spoilt one."""
        yield self.init()
        number = 0
        for piece, i, until_90k in self.stored():
            parts = self.fragment(number + 1, piece, i, until_90k, self._plan.store.fragment(piece.chunk, i))
            if parts:
                number += 1
                yield b"".join(parts)

    def stored(self) -> Iterator[tuple[Piece, int, int]]:
        """Each stored fragment that is part of the clip: its piece, its number there, and where what follows begins."""
        for piece, following in pairwise([*self._plan.pieces, None]):
            assert piece is not None
            goes_on = following is not None and _first_90k(following) - _last_90k(piece) < _FOLLOWS_90K
            until_90k = _first_90k(following) - piece.shift_90k if following is not None and goes_on else 0
            for i in range(piece.first, piece.last):
                yield piece, i, until_90k

    def fragment(self, number: int, piece: Piece, i: int, until_90k: int, data: bytes) -> list[bytes | memoryview]:
        """moof and the header of mdat, then the media as views of `data`; empty when nothing of it is in the clip."""
        runs = list(self._runs(piece, i, until_90k, memoryview(data)))
        return [_fragment(number, runs), *(run.data for run in runs)] if runs else []

    def init(self) -> bytes:
        """ftyp and moov."""
        plan = self._plan
        last = plan.pieces[-1]
        shown_90k = self.hidden_90k
        length_90k = last.end_90k + last.shift_90k + self.lead_90k - shown_90k
        if self._shown_us:
            length_90k = min(length_90k, us_to_90k(self._shown_us))
        tracks, extends = [], []
        for track, entries, flags in (
            (VIDEO_TRACK, list(self._videos) if plan.pictures else [], NOT_KEY_FLAGS),
            (AUDIO_TRACK, list(self._sounds), KEY_FLAGS),
        ):
            if not entries:
                continue
            config = next(p.config for p in plan.pieces if track == VIDEO_TRACK or p.config.audio)
            rate = MEDIA_HZ if track == VIDEO_TRACK or config.audio is None else config.audio.rate_hz
            edit = struct.pack(">IQqI", 1, length_90k, shown_90k * rate // MEDIA_HZ, 1 << 16)
            described = [sample_entry(entry, in_band=False) for entry in entries]
            edits = box(b"edts", full_box(b"elst", 1, 0, edit))
            tracks.append(trak(track, config, empty_tables(), described, edits=edits, created_us=plan.start_us))
            extends.append(full_box(b"trex", 0, 0, struct.pack(">5I", track, 1, 0, 0, flags)))
        header = mvhd(MEDIA_HZ, 0, AUDIO_TRACK + 1, plan.start_us)
        return ftyp(*self._brands) + box(b"moov", header, *tracks, box(b"mvex", *extends))

    def _runs(self, piece: Piece, i: int, until_90k: int, data: memoryview) -> Iterator[_Run]:
        """What of the i-th stored fragment belongs to the clip."""
        table = piece.chunk.table
        base, count = int(table.video_first[i]), int(table.video_count[i])
        low, high = max(base, piece.video[0]), min(base + count, piece.video[1])
        if self._plan.pictures and low < high:
            at = int(table.video_at[i] - table.offset[i]) + int(table.video_size[base:low].sum(dtype=np.int64))
            keys = table.video_key[low:high]
            yield _Run(
                VIDEO_TRACK,
                self._videos[piece.config.video],
                int(table.video_dts[low]) + piece.shift_90k + self.lead_90k,
                _lasts(table.video_dts[: piece.video[1]], low, high, until_90k),
                table.video_size[low:high],
                np.where(keys, KEY_FLAGS, NOT_KEY_FLAGS),
                table.video_cts[low:high].astype(np.int64),
                data[at : at + int(table.video_size[low:high].sum(dtype=np.int64))],
            )
        base, count = int(table.audio_first[i]), int(table.audio_count[i])
        low, high = max(base, piece.audio[0]), min(base + count, piece.audio[1])
        if piece.config.audio is not None and low < high:
            rate = piece.config.audio.rate_hz
            at = int(table.audio_at[i] - table.offset[i]) + int(table.audio_size[base:low].sum(dtype=np.int64))
            zero = np.zeros(high - low, np.int64)
            yield _Run(
                AUDIO_TRACK,
                self._sounds[piece.config.audio],
                int(table.audio_dts[low]) + ((piece.shift_90k + self.lead_90k) * rate + MEDIA_HZ // 2) // MEDIA_HZ,
                _lasts(table.audio_dts[: piece.audio[1]], low, high, 0),
                table.audio_size[low:high],
                zero + KEY_FLAGS,
                zero,
                data[at : at + int(table.audio_size[low:high].sum(dtype=np.int64))],
            )


def _first_90k(piece: Piece) -> int:
    return int(piece.chunk.table.video_dts[piece.video[0]]) + piece.shift_90k


def _last_90k(piece: Piece) -> int:
    return int(piece.chunk.table.video_dts[piece.video[1] - 1]) + piece.shift_90k


def _lead(plan: ClipPlan) -> int:
    """How much later everything begins, so that sound which begins before the first picture has a time from 0 on."""
    first = plan.pieces[0]
    if first.config.audio is None or first.audio[0] >= first.audio[1]:
        return 0
    sound_90k = int(first.chunk.table.audio_dts[first.audio[0]]) * MEDIA_HZ // first.config.audio.rate_hz
    return max(0, -(sound_90k + first.shift_90k) + 1)


def _lasts(dts: Int64s, low: int, high: int, until: int) -> Int64s:
    """How long samples [low, high) last: to the next one, to `until`, or as long as the one before."""
    lasts = np.diff(dts[low : high + 1])
    if len(lasts) < high - low:
        usual = int(dts[-1] - dts[-2]) if len(dts) > 1 else 1
        lasts = np.append(lasts, until - int(dts[-1]) if until > dts[-1] else usual)
    return np.maximum(lasts, 1)


def _fragment(number: int, runs: list[_Run]) -> bytes:
    """moof, and the header of mdat."""
    head = 8 + 16 + sum(8 + 20 + 20 + 20 + 16 * len(run.sizes) for run in runs) + 8
    trafs, at = [], head
    for run in runs:
        rows = np.empty((len(run.sizes), 4), ">u4")
        for column, values in enumerate((run.lasts, run.sizes, run.flags, run.cts)):
            rows[:, column] = values.astype(np.int64) & 0xFFFFFFFF
        tfhd = full_box(b"tfhd", 0, _TFHD_FLAGS, struct.pack(">II", run.track, run.entry))
        tfdt = full_box(b"tfdt", 1, 0, struct.pack(">Q", run.start))
        trun = full_box(b"trun", 1, _TRUN_FLAGS, struct.pack(">Ii", len(run.sizes), at), rows.tobytes())
        trafs.append(box(b"traf", tfhd, tfdt, trun))
        at += len(run.data)
    moof = box(b"moof", full_box(b"mfhd", 0, 0, struct.pack(">I", number)), *trafs)
    assert len(moof) + 8 == head, "the data offsets were counted from another length"
    return moof + struct.pack(">I4s", 8 + sum(len(run.data) for run in runs), b"mdat")
