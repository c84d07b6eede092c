"""What the cameras' own signatures say, by sample: of each stream one GOP or so in some minutes.

Kept true: it runs in a thread of its own and reads what is stored, so it costs no picture; while the event loop or a
volume is behind nothing is read; at most a look per `LOOK_S`, of at most `SAMPLE_BYTES_MAX`; a camera that signed and
does not any more is told once, and stays told over restarts until it signs again or is accepted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from base.errors import ConfigError, DamageError, KeyreelError
from base.media import VideoCodec
from base.signatures import CameraSignature, read_signatures, remember
from base.units import US, format_time
from chunks.path import chunk_path
from chunks.reader import ChunkFile
from clips.recorded import GAP, Picture, connection_of, pictures_of
from clips.store import OpenChunk
from evidence.ledger import Camera, CameraVerdict
from evidence.mediasigning import Part, Trust, Verdict, Verifier
from evidence.mediasigning.parts import Reason
from evidence.mediasigning.units import nals_of
from index import ChunkRow, Index, StreamRow

LOOK_S: Final = 0.5
SAMPLE_US: Final = 30 * US
SAMPLE_BYTES_MAX: Final = 16 << 20
ENOUGH_US: Final = 4 * US  # of a chunk that grows, before it is looked at
UNSIGNED_GOPS: Final = 3  # without an SEI: the specification wants one for each
UNSIGNED_US: Final = 8 * US  # or so long, of cameras with long GOPs
_RETRY_S: Final = 5.0
_END_WAIT_S: Final = 2.0

_ENTRIES: Final = {
    Verdict.AUTHENTIC: CameraVerdict.AUTHENTIC,
    Verdict.MISSING_UNITS: CameraVerdict.UNITS_MISSING,
    Verdict.NOT_AUTHENTIC: CameraVerdict.NOT_AUTHENTIC,
    Verdict.NOT_SIGNED: CameraVerdict.NOT_SIGNED,
    Verdict.NOT_COVERED: CameraVerdict.NOT_EXAMINED,
}

log = structlog.get_logger("recorder.signing")


class Look(NamedTuple):
    """One look at a stream, for who keeps account of it; of cameras that never signed only the first one is told."""

    stream: StreamRow
    sequence: int  # of the chunk, and the number of its first fragment looked at
    fragment: int
    seen: CameraSignature


def entry_of(look: Look) -> Camera:
    """A look as the stream's ledger takes it."""
    seen = look.seen
    verdict = CameraVerdict.NO_LONGER_SIGNED if seen.stopped_us else _ENTRIES[Verdict(seen.verdict)]
    certificate = bytes.fromhex(seen.key) if seen.key else bytes(32)
    return Camera(seen.start_us, seen.end_us, look.sequence, look.fragment, verdict, certificate, seen.detail)


