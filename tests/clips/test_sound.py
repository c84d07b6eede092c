from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
import pytest
from support import T0, Recording, audio, sound, video

from base.media import AudioConfig, StreamConfig
from base.units import US
from clips import hls
from clips.fmp4 import derived_tracks, mime_type, served_init
from clips.live import LiveTail
from clips.segments import find_segments
from clips.sound import FRAME, decode_pcm, derived_config
from clips.store import ChunkStore


@pytest.mark.parametrize("codec", ["pcmu", "pcma", "l16"])
def test_samples_are_those_an_independent_decoder_gives(codec: str) -> None:
    data = bytes(range(256)) * 4
    name = {"pcmu": "pcm_mulaw", "pcma": "pcm_alaw", "l16": "pcm_s16be"}[codec]
    context: Any = av.CodecContext.create(name, "r")
    context.sample_rate, context.layout = 8000, "mono"
    expected = np.concatenate([frame.to_ndarray()[0] for frame in context.decode(av.Packet(data))])
    assert np.array_equal(decode_pcm(AudioConfig(codec, 8000), data), expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "derived"),
    [
        (AudioConfig("pcmu", 8000), AudioConfig("aac", 8000, 1, bytes.fromhex("1588"))),
        (AudioConfig("l16", 44_100, 2), AudioConfig("aac", 44_100, 2, bytes.fromhex("1210"))),
        (AudioConfig("l16", 9_999), None),
        (AudioConfig("aac", 16_000, 1, b"\x14\x08"), None),
        (AudioConfig("opus", 48_000), None),
    ],
)
def test_what_is_derived(config: AudioConfig, derived: AudioConfig | None) -> None:
    assert derived_config(config) == derived
    assert derived_tracks(StreamConfig(video().config, config)) == (["audio"] if derived else [])


def served(recording: Recording, start_s: float, end_s: float) -> bytes:
    """Init and segments of a range, as a player would join them."""
    recording.flush()
    with recording.index.read() as snapshot:
        found = find_segments(snapshot, recording.stream_id, T0 + round(start_s * US), T0 + round(end_s * US))
        names = ["init-1.mp4", *(found.name(i) for i in range(len(found)))]
        store = ChunkStore({recording.volume.id: recording.volume.root})
        return b"".join(hls.file(snapshot, store, recording.stream_id, name) for name in names)


@pytest.mark.parametrize(("codec", "rate_hz"), [("pcmu", 8000), ("pcma", 8000), ("l16", 16_000)])
def test_the_tone_goes_on_over_fragments_segments_and_chunks(recording: Recording, codec: str, rate_hz: int) -> None:
    recording.add(video(), audio(codec, rate_hz=rate_hz), repeat=5, chunk_s=8, fragment_90k=45_000)
    data = served(recording, 0, 20)
    with av.open(io.BytesIO(data)) as container:
        times = [packet.pts for packet in container.demux(audio=0) if packet.pts is not None]
    assert np.all(np.diff(times) == FRAME), "no frame twice, none left out"
    assert len(times) * FRAME / rate_hz == pytest.approx(20, abs=4 * FRAME / rate_hz)
    wave, rate = sound(data)
    assert rate == rate_hz
    wave = wave[3 * FRAME : -3 * FRAME]
    window = rate_hz // 50
    loud = np.sqrt((wave[: len(wave) // window * window].reshape(-1, window) ** 2).mean(axis=1))
    assert loud.min() > 0.25, "a tone of 0.35 without a dropout"
    assert loud.max() < 0.45


def test_sound_is_in_step_with_the_pictures(recording: Recording) -> None:
    recording.add(video(), audio("pcmu", rate_hz=8000, tone_from_s=2.0), fragment_90k=45_000)
    data = served(recording, 0, 4)
    with av.open(io.BytesIO(data)) as container:
        first_s = float(next(container.decode(video=0)).time)
    with av.open(io.BytesIO(data)) as container:
        heard = next(
            float(frame.time) + int(np.argmax(abs(frame.to_ndarray()[0]) > 0.1)) / 8000
            for frame in container.decode(audio=0)
            if abs(frame.to_ndarray()[0]).max() > 0.1
        )
    assert heard - first_s == pytest.approx(2.0, abs=0.02)


def test_live_gives_the_same_fragments_as_hls(recording: Recording) -> None:
    config = StreamConfig(video().config, AudioConfig("pcmu", 8000))
    tail = LiveTail(recording.index, recording.store, recording.stream_id)
    recording.add(video(), audio("pcmu", rate_hz=8000), fragment_90k=45_000, seal=False)
    recording.flush()
    parts = tail.poll()
    assert parts[0].data == served_init(config)
    assert parts[0].mime == mime_type(config)
    assert parts[0].mime.endswith(',mp4a.40.2"')
    assert parts[0].derived == ("audio",)
    with av.open(io.BytesIO(b"".join(part.data for part in parts))) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        assert sum(packet.size > 0 for packet in container.demux(audio=0)) >= 4


def test_a_long_absence_of_sound_is_left_empty(recording: Recording) -> None:
    recording.add(video(), audio("pcmu", rate_hz=8000), repeat=2, skip_sound=range(100, 300))
    with av.open(io.BytesIO(served(recording, 0, 8))) as container:
        times = np.array([packet.pts for packet in container.demux(audio=0) if packet.pts is not None]) / 8000
    times -= times[0]
    steps = np.diff(times)
    assert np.sum(steps > 3) == 1
    assert np.all(steps > 0)
