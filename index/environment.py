"""The LMDB environment of the index: opening, transactions, growth.

Kept true: one process has an environment open at most once and never carries it over a fork; every commit is on
stable storage when `write()` ends (default sync, never NOSYNC or WRITEMAP); the map is only moved while no
transaction of this process looks into it; a folder of an unknown format is refused before anything is written; an index
that another process put in this one's place is noticed, at once by who writes and within FOLLOW_S by who reads.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final

import lmdb

from base.errors import ConfigError, FormatError, IndexDamage, KeyreelError, VolumeError
from index import schema
from index.expire import count_all
from index.pulse import Pulse
from index.register import register_path, write_copy
from index.snapshot import Snapshot
from index.suspect import tell_error
from index.transaction import Transaction

MAP_BYTES: Final = 64 << 30  # address space, not disk: half of it holds three months of 2,000 streams
READERS_MAX: Final = 1024
SPARE_TRANSACTIONS: Final = 64  # read transactions kept for renewal
GROW_WAIT_S: Final = 1.0
GROW_PAUSE_S: Final = 60.0  # after a reader stayed for longer than that
CLOSE_WAIT_S: Final = 60.0
FOLLOW_S: Final = 0.5  # between two looks whether the folder still holds the index that is open
ENGINE: Final = 0  # LMDB 0.9: the data format that every liblmdb reads
# What LMDB says of pages that are not what it wrote, at first and from then on.
UNREADABLE: Final = (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.BadTxnError)

_open_lock = threading.Lock()
_open_paths: set[tuple[int, int]] = set()
_forks = 0  # between the first process and this one


def _count_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)


def is_open(path: Path) -> bool:
    """Whether this process has the index folder open."""
    with _open_lock, suppress(FileNotFoundError):
        return _identity(path) in _open_paths
    return False


class _Gate:
    """Many inside, or one alone; who wants to be alone keeps newcomers out and gives up after a bounded wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._inside = 0
        self._is_wanted = False

    def enter(self) -> None:
        with self._lock:
            if self._is_wanted:
                self._changed.wait_for(lambda: not self._is_wanted)
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._is_wanted:
                self._changed.notify_all()

    @contextmanager
    def alone(self, timeout_s: float) -> Iterator[bool]:
        """Yields whether nobody is inside; nobody enters until the block ends."""
        with self._lock:
            self._is_wanted = True
            try:
                yield self._changed.wait_for(lambda: self._inside == 0, timeout_s)
            finally:
                self._is_wanted = False
                self._changed.notify_all()


class _Reading:
    """What `Index.read()` gives; a class, as a generator would double the time of a seek."""

    __slots__ = ("_index", "_txn")

    def __init__(self, index: Index) -> None:
        self._index = index

    def __enter__(self) -> Snapshot:
        index = self._index
        if index.pulse is not None:
            index.pulse.wait()
        if time.monotonic() >= index._look_at_s:
            index.follow()
        index._gate.enter()
        try:
            self._txn = index._begin(write=False)
            return Snapshot(self._txn, index._databases)
        except BaseException:
            index._gate.leave()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._txn.abort()
        self._index._gate.leave()
        if isinstance(error, (lmdb.Error, struct.error, UnicodeDecodeError)):
            damage = _damage(self._index.path, error)
            self._index.suspect(damage)
            raise damage from error
        if isinstance(error, IndexDamage):
            self._index.suspect(error)


