"""Stored pictures one after another: each with its time, and a mark wherever something is known to be missing."""

from __future__ import annotations

import itertools

from support import T0, Recording, video

from base.units import US
from clips.recorded import GAP, Recorded, connection_of

FOREVER_US = T0 + 3600 * US


def read(recording: Recording, start_us: int = T0, end_us: int = FOREVER_US) -> tuple[list[tuple[int, bytes]], int]:
    recording.flush()
    with recording.index.read() as snapshot:
        rows = snapshot.chunks(recording.stream_id, start_us, end_us)
    recorded = Recorded(recording.store, recording.name, rows, start_us, end_us)
    return [(at, bytes(one)) for _, pictures in recorded.by_codec() for at, one in pictures], recorded.lost


def test_all_pictures_of_a_run_over_its_chunks(recording: Recording) -> None:
    pictures = video()
    recording.add(pictures, chunk_s=2)
    found, lost = read(recording)
    assert found[0] == (T0, GAP), "before a connection anything may be missing"
    assert [data for _, data in found[1:]] == [data for _, data, _ in pictures.pictures]
    assert all(a < b for (a, _), (b, _) in itertools.pairwise(found[1:]))
    assert lost == 0


def test_a_range_begins_with_the_key_picture_before_it(recording: Recording) -> None:
    pictures = video()
    recording.add(pictures, fragment_90k=9_000)
    times = [at for at, data in read(recording)[0] if data]
    keys = [at for at, (_, _, key) in zip(times, pictures.pictures, strict=True) if key]
    found, _ = read(recording, keys[2] + 100_000, keys[2] + 300_000)
    pictures_found = [at for at, data in found if data]
    assert pictures_found[0] == keys[2]
    assert keys[2] + 200_000 <= pictures_found[-1] < keys[2] + 500_000


def test_another_connection_and_another_codec_are_told(recording: Recording) -> None:
    first, second = video(), video("h265")
    recording.add(first)
    recording.add(first, start_us=T0 + 60 * US)
    recording.add(second, start_us=T0 + 120 * US)
    recording.flush()
    with recording.index.read() as snapshot:
        rows = snapshot.chunks(recording.stream_id, T0, FOREVER_US)
        assert connection_of(snapshot, rows[1:]) == rows[1]
    codecs = []
    for codec, pictures in Recorded(recording.store, recording.name, rows, T0, FOREVER_US).by_codec():
        codecs.append((codec, [at for at, data in pictures if not data]))
    assert codecs == [("h264", [T0, T0 + 60 * US]), ("h265", [T0 + 120 * US])]


def test_a_damaged_fragment_is_left_out_counted_and_marked(recording: Recording) -> None:
    recording.add(video())
    recording.flush()
    (path,) = recording.volume.root.rglob("*.mp4")
    whole, _ = read(recording)
    recording.store.close()
    with recording.index.read() as snapshot:
        (row,) = snapshot.chunks(recording.stream_id, T0, FOREVER_US)
    table = recording.store.open(recording.name, row).table
    data = bytearray(path.read_bytes())
    data[int(table.video_at[2]) + 40] ^= 1
    path.write_bytes(bytes(data))
    found, lost = read(recording)
    assert lost == 1
    assert len(found) == len(whole) - int(table.video_count[2]) + 1
    assert (int(table.wall_us[2]), b"") in found
