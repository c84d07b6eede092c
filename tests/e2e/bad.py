"""Cameras that do each thing a camera can do wrong, and what must have become of them at the end of a recording.

Kept true: each entry names the fault it is; the camera misbehaves on real sockets; the judge looks at chunk files, the
node's word and the simulated camera's log alone. Shared by the short test and the long one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from base.datadir import DataDir
from bench.machine import rss_bytes
from chunks.reader import ChunkFile
from index import Camera, Index
from simcam.encode import LoopSpec, make_loop
from simcam.faults import Faults
from simcam.loop import Loop, make_track, without_sets
from simcam.server import SimcamServer
from simcam.spec import CameraSpec
from simcam.stamps import verify
from tests.e2e.node import Node, nal_units, until

LOOP = LoopSpec(width=320, height=180, gop=15)
OTHER_CODEC = LoopSpec(codec="h265", width=320, height=180, gop=15)
OTHER_SIZE = LoopSpec(width=480, height=270, gop=15)
LONG_GOP = LoopSpec(width=160, height=90, fps=5, gop=300, seconds=60, bitrate_bps=50_000)
QUIET = LoopSpec(width=160, height=90, fps=5, gop=10, bitrate_bps=50_000)
REFRESH = LoopSpec(width=160, height=90, gop=60, seconds=4, intra_refresh=True)

RSS_EACH_BYTES: Final = 32 << 20

# Short limits, so that a run of a minute sees many sessions of each camera.
CONFIG: Final = """
[recorder]
backoff_min_s = 0.2
backoff_max_s = 0.5
[rtsp]
connect_timeout_s = 2
response_timeout_s = 2
media_timeout_s = 2
"""


@dataclass
class Bad:
    """One bad camera. `reason` is what the node says of it; `judge` looks at what was stored; `turn` happens midway."""

    name: str
    spec: CameraSpec
    reason: str | None = None
    transport: Literal["tcp", "udp"] = "tcp"
    turn: Callable[[SimcamServer, str], None] | None = None
    judge: Callable[[Node, SimcamServer, str], None] | None = None


def faulty(name: str, loop: Any = LOOP, **faults: Any) -> CameraSpec:
    return CameraSpec(name, loop=loop, faults=dataclasses.replace(Faults(), **faults))


def _samples(node: Node, name: str) -> list[bytes]:
    return node.samples(f"{name}.main")


def nothing_stored(node: Node, server: SimcamServer, name: str) -> None:
    assert node.chunks(f"{name}.main") == [], name


def whole_but_the_last(node: Node, server: SimcamServer, name: str) -> None:
    """As `whole`; of the last picture a packet may have been held back when the node was stopped."""
    samples = _samples(node, name)
    cut = all(picture.sample != samples[-1] for picture in server.camera(name).sent())
    whole(node, server, name, samples[:-1] if cut else samples)


def whole(node: Node, server: SimcamServer, name: str, samples: list[bytes] | None = None) -> None:
    """Every picture from the first to the last, in order, byte for byte, of whatever codec each chunk has."""
    sent = {picture.sequence: picture for picture in server.camera(name).sent()}
    samples = _samples(node, name) if samples is None else samples
    report = verify(samples, server.camera(name).loop.video.codec)
    assert report.first is not None, name
    assert report.last is not None
    wanted = [sent[n].sample for n in range(report.first, report.last + 1) if n in sent]
    assert samples == wanted, (name, report)


def whole_from_the_first(node: Node, server: SimcamServer, name: str) -> None:
    """As `whole`, and nothing was given up before the parameter sets came."""
    whole(node, server, name)
    first_key = next(picture.sequence for picture in server.camera(name).sent() if picture.key)
    assert verify(_samples(node, name), "h264").first == first_key
    assert decoded(node, name) > 0


def true_keys_alone(node: Node, server: SimcamServer, name: str) -> None:
    """What is stored as a key frame was sent as one, whole; and what was, is stored as one."""
    keys = {picture.sample for picture in server.camera(name).sent() if picture.key}
    assert key_samples(node, name) == [one for one in _samples(node, name) if one in keys], name


def both_codecs(node: Node, server: SimcamServer, name: str) -> None:
    """The recording goes on in the new codec, in chunks of its own, each of which begins with a true key frame."""
    true_keys_alone(node, server, name)
    codecs = [ChunkFile(path).config.video.codec for path in node.chunks(f"{name}.main")]
    assert codecs == sorted(codecs), codecs
    assert set(codecs) == {"h264", "h265"}, "both codecs, one after the other"


def unsigned_once(node: Node, server: SimcamServer, name: str) -> None:
    """Where the camera left one of its SEI out, just that picture is without; all bytes are as they were sent."""
    samples = _samples(node, name)
    sent = [picture.sample for picture in server.camera(name).sent()]
    start = sent.index(samples[0])
    assert samples == sent[start : start + len(samples)]
    signed = [any(nal[0] & 31 == 6 for nal in nal_units(sample)) for sample in samples]
    assert signed.count(False) == sum(
        i % len(SIGNED.video.table) == UNSIGNED for i in range(start, start + len(signed))
    )


def no_basic(node: Node, server: SimcamServer, name: str) -> None:
    nothing_stored(node, server, name)
    assert not server.camera(name).credentials, "no credential leaves for a camera that wants Basic in clear"


def key_samples(node: Node, name: str) -> list[bytes]:
    """The pictures that the chunk files call key frames."""
    found: list[bytes] = []
    for path in node.chunks(f"{name}.main"):
        chunk = ChunkFile(path)
        table = chunk.table()
        for i in range(len(table.offset)):
            if table.key[i]:
                at = int(table.video_at[i] - table.offset[i])
                found.append(
                    bytes(chunk.read_fragment(i, table))[at : at + int(table.video_size[table.video_first[i]])]
                )
        chunk.close()
    return found


def decoded(node: Node, name: str) -> int:
    """Pictures that an independent decoder shows of the first chunk."""
    import av

    with av.open(str(node.chunks(f"{name}.main")[0])) as container:
        return sum(1 for _ in container.decode(video=0))


def _signed() -> Loop:
    """A camera that signs each picture by an SEI, all but one."""
    loop = make_loop(LOOP)
    track = loop.video
    units = [
        ([] if i == UNSIGNED else [b"\x06\x05\x12" + bytes([i]) * 18 + b"\x80"])
        + [nal for nal in track.table.parts(i) if nal[0] & 31 != 6]
        for i in range(len(track.table))
    ]
    made = make_track(track.config, track.clock_hz, units, track.pts, track.dts, track.duration_ticks)
    return Loop("signed", made, None, loop.fps)


UNSIGNED = 20
SIGNED = _signed()


def _switch(spec: LoopSpec | Loop, unsaid: bool = False) -> Callable[[SimcamServer, str], None]:
    return lambda server, name: server.camera(name).switch(spec, unsaid=unsaid)


def _set(**faults: str) -> Callable[[SimcamServer, str], None]:
    return lambda server, name: server.camera(name).control(faults)


def bad_cameras(trap: str) -> list[Bad]:
    """All of them; `trap` is the address of another host's camera."""
    bare = without_sets(make_loop(LOOP))
    late = CameraSpec("c2-late-sets", bare, stamp=True, parameter_sets=False)
    never = CameraSpec("c2-no-sets", bare, stamp=True, parameter_sets=False)
    basic = dataclasses.replace(faulty("c14-basic"), user="admin", password="s3cret", auth="basic")
    return [
        Bad("c1-garbage", faulty("c1-garbage", garbage=0.3), judge=whole),
        Bad("c1-flipped", faulty("c1-flipped", corrupt=0.02)),
        Bad("c2-late-sets", late, turn=_switch(make_loop(LOOP)), judge=whole_from_the_first),
        Bad("c2-no-sets", never, "undecodable", judge=nothing_stored),
        Bad("c3-size", faulty("c3-size"), turn=_switch(OTHER_SIZE), judge=whole),
        Bad("c3-codec", faulty("c3-codec"), turn=_switch(OTHER_CODEC, unsaid=True), judge=both_codecs),
        Bad("c4-no-key", faulty("c4-no-key", key_frames=False), judge=true_keys_alone),
        Bad("c4-one-key", faulty("c4-one-key", LONG_GOP), turn=_set(key_frames="no"), judge=whole),
        Bad("c4-refresh", faulty("c4-refresh", REFRESH), judge=whole),
        Bad("c5-cut", faulty("c5-cut", join="cut"), judge=whole),
        Bad("c6-endless", faulty("c6-endless", hostile="endless"), judge=nothing_stored),
        Bad("c6-frames", dataclasses.replace(faulty("c6-frames"), payload_max=65_000), judge=whole),
        Bad("c7-short", faulty("c7-short"), turn=_set(hostile="short"), judge=true_keys_alone),
        Bad("c8-loss", faulty("c8-loss", loss=0.05), judge=true_keys_alone),
        Bad("c8-order", faulty("c8-order", reorder=0.05, duplicate=0.05), transport="udp", judge=whole_but_the_last),
        Bad("c9-stall", faulty("c9-stall"), "stalled", turn=_set(stall="yes"), judge=whole),
        Bad("c10-slow", faulty("c10-slow", answer_bytes_per_s=1), "timeout", judge=nothing_stored),
        Bad("c10-head", faulty("c10-head", header_bytes=100_000), "too-large", judge=nothing_stored),
        Bad("c10-sdp", faulty("c10-sdp", sdp_bytes=10_000_000), "too-large", judge=nothing_stored),
        Bad("c10-other", faulty("c10-other", not_rtsp=True), "not-rtsp", judge=nothing_stored),
        Bad("c14-basic", basic, "basic-refused", judge=no_basic),
        Bad("c14-there", faulty("c14-there", describe_status=302, location=trap), "refused", judge=nothing_stored),
        Bad("c16-signed", CameraSpec("c16-signed", SIGNED, stamp=False), judge=unsigned_once),
    ]


