from __future__ import annotations

import io

import av
import pytest
from support import T0, Recording, number_of, video

from base.errors import DamageError, NotFound
from base.media import VideoConfig
from base.units import US
from clips.picture import annex_b, frame_jpeg


def picture(recording: Recording, at_s: float) -> tuple[int, float]:
    """(number seen, seconds after T0 that the answer tells)."""
    recording.flush()
    with recording.index.read() as snapshot:
        jpeg, time_us = frame_jpeg(snapshot, recording.store, recording.stream_id, T0 + round(at_s * US))
    with av.open(io.BytesIO(jpeg)) as container:
        frame = next(container.decode(video=0))
    assert (frame.width, frame.height) == (320, 192)
    return number_of(frame.to_ndarray(format="gray")), (time_us - T0) / US


@pytest.mark.parametrize(("codec", "b_frames"), [("h264", 0), ("h264", 3), ("h265", 3)])
def test_the_picture_at_or_before(recording: Recording, codec: str, b_frames: int) -> None:
    recording.add(video(codec, b_frames=b_frames), chunk_s=2)
    recording.add(video(codec, first=100), start_us=T0 + 7 * US)
    for at_s, number in (
        (0, 0),
        (0.039, 0),
        (0.04, 1),
        (1.3, 32),
        (1.99, 49),
        (2.0, 50),
        (3.96, 99),
        (5, 99),
        (99, 199),
    ):
        shown_s = number * 0.04 + (3 if number >= 100 else 0)
        assert picture(recording, at_s) == (number, pytest.approx(shown_s, abs=1e-4))


def test_of_a_growing_chunk(recording: Recording) -> None:
    recording.add(video(), seal=False)
    assert picture(recording, 2.5) == (62, 2.48)


def test_before_everything(recording: Recording) -> None:
    recording.add(video())
    recording.flush()
    with pytest.raises(NotFound, match="no picture"):
        picture(recording, -1)


def test_damage_gives_no_picture(recording: Recording) -> None:
    recording.add(video())
    recording.flush()
    victim = recording.fragments()[0]
    with recording.chunk_paths()[0].open("r+b") as file:
        file.seek(victim.offset + 600)
        byte = file.read(1)[0]
        file.seek(victim.offset + 600)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(DamageError):
        picture(recording, 0.5)
    assert picture(recording, 1.5) == (37, 1.48)


def test_annex_b_survives_lengths_that_lie() -> None:
    config = VideoConfig("h264", (), (b"\x67s",), (b"\x68p",))
    assert annex_b(b"\0\0\0\2ab\0\0\0\1c", config) == b"\0\0\0\1\x67s\0\0\0\1\x68p\0\0\0\1ab\0\0\0\1c"
    assert annex_b(b"\xff\xff\xff\xffab") == b"\0\0\0\1ab"
    assert annex_b(b"\0\0") == b""
