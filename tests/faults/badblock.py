"""A block device that misbehaves on command: `nbdkit python badblock.py image=FILE control=SOCKET`, see `device.py`.

Kept true: a sector written is on the image only after a flush (or with FUA); until then it lies in memory, and a power
cut keeps or loses each such sector by itself, so writes are lost, torn and reordered at 512 bytes; while the power is
off every request fails, so nothing is confirmed after the cut; a copy taken while the device works is what a power cut
at that moment would have left. Runs inside nbdkit with the system's Python and needs nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator

import nbdkit

API_VERSION = 2
SECTOR = 512
NOTHING = (0, 0)

settings: dict[str, str] = {}


class Device:
    """The image, what was not flushed to it, and the faults in force."""

    def __init__(self, path: str) -> None:
        self.image = os.open(path, os.O_RDWR)
        self.lock = threading.RLock()
        self.unsynced: dict[int, bytes] = {}
        self.writes = 0
        self.has_power = True
        self.lies = False
        self.flush_fails = False
        self.fails_every = 0  # n-th write
        self.asked = 0  # writes, also those that failed
        self.delay_ms = 0
        self.bad_reads = NOTHING
        self.bad_writes = NOTHING
        self.armed: tuple[int, Callable[[], str]] | None = None  # at this count of writes

    # -- requests -----------------------------------------------------------------------------------------------------

    def read(self, buffer: bytearray, offset: int) -> None:
        self._pass(self.bad_reads, offset, len(buffer))
        with self.lock:
            buffer[:] = os.pread(self.image, len(buffer), offset)
            for at in range(0, len(buffer), SECTOR) if self.unsynced else ():
                if (data := self.unsynced.get((offset + at) // SECTOR)) is not None:
                    buffer[at : at + SECTOR] = data

    def write(self, data: bytes, offset: int, through: bool) -> None:
        self.asked += 1
        some = self.fails_every > 0 and self.asked % self.fails_every == 0
        self._pass((offset, offset + 1) if some else self.bad_writes, offset, len(data))
        with self.lock:
            for at in range(0, len(data), SECTOR):
                self.unsynced[(offset + at) // SECTOR] = data[at : at + SECTOR]
            if through and not self.lies:
                self._settle((offset + at) // SECTOR for at in range(0, len(data), SECTOR))
            self._count()

    def flush(self) -> None:
        self._pass((0, 1) if self.flush_fails else NOTHING, 0, 1)
        with self.lock:
            if not self.lies:
                self._settle(list(self.unsynced))
            self._count()

    def _settle(self, sectors: Iterator[int] | list[int]) -> None:
        for sector in sectors:
            os.pwrite(self.image, self.unsynced.pop(sector), sector * SECTOR)

    def _pass(self, bad: tuple[int, int], offset: int, size: int) -> None:
        if self.delay_ms:
            time.sleep(self.delay_ms / 1e3)
        if not self.has_power or (offset < bad[1] and offset + size > bad[0]):
            nbdkit.set_error(errno.EIO)
            raise OSError(errno.EIO, "the device was told to fail")

    def _count(self) -> None:
        """Writes and flushes that were done, and what was to happen at one of them."""
        self.writes += 1
        if self.armed is not None and self.writes >= self.armed[0]:
            happen, self.armed = self.armed[1], None
            happen()

    # -- commands -----------------------------------------------------------------------------------------------------

    def do(self, word: str, *values: str) -> str:
        with self.lock:
            return str(getattr(self, f"do_{word.replace('-', '_')}")(*values))

    def do_cut(self, keep: str, seed: str) -> int:
        """Power off. How many sectors were not flushed."""
        unsynced = len(self.unsynced)
        self._survive(self.image, keep, seed)
        self.unsynced.clear()
        self.has_power = False
        return unsynced

    def do_on(self) -> str:
        self.has_power = True
        return "on"

    def do_copy(self, keep: str, seed: str, path: str) -> int:
        """What a power cut now would leave, as another image; its time is that of the cut."""
        now_ns = time.time_ns()
        size = os.fstat(self.image).st_size
        copy = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.ftruncate(copy, size)
            for start, end in _data(self.image, size):
                while start < end:
                    start += os.copy_file_range(self.image, copy, end - start, start, start)
            self._survive(copy, keep, seed)
            os.utime(copy, ns=(now_ns, now_ns))
        finally:
            os.close(copy)
        return len(self.unsynced)

    def do_copy_at(self, writes: str, keep: str, seed: str, path: str) -> str:
        """The same after so many more writes and flushes; the file has its name when it is whole."""

        def copy() -> None:
            self.do_copy(keep, seed, path + ".part")
            os.rename(path + ".part", path)

        self.armed = (self.writes + int(writes), copy)
        return "armed"

    def do_disarm(self) -> str:
        self.armed = None
        return "disarmed"

    def do_writes(self) -> int:
        return self.writes

    def do_eio(self, which: str, low: str, high: str) -> str:
        setattr(self, f"bad_{which}", (int(low), int(high)))
        return "ok"

    def do_flush_eio(self, fails: str) -> str:
        self.flush_fails = fails == "1"
        return "ok"

    def do_eio_every(self, count: str) -> str:
        self.fails_every = int(count)
        return "ok"

    def do_lie(self, lies: str) -> str:
        self.lies = lies == "1"
        return "ok"

    def do_delay(self, delay_ms: str) -> str:
        self.delay_ms = int(delay_ms)
        return "ok"

    def do_flip(self, offset: str, bits: str) -> str:
        old = os.pread(self.image, 1, int(offset))[0]
        os.pwrite(self.image, bytes([old ^ int(bits)]), int(offset))
        return "ok"

    def _survive(self, image: int, keep: str, seed: str) -> None:
        """Each sector that was not flushed reaches the image with this probability."""
        chance = random.Random(int(seed))
        for sector in sorted(self.unsynced):
            if chance.random() < float(keep):
                os.pwrite(image, self.unsynced[sector], sector * SECTOR)


def _data(image: int, size: int) -> Iterator[tuple[int, int]]:
    """Parts of a sparse file that hold something."""
    end = 0
    with contextlib.suppress(OSError):  # ENXIO: nothing more
        while end < size:
            start = os.lseek(image, end, os.SEEK_DATA)
            end = os.lseek(image, start, os.SEEK_HOLE)
            yield start, end


def serve(listener: socket.socket, device: Device) -> None:
    """One command a line, one answer a line."""
    while True:
        connection, _ = listener.accept()
        with connection, connection.makefile("rw") as lines:
            for line in lines:
                try:
                    answer = device.do(*line.split())
                except Exception as error:
                    answer = f"error: {error!r}"
                lines.write(answer + "\n")
                lines.flush()


# -- what nbdkit calls ------------------------------------------------------------------------------------------------


def config(key: str, value: str) -> None:
    settings[key] = value


def thread_model() -> int:
    return nbdkit.THREAD_MODEL_PARALLEL


def after_fork() -> None:
    global device
    device = Device(settings["image"])
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(settings["control"])
    listener.listen()
    threading.Thread(target=serve, args=(listener, device), daemon=True).start()


def open(readonly: bool) -> int:
    return 1


def get_size(handle: int) -> int:
    return os.fstat(device.image).st_size


def can_flush(handle: int) -> bool:
    return True


def can_multi_conn(handle: int) -> bool:
    return True


def can_fua(handle: int) -> int:
    return int(nbdkit.FUA_NATIVE)


def pread(handle: int, buffer: bytearray, offset: int, flags: int) -> None:
    device.read(buffer, offset)


def pwrite(handle: int, buffer: bytes, offset: int, flags: int) -> None:
    device.write(bytes(buffer), offset, bool(flags & nbdkit.FLAG_FUA))


def flush(handle: int, flags: int) -> None:
    device.flush()


def zero(handle: int, count: int, offset: int, flags: int) -> None:
    device.write(bytes(count), offset, bool(flags & nbdkit.FLAG_FUA))


def trim(handle: int, count: int, offset: int, flags: int) -> None:
    """Promises nothing, so nothing is done."""
