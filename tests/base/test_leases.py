from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from base.leases import Leases, leases

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys
from pathlib import Path
from base.leases import Leases
held = [Leases(Path(sys.argv[1])).take(7, 100, 200)]
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lease_is_seen_until_it_is_released_or_forgotten(tmp_path: Path) -> None:
    assert leases(tmp_path) == []
    mine = Leases(tmp_path)
    first, second = mine.take(7, 100, 200), mine.take(8, 1, 2)
    assert {(one.stream_id, one.start_us, one.end_us) for one in leases(tmp_path)} == {(7, 100, 200), (8, 1, 2)}
    first.release()
    first.release()
    assert [one.stream_id for one in leases(tmp_path)] == [8]
    del second
    assert leases(tmp_path) == []
    mine.close()
    assert list((tmp_path / "leases").iterdir()) == []


def test_leases_of_a_killed_process_count_for_nothing(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    assert [one.stream_id for one in leases(tmp_path)] == [7]
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert leases(tmp_path) == []
    assert list((tmp_path / "leases").iterdir()) == []


def test_what_is_no_lease_is_left_alone(tmp_path: Path) -> None:
    mine = Leases(tmp_path)
    lease = mine.take(1, 2, 3)
    for name in ("x.y", "note.1.2.3.4", f"{mine._token}.1.b.3.4"):
        (tmp_path / "leases" / name).touch()
    assert [one.stream_id for one in leases(tmp_path)] == [1]
    lease.release()