class Index:
    """One index folder, open in this process."""

    def __init__(self, path: Path, opened: _Opened, open_again: Callable[[], _Opened], tells: bool) -> None:
        self.path = path
        self.pulse: Pulse | None = None  # asked before each transaction, by a process that a hung disk must not stop
        self._tells = tells
        self._opened = opened
        self._env, self._databases = opened.env, opened.databases
        self._open_again = open_again
        self._gate = _Gate()
        self._writing = threading.Lock()
        self._forks = _forks
        self._grow_at_s = 0.0
        self._look_at_s = time.monotonic() + FOLLOW_S
        self._closed = False

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        readonly: bool = False,
        create: bool = False,
        node: bytes | None = None,
        map_bytes: int = MAP_BYTES,
    ) -> Index:
        """Open the index folder; with `create` an absent one is made, as that of `node` (16 bytes) when given."""
        path = Path(path).absolute()
        if not (path / "data.mdb").exists():
            if not create or readonly:
                raise ConfigError(f"there is no index at {path}; start the recorder, or run keyreel rebuild")
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        open_again = partial(_open, path, readonly, node, map_bytes)
        index = cls(path, open_again(), open_again, not readonly)
        if not readonly:
            index.clear_dead_readers()
        return index

    def close(self) -> None:
        """Close the environment, unless a transaction still runs after a long wait. Idempotent."""
        with self._writing, self._gate.alone(CLOSE_WAIT_S) as is_alone:
            if is_alone and not self._closed:
                self._closed = True
                self._opened.close()

    def follow(self) -> bool:
        """Open what lies at the path now, if it is another index than the one that is open; False when it cannot be."""
        self._look_at_s = time.monotonic() + FOLLOW_S
        if self._is_current():
            return True
        with self._gate.alone(GROW_WAIT_S) as is_alone:
            if not is_alone or self._closed:
                return False
            if self._is_current():  # another thread was faster
                return True
            left, self._opened = self._opened, self._open_again()
            self._env, self._databases = self._opened.env, self._opened.databases
            left.close()
        return True

    def _is_current(self) -> bool:
        with suppress(FileNotFoundError):  # between two renames: what is open is the best there is
            return _identity(self.path) == self._opened.identity
        return True

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody writes to this index inside the block: it can be replaced, and who waits then finds the new one."""
        with self._writing:
            txn = None
            with suppress(lmdb.Error):  # a damaged one may give no transaction, then nobody gets one
                txn = self._env.begin(write=True)
            try:
                yield
            finally:
                if txn is not None:
                    txn.abort()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def read(self) -> AbstractContextManager[Snapshot]:
        """A consistent view for the duration of the block; keep it short and inside one thread."""
        return _Reading(self)

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """One transaction: all of it is on stable storage when the block ends, or none of it after an exception."""
        if self.pulse is not None:
            self.pulse.wait()
        with self._writing:
            self._grow_when_half_full()
            self._gate.enter()
            try:
                txn = self._begin_current()
                try:
                    transaction = Transaction(txn, self._databases)
                    yield transaction
                    copy = transaction.finish()
                    if copy is not None:  # before the commit, as its lock keeps two processes from crossing here
                        write_copy(register_path(self.path), copy)
                    txn.commit()
                except (lmdb.Error, struct.error, UnicodeDecodeError) as error:
                    txn.abort()
                    told = _write_error(self.path, error)
                    self.suspect(told)
                    raise told from error
                except BaseException as error:
                    txn.abort()
                    self.suspect(error)
                    raise
            finally:
                self._gate.leave()

    def used_bytes(self) -> int:
        """Size of the data file that is in use or free inside it."""
        return int(self._env.info()["last_pgno"] + 1) * int(self._env.stat()["psize"])

    def clear_dead_readers(self) -> int:
        """Free the reader slots of processes that died; returns how many there were."""
        return self._env.reader_check()

    def suspect(self, error: BaseException) -> None:
        """Let the recorder judge the index, when that is what an error speaks of; who only reads it tells nobody."""
        if isinstance(error, IndexDamage) and self._tells:
            tell_error(self.path, error)

    def reader_lag(self) -> int:
        """Commits since the oldest view that somebody still holds: pages freed since then cannot be used again."""
        held = [line.split()[2] for line in self._env.readers().splitlines()[1:] if len(line.split()) == 3]
        newest = int(self._env.info()["last_txnid"])
        return max([0, *(newest - int(txnid) for txnid in held if txnid.isdigit())])

    def _begin_current(self) -> lmdb.Transaction[bytes]:
        """A write transaction of the index that lies at the path: while it lasts, no other can be put there."""
        for _ in range(3):
            txn = self._begin(write=True)
            if self._is_current():
                return txn
            txn.abort()
            self._gate.leave()
            try:
                self.follow()
            finally:
                self._gate.enter()
        raise VolumeError(f"the index at {self.path} is being replaced; try again", reason="hung")

    def _begin(self, *, write: bool) -> lmdb.Transaction[bytes]:
        if self._forks != _forks:
            raise ConfigError(f"the index at {self.path} was opened before a fork; open it in the new process")
        for _ in range(3):
            try:
                return self._env.begin(write=write)
            except lmdb.MapResizedError:  # another process made the map grow
                self._gate.leave()
                try:
                    with self._gate.alone(GROW_WAIT_S) as is_alone:
                        if is_alone:
                            self._env.set_mapsize(0)
                finally:
                    self._gate.enter()
            except lmdb.ReadersFullError:
                if self._env.reader_check() == 0:
                    break
            except UNREADABLE as error:
                raise _damage(self.path, error) from error
        raise ConfigError(
            f"the index at {self.path} gives no transaction: more than {READERS_MAX} readers, or its map grew while "
            "long readers hold the old one; close readers that hang"
        )

    def _grow_when_half_full(self) -> None:
        map_bytes = int(self._env.info()["map_size"])
        if self.used_bytes() * 2 < map_bytes or time.monotonic() < self._grow_at_s:
            return
        with self._gate.alone(GROW_WAIT_S) as is_alone:
            if is_alone:
                self._env.set_mapsize(map_bytes * 2)
            else:
                self._grow_at_s = time.monotonic() + GROW_PAUSE_S


class _Opened:
    """One environment, counted while it is open: a process must not open a file twice."""

    def __init__(self, identity: tuple[int, int], env: lmdb.Environment, databases: schema.Handles) -> None:
        self.identity = identity
        self.env = env
        self.databases = databases

    def close(self) -> None:
        with _open_lock:
            _open_paths.discard(self.identity)
            self.env.close()


def _open(path: Path, readonly: bool, node: bytes | None, map_bytes: int) -> _Opened:
    with _open_lock:
        if (path / "data.mdb").exists() and _identity(path) in _open_paths:
            raise ConfigError(f"the index at {path} is already open in this process; use the open one")
        env = _open_env(path, readonly, map_bytes)
        try:
            databases = _prepared(env, path, readonly, node)
            opened = _Opened(_identity(path), env, databases)
        except BaseException:
            env.close()
            raise
        _open_paths.add(opened.identity)
    return opened


def _identity(path: Path) -> tuple[int, int]:
    """Of the data file: while it is open its inode number is given to no other."""
    stat = os.stat(path / "data.mdb")
    return stat.st_dev, stat.st_ino


def _open_env(path: Path, readonly: bool, map_bytes: int) -> lmdb.Environment:
    try:
        return lmdb.open(
            str(path),
            map_size=map_bytes,
            readonly=readonly,
            create=not readonly,
            mode=0o600,
            max_readers=READERS_MAX,
            max_dbs=len(schema.DATABASES) + 16,
            max_spare_txns=SPARE_TRANSACTIONS,
            readahead=False,
            lib_version=ENGINE,
        )
    except lmdb.VersionMismatchError as error:
        raise FormatError(f"{path} was written by another LMDB data format: {error}; use a newer version") from None
    except (lmdb.InvalidError, lmdb.CorruptedError) as error:
        raise IndexDamage(f"{path} is no index or is damaged ({error}); run keyreel rebuild") from None
    except lmdb.Error as error:
        raise ConfigError(f"the index at {path} cannot be opened: {error}") from None


def _prepared(env: lmdb.Environment, path: Path, readonly: bool, node: bytes | None) -> schema.Handles:
    for _ in range(10):
        with suppress(lmdb.MapResizedError):  # another process made the map grow since this one opened it
            return _prepare(env, path, readonly, node)
        env.set_mapsize(0)
    raise VolumeError(f"the index at {path} grows faster than it can be opened; try again", reason="hung")


def _prepare(env: lmdb.Environment, path: Path, readonly: bool, node: bytes | None) -> schema.Handles:
    """Check the format first; only then make what is missing."""
    with env.begin() as txn:
        found: str | None = None
        if any(True for _ in txn.cursor().iternext(keys=True, values=False)):
            found = ""
            with suppress(lmdb.NotFoundError, lmdb.ReadonlyError, lmdb.IncompatibleError):
                meta = env.open_db(schema.META, txn=txn, create=False)
                found = (txn.get(schema.META_FORMAT, db=meta) or b"").decode("ascii", "replace")
    is_old = found == str(schema.FORMAT_WITHOUT_USAGE)
    if found is not None and not is_old and found != str(schema.FORMAT_VERSION):
        raise FormatError(
            f"the index at {path} has format {found or 'none'}, this version reads {schema.FORMAT_VERSION}; "
            "use the version that wrote it, or move it away and run keyreel rebuild"
        )
    if found is None and readonly:
        raise ConfigError(f"the index at {path} is empty; start the recorder, or run keyreel rebuild")
    if readonly:  # what the old format does not have reads as empty
        stand_in = {schema.USAGE_DB: schema.EVENTS, schema.ENDS: schema.EVENTS} if is_old else {}
        return schema.Handles(*(env.open_db(stand_in.get(name, name), create=False) for name in schema.DATABASES))
    with env.begin(write=True) as txn:
        handles = schema.Handles(*(env.open_db(name, txn=txn) for name in schema.DATABASES))
        if is_old:
            upgrade(txn, handles)
        if found != str(schema.FORMAT_VERSION):
            txn.put(schema.META_FORMAT, str(schema.FORMAT_VERSION).encode(), db=handles.meta)
        known = txn.get(schema.META_NODE, db=handles.meta)
        if node is not None and known is None:
            txn.put(schema.META_NODE, node, db=handles.meta)
    if node is not None and known not in (None, node):
        raise ConfigError(
            f"the index at {path} belongs to node {known.hex()}, not {node.hex()}; "
            "put the right folder in place, or move it away and run keyreel rebuild"
        )
    return handles


def upgrade(txn: lmdb.Transaction[bytes], handles: schema.Handles) -> None:
    """Format 1 → 2: count what lies where. Part of the transaction that names the new format: all of it, or nothing."""
    for key, row in count_all(Snapshot(txn, handles)).items():
        txn.put(key, row, db=handles.usage)


def _damage(path: Path, error: Exception) -> IndexDamage:
    return IndexDamage(f"the index at {path} cannot be read ({error}); run keyreel rebuild")


def _write_error(path: Path, error: Exception) -> KeyreelError:
    """What a failed transaction means: LMDB says EIO for a full disk too, so the file system is asked."""
    if isinstance(error, (*UNREADABLE, struct.error, UnicodeDecodeError)):
        return _damage(path, error)
    stat = os.statvfs(path)
    if stat.f_bavail * stat.f_frsize < 1 << 20:
        return VolumeError(f"the disk of the index at {path} is full; free some space", reason="enospc")
    if isinstance(error, lmdb.MapFullError):
        return VolumeError(f"the index at {path} fills its map; close long readers", reason="enospc")
    return VolumeError(f"the index at {path} cannot be written: {error}; check its disk", reason="eio")
