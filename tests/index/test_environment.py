from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from base.errors import ConfigError, FormatError, IndexDamage
from index import Camera, Index

ROOT = Path(__file__).parents[2]


def run_in_other_process(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *args], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_missing_index_is_not_made_by_accident(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="keyreel rebuild"):
        Index.open(tmp_path / "index")
    with pytest.raises(ConfigError, match="keyreel rebuild"):
        Index.open(tmp_path / "index", readonly=True, create=True)
    assert list(tmp_path.iterdir()) == []


def test_a_second_open_in_one_process_is_refused_and_after_close_allowed(tmp_path: Path) -> None:
    with Index.open(tmp_path / "index", create=True):
        (tmp_path / "link").symlink_to(tmp_path / "index")
        for path in ("index", "link"):
            with pytest.raises(ConfigError, match="already open"):
                Index.open(tmp_path / path)
    index = Index.open(tmp_path / "link", readonly=True)
    index.close()
    index.close()


def test_a_newer_format_is_refused_and_nothing_is_touched(tmp_path: Path) -> None:
    with Index.open(tmp_path / "index", create=True) as index, index.write() as transaction:
        transaction._txn.put(b"format", b"3", db=transaction._db.meta)
    before = (tmp_path / "index" / "data.mdb").read_bytes()
    for readonly in (True, False):
        with pytest.raises(FormatError, match="format 3"):
            Index.open(tmp_path / "index", readonly=readonly)
    assert (tmp_path / "index" / "data.mdb").read_bytes() == before


def test_foreign_and_damaged_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "data.mdb").write_bytes(b"no database" * 1000)
    with pytest.raises(IndexDamage, match="rebuild"):
        Index.open(tmp_path / "index")


def test_the_index_of_another_node_is_refused(tmp_path: Path) -> None:
    with Index.open(tmp_path / "index", create=True, node=b"a" * 16) as index, index.read() as snapshot:
        assert snapshot.node() == b"a" * 16
    with pytest.raises(ConfigError, match="belongs to node"):
        Index.open(tmp_path / "index", node=b"b" * 16)
    Index.open(tmp_path / "index", node=b"a" * 16).close()


def test_the_map_grows_by_itself_under_readers_of_another_process(tmp_path: Path) -> None:
    reader_code = """
import sys
from index import Index
with Index.open(sys.argv[1], map_bytes=1 << 20) as index:
    for line in sys.stdin:
        with index.read() as snapshot:
            print(len(snapshot.cameras()), flush=True)
"""
    with Index.open(tmp_path / "index", create=True, map_bytes=1 << 20) as index:
        reader = subprocess.Popen(
            [sys.executable, "-c", reader_code, str(index.path)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert reader.stdin is not None
        assert reader.stdout is not None
        for count in range(4):
            reader.stdin.write("\n")
            reader.stdin.flush()
            assert int(reader.stdout.readline()) == 300 * count
            with index.write() as transaction:
                for i in range(300):
                    camera = Camera(id=f"cam{count}-{i}", main="rtsp://host/" + "x" * 900)
                    transaction._txn.put(camera.id.encode(), msgspec_json(camera), db=transaction._db.cameras)
        assert index._env.info()["map_size"] > 2 << 20
        reader.communicate()
        assert reader.returncode == 0


def msgspec_json(camera: Camera) -> bytes:
    import msgspec

    return msgspec.json.encode(camera)


def test_growth_gives_way_to_a_reader_that_stays(tmp_path: Path) -> None:
    with Index.open(tmp_path / "index", create=True, map_bytes=1 << 20) as index:
        with index.write() as transaction:
            transaction._txn.put(b"x", bytes(600_000), db=transaction._db.garbage)
        with index.read() as snapshot:
            with index.write() as transaction:
                transaction.ensure_stream("a.main")
            assert index._env.info()["map_size"] == 1 << 20
            assert snapshot.streams() == []
        index._grow_at_s = 0.0
        with index.write() as transaction:
            assert [row.name for row in transaction.streams()] == ["a.main"]
        assert index._env.info()["map_size"] == 2 << 20


def test_an_exception_in_the_block_undoes_all_of_it(tmp_path: Path) -> None:
    with Index.open(tmp_path / "index", create=True) as index:
        with contextlib.suppress(ZeroDivisionError), index.write() as transaction:
            transaction.ensure_stream("a.main")
            raise ZeroDivisionError
        with index.read() as snapshot:
            assert snapshot.streams() == []


def test_it_is_not_carried_over_a_fork(tmp_path: Path) -> None:
    code = """
import os, sys
from base.errors import ConfigError, IndexDamage
from index import Index
index = Index.open(sys.argv[1], create=True)
child = os.fork()
if child == 0:
    try:
        with index.read():
            os._exit(0)
    except ConfigError:
        os._exit(7)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run_in_other_process(code, str(tmp_path / "index")).returncode == 7


def test_a_killed_writer_leaves_what_was_committed(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from index import Index
index = Index.open(sys.argv[1], create=True)
with index.write() as transaction:
    transaction.ensure_stream("a.main")
with index.write() as transaction:
    transaction.ensure_stream("b.main")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run_in_other_process(code, str(tmp_path / "index")).returncode == -9
    with Index.open(tmp_path / "index") as index, index.write() as transaction:
        assert [row.name for row in transaction.streams()] == ["a.main"]


def test_files_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    with Index.open(tmp_path / "index", create=True):
        assert os.stat(tmp_path / "index").st_mode & 0o777 == 0o700
        assert os.stat(tmp_path / "index" / "data.mdb").st_mode & 0o777 == 0o600


def test_a_disk_that_takes_no_more_is_the_volumes_error_and_can_be_mended(tmp_path: Path) -> None:
    code = """
import resource, signal, sys
from base.errors import VolumeError
from index import Index
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
index = Index.open(sys.argv[1], create=True)
with index.write() as transaction:
    transaction.ensure_stream("a.main")
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, hard))
try:
    with index.write() as transaction:
        for i in range(100):
            transaction.ensure_stream(f"b{i}.main")
    sys.exit(1)
