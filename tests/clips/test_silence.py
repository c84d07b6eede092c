from __future__ import annotations

from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.media import AudioConfig
from clips.silence import silence_before, silent_frame

DECODERS = {"aac": "aac", "pcmu": "pcm_mulaw", "pcma": "pcm_alaw", "l16": "pcm_s16be", "opus": "libopus"}
MONO_16K = bytes.fromhex("1408")
STEREO_48K = bytes.fromhex("1190")


@pytest.mark.parametrize(
    "config",
    [
        AudioConfig("aac", 16_000, 1, MONO_16K),
        AudioConfig("aac", 48_000, 2, STEREO_48K),
        AudioConfig("pcmu", 8000),
        AudioConfig("pcma", 8000),
        AudioConfig("l16", 44_100, 2),
        AudioConfig("opus", 48_000, 2),
    ],
    ids=lambda config: f"{config.codec}{config.channels}",
)
def test_a_silent_frame_decodes_to_silence_of_its_length(config: AudioConfig) -> None:
    frame = silent_frame(config, 1024 if config.codec == "aac" else config.rate_hz // 50)
    assert frame is not None
    context: Any = av.CodecContext.create(DECODERS[config.codec], "r")
    context.sample_rate = config.rate_hz
    context.layout = "stereo" if config.channels == 2 else "mono"
    if config.config:
        context.extradata = config.config
    decoded = [f for _ in range(4) for f in context.decode(av.Packet(frame.data))]
    assert decoded
    assert all(f.samples in (frame.ticks, frame.ticks - 312) for f in decoded)  # Opus skips 312 at its start
    waves = [f.to_ndarray().astype(np.float64) for f in decoded]
    scale = 32768 if decoded[0].format.name.startswith("s16") else 1
    assert max(abs(wave).max() / scale for wave in waves) < 0.001


def test_aac_kinds_without_a_known_silence_get_none() -> None:
    assert silent_frame(AudioConfig("aac", 48_000, 6, bytes.fromhex("11b0")), 1024) is None  # 5.1
    assert silent_frame(AudioConfig("aac", 48_000, 1, bytes.fromhex("b98c")), 512) is None  # low delay


@given(
    st.integers(1, 50),
    st.lists(st.one_of(st.integers(-3, 3), st.integers(0, 5000)), min_size=1, max_size=80),
)
def test_silence_keeps_sound_within_a_frame_of_its_place(frame: int, late: list[int]) -> None:
    """After every filled hole, samples played one after another are half a frame late or one early at most."""
    ticks = np.full(len(late), frame, np.int64)
    dts = np.cumsum(np.array(late) + frame)
    holes, counts = silence_before(dts, ticks, 0, frame)
    assert (counts >= 0).all()
    played = 0
    silent = dict(zip(holes.tolist(), counts.tolist(), strict=True))
    for i, at in enumerate(dts.tolist()):
        played += silent.get(i, 0) * frame
        if silent.get(i):
            assert -(frame // 2) <= at - played < frame
        played += frame


def test_sound_whose_clock_runs_late_is_waited_for() -> None:
    ticks, frame = np.full(2000, 1024, np.int64), 1024
    dts = np.cumsum(ticks + 3) - 1024 - 3  # 3,000 ppm
    holes, counts = silence_before(dts, ticks, 0, frame)
    played = np.arange(2000) * 1024 + np.cumsum(np.bincount(holes, counts, 2000)) * 1024
    assert np.abs(dts - played).max() < 1024
