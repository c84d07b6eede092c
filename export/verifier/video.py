"""The video file of a package: its hashes in one pass, and, where they differ, which fragments differ and how.

Kept true: a fragment is unchanged only when all its bytes are; what was taken out, put in, moved, doubled or changed is
told by the fragment it was done to, however the rest of the file was shifted by it.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from export.verifier.files import Files, Findings, sha256, time_text

CHUNK_UUID = bytes.fromhex("5d9f2c1b7e0a4c3f9a6b1f0d3c5e7a01")
ORIGIN_UUID = bytes.fromhex("5d9f2c1b7e0a4c3f9a6b1f0d3c5e7a02")
INTACT, ALTERED, MISSING = "intact", "altered", "missing"
SEAL_BYTES = 124
BOXES_BYTES_MAX = 1 << 20  # of origin and moof
WAITING_MAX = 4  # fragments in memory
Hashes = tuple[str, str]  # of the boxes; of the stored fragment


class Record(NamedTuple):
    """A fragment as the list has it."""

    n: int
    offset: int
    length: int
    sequence: int
    number: int
    start_us: int
    end_us: int
    leaf: str
    frame: str


def read_records(files: Files, name: str) -> list[Record]:
    """The list of fragments; ValueError when it is none."""
    found = []
    for line in files.lines(name):
        document = json.loads(line)
        record = Record(*(document[word] for word in Record._fields))
        if not all(type(value) is int and 0 <= value < 1 << 62 for value in record[:7]):
            raise ValueError("a number of a fragment is none")
        found.append(record._replace(leaf=str(record.leaf), frame=str(record.frame)))
    return found


class Passed(NamedTuple):
    """What one pass over a video file gave."""

    sha256: str
    signed: bytes  # SHA-256 with zeros for the signature
    signature: bytes
    certificate: bytes
    hashes: list[Hashes | None]  # by record


def number(data: bytes, at: int) -> int:
    """32 bits, big-endian; 0 where there are none."""
    return int.from_bytes(data[at : at + 4], "big") if at + 4 <= len(data) else 0


def fragment_at(data: bytes) -> tuple[int, int, int] | None:
    """(bytes of the stored head, of the boxes before the media, of all) of the fragment `data` begins with; or None."""
    if data[4:24] != b"uuid" + ORIGIN_UUID:
        return None
    origin, head = number(data, 0), number(data, 24)
    moof = origin + number(data, origin)
    end = moof + number(data, moof)
    if origin != 28 + head + SEAL_BYTES or data[origin + 4 : origin + 8] != b"moof":
        return None
    if moof < origin + 8 or data[moof + 4 : moof + 8] != b"mdat" or end < moof + 8:
        return None
    return head, moof + 8, end


def fragment_hashes(data: bytes) -> Hashes | None:
    """Of a fragment's bytes; None when they are no fragment."""
    parts = fragment_at(data)
    if parts is None or parts[2] != len(data):
        return None
    head, media, _ = parts
    leaf = hashlib.sha256(b"\0" + data[28 : 28 + head])
    leaf.update(memoryview(data)[media:])
    leaf.update(data[28 + head : 28 + head + SEAL_BYTES])
    return sha256(data[:media]), leaf.hexdigest()


def read_through(files: Files, name: str, records: list[Record]) -> Passed:
    """One pass over a file that should be as it was written; fragments are hashed beside it."""
    whole, found, waiting, at = hashlib.sha256(), [], [], 0
    with ThreadPoolExecutor(1) as pool:
        for record in records:
            whole.update(files.read(name, at, max(0, record.offset - at)))
            data = files.read(name, record.offset, record.length)
            waiting.append(pool.submit(fragment_hashes, data))
            whole.update(data)
            at = record.offset + record.length
            if len(waiting) > WAITING_MAX:
                found.append(waiting.pop(0).result())
        found += [one.result() for one in waiting]
    tail = files.read(name, at, 64 << 20)
    signed = whole.copy()
    whole.update(tail)
    start, end = box_content(tail, b"sibo")
    first, last = box_content(tail, b"cert")
    signed.update(tail[:start] + bytes(end - start) + tail[end:])
    return Passed(whole.hexdigest(), signed.digest(), tail[start:end], tail[first:last], found)


def box_content(data: bytes, kind: bytes) -> tuple[int, int]:
    """(start, end) of what is in the first box of that kind; an empty range when there is none."""
    place = data.find(kind)
    if place < 4 or place - 4 + number(data, place - 4) > len(data):
        return len(data), len(data)
    return place + 4, place - 4 + number(data, place - 4)


