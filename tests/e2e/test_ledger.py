"""What is recorded is proved by its ledger: in order, after a crash, and not after anything was done to it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from base.datadir import DataDir
from chunks.format import seed_of
from chunks.reader import ChunkFile
from evidence.files import ledger_files, read_ledger
from evidence.keys import Keys
from evidence.ledger import (
    Chunk,
    ChunkState,
    ClockNote,
    Content,
    Entry,
    Epoch,
    GapNote,
    Head,
    Ledger,
    Opened,
    Session,
    pack_entry,
    read_entries,
)
from index.deletions import Deletion, DeletionLog, deletions_path
from keyreel.ledger import Verified, verify_stream
from native.crc import crc32c
from native.moof import SEAL_SIZE
from simcam.encode import LoopSpec
from simcam.server import SimcamServer
from simcam.spec import CameraSpec
from tests.e2e.node import Node, until

LOOP = LoopSpec(codec="h264", width=320, height=180, gop=15)
CONFIG = "[recorder]\nchunk_s = 10\nworkers = 2\n[evidence]\nhead_s = 1\n"
CAMERAS = ["gate", "hall"]
STREAMS = [f"{name}.main" for name in CAMERAS]
STREAM = STREAMS[0]


def verified(one: Node, exit_code: int = 0) -> list[dict[str, Any]]:
    done = one.keyreel("ledger", "verify", "--json", check=False)
    assert done.returncode == exit_code, done.stdout + done.stderr + one.log_tail()
    streams: list[dict[str, Any]] = json.loads(done.stdout)["streams"]
    assert [stream["stream"] for stream in streams] == STREAMS
    return streams


def said(one: Node, stream: str) -> list[Content]:
    return [entry.content for entry in read_ledger(one.data / "ledger" / stream)]


async def in_all(one: Node, what: Callable[[list[Content]], bool], text: str) -> None:
    """Wait until it holds of every stream's ledger."""

    async def holds() -> bool:
        return all(what(said(one, stream)) for stream in STREAMS)

    await until(holds, 30, f"{text}; {one.log_tail()}")


async def test_what_is_recorded_is_proved_also_after_a_crash(node: Callable[..., Node]) -> None:
    """By two workers, each with a stream of its own."""
    async with SimcamServer([CameraSpec(name, loop=LOOP) for name in CAMERAS]) as server:
        one = node(config=CONFIG)
        await one.start()
        for name in CAMERAS:
            await asyncio.to_thread(one.keyreel, "camera", "add", name, server.url(name))
        await one.recording(*STREAMS)
        await in_all(one, lambda found: sum(isinstance(entry, Head) for entry in found) >= 2, "two heads")
        for proof in verified(one):  # while it is recorded
            assert proof["sound"]
            assert proof["fragments_proven"] > 0
        one.kill()
        await one.start()
        await one.recording(*STREAMS)
        is_found = lambda entry: isinstance(entry, Chunk) and entry.state == ChunkState.FOUND  # noqa: E731
        await in_all(one, lambda found: any(map(is_found, found)), "the torn chunk has its last word")
        assert await one.stop() == 0
    for proof in verified(one):
        assert proof["fragments_not_covered"] == 0
        assert proof["fragments_proven"] == proof["fragments"] > 5
    for stream in STREAMS:
        _check_entries(said(one, stream))
    assert [key.use for key in Keys.open(one.data / "keys").keys] == ["ledger", "export"]
    assert len(one.keyreel("ledger", "show", STREAM).stdout.splitlines()) == len(said(one, STREAM))
    _check_tampering(one)


def _check_entries(found: list[Content]) -> None:
    assert {type(entry) for entry in found} >= {Ledger, Session, Epoch, ClockNote, Opened, Chunk, GapNote, Head}
    assert [entry.cause for entry in found if isinstance(entry, GapNote)] == [6]  # crash
    assert isinstance(found[-1], Head)  # an orderly end is signed to the last entry


def _forge(path: Path) -> None:
    """Change a byte of the last fragment's media and make its checksum right again."""
    chunk = ChunkFile(path)
    table = chunk.table()
    offset, length = int(table.offset[-1]), int(table.length[-1])
    data = bytearray(chunk.read_fragment(len(table) - 1, table))
    seed = seed_of(chunk.head)
    chunk.close()
    data[length - SEAL_SIZE - 10] ^= 1
    data[-4:] = crc32c(bytes(data[:-4]), seed).to_bytes(4, "big")
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), data, offset)


def _unsigned(data: bytes) -> bytes:
    """The same without heads, chained anew."""
    made: list[Entry] = []
    for entry in read_entries(data):
        if not isinstance(entry.content, Head):
            previous = made[-1].hash if made else bytes(32)
            made.append(pack_entry(len(made), entry.time_us, previous, entry.content))
    return b"".join(entry.raw for entry in made)


def _verified(one: Node) -> Verified:
    datadir = DataDir.open(one.data)
    return verify_stream(datadir, Keys.open(datadir.keys_path), STREAM, with_chunks=True)


def _findings(one: Node) -> list[str]:
    result = _verified(one)
    return [*(found.what for found in result.proven.findings), *result.findings]


def _check_tampering(one: Node) -> None:
    path = one.chunks(STREAM)[0]
    kept = path.with_suffix(".kept")
    shutil.copy2(path, kept)
    _forge(path)
    assert any(f"{path}: fragments" in finding and "altered" in finding for finding in _findings(one))
    assert [proof["sound"] for proof in verified(one, 5)] == [False, True]
    path.unlink()
    assert any("is missing, and no deletion record" in finding for finding in _findings(one))
    log = DeletionLog(deletions_path(one.data / "index"))
    log.append([Deletion(stream=STREAM, sequence=1, epoch=1, run=1, start_us=0, end_us=1, bytes=1, volume="",
                         rule="days_max", deleted_us=1)])  # fmt: skip
    log.close()
    assert not _findings(one)
    kept.rename(path)
    assert not _findings(one)
    ledger = ledger_files(one.data / "ledger" / STREAM)[0]
    data = ledger.read_bytes()
    whole = [entry.raw for entry in read_ledger(ledger.parent)]
    for changed in (b"".join(whole[:3] + whole[4:]), b"".join([*whole[:4], whole[3], *whole[4:]])):
        ledger.write_bytes(changed)
        assert _findings(one)
    ledger.write_bytes(_unsigned(data))
    result = _verified(one)
    assert (result.fragments_proven, result.proven.signed_upto) == (0, -1)  # a chain of hashes anyone can make
    ledger.write_bytes(data)
    register = one.data / "keys" / "keys.json"
    register.write_text(register.read_text().replace('"made_us": 1', '"made_us": 9'))
    assert any("was made later" in finding for finding in _findings(one))
