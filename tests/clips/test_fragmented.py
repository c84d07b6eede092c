"""The clip in fragments holds what the clip in one file does, by decoders that are not ours."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest
from support import T0, Recording, audio, shown, sound, video

from base.errors import DamageError, NotFound
from base.units import US
from clips.fragmented import FragmentedClip
from clips.mp4 import ClipFile
from clips.plan import ClipPlan, plan


def planned(recording: Recording, start_s: float, end_s: float) -> ClipPlan:
    recording.flush()
    with recording.index.read() as snapshot:
        asked = T0 + round(start_s * US), T0 + round(end_s * US)
        return plan(snapshot, recording.store, recording.stream_id, *asked)


def whole(asked: ClipPlan) -> bytes:
    return b"".join(FragmentedClip(asked).parts())


def as_file(asked: ClipPlan) -> bytes:
    made = ClipFile(asked)
    return b"".join(map(bytes, made.read(0, made.size)))


def packets(data: bytes, kind: str) -> list[bytes]:
    """The track's samples, hidden ones included."""
    with av.open(io.BytesIO(data), options={"ignore_editlist": "1"}) as container:
        stream = next(one for one in container.streams if one.type == kind)
        return [bytes(packet) for packet in container.demux(stream) if packet.size]


@pytest.mark.parametrize(("codec", "b_frames"), [("h264", 0), ("h264", 2), ("h265", 2)])
@pytest.mark.parametrize(("start_s", "end_s"), [(0, 8), (1.3, 2.3), (1.84, 1.88), (2.5, 99)])
def test_samples_and_times_are_those_of_the_file(
    recording: Recording, codec: str, b_frames: int, start_s: float, end_s: float
) -> None:
    recording.add(video(codec, b_frames=b_frames), audio(), chunk_s=2)
    recording.add(video(codec, b_frames=b_frames, first=100), audio(), start_us=T0 + 6 * US, chunk_s=3)
    asked = planned(recording, start_s, end_s)
    file, fragments = as_file(asked), whole(asked)
    assert packets(fragments, "video") == packets(file, "video")
    in_file = shown(file)
    seen = [(time_s, number) for time_s, number in shown(fragments) if number >= in_file[0][1]]
    assert [number for _, number in seen[: len(in_file)]] == [number for _, number in in_file]
    assert len(seen) <= len(in_file) + b_frames, "ffmpeg shows what is decoded for the last picture, as it may"
    shifts = [time_s - other_s for (time_s, _), (other_s, _) in zip(seen, in_file, strict=False)]
    assert max(shifts) - min(shifts) < 0.002, "a pause stays as long as it was"


def test_sound_and_pictures_are_in_step(recording: Recording) -> None:
    recording.add(video(), audio(tone_from_s=2.0), chunk_s=2)
    data = whole(planned(recording, 1.3, 4))
    wave, rate = sound(data)
    with av.open(io.BytesIO(data)) as container:
        heard_from_s = float(next(container.decode(audio=0)).time or 0)
    tone_s = heard_from_s + float(np.flatnonzero(np.abs(wave) > 0.2)[0]) / rate
    picture_s = {number: time_s for time_s, number in shown(data)}[50]
    assert tone_s == pytest.approx(picture_s, abs=0.02)


@pytest.mark.needs_ffmpeg
def test_several_configurations_decode(recording: Recording, tmp_path: Path) -> None:
    for i, profile in enumerate(("high", "baseline", "main")):
        recording.add(video(first=100 * i, profile=profile), start_us=T0 + i * 4 * US)
    path = tmp_path / "clip.mp4"
    path.write_bytes(whole(planned(recording, 0, 12)))
    done = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(path), "-f", "null", "-"], capture_output=True, check=True
    )
    assert done.stderr == b""
    assert [number for _, number in shown(path.read_bytes())] == list(range(300))


def test_one_track_alone(recording: Recording) -> None:
    recording.add(video(b_frames=2), audio(), chunk_s=2)
    asked = planned(recording, 0.5, 3.5)
    for make in (whole, as_file):
        for kind, other in (("video", "audio"), ("audio", "video")):
            data = make(asked.only(kind))
            with av.open(io.BytesIO(data)) as container:
                assert [stream.type for stream in container.streams] == [kind]
            assert packets(data, kind) == packets(make(asked), kind)
            assert len(data) < len(make(asked)) - sum(map(len, packets(make(asked), other))) + 4000


def test_a_tag_tells_tracks_apart(recording: Recording) -> None:
    recording.add(video(), audio(), chunk_s=2)
    asked = planned(recording, 0.5, 3.5)
    assert len({ClipFile(one).etag for one in (asked, asked.only("video"), asked.only("audio"))}) == 3


def test_sound_that_is_not_there_cannot_be_had_alone(recording: Recording) -> None:
    recording.add(video())
    with pytest.raises(NotFound, match="no sound"):
        planned(recording, 0, 4).only("audio")


def read_into(got: bytearray, asked: ClipPlan) -> None:
    for part in FragmentedClip(asked).parts():
        got += part


def test_a_flipped_bit_never_leaves(recording: Recording) -> None:
    recording.add(video(count=150), audio(), chunk_s=2)
    asked = planned(recording, 0, 6)
    good = whole(asked)
    victim = next(f for f in recording.fragments() if f.sequence == 2 and f.number == 1)
    with recording.chunk_paths()[1].open("r+b") as file:
        file.seek(victim.offset + 700)
        byte = file.read(1)[0]
        file.seek(victim.offset + 700)
        file.write(bytes([byte ^ 4]))
    got = bytearray()
    with pytest.raises(DamageError):
        read_into(got, asked)
    assert good.startswith(got)
    kept = [number for _, number in shown(whole(planned(recording, 0, 6)))]
    assert kept == [*range(50), *range(75, 150)], "the next plan leaves the damaged second out"
