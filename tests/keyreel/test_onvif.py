"""Finding cameras and reading them by ONVIF, against a simulated device on real sockets, with the real command."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from typing import Any

import pytest

from base.errors import CameraError
from rtsp.client import RtspClient
from simcam.encode import LoopSpec
from simcam.onvif import Fault, OnvifDevice, OnvifProfile, OnvifSpec
from simcam.server import SimcamServer
from simcam.spec import CameraSpec
from sources import discovery
from sources.discovery import ANSWERS_MAX, read_answer
from sources.onvif import choose, read_device, with_password

MAIN = OnvifProfile("main", "rtsp://192.0.2.1:8554/main?a=1&b=2", "H265", 1920, 1080, 25, 4000, "AAC")
SUB = OnvifProfile("sub", "rtsp://192.0.2.1/sub")
JPEG = OnvifProfile("snap", "http://192.0.2.1/snap", "JPEG", 3840, 2160)


async def keyreel(*words: object) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "keyreel", *map(str, words), stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, error = await process.communicate()
    return process.returncode or 0, out.decode(), error.decode()


def device(*profiles: OnvifProfile, **fields: Any) -> OnvifDevice:
    return OnvifDevice(OnvifSpec(profiles, **fields))


async def read(one: OnvifDevice, user: str = "admin", password: str = "secret", timeout_s: float = 20.0) -> Any:
    return await asyncio.to_thread(read_device, one.address, user, password, timeout_s=timeout_s)


async def test_what_a_device_says_of_itself() -> None:
    async with device(MAIN, SUB, JPEG, clock_offset_s=-7200) as one:
        told = await read(one)
    assert (told.manufacturer, told.model, told.serial) == ("Keyreel", "simcam", "0001")
    assert abs(told.clock_offset_us + 7_200_000_000) <= 3_000_000
    main, sub, snap = told.profiles
    assert (main.codec, main.width, main.height, main.frame_rate, main.bitrate_bps, main.audio) == (
        "h265", 1920, 1080, 25, 4_000_000, "aac",
    )  # fmt: skip
    assert main.url == "rtsp://127.0.0.1:8554/main?a=1&b=2", "the host that was asked, the port that was told"
    assert sub.url == "rtsp://127.0.0.1/sub"
    assert (snap.codec, snap.recordable) == ("mjpeg", False)
    assert choose(told) is main
    assert choose(told, "sub") is sub
    with pytest.raises(CameraError, match="it has: main, sub, snap"):
        choose(told, "other")
    with pytest.raises(CameraError, match=r"H\.264 or H\.265"):
        choose(told, "snap")


async def test_a_device_without_media_2() -> None:
    async with device(MAIN, SUB, media2=False) as one:
        assert [profile.token for profile in (await read(one)).profiles] == ["sub"]


def test_passwords_in_addresses() -> None:
    assert with_password("rtsp://h:1/p?q", "a@b", "p/?#@:") == "rtsp://a%40b:p%2F%3F%23%40%3A@h:1/p?q"
    assert with_password("rtsp://h/", "", "") == "rtsp://h/"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("html", "not-onvif"), ("entities", "not-onvif"), ("huge", "not-onvif"), ("fault-500", "not-onvif")],
)
async def test_what_is_no_onvif(fault: Fault, reason: str) -> None:
    async with device(SUB, fault=fault) as one:
        with pytest.raises(CameraError) as caught:
            await read(one)
    assert caught.value.reason == reason


@pytest.mark.parametrize("fault", ["silent", "trickle"])
async def test_a_device_that_does_not_come_to_an_end(fault: Fault) -> None:
    async with device(SUB, fault=fault) as one:
        with pytest.raises(CameraError) as caught:
            await read(one, timeout_s=0.5)
    assert caught.value.reason == "timeout"


async def test_a_wrong_password_is_told_and_not_shown() -> None:
    async with device(SUB) as one:
        for user, password in (("admin", "wr0ng"), ("other", "secret"), ("", "")):
            with pytest.raises(CameraError) as caught:
                await read(one, user, password)
            assert caught.value.reason == "unauthorized"
            assert "wr0ng" not in str(caught.value)
    assert "GetProfiles" not in one.spec.log


def test_answers_that_are_none() -> None:
    for data in (b"", b"\xff" * 65_000, b"<html></html>", b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'):
        assert read_answer(data, "10.0.0.9") == []


async def test_the_number_of_answers_is_bounded() -> None:
    found: dict[str, Any] = {}
    answers = discovery._Answers(found, [3])
    for i in range(10):
        text = (
            f"<a><ProbeMatch><EndpointReference><Address>{i}</Address></EndpointReference>"
            f"<XAddrs>http://10.0.0.{i}/x</XAddrs></ProbeMatch></a>"
        )
        answers.datagram_received(text.encode(), (f"10.0.0.{i}", 3702))
    assert len(found) == 3 < ANSWERS_MAX


async def test_discovery_on_the_network() -> None:
    spec = OnvifSpec((MAIN, SUB), name="gate")
    async with OnvifDevice(spec, discoverable=True) as one:
        code, out, error = await keyreel("camera", "discover", "--interface", "127.0.0.1", "--timeout", "1", "--json")
        assert code == 0, error
        mine = [row for row in json.loads(out)["devices"] if row["endpoint"] == f"urn:uuid:simcam-{one.port}"]
        assert [(row["address"], row["name"], row["hardware"]) for row in mine] == [("127.0.0.1", "gate", "sim")]
        words = ("--interface", "127.0.0.1", "--timeout", "1", "--user", "admin", "--password", "secret")
        code, out, error = await keyreel("camera", "discover", *words)
        assert code == 0, error
        assert "h265 1920x1080 rtsp://127.0.0.1:8554/main" in out
        assert "secret" not in out


async def test_nobody_answers() -> None:
    code, out, _ = await keyreel("camera", "discover", "--interface", "127.0.0.1", "--timeout", "0.3", "--json")
    assert code == 0
    assert isinstance(json.loads(out)["devices"], list)
    code, _, error = await keyreel("camera", "discover", "--interface", "203.0.113.77", "--timeout", "0.3")
    assert (code, "--interface" in error) == (2, True)


async def test_a_camera_by_its_onvif_address(tmp_path: Any) -> None:
    """The address that is registered really plays."""
    loop = LoopSpec(width=160, height=90, fps=10, gop=10, seconds=2)
    camera = CameraSpec("live", loop, user="admin", password="s@cret/")
    async with SimcamServer([camera]) as cameras:
        profile = OnvifProfile("p1", f"rtsp://192.0.2.1:{cameras.port}/live")
        async with device(profile, password="s@cret/", clock_offset_s=86_400) as one:
            words = ("--onvif", one.address, "--user", "admin", "--password", "s@cret/", "--data", tmp_path / "data")
            code, out, error = await keyreel("camera", "add", "gate", *words)
        assert (code, out) == (0, "camera gate: gate.main\n"), error
        register = json.loads((tmp_path / "data" / "register.json").read_text())
        url = register["cameras"][0]["main"]
        assert url == f"rtsp://admin:s%40cret%2F@127.0.0.1:{cameras.port}/live"
        client = RtspClient(url)
        presentation = await client.open()
        await client.close()
    assert presentation.first("video") is not None


async def test_refusals_of_the_command(tmp_path: Any) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = probe.getsockname()[1]
    add = ("camera", "add", "gate", "--data", tmp_path / "data")
    async with device(JPEG) as one, device(SUB, fault="html") as page:
        right = ("--user", "admin", "--password", "secret")
        for words, code, says in (
            (("--onvif", f"127.0.0.1:{closed}", *right), 3, "is it up?"),
            (
                ("--onvif", one.address, "--user", "admin", "--password", "wr0ng"),
                2,
                "refused the user name or password",
            ),
            (("--onvif", one.address), 2, "wants a user name"),
            (("--onvif", one.address, *right), 2, "H.264 or H.265"),
            (("--onvif", page.address, *right), 3, "not as an ONVIF device"),
            (("--onvif", "http://a b/", *right), 3, "HOST:PORT"),
            ((), 2, "--onvif"),
            (("rtsp://10.0.0.1/", "--onvif", one.address), 2, "--onvif"),
        ):
            found = await keyreel(*add, *words)
            assert (found[0], says in found[2]) == (code, True), (words, found)
            assert "Traceback" not in found[2]
            assert "wr0ng" not in found[2]
        code, _, error = await keyreel("camera", "discover", "--host", f"127.0.0.1:{closed}")
        assert (code, "is it up?" in error) == (3, True)
    assert not (tmp_path / "data").exists()
