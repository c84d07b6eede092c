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
import re
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from base.clock import wall_us
from base.datadir import DataDir
from base.errors import ConfigError, DamageError, NotFound, UserError, VolumeError
from base.leases import Lease, Leases
from base.log import redact
from base.units import format_time
from clips.contact import cells
from clips.picture import frame_jpeg
from clips.plan import ClipPlan, plan
from clips.store import ChunkStore
from export.journal import Begun, Journal, StreamDone
from export.manifest import KIND, chunk_documents, clock_document, codec_epochs, gap_documents, losses
from export.mp4 import FragmentRecord, Signer, StreamFile, whole_fragments
from export.onvif import ExportUnit, Source
from export.package import Entry, Package, open_package, refuse_existing
from export.proof import Leaves, LedgerPart
from export.report import Picture, html_report
from export.standalone import standalone
from export.verifier.files import canonical
from export.verifier.verdict import FORMAT_VERSION, MANIFEST, MANIFEST_CONTEXT, SIGNATURE
from index import Index, Snapshot, StreamRow
from index.holds import Hold, find, place, release

STREAMS_MAX: Final = 64
SPAN_MAX_US: Final = 7 * 86_400 * 1_000_000  # a plan has 2 MB of tables per hour and stream in memory
TEXT_MAX: Final = 1_024
ROOM_SPARE_BYTES: Final = 16 << 20
FRAME_BYTES: Final = 1_000  # of boxes and of the list of fragments, for each
CASE_PATTERN: Final = r"\w[\w./ -]{0,63}"
RETRIES_MAX: Final = 16  # fragments found damaged one after another in one stream
VERIFIER: Final = "verify.py"
REPORT: Final = "report.html"
PICTURES_MAX: Final = 6  # of a stream
PICTURES_ALL_MAX: Final = 48
PICTURE_WIDTH: Final = 480


