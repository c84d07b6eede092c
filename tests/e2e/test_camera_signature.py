"""Cameras that sign, over RTSP into a node and back: whole they stay authentic, spoilt on the way the GOP is named."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from base.signatures import read_signatures
from base.units import parse_time
from evidence import ledger
from evidence.files import read_ledger
from evidence.ledger import CameraVerdict
from evidence.mediasigning import StreamReport, Trust
from index import Camera
from keyreel.signature import examine
from simcam.encode import LoopSpec, make_loop
from simcam.loop import VIDEO_HZ, Loop, make_track
from simcam.server import SimcamServer
from simcam.spec import CameraSpec, LoopSource
from tests.e2e.bad import register
from tests.e2e.node import Node, until
from tests.evidence.signer import Authority, Unit, make_camera, pem

GOP, GOPS = 10, 15  # pictures, and seconds: no loop comes round, as a repeated GOP is no authentic one
EVER = ("--start", "2020-01-01T00:00:00Z", "--end", "2100-01-01T00:00:00Z")


def shape(codec: str, slices: int = 1) -> LoopSpec:
    return LoopSpec(
        codec=codec, width=160, height=90, fps=GOP, gop=GOP, seconds=GOPS, bitrate_bps=80_000, slices=slices
    )  # type: ignore[arg-type]


def signed(
    authority: Authority,
    spec: LoopSpec,
    spoil: Callable[[list[Unit]], None] | None = None,
    closing: bool = False,
    **way: Any,
) -> Loop:
    """The simulator's footage, signed."""
    made = make_loop(spec)
    track = made.video
    units = [list(track.table.parts(i)) for i in range(len(track.table))]
    camera = make_camera(authority, codec=spec.codec, unit_us=1_000_000 // GOP, **way)
    units = camera.sign(units, closing=closing)
    if spoil is not None:
        spoil(units)
    video = make_track(track.config, VIDEO_HZ, units, track.pts, track.dts, track.duration_ticks)
    return Loop(made.name, video, None, made.fps)


def seis(unit: Sequence[bytes]) -> list[int]:
    uuid = bytes.fromhex("005bc93f2d715e95ada4796f90877a6f")
    return [i for i, nal in enumerate(unit) if uuid in nal[:400]]


def drop_sei(units: list[Unit]) -> None:
    """That of the second GOP, in the third one."""
    at = next(i for i in range(2 * GOP, 3 * GOP) if seis(units[i]))
    del units[at][seis(units[at])[0]]


def flip(units: list[Unit]) -> None:
    nal = bytearray(units[GOP + 4][-1])
    nal[len(nal) // 2] ^= 1
    units[GOP + 4][-1] = bytes(nal)


def drop_slice(units: list[Unit]) -> None:
    del units[GOP + 4][-1]


def swap(units: list[Unit]) -> None:
    a, b = GOP + 4, GOP + 5
    units[a][-1], units[b][-1] = units[b][-1], units[a][-1]


async def recorded(one: Node, loops: dict[str, LoopSource], pictures: int, cut: str = "") -> None:
    """Record so many pictures of each; the connection to `cut` is lost once."""
    async with SimcamServer([CameraSpec(name, loop, stamp=False) for name, loop in loops.items()]) as server:
        register(one.data, [Camera(id=name, main=server.url(name)) for name in loops])
        await one.start()
        await one.recording(*(f"{name}.main" for name in loops))

        async def begun() -> bool:
            return (await one.streams())[f"{cut}.main"]["frames"] >= 2.5 * GOP

        if cut:
            await until(begun, 30, "some GOPs before the connection is lost")
            server.camera(cut).end_sessions(abrupt=True)

        async def long_enough() -> bool:
            return all(stream["frames"] >= pictures for stream in (await one.streams()).values())

        await until(long_enough, 60, f"{pictures} pictures of each")
        assert await one.stop() == 0


def noted(one: Node, name: str) -> list[int]:
    """What a stream's ledger says of its camera's signatures."""
    contents = (entry.content for entry in read_ledger(one.data / "ledger" / f"{name}.main"))
    return [content.verdict for content in contents if isinstance(content, ledger.Camera)]


def judged(one: Node, name: str, trusted: Path) -> StreamReport:
    report, unreadable = examine(one.data, f"{name}.main", 0, parse_time(EVER[3]), Trust.read([trusted]))
    assert unreadable == 0
    return report


def told(one: Node, name: str, *words: str) -> tuple[int, dict[str, Any]]:
    done = one.keyreel("signature", f"{name}.main", *EVER, "--json", *words, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


async def test_what_cameras_signed_is_found_whole_and_spoilt(node: Callable[..., Node], tmp_path: Path) -> None:
    authority = Authority()
    trusted = tmp_path / "ca.pem"
    trusted.write_bytes(pem(authority.certificate))
    whole: dict[str, LoopSource] = {
        "plain": signed(authority, shape("h264")),
        "h265": signed(authority, shape("h265"), late=0),
        "parts": signed(authority, shape("h265"), split=4, late=2, hash_name="sha512"),
        "interval": signed(authority, shape("h264", 3), every=2, escape_first=True),
        "separate": signed(authority, shape("h264"), certificate_sei=True, hash_list=False),
    }
    whole["lost"] = signed(authority, shape("h264"))
    spoilt: dict[str, LoopSource] = {
        "no-sei": signed(authority, shape("h264"), drop_sei),
        "flipped": signed(authority, shape("h265"), flip),
        "no-slice": signed(authority, shape("h264", 2), drop_slice),
        "swapped": signed(authority, shape("h264"), swap),
    }
    one = node()
    await recorded(one, {**whole, **spoilt, "unsigned": shape("h264")}, 5 * GOP, cut="lost")
    for name in whole:
        report = judged(one, name, trusted)
        verdict = "authentic" if name != "lost" else "authentic-with-missing-units"
        assert (report.verdict, report.provenance) == (verdict, "trusted"), (name, report.findings)
        assert report.counts["not-authentic"] == 0, "what a lost connection took is no forgery"
        assert report.counts["authentic"] >= 3, name
        assert [key.subject for key in report.keys] == ["CN=camera"]
        assert report.vendor is not None
        assert report.vendor.serial == "ACCC8E000001"
    late_us = judged(one, "separate", trusted).ranges[0].start_us + 2_500_000
    report, _ = examine(one.data, "separate.main", late_us, late_us + 1_000_000, Trust.read([trusted]))
    assert (report.verdict, report.provenance) == ("authentic", "trusted"), "its certificate was sent at the beginning"
    for name, verdict, reason in (
        ("no-sei", "not-authentic", "signature-missing"),
        ("flipped", "not-authentic", "units-altered"),
        ("no-slice", "authentic-with-missing-units", "units-missing"),
        ("swapped", "not-authentic", "units-altered"),
    ):
        report = judged(one, name, trusted)
        assert report.verdict == verdict, (name, report)
        decided = [found for found in report.findings if found.verdict != "not-covered"]
        assert [(found.verdict, found.reason) for found in decided] == [(verdict, reason)], name
        assert decided[0].counter == (None if name == "no-sei" else 2)
        assert report.ranges[0].parts == 1, "the second GOP, and it alone"
        assert decided[0].units == (19 if name == "no-slice" else 10)
    assert judged(one, "unsigned", trusted).verdict == "not-signed"
    code, answer = told(one, "flipped", "--trust", str(trusted))
    assert (code, answer["verdict"], answer["provenance"]) == (5, "not-authentic", "trusted")
    assert "1 altered of 10 units" in answer["findings"][0]["detail"]
    said = one.keyreel("signature", "plain.main", *EVER, "--trust", str(trusted))
    assert "plain.main: authentic, certificate: trusted" in said.stdout
    none = one.keyreel("signature", "plain.main", "--start", EVER[1], "--end", "2020-01-01T00:01:00Z", check=False)
    assert (none.returncode, "no footage" in none.stderr) == (3, True)


@pytest.mark.needs_corpus
async def test_footage_that_the_public_signer_signed_stays_authentic(node: Callable[..., Node], corpus: Path) -> None:
    folder = corpus / "signed"
    names = [f"{kind}{codec}" for kind in ("", "signed_") for codec in ("h264", "h265")]
    one = node()
    await recorded(one, {name.replace("_", "-"): folder / f"test_{name}.mp4" for name in names}, 150)
    for codec in ("h264", "h265"):
        report = judged(one, f"signed-{codec}", folder / "ca.pem")
        assert report.verdict == "authentic", report.findings
        assert report.counts["authentic"] >= 2
        assert report.provenance == "not-valid-then", "its certificate ended on 2025-11-13"
        assert report.vendor is not None
        assert report.vendor.manufacturer == "Signed Media Framework"
        assert judged(one, codec, folder / "ca.pem").verdict == "not-signed"
    assert told(one, "signed-h264")[0] == 0
    assert told(one, "signed-h264", "--trust", str(folder / "ca.pem"))[0] == 5


async def test_a_camera_that_stops_signing_is_told_and_a_restart_does_not_forget(
    node: Callable[..., Node], tmp_path: Path
) -> None:
    authority = Authority()
    trusted = tmp_path / "ca.pem"
    trusted.write_bytes(pem(authority.certificate))
    one = node(config=f'[evidence]\ncamera_signature_s = 1\ncamera_trust = ["{trusted}"]\n')
    loops = {"gate": signed(authority, shape("h264"), closing=True), "never": shape("h264")}

    async def seen(name: str, **wanted: str | None) -> bool:
        _, stream = await one.get(f"/streams/{name}.main")
        signature = stream["signature"] or {}
        return all(signature.get(field) == value for field, value in wanted.items())

    async with SimcamServer([CameraSpec(name, loop, stamp=False) for name, loop in loops.items()]) as server:
        register(one.data, [Camera(id=name, main=server.url(name)) for name in loops])
        await one.start()
        await until(lambda: seen("gate", verdict="authentic", provenance="trusted"), 40, "the signature is looked at")
        await until(lambda: seen("never", verdict="not-signed"), 40, "the camera that does not sign is known")
        assert (await one.streams())["never.main"]["signature"]["stopped"] is None
        assert await one.stop() == 0
        server.camera("gate").switch(shape("h264"))
        await one.start()
        await until(lambda: seen("gate", verdict="not-signed"), 40, "the camera is looked at again")
        _, stream = await one.get("/streams/gate.main")
        assert stream["signature"]["stopped"] > stream["signature"]["signed"]
        assert stream["reason"] == "signature-stopped"
        assert "keyreel camera accept gate" in stream["detail"]
        _, told_now = await one.get("/alarms")
        alarms = [(alarm["kind"], alarm["subject"], alarm["reason"], alarm["since"]) for alarm in told_now["alarms"]]
        assert ("signature", "gate.main", "signature-stopped", stream["signature"]["stopped"]) in alarms
        assert "a camera that signed its pictures has stopped" in one.log_path.read_text()
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{one.port}/metrics") as answer:
            text = (await answer.text()).splitlines()
        assert 'keyreel_stream_signature_stopped{stream="gate.main"} 1.0' in text
        assert 'keyreel_stream_signature_stopped{stream="never.main"} 0.0' in text
        assert await one.stop() == 0
        assert read_signatures(one.data)["gate.main"].stopped_us
        assert set(noted(one, "gate")) == {CameraVerdict.AUTHENTIC, CameraVerdict.NO_LONGER_SIGNED}
        assert set(noted(one, "never")) == {CameraVerdict.NOT_SIGNED}
        assert one.keyreel("camera", "accept", "gate").returncode == 0
        assert not read_signatures(one.data)
