"""The command line: what can be typed, and which exit code comes back.

Kept true: `--help` loads nothing of the product; every error made on purpose is one sentence on standard error; with
`--json` standard output is one JSON document and nothing else, `{"error": …}` if it was made after the command line was
understood.

Exit codes: 0 done; 1 unexpected failure; 2 the command line or the request is wrong; 3 the camera, stream or range does
not exist; 4 configuration or data folder is wrong, nothing was touched; 5 stored data failed a check; 6 a volume is
missing or failed; 130 and 143 ended at once by a second signal.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from base.errors import KeyreelError
from base.service import exit_code
from keyreel.evidence_app import key_app, ledger_app
from keyreel.export_app import export_app, verify

DataOption = Annotated[Path, typer.Option("--data", envvar="KEYREEL_DATA", help="Data folder of the node.")]
ConfigOption = Annotated[
    Optional[Path],  # noqa: UP045 (typer evaluates this on 3.11)
    typer.Option("--config", help="Configuration file; DATA/keyreel.toml when it exists."),
]
ListenOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--listen", metavar="HOST:PORT", help="Address of the API and the page; 127.0.0.1:8787 by default."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document for scripts.")]
StreamArgument = Annotated[str, typer.Argument(help="Stream, like gate.main.")]
UserOption = Annotated[str, typer.Option("--user", help="ONVIF user of the camera.")]
PasswordOption = Annotated[
    str, typer.Option("--password", envvar="KEYREEL_CAMERA_PASSWORD", help="That user's password; sent as a digest.")
]
TIME_HELP = "RFC 3339 with an offset, like 2026-03-01T08:30:00+07:00."

app = typer.Typer(
    name="keyreel",
    help="Records RTSP cameras without transcoding and gives any moment back at once.",
    epilog="Exit codes: 0 done, 1 unexpected failure, 2 wrong request, 3 not found, 4 wrong configuration or data "
    "folder (nothing was touched), 5 stored data failed a check, 6 volume missing or failed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
camera_app = typer.Typer(help="The cameras this node records.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(camera_app, name="camera")
volume_app = typer.Typer(help="The volumes this node records to.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(volume_app, name="volume")
hold_app = typer.Typer(help="Ranges that nothing deletes.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(hold_app, name="hold")
app.add_typer(key_app, name="key")
app.add_typer(export_app, name="export")
app.command("verify")(verify)
app.add_typer(ledger_app, name="ledger")
VolumeArgument = Annotated[str, typer.Argument(metavar="VOLUME", help="Directory or id, as `volume list` shows it.")]


@app.command()
def serve(data: DataOption, config: ConfigOption = None, listen: ListenOption = None) -> None:
    """Record the registered cameras and serve API and page, until Ctrl-C."""
    from keyreel.serve import serve as run

    raise typer.Exit(run(data, config, listen))


@app.command()
def record(data: DataOption, config: ConfigOption = None) -> None:
    """Record alone, without API and page."""
    from keyreel.serve import record as run

    raise typer.Exit(run(data, config))


@app.command()
def play(data: DataOption, config: ConfigOption = None, listen: ListenOption = None) -> None:
    """Serve API and page alone; several may run beside one recorder."""
    from keyreel.serve import play as run

    raise typer.Exit(run(data, config, listen))


@app.command()
def demo(
    data: Annotated[Path, typer.Option("--data", help="Data folder of the demo.")] = Path("demo-data"),
    listen: ListenOption = None,
) -> None:
    """Four simulated cameras over real RTSP, recorded and served, until Ctrl-C."""
    from keyreel.demo import demo as run

    raise typer.Exit(run(data, listen))


@camera_app.command("add")
def camera_add(
    camera_id: Annotated[str, typer.Argument(metavar="ID", help="Short name: a-z, 0-9, '_' and '-'.")],
    data: DataOption,
    url: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(
            help="rtsp(s)://, rtmp(s)://, http(s):// (FLV, MPEG-TS), srt:// or udp:// address; none with --onvif."
        ),
    ] = None,
    onvif: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="HOST[:PORT]", help="Ask this ONVIF device for the address."),
    ] = None,
    user: UserOption = "",
    password: PasswordOption = "",
    profile: Annotated[str, typer.Option(help="ONVIF profile; the largest picture if absent.")] = "",
    sub: Annotated[Optional[str], typer.Option(help="Address of the sub stream.")] = None,  # noqa: UP045
    transport: Annotated[str, typer.Option(help="tcp or udp.")] = "tcp",
    allow_basic: Annotated[bool, typer.Option("--allow-basic", help="Send the password in clear if asked to.")] = False,
    tls_verify: Annotated[bool, typer.Option(help="Check the certificate of an rtsps:// camera.")] = True,
    disabled: Annotated[bool, typer.Option("--disabled", help="Register without recording.")] = False,
    note: Annotated[str, typer.Option(help="Anything worth remembering.")] = "",
    record: Annotated[str, typer.Option(help="continuous, schedule or demand.")] = "continuous",
    schedule: Annotated[str, typer.Option(help="When to record, like 'mon-fri 07:00-19:00; sat 09:00-12:00'.")] = "",
    pre_record: Annotated[int, typer.Option(help="Keep so much before a recording begins, seconds.")] = 0,
    priority: Annotated[
        str, typer.Option(help="low, normal or high: who gives way when the node cannot keep up.")
    ] = "normal",
    replace: Annotated[bool, typer.Option("--replace", help="Change a camera that is registered already.")] = False,
    json: JsonOption = False,
) -> None:
    """Register a camera; a running recorder starts with it within a second."""
    from index import Camera
    from keyreel.cameras import add, main_address

    camera = Camera(
        id=camera_id,
        main=main_address(url, onvif, user, password, profile, tls_verify),
        sub=sub,
        transport=transport,  # type: ignore[arg-type]
        allow_basic=allow_basic,
        tls_verify=tls_verify,
        enabled=not disabled,
        note=note,
        record=record,  # type: ignore[arg-type]
        schedule=schedule,
        pre_record_s=pre_record,
        priority=priority,  # type: ignore[arg-type]
    )
    add(data, [camera], replace=replace, as_json=json)


@camera_app.command("discover")
def camera_discover(
    timeout: Annotated[float, typer.Option(min=0.1, max=60, help="How long to listen for answers, seconds.")] = 3.0,
    interface: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="IPV4", help="Address of ours to ask from; may be repeated; all if absent."),
    ] = None,
    host: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="HOST[:PORT]", help="Read this device instead of asking around; may be repeated."),
    ] = None,
    user: UserOption = "",
    password: PasswordOption = "",
    tls_verify: Annotated[bool, typer.Option(help="Check the certificates of https:// devices.")] = True,
    json: JsonOption = False,
) -> None:
    """ONVIF devices on the network; with --user also their profiles, stream addresses, codecs and clocks."""
    from keyreel.onvif import show_discovered

    show_discovered(timeout, interface or [], host or [], user, password, tls_verify, json)


@camera_app.command("import")
def camera_import(
    file: Annotated[Path, typer.Argument(help="CSV with a head line: id,main[,sub,transport,enabled,note,…].")],
    data: DataOption,
    replace: Annotated[bool, typer.Option("--replace", help="Change cameras that are registered already.")] = False,
    json: JsonOption = False,
) -> None:
    """Register many cameras from a CSV file: all of them, or none."""
    from keyreel.cameras import add, read_csv

    add(data, read_csv(file), replace=replace, as_json=json)


@camera_app.command("test")
def camera_test(
    target: Annotated[str, typer.Argument(metavar="ID|ADDRESS", help="A registered camera, or any address.")],
    data: DataOption,
    quality: Annotated[str, typer.Option(help="Of a registered camera: main or sub.")] = "main",
    transport: Annotated[str, typer.Option(help="tcp or udp, of an address.")] = "tcp",
    allow_basic: Annotated[bool, typer.Option("--allow-basic", help="Send the password in clear if asked to.")] = False,
    tls_verify: Annotated[bool, typer.Option(help="Check the certificate of an rtsps:// camera.")] = True,
    seconds: Annotated[float, typer.Option(min=1, max=60, help="How long it may take in all.")] = 10.0,
    json: JsonOption = False,
) -> None:
    """Call a camera once and tell what it answers; exit code 1 when it could not be recorded so."""
    from keyreel.cameratest import test

    raise typer.Exit(test(data, target, quality, transport, allow_basic, tls_verify, seconds, json))


@camera_app.command("start")
def camera_start(
    camera_id: Annotated[str, typer.Argument(metavar="ID")],
    data: DataOption,
    seconds: Annotated[int, typer.Option(min=1, max=86400, help="For how long.")] = 3600,
    json: JsonOption = False,
) -> None:
    """Record a camera that stands by, beginning with what is kept from before."""
    from keyreel.cameras import ask_recording

    ask_recording(data, camera_id, seconds, json)


@camera_app.command("stop")
def camera_stop(
    camera_id: Annotated[str, typer.Argument(metavar="ID")], data: DataOption, json: JsonOption = False
) -> None:
    """End what `start` began; a schedule goes on."""
    from keyreel.cameras import ask_recording

    ask_recording(data, camera_id, 0, json)


@camera_app.command("accept")
def camera_accept(
    camera_id: Annotated[str, typer.Argument(metavar="ID")], data: DataOption, json: JsonOption = False
) -> None:
    """Take the device that answers now for this camera, after it was replaced or its firmware changed."""
    from keyreel.cameras import accept

    accept(data, camera_id, json)


@camera_app.command("list")
def camera_list(data: DataOption, json: JsonOption = False) -> None:
    """The registered cameras; passwords are not shown."""
    from keyreel.cameras import show

    show(data, json)


@camera_app.command("remove")
def camera_remove(
    camera_id: Annotated[str, typer.Argument(metavar="ID")], data: DataOption, json: JsonOption = False
) -> None:
    """Stop recording a camera. What was recorded of it stays."""
    from keyreel.cameras import remove

    remove(data, camera_id, json)


@volume_app.command("add")
def volume_add(
    path: Annotated[Path, typer.Argument(help="An empty directory on a disk of its own, or a volume of this node.")],
    data: DataOption,
    json: JsonOption = False,
) -> None:
    """Record to one more volume; a running recorder takes it up within seconds."""
    from keyreel.volumes import add

    add(data, path, json)


@volume_app.command("list")
def volume_list(data: DataOption, config: ConfigOption = None, json: JsonOption = False) -> None:
    """The volumes, their state and their room."""
    from keyreel.volumes import show

    show(data, config, json)


@volume_app.command("drain")
def volume_drain(
    volume: VolumeArgument,
    data: DataOption,
    config: ConfigOption = None,
    undo: Annotated[bool, typer.Option("--undo", help="Let it take new chunks again.")] = False,
    json: JsonOption = False,
) -> None:
    """Put no new chunks on a volume; what is on it stays and plays."""
    from keyreel.volumes import drain

    drain(data, config, volume, undo, json)


@volume_app.command("remove")
def volume_remove(
    volume: VolumeArgument,
    data: DataOption,
    config: ConfigOption = None,
    force: Annotated[bool, typer.Option("--force", help="Although footage on it will not play any more.")] = False,
    json: JsonOption = False,
) -> None:
    """Let a drained volume go. Nothing on it is deleted."""
    from keyreel.volumes import remove

    remove(data, config, volume, force, json)


@hold_app.command("add")
def hold_add(
    streams: Annotated[list[str], typer.Argument(help="Streams, like gate.main gate.sub.")],
    data: DataOption,
    start: Annotated[str, typer.Option(help=TIME_HELP)],
    end: Annotated[str, typer.Option(help=TIME_HELP)],
    reason: Annotated[str, typer.Option(help="Why it is held.")],
    owner: Annotated[str, typer.Option(help="Who places it.")],
    case: Annotated[str, typer.Option(help="Case or file number.")] = "",
    expires: Annotated[str, typer.Option(help=f"When it ends by itself; never if absent. {TIME_HELP}")] = "",
    review: Annotated[str, typer.Option(help=f"When somebody should look at it again. {TIME_HELP}")] = "",
    json: JsonOption = False,
) -> None:
    """Keep a range of streams from being deleted."""
    from keyreel.holds import add

    add(data, streams, start, end, json, reason=reason, owner=owner, case=case, expires=expires, review=review)


@hold_app.command("list")
def hold_list(
    data: DataOption,
    every: Annotated[bool, typer.Option("--all", help="Also those that were released or expired.")] = False,
    json: JsonOption = False,
) -> None:
    """The holds, and how much they keep together."""
    from keyreel.holds import show

    show(data, every, json)


@hold_app.command("release")
def hold_release(
    number: Annotated[int, typer.Argument(metavar="HOLD", help="Its number, as `hold list` shows it.")],
    data: DataOption,
    by: Annotated[str, typer.Option(help="Who releases it.")],
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    json: JsonOption = False,
) -> None:
    """Let what a hold kept be deleted when its time comes; the hold stays on record."""
    from keyreel.holds import let_go

    let_go(data, number, by, reason, json)


@app.command()
def status(data: DataOption, json: JsonOption = False) -> None:
    """What the recorder does, a line per stream."""
    from keyreel.show import show_status

    show_status(data, json)


@app.command()
def timeline(
    stream: StreamArgument,
    data: DataOption,
    start: Annotated[Optional[str], typer.Option(help=f"{TIME_HELP} A day before the end if absent.")] = None,  # noqa: UP045
    end: Annotated[Optional[str], typer.Option(help=f"{TIME_HELP} Now if absent.")] = None,  # noqa: UP045
    resolution: Annotated[float, typer.Option(min=0, help="Join what is nearer than this, seconds.")] = 0.0,
    json: JsonOption = False,
) -> None:
    """When a stream was recorded, and why not where it was not."""
    from keyreel.show import show_timeline

    show_timeline(data, stream, start, end, resolution, json)


@app.command()
def clip(
    stream: StreamArgument,
    data: DataOption,
    start: Annotated[str, typer.Option(help=TIME_HELP)],
    end: Annotated[str, typer.Option(help=TIME_HELP)],
    output: Annotated[Path, typer.Option("--output", "-o", help="MP4 file to write; - for standard output.")],
    json: JsonOption = False,
) -> None:
    """Cut a range into one MP4, byte for byte as the camera sent it."""
    from keyreel.clip import write_clip

    write_clip(data, stream, start, end, output, json)


@app.command()
def signature(
    stream: StreamArgument,
    data: DataOption,
    start: Annotated[str, typer.Option(help=TIME_HELP)],
    end: Annotated[str, typer.Option(help=TIME_HELP)],
    trust: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(metavar="PEM", help="Certificates trusted to vouch for cameras; may be repeated."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """What the camera's own signatures (ONVIF Media Signing) say of a range.

    Exit code 5 when it is not authentic, or not by a certificate that --trust vouches for.
    """
    from keyreel.signature import judge

    raise typer.Exit(judge(data, stream, start, end, trust or [], json))


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="MP4, MOV, MKV, MPEG-TS, FLV or AVI with H.264 or H.265.")],
    stream: Annotated[str, typer.Option(help="Stream that takes it, like gate.card.")],
    data: DataOption,
    start: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help=f"When its first picture was taken. {TIME_HELP} By the file's own word if absent."),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Store a recorded file with its own times, byte for byte: all of it, or nothing."""
    from keyreel.imports import run

    run(data, file, stream, start, config, json)


@app.command()
def check(
    data: DataOption,
    deep: Annotated[bool, typer.Option("--deep", help="Also read every fragment and check its bytes.")] = False,
    json: JsonOption = False,
) -> None:
    """Compare index and chunks; exit code 5 when something is wrong."""
    from keyreel.tend import check as run

    raise typer.Exit(run(data, deep, json))


@app.command()
def rebuild(data: DataOption, json: JsonOption = False) -> None:
    """Make the index again from the chunk files alone, also while the node records."""
    from keyreel.tend import rebuild as run

    raise typer.Exit(run(data, json))


@app.command()
def version(json: JsonOption = False) -> None:
    """The version of this program."""
    from keyreel import version as number
    from keyreel.output import print_json

    if json:
        print_json({"version": number()})
    else:
        print(number())


def main() -> None:
    """Entry point of the command `keyreel`."""
    try:
        app()
    except KeyreelError as error:
        print(f"keyreel: {error}", file=sys.stderr)
        if "--json" in sys.argv:
            from keyreel.output import print_json

            print_json({"error": {"reason": error.reason, "detail": str(error)}})
        sys.exit(exit_code(error))
    except BrokenPipeError:  # the reader of our output left; that is its right
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


if __name__ == "__main__":
    main()
