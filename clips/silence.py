"""Silent audio frames that keep a clip's sound in step where the recording has none.

Kept true: players play audio samples back to back whatever their times say (Chromium does, docs/design/clips.md), so
each absence of sound is filled with silence of its length and the sound after it starts where it belongs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from base.media import AudioConfig
from clips.tables import Column, Int64s

_AAC_LC_FAMILY = (2, 5, 29)  # audio object types: LC, and SBR and PS on top of it (ISO/IEC 14496-3 table 1.17)
_AAC_SILENCE = {1: bytes.fromhex("00000007"), 2: bytes.fromhex("21000000001c")}
_OPUS_SILENCE = bytes.fromhex("f8fffe")  # one 20 ms CELT frame without signal (RFC 6716 §3.1)
_PCM_BYTE = {"pcma": 0xD5, "pcmu": 0xFF, "l16": 0}


@dataclass(frozen=True, slots=True)
class SilentFrame:
    """One frame of silence and its length in audio ticks."""

    data: bytes
    ticks: int


def silent_frame(config: AudioConfig, ticks: int) -> SilentFrame | None:
    """A silent frame for `config` as long as its usual frame of `ticks`; None where we cannot make one."""
    if ticks <= 0:
        return None
    if config.codec in _PCM_BYTE:
        width = 2 if config.codec == "l16" else 1
        return SilentFrame(bytes([_PCM_BYTE[config.codec]]) * (ticks * width * config.channels), ticks)
    if config.codec == "opus":
        return SilentFrame(_OPUS_SILENCE, config.rate_hz // 50)
    kind, channels = _aac_kind(config)
    data = _AAC_SILENCE.get(channels) if kind in _AAC_LC_FAMILY else None
    return SilentFrame(data, ticks) if data else None


def frame_ticks(config: AudioConfig, size: Column, dts: Int64s) -> Int64s:
    """How long each recorded frame sounds: PCM by its bytes, all others as long as they usually are apart."""
    if config.codec in _PCM_BYTE:
        width = 2 if config.codec == "l16" else 1
        return np.maximum(size.astype(np.int64) // (width * config.channels), 1)
    apart = np.diff(dts[:10_000])
    usual = int(np.median(apart)) if len(apart) else (1024 if config.codec == "aac" else config.rate_hz // 50)
    return np.full(len(size), max(usual, 1), np.int64)


def _aac_kind(config: AudioConfig) -> tuple[int, int]:
    """(audio object type, channel configuration) of an AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1)."""
    bits = int.from_bytes(config.config[:8].ljust(8, b"\0"), "big")
    kind = bits >> 59
    after_rate = 64 - 9 if (bits >> 55) & 15 != 15 else 64 - 33
    return kind, (bits >> after_rate - 4) & 15


def silence_before(dts: Int64s, ticks: Column, start: int, frame_ticks: int) -> tuple[Int64s, Int64s]:
    """(indices of samples that silence comes before, silent frames before each) so that sound stays in step.

    `ticks` is each sample's own length; sound is due from `start`. An absence is filled to the nearest frame, and a
    clock of the sound that runs late is waited for as soon as it is a whole frame behind.
    """
    due = np.empty(len(dts), np.int64)
    due[0] = start
    due[1:] = dts[:-1] + ticks[:-1]
    missing = dts - due
    late = np.cumsum(missing)
    is_hole = missing >= frame_ticks - frame_ticks // 8
    wanted = np.where(is_hole, late + frame_ticks // 2, np.where(missing > 0, late, 0)) // frame_ticks
    added = np.diff(np.maximum.accumulate(np.maximum(wanted, 0)), prepend=0)
    holes = np.flatnonzero(added)
    return holes.astype(np.int64), added[holes]
