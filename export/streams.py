"""The streams of an export: which fragments, their files in the package, and what the manifest says of them.

Kept true: one stream is planned at a time, so the tables of one are in memory; what is found damaged on the way makes
the stream be planned again, and becomes a declared gap.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from base.errors import DamageError, NotFound
from base.log import redact
from base.units import format_time
from clips.contact import cells
from clips.picture import frame_jpeg
from clips.plan import ClipPlan, plan
from export.camera import first_signatures, is_signed, signed_until
from export.journal import Begun, Journal
from export.manifest import chunk_documents, clock_document, codec_epochs, gap_documents, losses
from export.mp4 import FragmentRecord, StreamFile, whole_fragments
from export.onvif import ExportUnit, Source
from export.package import Package
from export.proof import Leaves, LedgerPart
from export.report import Picture
from export.request import Estimate, Request, Tools
from index import Snapshot, StreamRow

FRAME_BYTES: Final = 1_000  # of boxes and of the list of fragments, for each
RETRIES_MAX: Final = 16  # fragments found damaged one after another in one stream
PICTURES_MAX: Final = 6  # of a stream
PICTURES_ALL_MAX: Final = 48
PICTURE_WIDTH: Final = 480


class Counter:
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


class Streams:
    """The streams that a request names."""

    def __init__(self, tools: Tools, request: Request) -> None:
        self._tools, self._request = tools, request

    def rows(self, snapshot: Snapshot) -> list[StreamRow]:
        found = []
        for name in self._request.streams:
            row = snapshot.stream(name)
            if row is None:
                raise NotFound(
                    f"there is no stream {name[:80]!r}; `keyreel status` lists them", reason="unknown-stream"
                )
            found.append(row)
        return found

    def estimate(self, name: str) -> Estimate | None:
        with self._tools.index.read() as snapshot:
            self.rows(snapshot)
        planned = self.plan(name, self._request.end_us)
        if planned is None:
            return None
        sizes = [int(p.chunk.table.length[p.first : p.last].sum()) for p in planned.pieces]
        count = sum(piece.last - piece.first for piece in planned.pieces)
        size = sum(sizes) + FRAME_BYTES * count
        return Estimate(
            stream=name, bytes=size, start_us=planned.start_us, end_us=planned.end_us, fragments=count
        )  # fmt: skip

    def plan(self, name: str, end_us: int) -> ClipPlan | None:
        """The stream's whole fragments; None when it has none."""
        with self._tools.index.read() as snapshot:
            row = snapshot.stream(name)
            assert row is not None
            try:
                planned = whole_fragments(plan(snapshot, self._tools.store, row.id, self._request.start_us, end_us))
                until_us = signed_until(snapshot, self._tools.store, planned)
                if until_us:
                    planned = plan(snapshot, self._tools.store, row.id, self._request.start_us, until_us)
                    planned = whole_fragments(planned)
                return planned
            except NotFound as error:
                if error.reason != "no-footage":
                    raise
                return None

    def write(self, package: Package, journal: Journal, begun: Begun, name: str, count: Counter) -> dict[str, Any]:
        """Write a stream's files; what the manifest says of it."""
        for _ in range(RETRIES_MAX):
            known = self._damaged(name)  # before the plan, which may find some itself
            planned = self.plan(name, begun.ends[name])
            if planned is None:
                return self._document(begun, name, None)
            try:
                return self._footage(package, journal, begun, planned, count)
            except DamageError:
                if self._damaged(name) == known:
                    raise
        raise DamageError(f"{name} is damaged in {RETRIES_MAX} places; run `keyreel check --deep`", reason="damage")

    def _damaged(self, name: str) -> int:
        """Fragments of the range that are known to be damaged."""
        with self._tools.index.read() as snapshot:
            (row,) = (row for row in self.rows(snapshot) if row.name == name)
            chunks = snapshot.chunks(row.id, self._request.start_us, self._request.end_us)
        return sum(len(self._tools.store.damaged(chunk)) for chunk in chunks)

    def _footage(
        self, package: Package, journal: Journal, begun: Begun, planned: ClipPlan, count: Counter
    ) -> dict[str, Any]:
        name = planned.stream_name
        path = f"streams/{name}.mp4"
        encoder = msgspec.json.Encoder()
        leaves: Leaves = {}
        with journal.spool() as spool:

            def record(one: FragmentRecord) -> None:
                spool.write(encoder.encode(one) + b"\n")
                leaves.setdefault(one.sequence, {})[one.number] = bytes.fromhex(one.leaf)

            unit = ExportUnit(socket.gethostname(), begun.created_us, self._request.operator)
            file = StreamFile(
                planned, unit=unit, source=self._source(name), signer=self._tools.keys, record=record,
                information=f"export {begun.export}, case {self._request.case}",
                shown_until_us=self._request.end_us,
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
        asked = self._request.start_us, self._request.end_us
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
        shown_us = min(planned.end_us, self._request.end_us)
        return document | {
            "delivered": {"start": format_time(start_us), "end": format_time(end_us)},
            "shown": {"start": format_time(planned.start_us), "end": format_time(shown_us)},
            "hidden": {"before_us": planned.start_us - start_us, "after_us": end_us - shown_us},
            "chunks": chunk_documents(planned),
            "epochs": codec_epochs(planned.pieces),
            "losses": losses(planned),
            "clock": clock_document(planned),
            "camera_signing": self._signing(planned),
        }

    def _signing(self, planned: ClipPlan) -> dict[str, Any]:
        """Whether the camera signs, and the units of the connection's beginning that may hold its certificate."""
        with self._tools.index.read() as snapshot:
            units = first_signatures(snapshot, self._tools.store, planned)
        return {"signed": is_signed(planned), "first_units": [unit.hex() for unit in units]}

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

    def pictures(self, name: str, end_us: int) -> list[Picture]:
        """Some key frames, spread evenly; what cannot be decoded is left out."""
        found = []
        count = max(1, min(PICTURES_MAX, PICTURES_ALL_MAX // len(self._request.streams)))
        with self._tools.index.read() as snapshot:
            (row,) = (row for row in self.rows(snapshot) if row.name == name)
            for key in cells(snapshot, row.id, self._request.start_us, end_us, count):
                with contextlib.suppress(DamageError, NotFound):
                    if key is not None:
                        jpeg, at_us = frame_jpeg(
                            snapshot, self._tools.store, row.id, key.time_us, exact=False, width=PICTURE_WIDTH
                        )
                        found.append(Picture(format_time(at_us), jpeg))
        return found
