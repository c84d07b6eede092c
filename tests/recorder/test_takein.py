"""An index made anew gets all its chunks back, beside the recording, and says when it is whole."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from chunks.records import GapCause
from chunks.volume import Volume
from index import Index
from index.check import check
from index.renewal import make_ready
from index.suspect import tell
from recorder.committer import Committer
from recorder.indexcare import IndexCare
from recorder.startup import Past
from recorder.takein import TakeIn
from tests.chunks.media import Media
from tests.recorder.torn import TIMELINE, write_chunks

STREAMS = 5


@contextmanager
def caring(folder: Path, volumes: list[Volume], complete: bool = True) -> Iterator[tuple[Index, Past, IndexCare]]:
    with Index.open(folder / "index") as index:
        committer = Committer(index)
        committer.start()
        past = Past(index, committer)
        for volume in volumes:
            past.settle(volume, {}, beside=False)
        care = IndexCare(
            index, volumes[0].node, committer, past, TakeIn(index, committer, lambda: False),
            lambda: (volumes, complete),
        )  # fmt: skip
        try:
            yield index, past, care
        finally:
            care.stop()
            committer.stop()


def wait(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def whole(index: Index) -> bool:
    with index.read() as snapshot:
        return snapshot.is_whole() and not snapshot.open_chunks()


def chunks(index: Index) -> list[int]:
    with index.read() as snapshot:
        return [len(snapshot.chunks(row.id, *TIMELINE)) for row in snapshot.streams()]


def test_a_lost_index_is_whole_again_and_recording_knows_at_once_where_to_go_on(
    tmp_path: Path, media: Callable[..., Media]
) -> None:
    volume = write_chunks(tmp_path, media(), streams=STREAMS, chunks=3)
    shutil.rmtree(tmp_path / "index")
    assert make_ready(tmp_path / "index", volume.node, lambda: [volume])
    with caring(tmp_path, [volume]) as (index, past, care):
        resumed = past.resume(complete=True)
        assert chunks(index) == [0] * STREAMS
        assert {one.next_sequence for one in resumed.values()} == {4}
        assert {(one.epoch, one.gap_cause) for one in resumed.values()} == {(1, GapCause.CRASH)}
        care.start()
        wait(lambda: whole(index))
        assert chunks(index) == [3] * STREAMS
        with index.read() as snapshot:
            for row in snapshot.streams():
                assert snapshot.chunks(row.id, *TIMELINE)[-1].end_us <= resumed[row.id].end_us
        assert check(index, [volume], deep=True) == []


def test_it_is_not_whole_while_a_volume_is_away(tmp_path: Path, media: Callable[..., Media]) -> None:
    volume = write_chunks(tmp_path, media(), streams=1, torn=False)
    shutil.rmtree(tmp_path / "index")
    make_ready(tmp_path / "index", volume.node, lambda: [volume])
    with caring(tmp_path, [volume], complete=False) as (index, _, care):
        care.start()
        wait(lambda: chunks(index) == [1])

        def is_read_in() -> bool:
            with index.read() as snapshot:
                return snapshot.is_read_in()

        wait(is_read_in)
        assert not whole(index)


def test_an_old_copy_of_the_index_is_completed_beside_the_recording(
    tmp_path: Path, media: Callable[..., Media]
) -> None:
    volume = write_chunks(tmp_path, media(), streams=2, chunks=70, missed=set(range(3, 71)), torn=False)
    with caring(tmp_path, [volume]) as (index, past, care):
        assert chunks(index) == [2, 2]
        assert {one.next_sequence for one in past.resume(complete=True).values()} == {71}
        care.start()
        wait(lambda: whole(index))
        assert chunks(index) == [70, 70]


def test_a_running_recorder_makes_its_index_again(tmp_path: Path, media: Callable[..., Media]) -> None:
    """When it is asked to, when its file is gone, and when its pages are spoilt; not for an idle word."""
    volume = write_chunks(tmp_path, media(), streams=2, chunks=2, torn=False)
    path = tmp_path / "index"
    with caring(tmp_path, [volume]) as (index, _, care):
        care.start()
        tell(path, "met", "an idle word")
        wait(lambda: care.status.verified_us)
        assert care.status.renewals == 0
        tell(path, "asked", "the operator wants it")
        wait(lambda: care.status.renewals == 1 and whole(index))
        assert chunks(index) == [2, 2]
        shutil.rmtree(path)
        wait(lambda: care.status.renewals == 2 and whole(index))
        assert chunks(index) == [2, 2]
        with (path / "data.mdb").open("r+b") as file:
            data = bytearray(file.read())
            at = data.index(b"s0.main") // 4096 * 4096 + 10
            file.seek(at)
            file.write(bytes([data[at] ^ 0xFF]))
        tell(path, "met", "a page")
        wait(lambda: care.status.renewals == 3 and whole(index))
        assert chunks(index) == [2, 2]
        assert check(index, [volume], deep=True) == []