def register(data: Path, cameras: list[Camera]) -> None:
    """Put cameras into a node's register, whether it runs or not."""
    with Index.open(DataDir.create(data).index_path, create=True) as index, index.write() as transaction:
        for camera in cameras:
            transaction.put_camera(camera)


def tree_rss(pid: int) -> int:
    """Resident memory of a process and its children."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        children = [int(child) for child in file.read().split()]
    return rss_bytes(pid) + sum(tree_rss(child) for child in children)


async def run_beside(node: Node, good: int, seconds: float) -> None:
    """All bad cameras at once beside `good` good ones, on a node of its own; every judge is asked at the end."""
    trap = SimcamServer([CameraSpec("trap", LOOP)], host="127.0.0.2")
    specs = [CameraSpec(f"good{n}", QUIET) for n in range(good)]
    async with trap, SimcamServer(specs) as fine:
        bad = {one.name: one for one in bad_cameras(f"rtsp://127.0.0.2:{trap.port}/trap")}
        async with SimcamServer([one.spec for one in bad.values()]) as server:
            register(node.data, [Camera(id=spec.name, main=fine.url(spec.name)) for spec in specs])
            await node.start()
            await node.recording(*(f"{spec.name}.main" for spec in specs), deadline_s=60)
            assert node.process is not None
            before = tree_rss(node.process.pid)
            register(node.data, [Camera(id=n, main=server.url(n), transport=one.transport) for n, one in bad.items()])
            await _all_told(node, {name: one.reason for name, one in bad.items() if one.turn is None})
            for name, one in bad.items():
                if one.turn is not None:
                    one.turn(server, name)
            await _all_told(node, {name: one.reason for name, one in bad.items()})
            for name in ("c3-codec", "c3-size"):
                await until(partial(_chunks, node, name, 2), 40, f"two chunks of {name}")
            most = await _watch(node.process.pid, seconds)
            states = await node.streams()
            assert await node.stop() == 0, node.log_tail()
            assert most - before < RSS_EACH_BYTES * len(bad), "memory of bad cameras is bounded"
            assert not trap.camera("trap").credentials, "no credential goes to another host"
            for spec in specs:
                assert states[f"{spec.name}.main"]["state"] == "recording"
                whole(node, fine, spec.name)
            for name, one in bad.items():
                if one.judge is not None:
                    one.judge(node, server, name)


async def _all_told(node: Node, reasons: dict[str, str | None]) -> None:
    """Wait until the node says of each camera what is wrong with it."""
    found: dict[str, Any] = {}

    async def told() -> bool:
        found.update({name.removesuffix(".main"): one for name, one in (await node.streams()).items()})
        return all(found.get(name, {}).get("reason") == reason for name, reason in reasons.items() if reason)

    try:
        await until(told, 40, "every reason")
    except AssertionError:
        shown = {name: (found[name]["state"], found[name].get("reason"), found[name].get("detail")) for name in reasons}
        raise AssertionError(shown) from None


async def _chunks(node: Node, name: str, count: int) -> bool:
    return len(node.chunks(f"{name}.main")) >= count


async def _watch(pid: int, seconds: float) -> int:
    """The most memory of the node within this time."""
    end, most = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        most = max(most, tree_rss(pid))
        await asyncio.sleep(0.5)
    return most
