"""One export, from the request to the package: hold, plan, write, sign, name.

Kept true: the range is held before anything is read, so nothing of it is deleted meanwhile; a package appears whole or
not at all; after a crash the same request goes on where it was, with the same identity; whatever else ends an export
leaves neither file nor hold behind. What is damaged on disk becomes a declared gap of the package.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from base.clock import wall_us
from base.errors import NotFound, UserError, VolumeError
from base.leases import Lease, Leases
from base.units import format_time
from export.journal import Begun, Journal, StreamDone
from export.manifest import KIND
from export.package import Entry, Package, hidden, open_package, refuse_existing, refuse_no_folder
from export.report import html_report
from export.request import TEXT_MAX, Estimate, Request, Tools
from export.standalone import standalone
from export.streams import Counter, Streams
from export.verifier.files import canonical
from export.verifier.verdict import FORMAT_VERSION, MANIFEST, MANIFEST_CONTEXT, SIGNATURE
from index.holds import Hold, find, place, release

ROOM_SPARE_BYTES: Final = 16 << 20
VERIFIER: Final = "verify.py"
REPORT: Final = "report.html"


class Job:
    """An export; `run` makes the package, `estimate` only says how large it would be."""

    def __init__(self, tools: Tools, request: Request, *, keep_hold: bool = False) -> None:
        request.check(tools.case_pattern)
        self.request = request
        self._tools = tools
        self._streams = Streams(tools, request)
        self._keep_hold = keep_hold
        self._target = Path(request.target).absolute()

    def estimate(self) -> list[Estimate]:
        """Sizes by stream; a stream without footage is left out, and `NotFound` when all are."""
        found = [one for name in self.request.streams if (one := self._streams.estimate(name)) is not None]
        if not found:
            start, end = format_time(self.request.start_us), format_time(self.request.end_us)
            raise NotFound(
                f"none of {', '.join(self.request.streams)} has footage from {start} to {end}; `keyreel timeline` says "
                "what there is",
                reason="no-footage",
            )
        return found

    def run(self, progress: Callable[[int, int], None]) -> Path:
        """Make the package; its path."""
        refuse_no_folder(self._target)
        with _turn(self._tools.datadir.run_path), Journal(self._target) as journal:
            begun = journal.begun
            if begun is not None and begun.request != self._words():
                raise UserError(
                    f"another export to {self._target} was interrupted, case {begun.request['case']!r}; repeat "
                    f"that one, or delete {journal.path} and release hold {begun.hold} to give it up",
                    reason="exists",
                )
            if begun is not None and self._has_its_name():
                return self._done(journal, begun)
            refuse_existing(self._target)
            package: Package | None = None
            hold = begun.hold if begun else 0
            try:
                if begun is None:
                    hold = self._hold()
                    begun = self._begin(hold)
                    journal.begin(begun)
                done = list(journal.done)
                package = open_package(self._target, begun.created_us, [one for d in done for one in d.entries])
                self._write(package, journal, begun, done, progress)
                package.finish()
            except BaseException:  # Ctrl-C too; a crash comes here not at all
                if package is not None:
                    package.drop()
                journal.drop()
                self._let_go(hold, "the export did not end")
                raise
            return self._done(journal, begun)

    def _has_its_name(self) -> bool:
        """An interrupted export had come to its end, but for forgetting its journal."""
        return os.path.lexists(self._target) and not os.path.lexists(hidden(self._target, "part"))

    def _done(self, journal: Journal, begun: Begun) -> Path:
        journal.drop()
        if not self._keep_hold:
            self._let_go(begun.hold, f"export {begun.export} is complete")
        return self._target

    # --- the parts

    def _words(self) -> dict[str, Any]:
        """The request as the journal has it."""
        words: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self.request))
        return words

    def _hold(self) -> int:
        asked = self.request
        with self._tools.index.write() as transaction:
            placed = place(
                transaction,
                Hold(
                    streams=asked.streams,
                    start_us=asked.start_us,
                    end_us=asked.end_us,
                    reason=f"export to {self._target.name}: {asked.reason}"[:TEXT_MAX],
                    case=asked.case,
                    owner=asked.operator,
                    created_us=wall_us(),
                ),
            )
        return placed.hold.id

    def _let_go(self, hold: int, reason: str) -> None:
        with self._tools.index.write() as transaction:
            if hold and (known := find(transaction, hold)) is not None and not known.released_us:
                release(transaction, hold, by=self.request.operator, reason=reason, now_us=wall_us())

    def _begin(self, hold: int) -> Begun:
        """The identity of the export; what is recorded later than now is no part of it."""
        with self._tools.index.read() as snapshot:
            ends = {
                row.name: min(self.request.end_us, max(snapshot.durable_until(row.id), self.request.start_us + 1))
                for row in self._streams.rows(snapshot)
            }
        return Begun(
            request=self._words(),
            export=secrets.token_hex(16),
            created_us=wall_us(),
            hold=hold,
            ends=ends,
        )

    def _write(
        self, package: Package, journal: Journal, begun: Begun, done: list[StreamDone],
        progress: Callable[[int, int], None],
    ) -> None:  # fmt: skip
        leases = self._lease()
        sizes = {one.stream: one.bytes for one in self.estimate()}
        total, written = sum(sizes.values()), sum(entry.bytes for d in done for entry in d.entries)
        _refuse_full(self._target.parent, total - written)
        for name in self.request.streams[len(done) :]:
            before = len(package.entries)
            count = Counter(written, total, progress)
            document = self._streams.write(package, journal, begun, name, count)
            package.keep()
            journal.add(StreamDone(stream=document, entries=package.entries[before:]))
            written = count.done
        for lease in leases:
            lease.release()
        self._end(package, begun, [one.stream for one in journal.done])

    def _lease(self) -> list[Lease]:
        leases = Leases(self._tools.datadir.run_path)
        with self._tools.index.read() as snapshot:
            rows = self._streams.rows(snapshot)
        return [leases.take(row.id, self.request.start_us, self.request.end_us) for row in rows]

    def _end(self, package: Package, begun: Begun, streams: list[dict[str, Any]]) -> None:
        """Verifier, report, manifest and its signature."""
        keys = self._tools.keys
        asked = self.request
        manifest: dict[str, Any] = {
            "format": FORMAT_VERSION,
            "kind": KIND,
            "export": begun.export,
            "created": format_time(begun.created_us),
            "software": self._tools.software,
            "case": asked.case,
            "reason": asked.reason,
            "operator": asked.operator,
            "node": {"id": self._tools.datadir.node_id.hex(), "name": socket.gethostname()},
            "asked": {"start": format_time(asked.start_us), "end": format_time(asked.end_us)},
            "keys": keys.documents,
            "certificates": keys.certificates_pem,
            "certificate_sha256": hashlib.sha256(keys.certificate).hexdigest(),
            "streams": streams,
        }
        package.add(VERIFIER, [standalone()])
        pictures = {name: self._streams.pictures(name, begun.ends[name]) for name in asked.streams}
        key = hashlib.sha256(keys.public_key).hexdigest()
        package.add(REPORT, [html_report(manifest, key, pictures)])
        manifest["files"] = _files(package.entries)
        body = canonical(manifest)
        package.add(MANIFEST, [body])
        signature = {
            "algorithm": "ed25519",
            "key": keys.public_key.hex(),
            "signature": keys.sign(MANIFEST_CONTEXT + body).hex(),
        }
        package.add(SIGNATURE, [canonical(signature)])


def _files(entries: list[Entry]) -> list[dict[str, Any]]:
    return [{"name": one.name, "bytes": one.bytes, "sha256": one.sha256} for one in entries]


def _refuse_full(folder: Path, wanted_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < wanted_bytes + ROOM_SPARE_BYTES:
        raise VolumeError(
            f"{folder} has {free / 1e9:.2f} GB free and the package takes {wanted_bytes / 1e9:.2f} GB; free some room, "
            "or name a --to on another disk",
            reason="enospc",
        )


EXPORTS_MAX: Final = 2  # at a time on one node, so that recording keeps its disks


@contextlib.contextmanager
def _turn(run_path: Path) -> Iterator[None]:
    """One of the few places for exports; `UserError` when all are taken."""
    run_path.mkdir(exist_ok=True)
    for number in range(EXPORTS_MAX):
        handle = os.open(run_path / f"export-{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            continue
        try:
            yield
        finally:
            os.close(handle)
        return
    raise UserError(
        f"{EXPORTS_MAX} exports are running already; repeat this one when one of them is done", reason="busy"
    )
