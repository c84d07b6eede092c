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
from chunks.format import SEAL_FIELDS, UUID_BOX, seed_of
from chunks.reader import ChunkFile
from evidence.files import extract, ledger_files, read_ledger
from evidence.keys import Keys
from evidence.ledger import Chunk, ChunkState, ClockNote, Epoch, GapNote, Head, Ledger, Opened, Session
from keyreel.ledger import verify_stream
from native.crc import crc32c
from native.moof import SEAL_SIZE
from simcam.encode import LoopSpec
from simcam.server import SimcamServer
from simcam.spec import CameraSpec
from tests.e2e.node import Node, until

LOOP = LoopSpec(codec="h264", width=320, height=180, gop=15)
CONFIG = "[recorder]\nchunk_s = 10\n[evidence]\nhead_s = 1\n"
STREAM = "gate.main"


def verified(one: Node, exit_code: int = 0) -> dict[str, Any]:
    done = one.keyreel("ledger", "verify", "--json", check=False)
    assert done.returncode == exit_code, done.stdout + done.stderr + one.log_tail()
    streams: list[dict[str, Any]] = json.loads(done.stdout)["streams"]
    return streams[0]


async def heads(one: Node, count: int) -> None:
    """So many heads are in the ledger."""
    folder = one.data / "ledger" / STREAM

    async def enough() -> bool:
        return sum(isinstance(entry.content, Head) for entry in read_ledger(folder)) >= count

    await until(enough, 30, f"{count} heads; {one.log_tail()}")


async def recorded(one: Node, server: SimcamServer) -> None:
    await one.start()
    await asyncio.to_thread(one.keyreel, "camera", "add", "gate", server.url("gate"))
    await one.recording(STREAM)


async def test_what_is_recorded_is_proved_also_after_a_crash(node: Callable[..., Node]) -> None:
    async with SimcamServer([CameraSpec("gate", loop=LOOP)]) as server:
        one = node(config=CONFIG)
        await recorded(one, server)
        await heads(one, 2)
        proof = verified(one)  # while it is recorded
        assert proof["sound"]
        assert proof["fragments_proven"] > 0
        one.kill()
        await one.start()
        await one.recording(STREAM)

        async def found() -> bool:
            entries = list(read_ledger(one.data / "ledger" / STREAM))
            return any(
                isinstance(entry.content, Chunk) and entry.content.state == ChunkState.FOUND for entry in entries
            )

        await until(found, 30, f"the torn chunk is covered; {one.log_tail()}")
        assert await one.stop() == 0
    proof = verified(one)
    assert proof["fragments_not_covered"] == 0
    assert proof["fragments_proven"] == proof["fragments"] > 5
    entries = [entry.content for entry in read_ledger(one.data / "ledger" / STREAM)]
    assert {type(entry) for entry in entries} >= {Ledger, Session, Epoch, ClockNote, Opened, Chunk, GapNote, Head}
    assert [entry.cause for entry in entries if isinstance(entry, GapNote)] == [6]  # crash
    assert isinstance(entries[-1], Head)  # an orderly end is signed to the last entry
    keys = Keys.open(one.data / "keys")
    assert [key.use for key in keys.keys] == ["ledger", "export"]
    shown = one.keyreel("ledger", "show", STREAM).stdout
    assert len(shown.splitlines()) == len(entries)
    _check_extract(one)
    _check_tampering(one)


def _check_extract(one: Node) -> None:
    """The part for a range is a chain of its own that covers the chunk's fragments and ends with a head."""
    chunk = ChunkFile(one.chunks(STREAM)[0])
    try:
        part = extract(one.data / "ledger" / STREAM, chunk.head.start_us, chunk.head.start_us + 1_000_000)
    finally:
        chunk.close()
    assert isinstance(part[0].content, Ledger)
    assert isinstance(part[-1].content, Head)
    roots = [
        entry for entry in part if isinstance(entry.content, Chunk) and entry.content.opening == chunk.head.opening
    ]
    assert sum(1 for entry in part if isinstance(entry.content, Head) and entry.number > roots[-1].number) == 1


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
    assert UUID_BOX.size + SEAL_FIELDS.size == SEAL_SIZE
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), data, offset)


def _findings(one: Node) -> list[str]:
    datadir = DataDir.open(one.data)
    result = verify_stream(datadir, Keys.open(datadir.keys_path), STREAM, with_chunks=True)
    return [*(found.what for found in result.proven.findings), *result.findings]


def _check_tampering(one: Node) -> None:
    path = one.chunks(STREAM)[0]
    kept = path.with_suffix(".kept")
    shutil.copy2(path, kept)
    _forge(path)
    assert any(f"{path}: fragments" in finding and "altered" in finding for finding in _findings(one))
    assert not verified(one, 5)["sound"]
    path.unlink()
    assert any("is missing, and no deletion record" in finding for finding in _findings(one))
    kept.rename(path)
    assert not _findings(one)
    ledger = ledger_files(one.data / "ledger" / STREAM)[0]
    data = ledger.read_bytes()
    whole = [entry.raw for entry in read_ledger(ledger.parent)]
    for changed in (b"".join(whole[:3] + whole[4:]), b"".join([*whole[:4], whole[3], *whole[4:]])):
        ledger.write_bytes(changed)
        assert _findings(one)
    ledger.write_bytes(data)
    register = one.data / "keys" / "keys.json"
    register.write_text(register.read_text().replace('"made_us": 1', '"made_us": 9'))
    assert any("was made later" in finding for finding in _findings(one))
