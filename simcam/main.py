"""`python -m simcam`: simulated cameras on the command line.

Kept true: the addresses are printed, one a line, only once the server listens.
"""

from __future__ import annotations

import asyncio
import enum
import signal
import ssl
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from base.errors import ConfigError
from base.media import AudioCodec, VideoCodec
from simcam.encode import LoopSpec
from simcam.faults import Faults
from simcam.server import SimcamServer
from simcam.spec import AuthScheme, CameraSpec, LoopSource


class LoopName(enum.StrEnum):
    """What default cameras show."""

    SMALL = "small"
    LOAD = "load"
    MIXED = "mixed"


app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})


class CameraText(msgspec.Struct, forbid_unknown_fields=True):
    """The fields `--camera` takes; those of a loop count when no file is named. The name is burned in."""

    name: str
    file: str = ""
    codec: VideoCodec = "h264"
    width: int = 640
    height: int = 360
    fps: int = 15
    gop: int = 30
    seconds: int = 10
    bitrate_bps: int = 500_000
    profile: str = "main"
    b_frames: int = 0
    slices: int = 1
    padded: bool = False
    audio: AudioCodec | None = None
    stamp: bool | None = None
    user: str = ""
    password: str = ""
    auth: AuthScheme = "digest-md5"
    rate: float = 1.0
    repeat: int = 0
    metadata: bool = False
    session_timeout_s: int = 60


ADDRESSES_MAX: Final = 100  # a reader who stops reading must not stop the cameras
_LOOP_FIELDS: Final = tuple(name for name in CameraText.__struct_fields__ if name in LoopSpec.__struct_fields__)


def parse_camera(text: str, *, log: bool = False) -> CameraSpec:
    """A camera from `name=gate,codec=h265,audio=aac,loss=0.01,…`: loop, behaviour and faults in one line."""
    pairs = [part.partition("=") for part in text.split(",") if part]
    values = {name.strip(): value.strip() for name, _, value in pairs}
    faults = Faults()
    faults.set({name: values.pop(name) for name in list(values) if name in Faults.__dataclass_fields__})
    try:
        given = msgspec.convert(values, CameraText, strict=False)
        loop: LoopSource = Path(given.file)
        if not given.file:
            fields: dict[str, Any] = {name: getattr(given, name) for name in _LOOP_FIELDS}
            loop = msgspec.convert(fields, LoopSpec)
    except msgspec.ValidationError as error:
        raise ConfigError(f"camera {text!r}: {error}; fields are {', '.join(CameraText.__struct_fields__)}") from None
    return CameraSpec(
        given.name, loop, stamp=given.stamp, user=given.user, password=given.password, auth=given.auth,
        rate=given.rate, repeat=given.repeat, metadata=given.metadata, session_timeout_s=given.session_timeout_s,
        log=log, faults=faults,
    )  # fmt: skip


def default_cameras(count: int, loop: LoopName, bitrate_bps: int) -> list[CameraSpec]:
    """`cam0`, `cam1`, …: all with one small loop, one loop padded to a bit rate, or a mix of codecs and sound."""
    loops = {
        LoopName.SMALL: [LoopSpec()],
        LoopName.LOAD: [LoopSpec(name="load", fps=25, gop=50, seconds=4, bitrate_bps=bitrate_bps, padded=True)],
        LoopName.MIXED: [
            LoopSpec(name="mix0", audio="aac"),
            LoopSpec(name="mix1", profile="baseline", audio="pcmu"),
            LoopSpec(name="mix2", codec="h265"),
            LoopSpec(name="mix3", codec="h265", width=320, height=180, audio="pcma"),
        ],
    }[loop]
    return [CameraSpec(f"cam{number}", loops[number % len(loops)], log=False) for number in range(count)]


async def _serve(specs: list[CameraSpec], host: str, port: int, tls: ssl.SSLContext | None) -> None:
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, done.set)
    async with SimcamServer(specs, host=host, port=port, tls=tls) as server:
        print("\n".join(server.url(spec.name) for spec in specs[:ADDRESSES_MAX]), flush=True)
        if len(specs) > ADDRESSES_MAX:
            print(f"… and {len(specs) - ADDRESSES_MAX} more", flush=True)
        await done.wait()


@app.command()
def serve(
    listen: Annotated[str, typer.Option(help="HOST:PORT to listen on; port 0 takes a free one.")] = "127.0.0.1:8554",
    cameras: Annotated[int, typer.Option(min=0, help="How many default cameras: cam0, cam1, … [default: 4]")] = 0,
    loop: Annotated[
        LoopName,
        typer.Option(
            help="What default cameras show: small: 360p15; load: 25 fps at --bitrate; mixed: H.264, H.265, sound."
        ),
    ] = LoopName.SMALL,
    bitrate: Annotated[int, typer.Option(min=1, help="Bit rate of the load loop, bit/s.")] = 4_000_000,
    camera: Annotated[
        list[str] | None,
        typer.Option(help="A camera, as name=gate,codec=h265,audio=aac,user=u,password=p,loss=0.01 (repeatable)."),
    ] = None,
    file: Annotated[
        list[Path] | None,
        typer.Option(help="A file to serve byte for byte, MP4 or Annex-B; its name is the path (repeatable)."),
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate chain: serve rtsps.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM key of that certificate.")] = None,
) -> None:
    """Simulated cameras over real RTSP: H.264 and H.265, stamped pictures, faults on demand.

    Prints the addresses once the cameras answer. Faults can be changed while it runs: SET_PARAMETER on the address.
    """
    host, _, port = listen.rpartition(":")
    try:
        specs = [parse_camera(text) for text in camera or []]
        specs += [CameraSpec(path.name, path.resolve(), log=False) for path in file or []]
        specs += default_cameras(cameras if specs or cameras else 4, loop, bitrate)
        tls = None
        if tls_cert:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(tls_cert, tls_key)
        _run(specs, host.strip("[]"), int(port), tls)
    except (ConfigError, OSError, ValueError) as error:
        print(f"simcam: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


def _run(specs: list[CameraSpec], host: str, port: int, tls: ssl.SSLContext | None) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve(specs, host, port, tls))
    else:
        uvloop.run(_serve(specs, host, port, tls))


def main() -> None:
    """Entry point of `python -m simcam`."""
    app(prog_name="simcam")
