"""Several recorder workers: a crash of one is its own affair, and another number of them goes on with the streams."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from base.clock import wall_us
from base.datadir import DataDir
from base.status import RecorderStatus, WorkerStatus, read_status
from base.units import format_time
from chunks.path import parse_chunk_path
from index import Index
from recorder.share import Share
from simcam.encode import LoopSpec
from simcam.server import SimcamServer
from simcam.spec import CameraSpec
from simcam.stamps import verify
from tests.e2e.node import Node, until

LOOP = LoopSpec(codec="h264", width=320, height=180, gop=15)
CAMERAS = 8
CONFIG = "[recorder]\nworkers = {}\nbackoff_min_s = 0.1\nbackoff_max_s = 0.5\n"


def specs(count: int = CAMERAS) -> list[CameraSpec]:
    return [CameraSpec(f"c{i}", loop=LOOP) for i in range(count)]


async def add(one: Node, server: SimcamServer, *names: str) -> None:
    path = one.data.parent / "cameras.csv"
    path.write_text("id,main\n" + "".join(f"{name},{server.url(name)}\n" for name in names))
    await asyncio.to_thread(one.keyreel, "camera", "import", str(path))


def told(one: Node) -> RecorderStatus:
    status = read_status(one.data / "run")
    assert status is not None
    return status


def worker_of(one: Node, number: int) -> WorkerStatus:
    return next(worker for worker in told(one).running if worker.worker == number)


def shares(one: Node, workers: int) -> dict[int, list[str]]:
    """Streams by worker, by the ids in the register's copy."""
    copy = json.loads((one.data / "register.json").read_text())
    return {
        worker: sorted(name for name, stream_id in copy["streams"].items() if Share(worker, workers).owns(stream_id))
        for worker in range(workers)
    }


async def goes_on(one: Node, names: list[str]) -> None:
    """What is durable was received after now."""
    now = format_time(wall_us())

    async def newer() -> bool:
        streams = await one.streams()
        return all((streams[name]["durable_until"] or "") > now for name in names)

    await until(newer, 30, f"{names} go on; {one.log_tail()}")


def statuses(one: Node) -> list[Path]:
    return sorted((one.data / "run").glob("recorder*.json"))


def causes(one: Node, name: str) -> list[str]:
    line = json.loads(one.keyreel("timeline", name, "--json").stdout)
    return [gap["cause"] for gap in line["gaps"]]


def check(one: Node) -> None:
    done = one.keyreel("check", "--deep", "--json", check=False)
    assert done.returncode == 0, done.stdout + done.stderr


async def test_a_killed_worker_comes_back_alone_and_costs_the_others_no_picture(node: Callable[..., Node]) -> None:
    async with SimcamServer(specs()) as server:
        one = node(config=CONFIG.format(2))
        await one.start()
        names = [f"{name}.main" for name in server.cameras]
        await add(one, server, *server.cameras)
        await one.recording(*names)
        mine, others = (shares(one, 2)[worker] for worker in (1, 0))
        assert sorted(mine + others) == sorted(names)
        assert min(len(mine), len(others)) >= 2
        lasting = worker_of(one, 0).pid
        for _ in range(2):
            killed = worker_of(one, 1).pid
            os.kill(killed, signal.SIGKILL)
            await goes_on(one, names)
            assert worker_of(one, 1).pid not in (killed, lasting)
            assert worker_of(one, 0).pid == lasting
        for name in names:
            assert causes(one, name) == (["crash", "crash"] if name in mine else [])
        assert one.log_path.read_text().count("a program ended on its own") == 2
        assert await one.stop() == 0
        for name in others:
            report = verify(one.samples(name), "h264")
            assert report.ok, (name, report)
            assert one.resumptions(name) == 0, "the restarts did not touch it"
        for name in mine:
            report = verify(one.samples(name), "h264")
            assert not report.mismatches
            numbers = [parse_chunk_path(path).sequence for path in one.chunks(name)]
            assert len(set(numbers)) == len(numbers)
            assert one.resumptions(name) == 2
        check(one)