class Changed:
    """A file that is not as it was written: what of it is left."""

    def __init__(self, files: Files, name: str, findings: Findings) -> None:
        self._files, self._name, self._findings = files, name, findings
        self.found: list[tuple[int, Hashes | None]] = []  # offset of each fragment or rest of one
        self.headers: list[str] = []

    def scan(self, tail_bytes: int) -> None:
        """What stands between one known box and the next; lengths are believed only as far as they fit there."""
        size = self._files.size(self._name)
        starts = [*self._starts(size), size]
        for at, border in zip(starts, starts[1:]):
            head = self._files.read(self._name, at, min(BOXES_BYTES_MAX, border - at))
            end = at
            if head[8:24] == CHUNK_UUID:
                if 24 < number(head, 0) <= len(head):
                    end = at + number(head, 0)
                    self.headers.append(sha256(head[24 : number(head, 0)]))
            else:
                parts = fragment_at(head)
                whole = parts is not None and at + parts[2] <= border
                end = at + parts[2] if parts and whole else border
                self.found.append((at, fragment_hashes(self._files.read(self._name, at, end - at)) if whole else None))
            rest = border - end
            if rest and not (border == size and rest <= tail_bytes):
                self.found.append((end, None))

    def _starts(self, size: int) -> Iterator[int]:
        """Where origin and chunk boxes begin."""
        overlap = 20  # of a box's kind and uuid
        for at in range(0, size, 1 << 20):
            block = self._files.read(self._name, at, (1 << 20) + overlap - 1)
            place = block.find(b"uuid")
            while place >= 0:
                if block[place + 4 : place + overlap] in (ORIGIN_UUID, CHUNK_UUID) and at + place >= 4:
                    yield at + place - 4
                place = block.find(b"uuid", place + 1)

    def check_frame(self, document: dict[str, Any], records: list[Record]) -> None:
        """What stands before, between and behind the fragments."""
        mp4, size = document["mp4"], self._files.size(self._name)
        front = self._files.read(self._name, 0, mp4["front_bytes"])
        if sha256(front) != mp4["front_sha256"]:
            self._findings.add(self._name, "its beginning (ftyp, moov) was altered")
        tail = self._files.read(self._name, max(0, size - mp4["tail_bytes"]), mp4["tail_bytes"])
        if sha256(tail) != mp4["tail_sha256"]:
            self._findings.add(self._name, "its end (meta with the signature, mfra) was altered or is missing")
        for chunk in document["chunks"]:
            if self.headers.count(chunk["header_sha256"]) != 1:
                self._findings.add(self._name, f"the header of chunk {chunk['sequence']} was altered or is not there")
        wanted = [chunk["header_sha256"] for chunk in document["chunks"]]
        if [one for one in self.headers if one in wanted] != wanted and sorted(self.headers) == sorted(wanted):
            self._findings.add(self._name, "headers of chunks were moved")

    def align(self, records: list[Record]) -> list[str]:
        """A verdict for each record."""
        exact = {(one.frame, one.leaf): i for i, one in enumerate(records)}
        places = [exact.get(hashes) if hashes else None for _, hashes in self.found]
        known = [(position, i) for position, i in enumerate(places) if i is not None]
        kept = {known[k][0] for k in ascending([i for _, i in known])}
        verdicts: list[str] = [""] * len(records)
        for position, i in known:
            if position in kept:
                verdicts[i] = INTACT
        for position, i in known:
            if position not in kept:
                word = "there twice" if verdicts[i] else "moved"
                self._findings.add(self._name, f"{told(records[i])} is {word}, at byte {self.found[position][0]}")
                verdicts[i] = verdicts[i] or ALTERED
        self._name_changed(records, places, kept, verdicts)
        for i, record in enumerate(records):
            if not verdicts[i]:
                verdicts[i] = MISSING
                self._findings.add(self._name, f"{told(record)} is missing")
        return verdicts

    def _name_changed(
        self, records: list[Record], places: list[int | None], kept: set[int], verdicts: list[str]
    ) -> None:
        """What is no fragment of the export any more is the one that should stand there."""
        by_leaf = {one.leaf: i for i, one in enumerate(records)}
        following, borders = len(records), []
        for position in range(len(places) - 1, -1, -1):
            borders.append(following)
            place = places[position]
            following = place if position in kept and place is not None else following
        last = -1
        for position, (offset, hashes) in enumerate(self.found):
            place = places[position]
            if place is not None:
                last = place if position in kept else last
                continue
            own = by_leaf.get(hashes[1]) if hashes else None
            if own is None or verdicts[own]:
                border = borders[len(places) - 1 - position]
                own = next((i for i in range(last + 1, border) if not verdicts[i]), None)
            if own is None:
                self._findings.add(self._name, f"at byte {offset} is a fragment that is not of this export")
                continue
            verdicts[own] = ALTERED
            self._findings.add(self._name, f"{told(records[own])} was altered, at byte {offset}")


def told(record: Record) -> str:
    """A fragment for people."""
    begins = time_text(record.start_us)
    return f"fragment {record.n} ({begins}, number {record.number} of chunk {record.sequence})"


def ascending(numbers: list[int]) -> set[int]:
    """Positions of a longest strictly ascending run among numbers: what kept its place."""
    values: list[int] = []
    ends: list[int] = []
    before = [-1] * len(numbers)
    for i, value in enumerate(numbers):
        place = bisect_left(values, value)
        before[i] = ends[place - 1] if place else -1
        values[place : place + 1], ends[place : place + 1] = [value], [i]
    kept, i = set(), ends[-1] if ends else -1
    while i >= 0:
        kept.add(i)
        i = before[i]
    return kept
