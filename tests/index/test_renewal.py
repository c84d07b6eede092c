"""An index that is gone or damaged: set aside, made anew in no time, and found by who had it open."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from base.errors import ConfigError
from chunks.records import StoredRecord
from chunks.volume import Volume
from index import Camera, Index
from index.register import register_path
from index.renewal import ASIDE_MAX, make_anew, make_ready
from index.suspect import look, take, tell
from index.verify import verify

BASE_US = 1_790_000_000_000_000
Record = Callable[..., list[StoredRecord]]
READ_ALL = """
import sys
from index import Index
from index.rowcheck import check_rows
with Index.open(sys.argv[1], readonly=True) as index:
    print(len(list(check_rows(index))))
"""


@pytest.fixture
def archive(index: Index, volume: Volume, record: Record) -> Path:
    with index.write() as transaction:
        transaction.put_camera(Camera(id="cam1", main="rtsp://u:p@host/1"))
        transaction.apply(record(1, 1, BASE_US, 30))
        transaction.apply(record(1, 2, BASE_US + 50_000_000, 10, gap_us=BASE_US + 30_000_000))
        transaction.apply(record(1, 3, BASE_US + 60_000_000, 5, seal=False))
        transaction.apply(record(2, 1, BASE_US, 6))
    index.close()
    return index.path


def ready(path: Path, volume: Volume) -> str:
    return make_ready(path, volume.node, lambda: [volume])


def asides(path: Path) -> list[Path]:
    return sorted(path.parent.glob("index.damaged-*"))


def test_a_sound_index_is_left_alone(archive: Path, volume: Volume) -> None:
    before = (archive / "data.mdb").stat().st_ino
    verdict = verify(archive, 60)
    assert (verdict.pages, verdict.rows, verdict.rows_read) == ([], [], True)
    assert ready(archive, volume) == ""
    assert (archive / "data.mdb").stat().st_ino == before
    assert asides(archive) == []


@pytest.mark.parametrize("with_register", [True, False])
def test_a_lost_index_is_replaced_by_one_that_can_record(archive: Path, volume: Volume, with_register: bool) -> None:
    shutil.rmtree(archive)
    if not with_register:
        register_path(archive).unlink()
    assert ready(archive, volume) == "it was gone"
    with Index.open(archive) as index, index.read() as snapshot:
        assert [(row.id, row.name) for row in snapshot.streams()] == [(1, "cam1.main"), (2, "cam2.main")]
        assert [camera.id for camera in snapshot.cameras()] == (["cam1"] if with_register else [])
        assert not snapshot.is_whole()
        assert not snapshot.is_read_in()
        assert snapshot.chunks(1, 0, 2**62) == []


def test_a_damaged_register_is_kept_beside(archive: Path, volume: Volume) -> None:
    shutil.rmtree(archive)
    register_path(archive).write_text("{half")
    ready(archive, volume)
    assert (archive.parent / "register.json.damaged").read_text() == "{half"
    with Index.open(archive) as index, index.read() as snapshot:
        assert len(snapshot.streams()) == 2


def test_first_use_is_no_loss(tmp_path: Path, volume: Volume) -> None:
    assert ready(tmp_path / "index", volume) == ""
    with Index.open(tmp_path / "index") as index, index.read() as snapshot:
        assert snapshot.is_whole()


def test_no_flipped_bit_of_an_index_ends_a_process_that_opens_it_after_verification(
    archive: Path, volume: Volume, tmp_path: Path
) -> None:
    """Whatever the bit: the index is sound enough to be read to its end, or was made anew."""
    dice = random.Random(7)
    sound = (archive / "data.mdb").read_bytes()
    used = [at for at in range(len(sound)) if sound[at]]  # a zero is mostly room that nothing uses
    renewed = 0
    for turn in range(12):
        folder = tmp_path / f"turn{turn}" / "index"
        shutil.copytree(archive, folder)
        shutil.copy(register_path(archive), register_path(folder))
        data = bytearray(sound)
        for _ in range(1 + turn % 3):
            data[dice.choice(used)] ^= 1 << dice.randrange(8)
        (folder / "data.mdb").write_bytes(data)
        renewed += bool(ready(folder, volume))
        read = subprocess.run([sys.executable, "-c", READ_ALL, folder], capture_output=True, text=True, check=False)
        assert (read.returncode, read.stdout.strip()) == (0, "0"), read.stderr
    assert renewed


def test_what_is_set_aside_is_bounded(archive: Path, volume: Volume) -> None:
    for _ in range(ASIDE_MAX + 2):
        make_anew(archive, volume.node, [volume], "for a test")
    assert len(asides(archive)) == ASIDE_MAX


def test_who_has_the_index_open_finds_the_new_one(archive: Path, volume: Volume) -> None:
    with Index.open(archive) as mine, Index.open(archive.parent / "other", create=True):
        with mine.read() as snapshot:
            assert snapshot.chunks(1, 0, 2**62)
        command = [sys.executable, "-c", RENEW, archive, volume.root]
        assert subprocess.run(command, check=False).returncode == 0
        with mine.write() as transaction:  # a writer must not be late
            transaction.put_camera(Camera(id="late", main="rtsp://host/2"))
        with mine.read() as snapshot:
            assert snapshot.chunks(1, 0, 2**62) == []
    with Index.open(archive) as again, again.read() as snapshot:
        assert {camera.id for camera in snapshot.cameras()} == {"cam1", "late"}


RENEW = """
import sys
from pathlib import Path
from chunks.volume import Volume
from index.renewal import make_anew
volume = Volume.open(Path(sys.argv[2]))
make_anew(Path(sys.argv[1]), volume.node, [volume], "for a test")
"""


def test_the_gravest_word_stands(tmp_path: Path) -> None:
    path = tmp_path / "index"
    assert take(path) is None
    tell(path, "proven", "a chunk says otherwise")
    tell(path, "met", "it cannot be read")
    told = look(path)
    assert told is not None
    assert (told.weight, told.why) == ("proven", "a chunk says otherwise")
    tell(path, "asked", "the operator")
    told = take(path)
    assert told is not None
    assert told.weight == "asked"
    assert take(path) is None


def test_an_index_of_another_node_is_refused(archive: Path, volume: Volume) -> None:
    with Index.open(archive, node=b"b" * 16):
        pass
    with pytest.raises(ConfigError, match="belongs to node"):
        make_ready(archive, volume.node, lambda: [volume])