async def test_another_number_of_workers_goes_on_where_the_last_ended(
    node: Callable[..., Node], tmp_path: Path
) -> None:
    """After a crash of all, from 1 to 3 to 2 workers, with torn chunks in every share."""
    async with SimcamServer(specs()) as server:
        one = node(config=CONFIG.format(1))
        await one.start()
        names = [f"{name}.main" for name in server.cameras]
        await add(one, server, *server.cameras)
        await one.recording(*names)
        for workers in (3, 2):
            one.kill()
            for name in names:
                with one.chunks(name)[-1].open("ab") as file:
                    file.write(b"\0\0\1\0moof" + b"half a fragment" * 5)
            Path(tmp_path / "data.toml").write_text(CONFIG.format(workers))
            await one.start()
            await goes_on(one, names)
            assert [worker.worker for worker in told(one).running] == list(range(workers))
        assert await one.stop() == 0
        assert len(statuses(one)) == 2, "the third worker's status is gone"
        for name in names:
            assert one.resumptions(name) == 2
            assert len(list(one.chunks(name)[0].parent.glob("*torn*"))) == 2, "each torn end was cut once"
            assert not verify(one.samples(name), "h264").mismatches
            assert causes(one, name) == ["crash", "crash"]
        check(one)


async def test_cameras_come_and_go_and_every_reader_sees_one_recorder(node: Callable[..., Node]) -> None:
    async with SimcamServer(specs(6)) as server:
        one = node(config=CONFIG.format(2))
        await one.start()
        await add(one, server, "c0", "c1", "c2", "c3")
        await one.recording("c0.main", "c1.main", "c2.main", "c3.main")
        await add(one, server, "c4", "c5")
        await asyncio.to_thread(one.keyreel, "camera", "remove", "c0")
        await asyncio.to_thread(one.keyreel, "camera", "remove", "c1")
        left = [f"c{i}.main" for i in range(2, 6)]
        await goes_on(one, left)

        async def as_registered() -> bool:
            return {stream.name for stream in told(one).streams} == set(left)

        await until(as_registered, 20, f"sessions of the registered cameras alone; {one.log_tail()}")
        assert all(shares(one, 2).values()), "both workers have streams"
        status: Any = json.loads((await asyncio.to_thread(one.keyreel, "status", "--json")).stdout)
        assert status["recorder"]["workers"] == len(status["recorder"]["running"]) == 2
        assert [stream["name"] for stream in status["streams"] if stream["state"] == "recording"] == left

        async def one_volume() -> bool:
            _, body = await one.get("/volumes")
            return [(volume["state"], volume["streams"]) for volume in body["volumes"]] == [("ok", len(left))]

        await until(one_volume, 20, "one volume that takes the streams of both workers")
        scrubs = [json.loads(path.read_text())["volumes"][0].get("scrub") for path in statuses(one)]
        assert [bool(scrub) for scrub in scrubs] == [True, False], "the first worker alone reads again"
        assert await one.stop() == 0
        check(one)


async def test_workers_record_without_playback(node: Callable[..., Node]) -> None:
    """`keyreel record` then supervises, and a second one is refused as ever."""
    async with SimcamServer(specs(4)) as server:
        one = node(config=CONFIG.format(2))
        config = str(one.data.parent / "data.toml")
        Index.open(DataDir.create(one.data).index_path, create=True).close()
        await add(one, server, *server.cameras)
        words = ["-m", "keyreel", "record", "--data", str(one.data), "--config", config]
        process = await asyncio.create_subprocess_exec(sys.executable, *words)
        try:

            async def all_record() -> bool:
                status = read_status(one.data / "run")
                states = [stream.state for stream in status.streams] if status else []
                return states == ["recording"] * 4

            await until(all_record, 30, "4 streams of 2 workers record")
            second = one.keyreel("record", "--config", config, check=False)
            assert second.returncode == 4
            assert "already served" in second.stderr
        finally:
            process.send_signal(signal.SIGINT)
            code = await asyncio.wait_for(process.wait(), 30)
        assert code == 0
        check(one)