except VolumeError as error:
    assert error.reason == "eio", error.reason
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
with index.read() as snapshot:
    assert len(snapshot.streams()) == 1
with index.write() as transaction:
    assert transaction.ensure_stream("b.main").id == 2
"""
    done = run_in_other_process(code, str(tmp_path / "index"))
    assert done.returncode == 0, done.stderr


WRITER = """
import sys
from index import Index
with Index.open(sys.argv[1], map_bytes=1 << 20) as index:
    for i in range(int(sys.argv[3])):
        with index.write() as transaction:
            transaction.ensure_stream(f"{sys.argv[2]}{i}.main")
            transaction.ensure_stream(f"both{i}.main")
            transaction._txn.put(f"{sys.argv[2]}{i}".encode(), bytes(1500), db=transaction._db.garbage)
"""


def test_several_processes_write_and_the_map_grows_under_all_of_them(tmp_path: Path) -> None:
    path = tmp_path / "index"
    Index.open(path, create=True, map_bytes=1 << 20).close()
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name, "300"], cwd=ROOT, stderr=subprocess.PIPE)
        for name in ("a", "b", "c")
    ]
    errors = [writer.communicate(timeout=60)[1].decode() for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0], errors
    with Index.open(path) as index, index.read() as snapshot:
        rows = snapshot.streams()
        assert len(rows) == 4 * 300
        assert len({row.id for row in rows}) == len({row.name for row in rows}) == len(rows)
        assert index._env.info()["map_size"] > 1 << 20


def test_a_writer_killed_inside_a_transaction_holds_nobody_up(tmp_path: Path) -> None:
    """Its lock goes to the next one; its reader's slot is freed then, or when it is looked for."""
    code = """
import os, signal, sys
from index import Index
index = Index.open(sys.argv[1])
with index.read() as snapshot, index.write() as transaction:
    transaction.ensure_stream("dead.main")
    print("inside", flush=True)
    signal.pause()
"""
    path = tmp_path / "index"
    with Index.open(path, create=True) as index:
        for turn in range(3):
            writer = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT, stdout=subprocess.PIPE)
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"inside\n"
            waiting = threading.Event()
            done = threading.Event()

            def write(turn: int = turn, waiting: threading.Event = waiting, done: threading.Event = done) -> None:
                waiting.set()
                with index.write() as transaction:
                    transaction.ensure_stream(f"alive{turn}.main")
                done.set()

            threading.Thread(target=write, daemon=True).start()
            assert waiting.wait(20)
            with index.read() as snapshot:  # this process goes on beside the thread that waits for the lock
                assert len(snapshot.streams()) == turn
            assert not done.is_set()
            writer.kill()
            writer.communicate(timeout=20)
            assert done.wait(20)
            assert index.clear_dead_readers() <= 1  # the lock goes on before the kernel calls the process dead
            assert index.clear_dead_readers() == 0
        with index.read() as snapshot:
            assert [row.name for row in snapshot.streams()] == ["alive0.main", "alive1.main", "alive2.main"]


def test_a_reader_that_died_with_its_view_stops_the_growth_no_longer_than_until_it_is_cleared(tmp_path: Path) -> None:
    code = """
import sys
from index import Index
with Index.open(sys.argv[1]) as index, index.read() as snapshot:
    print(len(snapshot.cameras()), flush=True)
    sys.stdin.read()
"""
    with Index.open(tmp_path / "index", create=True) as index:

        def change(times: int) -> int:
            for number in range(times):
                with index.write() as transaction:
                    transaction.put_camera(Camera(id=f"cam{number % 50}", main="rtsp://host/1", note="x" * number))
            return index.used_bytes()

        change(50)
        command = [sys.executable, "-c", code, str(tmp_path / "index")]
        reader = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert reader.stdout is not None
        assert reader.stdout.readline()
        grown = change(200)
        assert index.reader_lag() >= 200
        reader.kill()
        reader.communicate()
        assert index.clear_dead_readers() >= 1
        assert index.reader_lag() == 0
        assert change(400) <= grown * 1.5, "pages are used again"
