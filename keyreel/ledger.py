"""`keyreel ledger`: read a stream's ledger, and hold ledgers, signatures and chunk files against one another.

Kept true: nothing is written; only what a good signature covers is believed; every chunk that is there gets a verdict,
also one that no ledger speaks of; a chunk that is gone is told as deleted when there is a deletion record of it, else
as missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from base.datadir import DataDir
from base.errors import DamageError, FormatError, KeyreelError, NotFound
from base.service import EXIT_DAMAGE, EXIT_DONE
from base.units import format_time, parse_time
from chunks.path import parse_chunk_path
from chunks.reader import head_of
from evidence.chain import ChunkClaim, Proven, claims, prove
from evidence.files import ledger_files, read_file, read_ledger
from evidence.keys import Keys
from evidence.ledger import Entry
from evidence.proof import ChunkProof, Numbers, prove_chunk
from index.deletions import deletions_path
from index.deletions import read as read_deletions
from keyreel.output import print_json, progress_bar


@dataclass(slots=True)
class Verified:
    """One stream's ledger and chunks."""

    stream: str
    proven: Proven = field(default_factory=Proven)
    findings: list[str] = field(default_factory=list)
    chunks: int = 0
    fragments: int = 0
    fragments_proven: int = 0
    fragments_not_covered: int = 0
    chunks_deleted: int = 0

    @property
    def sound(self) -> bool:
        """Nothing contradicts the ledger."""
        return not self.findings and self.proven.sound


def verify(data: Path, streams: list[str], with_chunks: bool, as_json: bool) -> int:
    """Print what the ledgers prove; the exit code says whether anything is wrong."""
    datadir = DataDir.open(data)
    keys = Keys.open(datadir.keys_path)
    names = streams or sorted(path.name for path in datadir.ledger_path.glob("*") if path.is_dir())
    for name in names:
        _folder(datadir, name)
    found = [verify_stream(datadir, keys, name, with_chunks) for name in names]
    if as_json:
        print_json({"sound": all(one.sound for one in found), "streams": [_report(one) for one in found]})
    else:
        for one in found:
            _tell(one)
        if not found:
            print("there are no ledgers yet; the recorder keeps them unless evidence.ledger is off")
    return EXIT_DONE if all(one.sound for one in found) else EXIT_DAMAGE


def show(data: Path, stream: str, start: str | None, end: str | None, as_json: bool) -> None:
    """Print a ledger's entries."""
    start_us = parse_time(start) if start else -(1 << 62)
    end_us = parse_time(end) if end else 1 << 62
    entries = [one for one in read_ledger(_folder(DataDir.open(data), stream)) if start_us <= one.time_us < end_us]
    if as_json:
        print_json({"stream": stream, "entries": [_document(one) for one in entries]})
        return
    for one in entries:
        words = ", ".join(f"{name} {value}" for name, value in _fields(one).items())
        print(f"{one.number:>8}  {format_time(one.time_us)}  {one.kind.name.lower():<8} {words}")


def _folder(datadir: DataDir, stream: str) -> Path:
    folder = datadir.ledger_path / stream
    if parse_chunk_path(Path(stream, "2026-01-01", "000000.000Z-1.mp4")) is None or not folder.is_dir():
        raise NotFound(f"there is no ledger of {stream[:80]}; the recorder keeps one unless evidence.ledger is off")
    return folder


def verify_stream(datadir: DataDir, keys: Keys, name: str, with_chunks: bool) -> Verified:
    """Hold one stream's ledger, signatures and chunks against one another."""
    result = Verified(name)
    said: dict[bytes, ChunkClaim] = {}
    for entries in _entries(datadir.ledger_path / name, result):
        prove(entries, keys.check_signature, result.proven)
        claims(entries, said)
    said = {opening: claim.signed(result.proven.signed_upto) for opening, claim in said.items()}
    if with_chunks:
        present = dict(_chunk_files(datadir.volumes, name))
        _verify_chunks(result, said, present)
        _account_for_gone(datadir, result, said, present)
    return result


def _entries(folder: Path, result: Verified) -> Iterator[list[Entry]]:
    """File by file, as a ledger of a year is long."""
    files = ledger_files(folder)
    for path in files:
        try:
            file = read_file(path)
        except (DamageError, FormatError) as error:
            result.findings.append(f"{path}: {error}")
            return
        if file.torn_bytes and path != files[-1]:
            result.findings.append(f"{path}: {file.torn_bytes} bytes at its end are no entries")
        yield file.entries


