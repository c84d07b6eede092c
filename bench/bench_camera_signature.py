"""Judging a stream that its camera signs: CPU seconds per GB, beside the bare hash of as many bytes; and one look at a
stream, as the recorder does from its chunk file.

Four slices a picture at 4 Mbit/s and 25 pictures a second are 5 kB a NAL unit; one slice at 8 Mbit/s is 40 kB.
"""

from __future__ import annotations

import hashlib
import time
import tracemalloc
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from bench.machine import describe
from bench.sizes import scaled
from evidence.mediasigning import Trust, Verdict, verify_stream
from index import StreamRow
from recorder.signing import Look, SignatureWatch
from simcam.encode import LoopSpec, make_loop
from tests.evidence.signer import T0, Authority, make_camera, sample
from tests.support import Recording, Video

GOP = 50
TURNS = scaled(full=40, smoke=1)  # the same minute over and over, as a camera that starts anew
GOPS = scaled(full=30, smoke=4)


def _units(unit_bytes: int, slices: int) -> list[list[bytes]]:
    body = bytes(range(1, 256)) * (unit_bytes // 255 + 1)
    units = []
    for number in range(GOPS * GOP):
        key = number % GOP == 0
        heads = [bytes((0x65 if key else 0x41, 0x88 if not i else 0x40 + i)) for i in range(slices)]
        units.append([head + number.to_bytes(4, "big") + body[: unit_bytes - 6] for head in heads])
    return units


@pytest.mark.parametrize(("unit_bytes", "slices"), [(5_000, 4), (40_000, 1)], ids=["5kB", "40kB"])
def bench_camera_signature(benchmark: Any, unit_bytes: int, slices: int) -> None:
    """Budget: ≤ 1.5 × the bare hash for 40 kB units; memory for the GOPs that wait, whatever the length."""
    authority = Authority()
    samples = [sample(unit) for unit in make_camera(authority).sign(_units(unit_bytes, slices), closing=True)]
    size = sum(map(len, samples)) * TURNS
    trust = Trust([authority.certificate])

    def judge() -> None:
        turns = (data for _ in range(TURNS) for data in (b"", *samples))  # a gap before the camera starts anew
        report = verify_stream(((T0 + i * 40_000, data) for i, data in enumerate(turns)), "h264", trust)
        assert report.counts == {Verdict.AUTHENTIC: GOPS * TURNS}

    begin_s = time.process_time()
    benchmark.pedantic(judge, rounds=1)
    judged_s = time.process_time() - begin_s
    begin_s = time.process_time()
    for _ in range(TURNS):
        for data in samples:
            hashlib.sha256(data).digest()
    hashed_s = time.process_time() - begin_s
    tracemalloc.start()
    judge()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    benchmark.extra_info |= {
        "machine": describe(),
        "footage": f"{size / 1e9:.2f} GB in NAL units of {unit_bytes} bytes",
        "CPU-s per GB": round(judged_s / size * 1e9, 3),
        "CPU-s per GB of SHA-256 alone": round(hashed_s / size * 1e9, 3),
        "most memory": f"{peak / 1e6:.1f} MB",
    }
    print(benchmark.extra_info)


@pytest.mark.parametrize("signs", [True, False], ids=["signed", "unsigned"])
def bench_look(benchmark: Any, tmp_path: Path, signs: bool) -> None:
    """Budget: ≤ 10 ms of CPU a look at 4 Mbit/s and a GOP a second: 1,000 streams in 10 minutes are 2 % of a core."""
    authority, second = Authority(), 25
    track = make_loop(LoopSpec(width=160, height=90, seconds=2)).video
    sets = [nal for nal in track.table.parts(0) if nal[0] & 0x1F in (7, 8)]
    units = [(sets if i % second == 0 else []) + unit for i, unit in enumerate(_units(20_000, 1)[: 40 * second])]
    units = [[*unit[:-1], _restarted(unit[-1], i % second == 0)] for i, unit in enumerate(units)]
    if signs:
        units = make_camera(authority).sign(units, closing=True)
    recording = Recording(tmp_path)
    pictures = [(i * 3600, sample(unit), i % second == 0) for i, unit in enumerate(units)]
    recording.add(Video(track.config, second, pictures), fragment_90k=45_000)  # type: ignore[arg-type]
    recording.flush()
    seen: list[Look] = []
    watch = SignatureWatch(recording.index, tmp_path, 600, [], lambda: False, seen.append)
    stream = StreamRow(recording.stream_id, recording.name)
    watch.follow([stream], {recording.volume.id: recording.volume.root})
    numbers = count()

    def look() -> None:
        next(numbers)
        watch._looked.clear()
        assert watch._look(stream)

    begin_s = time.process_time()
    benchmark.pedantic(look, rounds=scaled(full=100, smoke=3))
    spent_s = time.process_time() - begin_s
    recording.close()
    assert {one.seen.verdict for one in seen} == {"authentic" if signs else "not-signed"}
    benchmark.extra_info |= {"machine": describe(), "CPU-ms a look": round(spent_s / next(numbers) * 1e3, 2)}
    print(benchmark.extra_info)


def _restarted(nal: bytes, key: bool) -> bytes:
    """The slice as one of a key picture, or not."""
    return bytes((0x65 if key else 0x41,)) + nal[1:]
