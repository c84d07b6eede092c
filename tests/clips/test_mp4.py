from __future__ import annotations

import hashlib
import io
import json
import random
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from support import T0, Recording, audio, shown, sound, video

from base.errors import DamageError
from base.units import US
from chunks.records import GapCause
from clips.mp4 import ClipFile
from clips.plan import plan
from clips.store import ChunkStore


def clip(recording: Recording, start_s: float, end_s: float) -> ClipFile:
    recording.flush()
    with recording.index.read() as snapshot:
        asked = T0 + round(start_s * US), T0 + round(end_s * US)
        return ClipFile(plan(snapshot, recording.store, recording.stream_id, *asked))


def whole(file: ClipFile) -> bytes:
    data = b"".join(bytes(block) for block in file.read(0, file.size))
    assert len(data) == file.size
    return data


def expected(numbers: range, start_s: float, fps: int = 25, first_s: float = 0.0) -> list[tuple[float, int]]:
    """What is shown of pictures recorded at `first_s` and on, in a clip that begins at `start_s`."""
    return [(round(first_s + (n - numbers.start) / fps - start_s, 4), n) for n in numbers]


@pytest.mark.parametrize(("codec", "b_frames"), [("h264", 0), ("h264", 3), ("h265", 0), ("h265", 3)])
@pytest.mark.parametrize(("start_s", "end_s"), [(0, 4), (1.3, 2.3), (0.99, 1.01), (1.84, 1.88), (3.5, 99)])
def test_exactly_the_asked_pictures_at_their_times(
    recording: Recording, codec: str, b_frames: int, start_s: float, end_s: float
) -> None:
    recording.add(video(codec, b_frames=b_frames), chunk_s=2)
    first = -(-round(start_s * 1000) // 40)
    last = min(-(-round(end_s * 1000) // 40), 100)
    made = clip(recording, start_s, end_s)
    assert made.start_us == T0 + first * 40_000
    assert made.end_us == T0 + min(round(end_s * US), 4 * US)
    assert shown(whole(made)) == [(round((n - first) * 0.04, 4), n) for n in range(first, last)]


def test_an_open_gop_begins_with_its_key_frame(recording: Recording) -> None:
    recording.add(video("h265", b_frames=3, gop=20, open_gop=True), chunk_s=1)
    for start_s in (0.0, 0.72, 0.8, 1.0):
        first = round(start_s * 25)
        assert (
            shown(whole(clip(recording, start_s, 3)))[:30] == expected(range(first, 75), start_s, first_s=start_s)[:30]
        )


@pytest.mark.needs_ffmpeg
def test_chunk_border_epoch_change_gap_and_b_frames_in_one_clip(recording: Recording, tmp_path: Path) -> None:
    recording.add(video(b_frames=2), audio(), chunk_s=2)
    recording.add(video(first=100, profile="baseline"), audio(), start_us=T0 + 7 * US, chunk_s=2)
    made = clip(recording, 1.32, 10)
    path = tmp_path / "clip.mp4"
    path.write_bytes(whole(made))
    before = expected(range(33, 100), 1.32, first_s=1.32)
    after = expected(range(100, 175), 1.32, first_s=7.0 - 0.009)  # for frames of 64 ms to be in step
    assert shown(path.read_bytes()) == before + after
    told = probe(path)
    assert float(told["format"]["duration"]) == pytest.approx(10 - 1.32 - 0.009, abs=0.001)
    for stream in told["streams"]:
        assert float(stream["start_time"]) == 0
        assert float(stream["duration"]) == pytest.approx(10 - 1.32, abs=0.07)
    numbers = decoded_by_ffmpeg(path)
    assert numbers == [n for _, n in before + after]
    with recording.index.read() as snapshot:
        gaps = plan(snapshot, recording.store, recording.stream_id, T0, T0 + 10 * US).gaps
    assert [(gap.start_us, gap.end_us, gap.cause) for gap in gaps] == [(T0 + 4 * US, T0 + 7 * US, GapCause.OFFLINE)]


def probe(path: Path) -> Any:
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_format", "-show_streams", str(path)]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def decoded_by_ffmpeg(path: Path) -> list[int]:
    """Numbers of all pictures by the ffmpeg command, which must have nothing to complain of."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-an", "-fps_mode", "passthrough", "-f", "rawvideo"]
    done = subprocess.run([*command, "-pix_fmt", "gray", "-"], capture_output=True, check=True)
    assert done.stderr == b""
    bars = np.frombuffer(done.stdout, np.uint8).reshape(-1, 192, 320)[:, 96, 16::32] > 128
    return [int(n) for n in (bars * (1 << np.arange(10))).sum(axis=1)]


def test_samples_are_the_cameras_bytes_in_order(recording: Recording) -> None:
    recording.add(video(b_frames=2), audio(), chunk_s=1)
    data = whole(clip(recording, 0, 4))
    assert sample_hashes(data) == [digest for _, _, digest in recording.pictures]


def sample_hashes(data: bytes) -> list[str]:
    with av.open(io.BytesIO(data), options={"ignore_editlist": "1"}) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    return [hashlib.sha256(packet).hexdigest() for packet in packets]


def test_nothing_outside_the_range_is_in_the_file(recording: Recording) -> None:
    recording.add(video(), audio(), chunk_s=2)
    made = clip(recording, 1.0, 1.5)
    with av.open(io.BytesIO(whole(made)), options={"ignore_editlist": "1"}) as container:
        packets = [(packet.stream.type, packet.size) for packet in container.demux() if packet.size]
    pictures = [size for kind, size in packets if kind == "video"]
    assert pictures == [len(sample) for _, sample, _ in video().pictures[25:38]]
    assert sum(size for _, size in packets) == made.size - made.head_bytes


@pytest.mark.parametrize("seed", range(3))
def test_any_range_is_a_slice_of_the_whole(recording: Recording, seed: int) -> None:
    recording.add(video(b_frames=2), audio("pcmu", rate_hz=8000), chunk_s=1)
    recording.add(video(first=100), audio("pcmu", rate_hz=8000), start_us=T0 + 6 * US, chunk_s=2)
    made = clip(recording, 0.5, 9.3)
    data = whole(made)
    chance = random.Random(seed)
    for _ in range(300):
        a, b = sorted(chance.choices(range(made.size + 1), k=2))
        b = min(b, a + chance.choice((1, 100, 20_000, made.size)))
        assert b"".join(map(bytes, made.read(a, b))) == data[a:b]
    assert list(made.read(made.size, made.size + 10)) == []
    assert list(made.read(5, 5)) == []


def test_the_tag_follows_the_content(recording: Recording) -> None:
    recording.add(video(), audio(), chunk_s=2)
    one, again = clip(recording, 0.5, 3), clip(recording, 0.5, 3)
    assert one.etag == again.etag
    assert whole(one) == whole(again)
    assert one.etag.startswith('"')
    fresh = ChunkStore({recording.volume.id: recording.volume.root})
    with recording.index.read() as snapshot:
        elsewhere = ClipFile(plan(snapshot, fresh, recording.stream_id, T0 + US // 2, T0 + 3 * US))
    assert elsewhere.etag == one.etag
    assert clip(recording, 0.5, 3.04).etag != one.etag


def test_a_growing_chunk_is_served_as_far_as_it_is_durable(recording: Recording) -> None:
    recording.add(video(), seal=False)
    assert len(shown(whole(clip(recording, 0, 60)))) == 100


def read_into(got: bytearray, made: ClipFile) -> None:
    for block in made.read(0, made.size):
        got += block


def test_a_flipped_bit_never_leaves(recording: Recording) -> None:
    recording.add(video(count=150), audio(), chunk_s=2)
    made = clip(recording, 0, 6)
    good = whole(made)
    victim = next(f for f in recording.fragments() if f.sequence == 2 and f.number == 1)
    path = recording.chunk_paths()[1]
    with path.open("r+b") as file:
        for at in (victim.offset + 10, victim.offset + 700, victim.offset + victim.length - 2):
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 4]))
            file.flush()
            got = bytearray()
            with pytest.raises(DamageError):
                read_into(got, made)
            assert bytes(got) == good[: len(got)]
            file.seek(at)
            file.write(bytes([byte]))
            file.flush()
    rest = clip(recording, 0, 6)
    assert rest.etag != made.etag
    kept = [n for _, n in shown(whole(rest))]
    assert kept == [*range(50), *range(75, 150)], "the damaged second is left out, and all else is there"
    assert {n: t for t, n in shown(whole(rest))}[75] == 3.0, "and its time stays empty"


RATES = [
    ("aac", 8000), ("aac", 16_000), ("aac", 22_050), ("aac", 32_000), ("aac", 44_100), ("aac", 48_000), ("pcmu", 8000),
    ("pcma", 8000), ("l16", 16_000), ("l16", 44_100),
]  # fmt: skip


def clicks_apart_s(data: bytes, pictures: list[int]) -> list[float]:
    """How much later each tone is heard than its picture is shown, by players that play sound back to back."""
    wave, rate = sound(data)
    loud = np.flatnonzero(np.abs(wave) > 0.2)
    heard = loud[np.diff(loud, prepend=-rate) > rate // 4].tolist()
    at_s = {number: time for time, number in shown(data)}
    assert len(heard) == len(pictures)
    return [at / rate - at_s[number] for at, number in zip(heard, pictures, strict=True)]


@pytest.mark.parametrize(("codec", "rate_hz"), RATES)
def test_sound_is_in_step_with_its_picture(recording: Recording, codec: str, rate_hz: int) -> None:
    """A tone that begins with a picture in each of four runs: at the clip's start inside a frame, after absences."""
    starts_s = (0.0, 5.517, 12.203, 17.991)
    for i, start_s in enumerate(starts_s):
        tone = audio(codec, rate_hz=rate_hz, tone_from_s=2.0)
        recording.add(video(first=100 * i), tone, start_us=T0 + round(start_s * US), chunk_s=2)
    for from_s in (0.0, 1.741):
        data = whole(clip(recording, from_s, 30))
        apart_s = clicks_apart_s(data, [100 * i + 50 for i in range(4)])
        assert max(map(abs, apart_s)) <= 0.02, apart_s
        at_s = {number: time for time, number in shown(data)}
        for i, start_s in enumerate(starts_s):
            assert at_s[100 * i + 50] == pytest.approx(start_s + 2.0 - from_s, abs=0.04 + max(0, 512 / rate_hz - 0.015))


def test_lost_audio_packets_do_not_pull_the_rest_forward(recording: Recording) -> None:
    recording.add(video(), audio(tone_from_s=3.0), skip_sound=range(10, 30))
    wave, rate = sound(whole(clip(recording, 0, 4)))
    assert np.flatnonzero(np.abs(wave) > 0.2)[0] / rate == pytest.approx(3.0, abs=0.08)


def test_sound_that_begins_late_has_silence_before_it(recording: Recording) -> None:
    recording.add(video(), audio(), skip_sound=range(20))
    wave, rate = sound(whole(clip(recording, 0, 4)))
    assert np.flatnonzero(np.abs(wave) > 0.2)[0] / rate == pytest.approx(20 * 0.064, abs=0.08)


def test_a_clip_without_any_sound_in_range_has_one_track(recording: Recording) -> None:
    recording.add(video(), audio(), skip_sound=range(62))
    data = whole(clip(recording, 0, 4))
    assert len(shown(data)) == 100
    assert data.count(b"soun") == 0


def test_an_absence_of_a_day_keeps_its_length(recording: Recording) -> None:
    recording.add(video(fps=5, count=50))
    recording.add(video(fps=5, count=50, first=50), start_us=T0 + 86_400 * US)
    times = [t for t, _ in shown(whole(clip(recording, 5, 90_000)))]
    assert times[24] == pytest.approx(4.8, abs=0.01)
    assert times[25] == pytest.approx(86_395, abs=0.01)


def test_a_camera_clock_ahead_of_the_wall_never_makes_pictures_overlap(recording: Recording) -> None:
    recording.add(video())
    recording.add(video(first=100), start_us=T0 + 4 * US - 30_000)
    recording.flush()
    with recording.index.read() as snapshot:
        made = ClipFile(plan(snapshot, recording.store, recording.stream_id, T0, T0 + 20 * US))
    times = [t for t, _ in shown(whole(made))]
    assert len(times) == 200
    assert all(a < b for a, b in pairwise(times))


def test_many_configurations_of_one_codec_share_a_track(recording: Recording) -> None:
    for i, profile in enumerate(("high", "baseline", "main", "high")):
        recording.add(video(first=100 * i, profile=profile), start_us=T0 + i * 4 * US)
    made = clip(recording, 0, 16)
    assert [n for _, n in shown(whole(made))] == list(range(400))
    assert whole(made).count(b"avcC") == 3


@pytest.mark.slow
def test_twenty_five_hours(recording: Recording) -> None:
    """Sound, pictures, times and duration at both ends of a day and more."""
    recording.add(video(fps=5, count=50, gop=10), repeat=9000, keep=False)
    made = clip(recording, 3, 25 * 3600 - 3)
    data = whole(made)
    assert made.end_us - made.start_us == (25 * 3600 - 6) * US
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        assert stream.frames == 449_975 or abs(stream.frames - 449_975) <= 10
        assert float(stream.duration * stream.time_base) == pytest.approx(25 * 3600 - 6, abs=0.2)
        container.seek(int((25 * 3600 - 16) / stream.time_base), stream=stream)
        frame = next(container.decode(video=0))
        assert float(frame.pts * stream.time_base) == pytest.approx(25 * 3600 - 16, abs=2.0)
    with pytest.raises(StopIteration):
        next(made.read(made.size, made.size + 1))