class SignatureWatch:
    """The looks at this process's streams."""

    def __init__(
        self, index: Index, folder: Path, every_s: float, trusted: Iterable[str], busy: Callable[[], bool],
        on_look: Callable[[Look], None] = lambda look: None,
    ) -> None:  # fmt: skip
        self._index, self._folder, self._every_s = index, folder, every_s
        self._trusted = list(trusted)
        self._trust = Trust()
        self._busy, self._on_look = busy, on_look
        self._streams: list[StreamRow] = []
        self._roots: Mapping[bytes, Path] = {}
        self._told: dict[str, CameraSignature] = {}
        self._looked: dict[int, int] = {}  # sequence of the chunk last looked at, by stream
        self._due_s: dict[int, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="camera signatures", daemon=True)

    def start(self) -> None:
        """Start looking; with a period of 0 nothing is done."""
        if self._every_s:
            self._thread.start()

    def stop(self) -> None:
        """A look that hangs is not waited for."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(_END_WAIT_S)

    def follow(self, streams: list[StreamRow], roots: Mapping[bytes, Path]) -> None:
        """These streams are recorded now, and these volumes answer."""
        self._streams, self._roots = streams, roots

    def told(self, stream: str) -> CameraSignature | None:
        """What is known of a stream's camera."""
        return self._told.get(stream)

    # -- the thread's own ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._trust = Trust.read(map(Path, self._trusted))
        except ConfigError as error:
            log.error("evidence.camera_trust cannot be used; cameras are judged without it", error=str(error))
        self._told = read_signatures(self._folder)
        while not self._ended.wait(LOOK_S):
            stream = self._next()
            if stream is None or self._busy():
                continue
            wait_s = min(_RETRY_S, self._every_s)
            try:
                if self._look(stream):
                    wait_s = self._every_s
            except (KeyreelError, OSError) as error:
                log.info("a camera's signatures could not be looked at", stream=stream.name, error=str(error))
            except Exception:  # of bytes that a camera sent: its look ends, no other's
                log.exception("a look at a camera's signatures failed", stream=stream.name)
                wait_s = self._every_s
            self._due_s[stream.id] = time.monotonic() + wait_s

    def _next(self) -> StreamRow | None:
        """The stream that has waited longest past its time."""
        now_s = time.monotonic()
        due = min(self._streams, key=lambda one: self._due_s.get(one.id, 0.0), default=None)
        return due if due is not None and self._due_s.get(due.id, 0.0) <= now_s else None

    def _look(self, stream: StreamRow) -> bool:
        """Judge the beginning of a stream's newest chunk; False when there is nothing new that can be judged."""
        with self._index.read() as snapshot:
            row = snapshot.last_chunk(stream.id)
            if row is not None and not _enough(row):
                row = snapshot.chunk(stream.id, row.sequence - 1)
            begin = None if row is None else connection_of(snapshot, [row])
        if row is None or not _enough(row) or self._looked.get(stream.id) == row.sequence:
            return False
        grows = not row.sealed and row.end_us - row.start_us < SAMPLE_US
        chunk = self._open(stream, row, SAMPLE_BYTES_MAX)
        if chunk is None or not len(chunk.table):
            return False
        part, signs = self._judge(chunk, None)
        if part is not None and part.reason is Reason.NO_KEY and begin is not None:
            part, signs = self._judge(chunk, self._open(stream, begin, 1 << 20))
        if grows and (part is None or part.reason is Reason.DANGLING):
            return False
        self._looked[stream.id] = row.sequence
        if part is not None:
            self._tell(stream, chunk, part, signs)
        return True

    def _open(self, stream: StreamRow, row: ChunkRow, upto: int) -> OpenChunk | None:
        root = self._roots.get(row.volume)
        if root is None:
            return None
        path = chunk_path(root, stream.name, row.start_us, row.sequence)
        file = ChunkFile(path, expect=(row.stream_id, row.sequence))
        return OpenChunk(row, file, file.table(upto=min(row.table_offset or row.size, upto)))

    def _judge(self, chunk: OpenChunk, begin: OpenChunk | None) -> tuple[Part | None, bool]:
        """(the first part that can be judged, whether the camera signs); None when too little is there."""
        known = [] if begin is None or not len(begin.table) else [sample for _, sample in _beginning(begin, 1)]
        codec = chunk.file.config.video.codec
        return judge(_beginning(chunk, len(chunk.table)), codec, self._trust, known)

    def _tell(self, stream: StreamRow, chunk: OpenChunk, part: Part, signs: bool) -> None:
        seen = CameraSignature(
            verdict=part.verdict,
            reason=part.reason,
            detail=part.detail,
            provenance=part.provenance or "",
            subject=part.key.subject if part.key is not None else "",
            key=part.key.fingerprint if part.key is not None else "",
            start_us=part.start_us,
            end_us=part.end_us,
        )
        before, now = remember(self._folder, stream.name, seen, signs)
        last = self._told.get(stream.name)
        self._told[stream.name] = now
        _say(stream.name, before, now)
        if now.signed_us or last is None or last.verdict != now.verdict:
            self._on_look(Look(stream, chunk.row.sequence, int(chunk.table.number[0]), now))


def judge(
    pictures: Iterable[Picture], codec: VideoCodec, trust: Trust, known: Iterable[bytes | memoryview] = ()
) -> tuple[Part | None, bool]:
    """The first part of `pictures` that can be judged, and whether the camera signs; as few are taken as needed."""
    verifier = Verifier(codec, trust)
    for sample in known:
        for nal in nals_of(sample):
            verifier.learn(nal)
    first_us = last_us = 0
    for time_us, sample in pictures:
        first_us, last_us = first_us or time_us, time_us
        if not sample:
            verifier.interrupt()
        for nal in nals_of(sample):
            for part in verifier.feed(nal, time_us):
                if part.units and part.reason not in (Reason.DANGLING, Reason.INTERRUPTED):
                    return part, verifier.signed
        if not verifier.signed and verifier.gops_held > UNSIGNED_GOPS:
            break
    gops = verifier.gops_held
    parts = verifier.finish()
    if not parts or (not verifier.signed and gops <= UNSIGNED_GOPS and last_us - first_us < UNSIGNED_US):
        return None, verifier.signed
    return parts[0], verifier.signed


def _enough(row: ChunkRow) -> bool:
    return row.sealed or row.end_us - row.start_us >= ENOUGH_US


def _beginning(chunk: OpenChunk, fragments: int) -> Iterator[Picture]:
    """The pictures of a chunk's first fragments; one that is damaged is left out."""
    table = chunk.table
    for i in range(min(fragments, len(table))):
        if int(table.wall_us[i]) - int(table.wall_us[0]) > SAMPLE_US:
            return
        try:
            data = chunk.read_fragment(i)
        except DamageError:
            yield int(table.wall_us[i]), GAP
            continue
        yield from pictures_of(chunk, i, data)


def _say(stream: str, before: CameraSignature, now: CameraSignature) -> None:
    """What changed, once."""
    if now.stopped_us and not before.stopped_us:
        last = format_time(now.signed_us)
        log.warning("a camera that signed its pictures has stopped", stream=stream, signed_until=last)
    elif before.stopped_us and not now.stopped_us:
        log.warning("a camera signs its pictures again", stream=stream)
    if now.verdict == Verdict.NOT_AUTHENTIC and before.verdict != Verdict.NOT_AUTHENTIC:
        log.warning("a camera's signature does not fit its pictures", stream=stream, why=now.detail)
    if before.key and now.key and before.key != now.key:
        log.warning("a camera signs with another certificate", stream=stream, before=before.subject, now=now.subject)
