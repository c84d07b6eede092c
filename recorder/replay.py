"""What a failed volume had not made durable, written again on another one.

Kept true: a copy starts with a key frame, has a sequence of its own and declares what is missing before it; media times
and wall times are those of the first writing, so a player sees one unbroken run; no fragment is left out in the middle.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from dataclasses import replace as changed
from itertools import groupby

from chunks.records import GapCause
from chunks.writer import Held, OpenChunk, VolumeWriter


@dataclass(slots=True)
class Replayed:
    """`chunk` is the copy that goes on; `end_us` where the stream's stored time ends now, 0 when nothing changed it."""

    next_sequence: int
    chunk: OpenChunk | None = None
    end_us: int = 0
    whole: bool = True


def replay(writer: VolumeWriter, held: list[Held], next_sequence: int, open_chunk: OpenChunk | None) -> Replayed:
    """Write one stream's fragments again, each chunk's as a chunk; the copy of `open_chunk` stays open."""
    done = Replayed(next_sequence)
    for old, group in groupby(held, key=lambda item: item[0]):
        items = list(group)
        first = next((i for i, (_, _, record) in enumerate(items) if record.key), None)
        if first is None:  # the head of this GOP is on the failed volume
            done.end_us, done.whole = done.end_us or items[0][2].start_us, False
            continue
        chunk, taken = _copy(writer, old, items, first, done)
        done.next_sequence += 1
        if taken:
            done.end_us = items[first + taken - 1][2].end_us
        if first + taken < len(items):
            done.whole = False
            writer.seal(chunk)
            return done
        if old is open_chunk:
            done.chunk, done.whole = chunk, True
        else:
            writer.seal(chunk)
    return done


def _copy(writer: VolumeWriter, old: OpenChunk, items: list[Held], first: int, done: Replayed) -> tuple[OpenChunk, int]:
    """A new chunk of items[first:]; it, and how many of them the writer took."""
    _, fragment, record = items[first]
    shift_90k = fragment.first_dts_90k - old.video_base_90k
    gap_from_us, cause = old.head.gap_start_us, old.head.gap_cause
    if record.number > 1:
        gap_from_us, cause = (items[0][2].start_us, GapCause.VOLUME) if first else (0, GapCause.UNKNOWN)
    elif not done.whole and done.end_us < record.start_us:
        gap_from_us, cause = done.end_us, GapCause.VOLUME
    head = changed(
        old.head,
        volume=writer.volume.id,
        opening=os.urandom(16),
        sequence=done.next_sequence,
        start_us=record.start_us,
        monotonic_us=old.head.monotonic_us + record.start_us - old.head.start_us,
        origin_90k=old.head.origin_90k + shift_90k,
        gap_start_us=gap_from_us,
        gap_cause=cause,
    )
    chunk = writer.open_chunk(head, old.config)
    rate_hz = old.config.audio.rate_hz if old.config.audio is not None else 0
    audio_base = old.audio_base + ticks_to_rate(shift_90k, rate_hz) if old.audio_base else 0
    taken = 0
    for _, one, stored in items[first:]:
        accepted = writer.append(
            chunk,
            one,
            start_us=stored.start_us,
            end_us=stored.end_us,
            video_base_90k=fragment.first_dts_90k,
            audio_base=min(audio_base, one.audio_first_ts) if one.audio_samples else 0,
            camera_us=one.camera_us,
            clock_us=one.clock_us,
            gap=stored.gap,
        )
        if not accepted:
            break
        taken += 1
    return chunk, taken


def ticks_to_rate(ticks_90k: int, rate_hz: int) -> int:
    """Ticks of 90 kHz as ticks of another clock."""
    return ticks_90k * rate_hz // 90_000
