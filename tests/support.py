"""A recorded data folder for tests, made the way the recorder makes one: real samples, FragmentBuilder, VolumeWriter,
index. Use it through the `recording` fixture of tests/clips/conftest.py, or `import support` after putting `tests` on
sys.path.

Every picture carries its number in ten black and white bars, so a test can tell which pictures a player shows.
"""

from __future__ import annotations

import hashlib
import io
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from base.media import AudioConfig, StreamConfig, VideoConfig
from base.units import US, us_to_90k
from chunks.records import ChunkHead, ClockState, FragmentStored, GapCause, StoredRecord
from chunks.volume import Volume
from chunks.writer import OpenChunk, VolumeWriter
from clips.store import ChunkStore
from index import Index
from native.fragment import Fragment, FragmentBuilder

T0 = 1_772_328_600 * US  # 2026-03-01T01:30:00Z
WIDTH, HEIGHT = 320, 192
BARS = 10
NODE = bytes(range(16))


@dataclass(frozen=True)
class Video:
    """Encoded pictures: (pts in 90 kHz from 0, length-prefixed sample, key), in decode order."""

    config: VideoConfig
    fps: int
    pictures: list[tuple[int, bytes, bool]]

    @property
    def length_90k(self) -> int:
        return len(self.pictures) * 90_000 // self.fps


@dataclass(frozen=True)
class Audio:
    """Encoded audio: frames of `ticks` each."""

    config: AudioConfig
    ticks: int
    frames: list[bytes]


def numbered(number: int) -> np.ndarray:
    """A yuv420p picture with `number` in its bars."""
    picture = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
    for bar in range(BARS):
        picture[:HEIGHT, bar * 32 : bar * 32 + 32] = 220 if number >> bar & 1 else 30
    return picture


