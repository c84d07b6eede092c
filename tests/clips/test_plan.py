from __future__ import annotations

import pytest
from support import T0, Recording, audio, video

from base.errors import NotFound, UserError, VolumeError
from base.units import US
from chunks.records import Gap, GapCause
from clips.plan import ClipPlan, plan
from clips.store import ChunkStore


def planned(recording: Recording, start_s: float, end_s: float) -> ClipPlan:
    recording.flush()
    with recording.index.read() as snapshot:
        asked = T0 + round(start_s * US), T0 + round(end_s * US)
        return plan(snapshot, recording.store, recording.stream_id, *asked)


@pytest.mark.parametrize(
    ("start_s", "end_s", "shown_s", "until_s"),
    [
        (0, 4, 0, 4),
        (0.001, 3.999, 0.04, 3.999),
        (-5, 1, 0, 1),
        (1.999, 2.001, 2.0, 2.001),
        (3.9, 100, 3.92, 11),
        (5, 8, 7, 8),
        (3.97, 8, 7, 8),
    ],
)
def test_covers_what_was_recorded_of_the_range(
    recording: Recording, start_s: float, end_s: float, shown_s: float, until_s: float
) -> None:
    recording.add(video(), chunk_s=2)
    recording.add(video(), start_us=T0 + 7 * US)
    made = planned(recording, start_s, end_s)
    assert made.start_us - T0 == round(shown_s * US)
    assert made.end_us - T0 == round(until_s * US)


@pytest.mark.parametrize(("start_s", "end_s"), [(-20, -10), (4, 7), (4.5, 6), (11, 20), (0.001, 0.002)])
def test_nothing_there(recording: Recording, start_s: float, end_s: float) -> None:
    recording.add(video())
    recording.add(video(), start_us=T0 + 7 * US)
    with pytest.raises(NotFound, match="timeline") as caught:
        planned(recording, start_s, end_s)
    assert caught.value.reason == "no-footage"


def test_absurd_requests_say_what_to_change(recording: Recording) -> None:
    recording.add(video())
    with pytest.raises(UserError, match="end is not after start"):
        planned(recording, 2, 2)
    recording.flush()
    with recording.index.read() as snapshot, pytest.raises(NotFound, match="no stream 77"):
        plan(snapshot, recording.store, 77, T0, T0 + US)


def test_mixed_codecs_are_refused_with_the_parts_to_ask_for(recording: Recording) -> None:
    recording.add(video(), audio())
    recording.add(video("h265"), audio(), start_us=T0 + 10 * US)
    recording.add(video("h265"), audio(), start_us=T0 + 20 * US)
    with pytest.raises(UserError) as caught:
        planned(recording, 1, 30)
    assert caught.value.reason == "mixed-codecs"
    assert "2026-03-01T01:30:01.000000Z to 2026-03-01T01:30:04.000000Z (h264+aac)" in str(caught.value)
    assert "2026-03-01T01:30:10.000000Z to 2026-03-01T01:30:24.000000Z (h265+aac)" in str(caught.value)
    assert len(planned(recording, 10, 30).pieces) == 2


def test_mixed_sound_is_refused_but_sound_and_none_are_not(recording: Recording) -> None:
    recording.add(video(), audio())
    recording.add(video(), start_us=T0 + 10 * US)
    assert len(planned(recording, 0, 14).pieces) == 2
    recording.add(video(), audio("pcmu", rate_hz=8000), start_us=T0 + 20 * US)
    with pytest.raises(UserError, match=r"h264\+pcmu"):
        planned(recording, 0, 30)


def test_declared_damage_is_left_out_to_the_next_key_frame(recording: Recording) -> None:
    recording.add(video(gop=50), fragment_90k=45_000)
    recording.flush()
    with recording.index.write() as transaction:
        transaction.apply([Gap(recording.stream_id, T0 + 600_000, T0 + 700_000, GapCause.DAMAGE)])
    made = planned(recording, 0, 4)
    assert [(piece.video, piece.shown_us - T0) for piece in made.pieces] == [((0, 13), 0), ((50, 100), 2 * US)]


def test_a_missing_volume_is_told_by_its_name(recording: Recording) -> None:
    recording.add(video())
    recording.flush()
    with recording.index.read() as snapshot, pytest.raises(VolumeError, match=recording.volume.id.hex()) as caught:
        plan(snapshot, ChunkStore({}), recording.stream_id, T0, T0 + US)
    assert caught.value.reason == "missing"


def test_the_same_camera_clock_counts_inside_a_run(recording: Recording) -> None:
    recording.add(video(b_frames=2), chunk_s=1)
    shifts = [
        piece.shift_90k - planned(recording, 0, 4).pieces[0].shift_90k for piece in planned(recording, 0, 4).pieces
    ]
    assert shifts == [0, 90_000, 180_000, 270_000]