def _chunk_files(volumes: Mapping[bytes, Path], name: str) -> Iterator[tuple[Path, bytes]]:
    """Every chunk file of a stream, with its opening."""
    for root in volumes.values():
        for path in sorted((root / name).glob("*/*.mp4")):
            head = head_of(path) if parse_chunk_path(path) is not None else None
            yield path, head.opening if head is not None else b""


def _verify_chunks(result: Verified, said: dict[bytes, ChunkClaim], present: dict[Path, bytes]) -> None:
    with progress_bar(f"chunks of {result.stream}") as progress:
        for done, (path, opening) in enumerate(present.items()):
            progress(done, len(present))
            claim = said.get(opening) or ChunkClaim(0, opening)
            try:
                proof = prove_chunk(path, claim)
            except FileNotFoundError:
                continue  # deleted meanwhile
            except (KeyreelError, OSError) as error:
                result.findings.append(f"{path}: {error}")
                continue
            _add(result, proof)


def _add(result: Verified, proof: ChunkProof) -> None:
    result.chunks += 1
    result.fragments += proof.fragments
    result.fragments_proven += proof.proven
    result.fragments_not_covered += sum(last - first + 1 for first, last in proof.not_covered)
    for what, runs in (("altered", proof.altered), ("missing", proof.missing), ("doubtful", proof.doubtful)):
        if runs:
            result.findings.append(f"{proof.path}: fragments {_numbers(runs)} are {what}")
    result.findings += [f"{proof.path}: {what}" for what in proof.findings]


def _account_for_gone(
    datadir: DataDir, result: Verified, said: dict[bytes, ChunkClaim], present: dict[Path, bytes]
) -> None:
    here = set(present.values())
    gone = {claim.sequence: claim for opening, claim in said.items() if opening not in here and claim.covered}
    if not gone:
        return
    records = [one for one in read_deletions(deletions_path(datadir.index_path)) if one.stream == result.stream]
    deleted = {one.sequence for one in records}
    upto = max((one.sequence for one in records if one.rule == "summary"), default=0)
    for sequence, claim in gone.items():
        if sequence in deleted or sequence <= upto:
            result.chunks_deleted += 1
        else:
            start = f" from {format_time(claim.opened.start_us)}" if claim.opened is not None else ""
            result.findings.append(f"chunk {sequence}{start} is missing, and no deletion record speaks of it")


def _numbers(runs: list[Numbers]) -> str:
    return ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in runs)


def _report(one: Verified) -> dict[str, Any]:
    proven = one.proven
    return {
        "stream": one.stream, "sound": one.sound, "entries": proven.entries, "heads": proven.heads,
        "entries_not_signed": (proven.last if proven.last is not None else -1) - max(proven.signed_upto, -1),
        "signed_until": format_time(proven.signed_until_us) if proven.signed_until_us else None,
        "chunks": one.chunks, "fragments": one.fragments, "fragments_proven": one.fragments_proven,
        "fragments_not_covered": one.fragments_not_covered, "chunks_deleted": one.chunks_deleted,
        "findings": [*(f"entry {found.number}: {found.what}" for found in proven.findings), *one.findings],
        "more_findings": proven.more_findings,
    }  # fmt: skip


def _tell(one: Verified) -> None:
    report = _report(one)
    for finding in report["findings"]:
        print(f"{one.stream}: {finding}")
    signed = f"signed until {report['signed_until']}" if report["signed_until"] else "not signed"
    print(
        f"{one.stream}: {'sound' if one.sound else 'NOT sound'}, {report['entries']} entries, {signed}; of "
        f"{one.fragments} fragments in {one.chunks} chunks {one.fragments_proven} are proven, "
        f"{one.fragments_not_covered} not covered"
    )


def _document(entry: Entry) -> dict[str, Any]:
    place = {"number": entry.number, "time": format_time(entry.time_us), "kind": entry.kind.name.lower()}
    return place | _fields(entry) | {"previous": entry.previous.hex(), "hash": entry.hash.hex()}


def _fields(entry: Entry) -> dict[str, Any]:
    """The content, bytes in hexadecimal and times for people."""
    fields: dict[str, Any] = {}
    for name, value in entry.content._asdict().items():
        if isinstance(value, bytes):
            fields[name] = value.hex()
        elif name in ("start_us", "end_us"):
            fields[name.removesuffix("_us")] = format_time(value)
        else:
            fields[name] = msgspec.to_builtins(value)
    return fields
