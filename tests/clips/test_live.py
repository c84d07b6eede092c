from __future__ import annotations

import hashlib
import io
import time

import av
from support import T0, Recording, audio, shown, video

from base.units import US
from clips.live import LivePart, LiveTail


def packets(parts: list[LivePart]) -> list[str]:
    with av.open(io.BytesIO(b"".join(part.data for part in parts))) as container:
        return [hashlib.sha256(bytes(p)).hexdigest() for p in container.demux(video=0) if p.size]


def until(tail: LiveTail, pictures: int) -> list[LivePart]:
    """Poll until so many pictures have come."""
    parts: list[LivePart] = []
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s:
        parts += tail.poll()
        if any(part.is_init for part in parts) and len(parts) > 1 and len(packets(parts)) >= pictures:
            return parts
        time.sleep(0.01)
    raise AssertionError(f"{len(parts)} parts only")


def test_begins_at_the_last_key_frame_and_follows_the_growth(recording: Recording) -> None:
    recording.add(video(b_frames=2), audio(), seal=False, chunk_s=2)
    recording.flush()
    tail = LiveTail(recording.index, recording.store, recording.stream_id)
    parts = tail.poll()
    assert [part.is_init for part in parts] == [True, False]
    assert parts[0].mime == 'video/mp4; codecs="avc1.64000C,mp4a.40.2"'
    assert parts[1].key
    assert parts[1].wall_us == T0 + 3 * US
    assert [number for _, number in shown(parts[0].data + parts[1].data)] == list(range(75, 100))
    assert tail.poll() == []
    assert tail.backlog() == parts


def test_follows_into_the_next_chunk_and_the_next_run(recording: Recording) -> None:
    recording.add(video(), seal=True, chunk_s=2)
    recording.flush()
    tail = LiveTail(recording.index, recording.store, recording.stream_id)
    first = until(tail, 25)
    recording.add(video(first=100), start_us=T0 + 4 * US, chunk_s=2)
    second = until(tail, 100)
    assert second[0].is_init
    assert second[0].media_90k == (T0 + 4 * US) * 9 // 100
    assert not any(part.is_init for part in second[1:]), "chunks of one run need no new init segment"
    assert packets(first) == [digest for _, _, digest in recording.pictures[75:100]]
    assert packets(second) == [digest for _, _, digest in recording.pictures[100:]]
    assert [part.key for part in second[1:]] == [True] * 4
    assert [part.media_90k for part in second[1:]] == [(T0 + (4 + i) * US) * 9 // 100 for i in range(4)]
    assert [part.is_init for part in tail.backlog()] == [True, False]


def test_a_new_configuration_brings_a_new_init_segment(recording: Recording) -> None:
    recording.add(video(), audio("pcmu", rate_hz=8000))
    recording.flush()
    tail = LiveTail(recording.index, recording.store, recording.stream_id)
    assert "avc1" in until(tail, 25)[0].mime
    recording.add(video("h265"), start_us=T0 + 9 * US)
    assert "hvc1" in until(tail, 100)[0].mime


def test_damage_is_passed_over_to_the_next_key_frame(recording: Recording) -> None:
    recording.add(video(gop=50), fragment_90k=45_000, seal=False)
    recording.flush()
    tail = LiveTail(recording.index, recording.store, recording.stream_id)
    tail.poll()
    recording.add(video(gop=50), fragment_90k=45_000, start_us=T0 + 5 * US)
    recording.flush()
    victim = [record for record in recording.fragments() if record.sequence == 2][1]
    with recording.chunk_paths()[1].open("r+b") as file:
        file.seek(victim.offset + 300)
        byte = file.read(1)[0]
        file.seek(victim.offset + 300)
        file.write(bytes([byte ^ 1]))
    parts = [part for part in tail.poll() if not part.is_init]
    assert [part.wall_us - T0 - 5 * US for part in parts] == [0, 2_000_000, 2_520_000, 3_040_000, 3_560_000]


def test_a_stream_without_footage_has_nothing_live(recording: Recording) -> None:
    tail = LiveTail(recording.index, recording.store, recording.stream_id)
    assert tail.poll() == []
    assert tail.backlog() == []