class NodeKeys(Signer, Protocol):
    """The node's keys: RSA for the video files, Ed25519 for the manifest."""

    @property
    def public_key(self) -> bytes:
        """Ed25519, as SubjectPublicKeyInfo, DER."""

    @property
    def documents(self) -> list[dict[str, Any]]:
        """What a verifier has to know of the keys that may have signed the ledger."""

    @property
    def certificates_pem(self) -> str:
        """The certificate and those above it."""

    def sign(self, data: bytes) -> bytes:
        """Ed25519 signature."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for, by whom and why."""

    case: str
    reason: str
    operator: str
    streams: tuple[str, ...]
    start_us: int
    end_us: int
    target: str

    def check(self, case_pattern: str = CASE_PATTERN) -> None:
        """`UserError` says which word is wrong and how it is written."""
        try:
            fits = re.fullmatch(case_pattern, self.case) is not None
        except re.error as error:
            raise ConfigError(f"evidence.case_pattern is no regular expression: {error}") from None
        if not fits:
            raise UserError(
                f"case {self.case[:80]!r} is no case number here; it must match evidence.case_pattern, {case_pattern}",
                reason="bad-case",
            )
        for name in ("reason", "operator"):
            text = getattr(self, name)
            if not text.strip() or not text.isprintable() or len(text.encode("utf-8", "replace")) > TEXT_MAX:
                raise UserError(f"{name} is empty, too long or has control characters; write a line", reason="bad-text")
        if not 0 < len(self.streams) <= STREAMS_MAX or len(set(self.streams)) != len(self.streams):
            raise UserError(f"name 1 to {STREAMS_MAX} streams, each once", reason="bad-streams")
        if not 0 < self.end_us - self.start_us <= SPAN_MAX_US:
            raise UserError(
                "end is not after start, or more than 7 days; ask for a later end or for several packages",
                reason="bad-range",
            )


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What an export of a stream would be."""

    stream: str
    bytes: int
    start_us: int
    end_us: int
    fragments: int


class Tools(msgspec.Struct, frozen=True, kw_only=True):
    """What a job works with."""

    datadir: DataDir
    index: Index
    store: ChunkStore
    keys: NodeKeys
    software: str
    case_pattern: str = CASE_PATTERN


class Job:
    """An export; `run` makes the package, `estimate` only says how large it would be."""

    def __init__(self, tools: Tools, request: Request, *, keep_hold: bool = False) -> None:
        request.check(tools.case_pattern)
        self.request = request
        self._tools = tools
        self._keep_hold = keep_hold
        self._target = Path(request.target).absolute()

    def estimate(self) -> list[Estimate]:
        """Sizes by stream; a stream without footage is left out, and `NotFound` when all are."""
        found = [one for name in self.request.streams if (one := self._estimate(name)) is not None]
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
        refuse_existing(self._target)
        with _turn(self._tools.datadir.run_path), Journal(self._target) as journal:
            begun = journal.begun
            if begun is not None and begun.request != self._words():
                raise UserError(
                    f"another export to {self._target} was interrupted, case {begun.request['case']!r}; repeat "
                    f"that one, or delete {journal.path} to give it up",
                    reason="exists",
                )
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
            journal.drop()
            if not self._keep_hold:
                self._let_go(hold, f"export {begun.export} is complete")
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
                for row in self._rows(snapshot)
            }
        return Begun(
            request=self._words(),
            export=secrets.token_hex(16),
            created_us=wall_us(),
            hold=hold,
            ends=ends,
        )

    def _rows(self, snapshot: Snapshot) -> list[StreamRow]:
        found = []
        for name in self.request.streams:
            row = snapshot.stream(name)
            if row is None:
                raise NotFound(
                    f"there is no stream {name[:80]!r}; `keyreel status` lists them", reason="unknown-stream"
                )
            found.append(row)
        return found

    def _estimate(self, name: str) -> Estimate | None:
        with self._tools.index.read() as snapshot:
            self._rows(snapshot)
        planned = self._plan(name, self.request.end_us)
        if planned is None:
            return None
        sizes = [int(p.chunk.table.length[p.first : p.last].sum()) for p in planned.pieces]
        count = sum(piece.last - piece.first for piece in planned.pieces)
        size = sum(sizes) + FRAME_BYTES * count
        return Estimate(
            stream=name, bytes=size, start_us=planned.start_us, end_us=planned.end_us, fragments=count
        )  # fmt: skip

    def _plan(self, name: str, end_us: int) -> ClipPlan | None:
        """The stream's whole fragments; None when it has none."""
        with self._tools.index.read() as snapshot:
            row = snapshot.stream(name)
            assert row is not None
            try:
                return whole_fragments(plan(snapshot, self._tools.store, row.id, self.request.start_us, end_us))
            except NotFound as error:
                if error.reason != "no-footage":
                    raise
                return None

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
            count = _Counter(written, total, progress)
            document = self._stream(package, journal, begun, name, count)
            package.keep()
            journal.add(StreamDone(stream=document, entries=package.entries[before:]))
            written = count.done
        for lease in leases:
            lease.release()
        self._end(package, begun, [one.stream for one in journal.done])

    def _lease(self) -> list[Lease]:
        leases = Leases(self._tools.datadir.run_path)
        with self._tools.index.read() as snapshot:
            rows = self._rows(snapshot)
        return [leases.take(row.id, self.request.start_us, self.request.end_us) for row in rows]

    def _stream(self, package: Package, journal: Journal, begun: Begun, name: str, count: _Counter) -> dict[str, Any]:
        """Write a stream's files; what the manifest says of it."""
        for _ in range(RETRIES_MAX):
            planned = self._plan(name, begun.ends[name])
            if planned is None:
                return self._document(begun, name, None)
            known = self._damaged(name)
            try:
                return self._footage(package, journal, begun, planned, count)
            except DamageError:
                if self._damaged(name) == known:
                    raise
        raise DamageError(f"{name} is damaged in {RETRIES_MAX} places; run `keyreel check --deep`", reason="damage")

    def _damaged(self, name: str) -> int:
        """Fragments of the range that are known to be damaged."""
        with self._tools.index.read() as snapshot:
            (row,) = (row for row in self._rows(snapshot) if row.name == name)
            chunks = snapshot.chunks(row.id, self.request.start_us, self.request.end_us)
        return sum(len(self._tools.store.damaged(chunk)) for chunk in chunks)

    def _footage(
        self, package: Package, journal: Journal, begun: Begun, planned: ClipPlan, count: _Counter
    ) -> dict[str, Any]:
        name = planned.stream_name
        path = f"streams/{name}.mp4"
        encoder = msgspec.json.Encoder()
        leaves: Leaves = {}
        with journal.spool() as spool:

            def record(one: FragmentRecord) -> None:
                spool.write(encoder.encode(one) + b"\n")
                leaves.setdefault(one.sequence, {})[one.number] = bytes.fromhex(one.leaf)

            unit = ExportUnit(socket.gethostname(), begun.created_us, self.request.operator)
            file = StreamFile(
                planned, unit=unit, source=self._source(name), signer=self._tools.keys, record=record,
                information=f"export {begun.export}, case {self.request.case}",
            )  # fmt: skip
            package.add(path, count.over(file.parts()), lambda: file.summary.sha256 if file.summary else "")
            spool.seek(0)
            package.add(f"streams/{name}.fragments.jsonl", iter(lambda: spool.read(1 << 20), b""))
        document = self._document(begun, name, planned)
        ledger = LedgerPart(self._tools.datadir.ledger_path / name, planned)
        document["ledger_note"] = ledger.note
        if ledger.raw:
            document["ledger"] = f"streams/{name}.ledger"
            package.add(document["ledger"], [ledger.raw])
            ledger.add_to(document["chunks"], leaves)
        assert file.summary is not None
        mp4 = msgspec.to_builtins(file.summary) | {"origin": format_time(file.origin_us)}
        del mp4["origin_us"]
        return document | {"file": path, "fragments": f"streams/{name}.fragments.jsonl", "mp4": mp4}

    def _document(self, begun: Begun, name: str, planned: ClipPlan | None) -> dict[str, Any]:
        asked = self.request.start_us, self.request.end_us
        with self._tools.index.read() as snapshot:
            row = snapshot.stream(name)
            assert row is not None
            document: dict[str, Any] = {
                "stream": name,
                "camera": self._camera(snapshot, row),
                "durable_until": format_time(snapshot.durable_until(row.id)),
                "gaps": gap_documents(planned, snapshot, self._tools.store, row, asked),
                "file": "",
                "fragments": "",
                "ledger": "",
            }
        if planned is None:
            return document
        first, last = planned.pieces[0], planned.pieces[-1]
        start_us = int(first.chunk.table.wall_us[first.first])
        end_us = int(last.chunk.table.end_us[last.last - 1])
        return document | {
            "delivered": {"start": format_time(start_us), "end": format_time(end_us)},
            "shown": {"start": format_time(planned.start_us), "end": format_time(planned.end_us)},
            "hidden": {"before_us": planned.start_us - start_us, "after_us": end_us - planned.end_us},
            "chunks": chunk_documents(planned),
            "epochs": codec_epochs(planned.pieces),
            "losses": losses(planned),
            "clock": clock_document(planned),
        }

    def _source(self, name: str) -> Source:
        with self._tools.index.read() as snapshot:
            camera = snapshot.camera(name.rpartition(".")[0])
        quality = name.rpartition(".")[2]
        address = (camera.sub if quality == "sub" else camera.main) if camera else ""
        return Source(name, redact(address or ""), "", quality)

    def _camera(self, snapshot: Snapshot, row: StreamRow) -> dict[str, str]:
        camera = snapshot.camera(row.camera)
        address = (camera.sub if row.quality == "sub" else camera.main) if camera else ""
        return {"id": row.camera, "address": redact(address or ""), "note": camera.note if camera else ""}

    def _pictures(self, name: str, end_us: int) -> list[Picture]:
        """Some key frames, spread evenly; what cannot be decoded is left out."""
        found = []
        count = max(1, min(PICTURES_MAX, PICTURES_ALL_MAX // len(self.request.streams)))
        with self._tools.index.read() as snapshot:
            (row,) = (row for row in self._rows(snapshot) if row.name == name)
            for key in cells(snapshot, row.id, self.request.start_us, end_us, count):
                with contextlib.suppress(DamageError, NotFound):
                    if key is not None:
                        jpeg, at_us = frame_jpeg(
                            snapshot, self._tools.store, row.id, key.time_us, exact=False, width=PICTURE_WIDTH
                        )
                        found.append(Picture(format_time(at_us), jpeg))
        return found

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
        pictures = {name: self._pictures(name, begun.ends[name]) for name in asked.streams}
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


class _Counter:
    """Counts what is written."""

    def __init__(self, done: int, total: int, progress: Callable[[int, int], None]) -> None:
        self.done, self._total, self._progress = done, total, progress

    def over(self, parts: Iterator[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        """The same parts, counted."""
        start = self.done
        for part in parts:
            yield part
            self.done += len(part)
            self._progress(self.done, max(self._total, self.done))
        if self.done == start:
            self._progress(self.done, self._total)


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
