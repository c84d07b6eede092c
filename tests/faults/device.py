"""File systems on a disk that loses power, fails, hangs, lies or is slow: `badblock.py` under nbdkit, seen as a file by
nbdfuse, as a block device by loop, as ext4 or XFS by the kernel.

Kept true: a power cut ends the old mount before the power is back, or that would write into the new one; only this
disk's own loop device is ever detached; `close` leaves no mount, device or process behind, whatever went before.

    with Disk(folder, "xfs") as disk:
        (disk.root / "file").write_bytes(b"not synced")
        disk.power_cut(seed=1, keep=0.5)
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal, Self

FileSystem = Literal["ext4", "xfs"]
SERVER: Final = Path(__file__).with_name("badblock.py")
BYTES: Final[dict[FileSystem, int]] = {"ext4": 192 << 20, "xfs": 320 << 20}  # mkfs.xfs refuses less than 300 MB
MAKE: Final[dict[FileSystem, list[str]]] = {
    # Nothing of the file system is made later in the background: what the device sees is then of the test's making.
    "ext4": ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-J", "size=4"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
}
OPTIONS: Final[dict[FileSystem, str]] = {"ext4": "defaults", "xfs": "nouuid"}  # copies of a disk have its UUID
WAIT_S: Final = 30.0
EVERYWHERE: Final = 1 << 62


def missing_tools() -> str:
    """What the machine lacks that a package would bring."""
    tools = ("nbdkit", "nbdfuse", "mkfs.ext4", "mkfs.xfs", "losetup")
    absent = [tool for tool in tools if shutil.which(tool) is None]
    if not absent and subprocess.run(["nbdkit", "python", "--dump-plugin"], capture_output=True).returncode:
        absent = ["nbdkit-plugin-python"]
    return f"{', '.join(absent)} not found" if absent else ""


def missing_rights() -> str:
    """What the machine does not let us do."""
    if os.geteuid() != 0:
        return "a block device of one's own needs root"
    absent = [path for path in ("/dev/fuse", "/dev/loop-control") if not os.access(path, os.W_OK)]
    return f"this machine has no {' and no '.join(absent)}" if absent else ""


class Disk:
    """One disk and the file system on it, mounted at `root`."""

    def __init__(
        self,
        folder: Path,
        filesystem: FileSystem,
        *,
        root: Path | None = None,
        size_bytes: int = 0,
        make: tuple[str, ...] = (),
    ) -> None:
        self._make = make  # more words for mkfs
        self.filesystem: FileSystem = filesystem
        self.root = root or folder / "root"
        self._folder = folder
        self._size_bytes = size_bytes or BYTES[filesystem]
        self._file = folder / "fuse" / "nbd"
        self._loop = ""
        self._server: subprocess.Popen[bytes] | None = None  # nbdkit
        self._window: subprocess.Popen[bytes] | None = None  # nbdfuse
        self._control: socket.socket | None = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Start the disk, make the file system, mount it."""
        for folder in (self._folder, self.root, self._file.parent):
            folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "image").open("wb") as image:
            image.truncate(self._size_bytes)
        self._start_server()
        self._attach()
        _run(*MAKE[self.filesystem], *self._make, self._loop)
        self.mount()

    def close(self) -> None:
        """Give everything back; what hangs or is off is woken first, so that the kernel lets go."""
        with contextlib.suppress(OSError, AssertionError):
            self.wake()
            self._say("on")
        while os.path.ismount(self.root):
            self.let_go()
        try:
            self._detach()
        finally:
            self._stop_server()
        (self._folder / "image").unlink(missing_ok=True)

    # -- mounts -------------------------------------------------------------------------------------------------------

    def mount(self) -> None:
        """Mount the file system at `root`."""
        _run("mount", "-t", self.filesystem, "-o", OPTIONS[self.filesystem], self._loop, str(self.root))

    def unmount(self) -> None:
        """Unmount, and wait until the kernel has done it; who still uses it must let go."""
        _until(
            lambda: not subprocess.run(["umount", self.root], capture_output=True).returncode, f"{self.root} is free"
        )

    def let_go(self) -> None:
        """Unmount as an operator does when programs have files open there: the name is free at once."""
        _run("umount", "-l", str(self.root))

    def sync(self) -> None:
        """Everything written so far has been flushed."""
        _run("sync", "-f", str(self.root))

    def drop_caches(self) -> None:
        """What was read or synced before is read from the disk from now on."""
        Path("/proc/sys/vm/drop_caches").write_text("3\n")

    def where(self, path: Path) -> tuple[int, int]:
        """The bytes of the disk that hold a file's data, first to last."""
        spans = _extents(path)
        return min(low for _, _, low in spans), max(low + size for _, size, low in spans)

    def place(self, path: Path, offset: int) -> int:
        """The byte of the disk that holds a file's byte."""
        return next(low + offset - at for at, size, low in _extents(path) if at <= offset < at + size)

    # -- power --------------------------------------------------------------------------------------------------------

    def power_cut(self, seed: int, keep: float = 0.5, dying: Callable[[], None] = lambda: None) -> int:
        """Off and on again; how many sectors were not flushed. `keep` is the chance of each of them to survive.

        `dying` is called while the power is off, and ends all processes that use the disk.
        """
        unsynced = int(self._say("cut", keep, seed))
        dying()
        self.unmount()
        self._detach()
        self._say("on")
        self._attach()
        self.mount()
        return unsynced

    def copy(self, path: Path, seed: int, keep: float = 0.5) -> int:
        """What a power cut at this moment would leave, as an image for `mounted`."""
        return int(self._say("copy", keep, seed, path))

    def copy_at(self, writes: int, path: Path, seed: int, keep: float = 0.5) -> None:
        """The same at the moment of the n-th write or flush from now on."""
        self._say("copy-at", writes, keep, seed, path)

    def disarm(self) -> None:
        """A copy that was not taken yet is not taken."""
        self._say("disarm")

    def writes(self) -> int:
        """Writes and flushes that the disk has done."""
        return int(self._say("writes"))

    # -- faults -------------------------------------------------------------------------------------------------------

    def eio(self, low: int = 0, high: int = EVERYWHERE, which: Literal["reads", "writes"] = "writes") -> None:
        """Requests that touch [low, high) fail."""
        self._say("eio", which, low, high)

    def eio_every(self, count: int) -> None:
        """Every `count`-th write fails, whatever it writes to; 0 none."""
        self._say("eio-every", count)

    def flush_eio(self, fails: bool = True) -> None:
        """Flushes fail."""
        self._say("flush-eio", int(fails))

    def well(self) -> None:
        """No request fails, lies or waits any more."""
        for which in ("reads", "writes"):
            self._say("eio", which, 0, 0)
        self._say("flush-eio", 0)
        self._say("eio-every", 0)
        self._say("lie", 0)
        self._say("delay", 0)

    def lie(self, lies: bool = True) -> None:
        """Flushes are confirmed and do nothing."""
        self._say("lie", int(lies))

    def delay_ms(self, delay_ms: int) -> None:
        """Every request takes so much longer."""
        self._say("delay", delay_ms)

    def flip(self, offset: int, bits: int = 8) -> None:
        """Bit rot in one byte of the image."""
        self._say("flip", offset, bits)

    def hang(self) -> None:
        """No request is answered until `wake`."""
        assert self._server is not None
        self._server.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Go on after `hang`."""
        if self._server is not None:
            self._server.send_signal(signal.SIGCONT)

    def pull_out(self) -> None:
        """The disk is gone for good, as when its cable was pulled; the mount stays until it is unmounted."""
        assert self._server is not None
        self._server.kill()

    def plug_in(self) -> None:
        """A disk that was pulled out is there again, unmounted; what it had not flushed is lost."""
        self.let_go()
        loop, self._loop = self._loop, ""
        subprocess.run(["losetup", "-d", loop], check=False, capture_output=True)  # done when the last user lets go
        self._stop_server()
        self._start_server()
        self._attach()

    # -- plumbing -----------------------------------------------------------------------------------------------------

    def _start_server(self) -> None:
        control, nbd = self._folder / "control", self._folder / "nbd"
        for path in (control, nbd):
            path.unlink(missing_ok=True)
        image = self._folder / "image"
        self._server = self._run_beside(
            "nbdkit", "-f", "-U", nbd, "python", SERVER, f"image={image}", f"control={control}"
        )
        _until(lambda: nbd.exists() and control.exists(), f"nbdkit starts; see {self._folder / 'log'}")
        self._window = self._run_beside("nbdfuse", self._file, "--unix", nbd)
        _until(self._file.exists, f"nbdfuse starts; see {self._folder / 'log'}")
        self._control = socket.socket(socket.AF_UNIX)
        self._control.settimeout(WAIT_S)
        self._control.connect(str(control))

    def _run_beside(self, *command: str | Path) -> subprocess.Popen[bytes]:
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _stop_server(self) -> None:
        if self._control is not None:
            self._control.close()
        subprocess.run(["umount", "-l", self._file.parent], check=False, capture_output=True)
        for process in (self._window, self._server):
            if process is not None:
                process.kill()
                process.wait(WAIT_S)

    def _say(self, *words: object) -> str:
        assert self._control is not None
        self._control.sendall((" ".join(str(word) for word in words) + "\n").encode())
        answer = b""
        while not answer.endswith(b"\n"):
            more = self._control.recv(4096)
            assert more, "the disk's server is gone"
            answer += more
        text = answer.decode().strip()
        assert not text.startswith("error"), text
        return text

    def _attach(self) -> None:
        self._loop = _run("losetup", "--find", "--show", "--direct-io=on", str(self._file)).strip()

    def _detach(self) -> None:
        if self._loop:
            loop, self._loop = self._loop, ""
            subprocess.run(["losetup", "-d", loop], check=False, capture_output=True)
            backing = Path("/sys/block") / Path(loop).name / "loop" / "backing_file"
            _until(lambda: not backing.exists() or str(self._file) not in backing.read_text(), f"{loop} is free")


def can_mount(image: Path, filesystem: FileSystem, at: Path) -> bool:
    """Whether the kernel takes a copy of a disk for a file system at all."""
    options = f"loop,{OPTIONS[filesystem]}"
    done = subprocess.run(["mount", "-t", filesystem, "-o", options, image, at], check=False, capture_output=True)
    if done.returncode == 0:
        _run("umount", str(at))
    return done.returncode == 0


@contextlib.contextmanager
def mounted(image: Path, filesystem: FileSystem, at: Path) -> Iterator[Path]:
    """The file system in a copy of a disk; the copy is removed at the end."""
    at.mkdir(exist_ok=True)
    _run("mount", "-t", filesystem, "-o", f"loop,{OPTIONS[filesystem]}", str(image), str(at))
    try:
        yield at
    finally:
        _until(lambda: not subprocess.run(["umount", at], capture_output=True).returncode, f"{at} is unmounted")
        image.unlink()


def _extents(path: Path) -> list[tuple[int, int, int]]:
    """Where a file lies: (offset in it, bytes, offset on the disk) of each piece."""
    lines = _run("filefrag", "-e", "-v", "-b512", str(path)).splitlines()
    found = [re.match(r"\s*\d+:\s*(\d+)\.\.\s*(\d+):\s*(\d+)\.\.", line) for line in lines]
    return [(int(one[1]) * 512, (int(one[2]) + 1 - int(one[1])) * 512, int(one[3]) * 512) for one in found if one]


def _run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr or done.stdout}"
    return done.stdout


def _until(condition: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end_s, f"not within {WAIT_S:.0f} s: {what}"
        time.sleep(0.01)