def number_of(luma: np.ndarray) -> int:
    """The number in a picture's bars, from its luma plane."""
    bars = luma[luma.shape[0] // 2, 16 :: luma.shape[1] // BARS][:BARS] > 128
    return int((bars * (1 << np.arange(BARS))).sum())


def split_nals(data: bytes) -> list[bytes]:
    """NAL units of an Annex B stream."""
    parts = data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
    return [part for part in parts if part]


@cache
def video(
    codec: str = "h264", count: int = 100, fps: int = 25, gop: int = 25, b_frames: int = 0, first: int = 0,
    profile: str = "high", open_gop: bool = False,
) -> Video:  # fmt: skip
    """Numbered pictures; parameter sets stand before each key frame, as cameras send them."""
    import av

    context: Any = av.CodecContext.create({"h264": "libx264", "h265": "libx265"}[codec], "w")
    context.width, context.height, context.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    context.framerate, context.time_base = Fraction(fps), Fraction(1, fps)
    words = f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes={b_frames}:b-adapt=0:open-gop={int(open_gop)}"
    if codec == "h264":
        context.options = {
            "preset": "ultrafast" if profile == "baseline" else "veryfast",
            "profile": profile,
            "x264-params": words,
        }
    else:
        context.options = {"preset": "ultrafast", "x265-params": words + ":log-level=none:pools=1:frame-threads=1"}
    packets = []
    for i in range(count):
        frame = av.VideoFrame.from_ndarray(numbered(first + i), format="yuv420p")
        frame.pts, frame.time_base = i, Fraction(1, fps)
        packets += context.encode(frame)
    packets += context.encode(None)
    pictures, sets = [], {}
    for packet in packets:
        nals = split_nals(bytes(packet))
        for nal in nals:
            kind = nal[0] & 31 if codec == "h264" else nal[0] >> 1 & 63
            sets.setdefault(kind, nal)
        sample = b"".join(struct.pack(">I", len(nal)) + nal for nal in nals)
        pictures.append((packet.pts * 90_000 // fps, sample, packet.is_keyframe))
    if codec == "h264":
        config = VideoConfig("h264", (), (sets[7],), (sets[8],))
    else:
        config = VideoConfig("h265", (sets[32],), (sets[33],), (sets[34],))
    return Video(config, fps, pictures)


@cache
def audio(codec: str = "aac", seconds: float = 4.0, rate_hz: int = 16_000, tone_from_s: float = 0.0) -> Audio:
    """A tone of 1 kHz from `tone_from_s` on, silence before."""
    times = np.arange(int(seconds * rate_hz)) / rate_hz
    wave = (np.sin(times * 2 * np.pi * 1000) * 0.5 * (times >= tone_from_s)).astype(np.float32)
    if codec == "aac":
        return _aac(wave, rate_hz)
    import av

    name = {"pcmu": "pcm_mulaw", "pcma": "pcm_alaw", "l16": "pcm_s16be"}[codec]
    context: Any = av.CodecContext.create(name, "w")
    context.sample_rate, context.layout, context.format = rate_hz, "mono", "s16"
    ticks = rate_hz // 50
    frames = []
    for at in range(0, len(wave) - ticks + 1, ticks):
        frame = av.AudioFrame.from_ndarray(
            (wave[None, at : at + ticks] * 32767).astype(np.int16), format="s16", layout="mono"
        )
        frame.sample_rate, frame.pts = rate_hz, at
        frames += [bytes(packet) for packet in context.encode(frame)]
    return Audio(AudioConfig(codec, rate_hz), ticks, frames)  # type: ignore[arg-type]


def _aac(wave: np.ndarray, rate_hz: int) -> Audio:
    import av

    context: Any = av.CodecContext.create("aac", "w")
    context.sample_rate, context.layout, context.format, context.bit_rate = rate_hz, "mono", "fltp", 32_000
    packets = []
    for at in range(0, len(wave) - 1023, 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, at : at + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate_hz, at
        packets += context.encode(frame)
    packets += context.encode(None)
    config = AudioConfig("aac", rate_hz, 1, bytes(context.extradata))
    return Audio(config, 1024, [bytes(packet) for packet in packets[1:]])  # the first is the encoder's priming


def made(
    path: Path, form: str, video: Video, sound: Audio | None = None,
    options: dict[str, str] | None = None, tags: dict[str, str] | None = None,
    pause: tuple[int, int] = (1 << 40, 0),
) -> list[str]:  # fmt: skip
    """Write a file with an independent muxer; the hashes of its pictures as length-prefixed NAL units."""
    import av

    codec = {"h264": "h264", "h265": "hevc"}[video.config.codec]
    with av.open(str(path), "w", format=form, options=options or {}) as out:
        out.metadata.update(tags or {})
        stream: Any = out.add_mux_stream(codec, video.fps, width=WIDTH, height=HEIGHT)
        stream.time_base = Fraction(1, 90_000)
        track: Any = None
        if sound is not None:
            track = out.add_stream("aac", sound.config.rate_hz, layout="mono")
        packets = []
        for i, (pts, sample, key) in enumerate(video.pictures):
            packet = av.Packet(b"\0\0\0\1" + b"\0\0\0\1".join(nals(sample)))
            late = pause[1] if i >= pause[0] else 0
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 90_000), key
            packet.pts = pts + late
            packet.dts = i * 90_000 // video.fps + late - 2 * 90_000 // video.fps
            packets.append((packet.dts / 90_000, packet))
        for i, frame in enumerate(sound.frames if sound else []):
            packet = av.Packet(frame)
            packet.stream, packet.time_base = track, Fraction(1, sound.config.rate_hz)
            packet.pts = packet.dts = i * sound.ticks
            packets.append((packet.dts / sound.config.rate_hz, packet))
        for _, packet in sorted(packets, key=lambda one: one[0]):
            out.mux(packet)
    return [hashlib.sha256(sample).hexdigest() for _, sample, _ in video.pictures]


def nals(sample: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(sample):
        size = int.from_bytes(sample[at : at + 4], "big")
        found.append(sample[at + 4 : at + 4 + size])
        at += 4 + size
    return found


@dataclass
class Recording:
    """One stream being recorded into a data folder; times are wall times in µs."""

    root: Path
    name: str = "cam.main"
    index: Index = field(init=False)
    store: ChunkStore = field(init=False)
    volume: Volume = field(init=False)
    stream_id: int = field(init=False)
    sequence: int = 0
    run: int = 0
    epoch: int = 0
    end_us: int = 0
    pictures: list[tuple[int, int, str]] = field(default_factory=list)  # (wall time, run, sha256), decode order
    records: list[StoredRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.index = Index.open(self.root / "index", create=True)
        self.volume = Volume.create(self.root / "media", NODE)
        self.store = ChunkStore({self.volume.id: self.volume.root})
        with self.index.write() as transaction:
            self.stream_id = transaction.ensure_stream(self.name).id
        self._config: StreamConfig | None = None
        self._lock = threading.Lock()
        self._writer: VolumeWriter | None = None

    def add(
        self, pictures: Video, sound: Audio | None = None, *, start_us: int = T0, repeat: int = 1,
        chunk_s: float = 600.0, seal: bool = True, gap_cause: GapCause = GapCause.OFFLINE, keep: bool = True,
        skip_sound: range = range(0), fragment_90k: int = 90_000,
    ) -> None:  # fmt: skip
        """Record one run: `pictures`, `repeat` times over, from `start_us`, in chunks of `chunk_s`."""
        config = StreamConfig(pictures.config, sound.config if sound else None)
        self.epoch += config != self._config
        self._config = config
        self.run += 1
        session = _Session(self, config, start_us, chunk_s, gap_cause, seal)
        builder = FragmentBuilder(
            pictures.config.codec,
            session.take,
            audio_rate_hz=sound.config.rate_hz if sound else 0,
            fragment_90k=fragment_90k,
            parameter_sets=[*pictures.config.vps, *pictures.config.sps, *pictures.config.pps],
        )
        sent = 0
        for turn in range(repeat):
            offset = turn * pictures.length_90k
            for pts, sample, _ in pictures.pictures:
                while sound and sent * sound.ticks * 90_000 <= (offset + pts) * sound.config.rate_hz:
                    arrival_us = sent * sound.ticks * US // sound.config.rate_hz
                    if sent not in skip_sound:
                        builder.push_audio(sent * sound.ticks, arrival_us, sound.frames[sent % len(sound.frames)])
                    sent += 1
                builder.push_video(offset + pts, (offset + pts) * 100 // 9, sample)
                if keep:
                    wall_us = start_us + (offset + pts) * 100 // 9
                    self.pictures.append((wall_us, self.run, hashlib.sha256(sample).hexdigest()))
        builder.finish()
        session.end()

    def writer(self) -> VolumeWriter:
        if self._writer is None:
            self._writer = VolumeWriter(self.volume, on_commit=self._commit, on_failure=_raise, sync_interval_s=0.05)
            self._writer.start()
        return self._writer

    def flush(self) -> None:
        """Everything recorded is on disk and in the index."""
        if self._writer is not None:
            self._writer.stop()
            self._writer = None

    def _commit(self, records: list[StoredRecord]) -> None:
        self.records += records
        with self.index.write() as transaction:
            transaction.apply(records)

    def chunk_paths(self) -> list[Path]:
        return sorted((self.root / "media").rglob("*.mp4"))

    def fragments(self) -> list[FragmentStored]:
        return [record for record in self.records if isinstance(record, FragmentStored)]

    def close(self) -> None:
        self.flush()
        self.store.close()
        self.index.close()


def _raise(error: Exception, _: object) -> None:
    raise error


class _Session:
    """One run's way to disk, as the recorder's pipeline does it, less the surprises."""

    def __init__(
        self, recording: Recording, config: StreamConfig, start_us: int, chunk_s: float, cause: GapCause, seal: bool
    ) -> None:
        self.recording = recording
        self.config = config
        self.start_us = start_us
        self.chunk_us = int(chunk_s * US)
        self.cause = cause
        self.seal = seal
        self.chunk: OpenChunk | None = None
        self.base_90k = self.lead_90k = 0

    def take(self, fragment: Fragment) -> None:
        recording, writer = self.recording, self.recording.writer()
        first_us = self.start_us + fragment.first_pts_90k * 100 // 9
        if fragment.key and (self.chunk is None or first_us - self.chunk.start_us >= self.chunk_us):
            self._open(fragment, first_us)
        assert self.chunk is not None
        rate = self.config.audio.rate_hz if self.config.audio else 0
        start_us, end_us = self._wall(fragment.first_dts_90k), self._wall(fragment.end_dts_90k)
        base = min(fragment.audio_first_ts, self.base_90k * rate // 90_000) if rate else 0
        while not writer.append(
            self.chunk, fragment, start_us=start_us, end_us=end_us, video_base_90k=self.base_90k, audio_base=base
        ):
            assert writer.error is None, writer.error
            time.sleep(0.01)  # the queue is full; the writer empties it
        recording.end_us = end_us

    def _wall(self, dts_90k: int) -> int:
        return self.start_us + (dts_90k + self.lead_90k) * 100 // 9

    def _open(self, fragment: Fragment, first_us: int) -> None:
        recording = self.recording
        self.end(seal=True)
        recording.sequence += 1
        self.base_90k = fragment.first_dts_90k
        self.lead_90k = fragment.first_pts_90k - fragment.first_dts_90k
        absent = recording.end_us if 0 < recording.end_us < first_us else 0
        head = ChunkHead(
            node=NODE,
            volume=recording.volume.id,
            opening=hashlib.blake2b(f"{recording.name}{recording.sequence}".encode(), digest_size=16).digest(),
            stream_id=recording.stream_id,
            stream_name=recording.name,
            sequence=recording.sequence,
            epoch=recording.epoch,
            run=recording.run,
            start_us=first_us,
            monotonic_us=fragment.first_arrival_us,
            clock_state=ClockState.SYNCED,
            clock_error_us=1000,
            origin_90k=us_to_90k(self.start_us) + fragment.first_dts_90k,
            gap_start_us=absent,
            gap_cause=self.cause if absent else GapCause.UNKNOWN,
        )
        self.chunk = recording.writer().open_chunk(head, self.config)

    def end(self, *, seal: bool | None = None) -> None:
        if self.chunk is not None and (self.seal if seal is None else seal):
            self.recording.writer().seal(self.chunk)
            self.chunk = None


def recordings(root: Path) -> Iterator[Recording]:
    """A fixture's body: one recording, closed at the end."""
    made = Recording(root)
    yield made
    made.close()


def shown(data: bytes, options: dict[str, str] | None = None) -> list[tuple[float, int]]:
    """(time in s, number) of every picture that a player shows of an MP4, by an independent decoder."""
    import av

    with av.open(io.BytesIO(data), options=options or {}) as container:
        return [
            (round(float(frame.pts * frame.time_base), 4), number_of(frame.to_ndarray(format="gray")))
            for frame in container.decode(video=0)
        ]


def sound(data: bytes) -> tuple[np.ndarray, int]:
    """(samples as a player plays them, one after another; rate in Hz)."""
    import av

    with av.open(io.BytesIO(data)) as container:
        frames = [frame.to_ndarray()[0].astype(np.float64) for frame in container.decode(audio=0)]
        rate = container.streams.audio[0].rate
    wave = np.concatenate(frames)
    return (wave / 32768 if abs(wave).max() > 2 else wave), rate
