"""`keyreel export create` and `keyreel verify`.

Kept true: Ctrl-C and `kill` cancel an export and leave nothing of it; a package is told as made only when it has its
name; verifying writes nothing and asks nobody.
"""

from __future__ import annotations

import getpass
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from base.config import key_password
from base.datadir import DataDir
from base.errors import NotFound, UserError
from base.service import EXIT_DAMAGE, EXIT_DONE
from base.units import format_time, parse_time
from clips.store import ChunkStore
from evidence.keys import Keys
from evidence.mediasigning import Provenance, StreamReport, Trust, Verdict
from export.camera import judge_file
from export.job import Job
from export.keys import NodeKeys
from export.request import Request, Tools
from export.verifier.command import exit_code_of, lines
from export.verifier.files import Files, Findings, NoPackage
from export.verifier.verdict import MANIFEST, verify
from index import Index
from keyreel import version
from keyreel.node import open_node
from keyreel.output import bytes_text, print_json, progress_bar
from keyreel.signature import described

EXIT_CANCELLED = 130


def create(
    data: Path, config: Path | None, case: str, reason: str, operator: str, streams: list[str], start: str, end: str,
    to: Path, keep_hold: bool, dry_run: bool, as_json: bool,
) -> int:  # fmt: skip
    """Make a package, or tell what it would be."""
    node = open_node(data, config)
    request = Request(
        case=case,
        reason=reason,
        operator=operator or _user(),
        streams=tuple(streams),
        start_us=parse_time(start),
        end_us=parse_time(end),
        target=str(to.absolute()),
    )
    request.check(node.config.evidence.case_pattern)
    keys = NodeKeys(Keys.open(node.datadir.keys_path), key_password(node.config))
    with Index.open(node.datadir.index_path) as index:
        tools = Tools(
            datadir=node.datadir,
            index=index,
            store=ChunkStore(node.datadir.volumes),
            keys=keys,
            software=f"keyreel {version()}",
            case_pattern=node.config.evidence.case_pattern,
        )
        job = Job(tools, request, keep_hold=keep_hold)
        if dry_run:
            return _tell_estimate(job, as_json)
        signal.signal(signal.SIGTERM, _cancel)
        try:
            with progress_bar(to.name, bytes_counted=True) as progress:
                made = job.run(progress)
        except KeyboardInterrupt:
            print("cancelled; nothing is left of it") if not as_json else print_json({"cancelled": True})
            return EXIT_CANCELLED
    return _tell_made(made, as_json)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise UserError("this user has no name; say who exports with --operator", reason="bad-text") from None


def _cancel(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _tell_estimate(job: Job, as_json: bool) -> int:
    found = job.estimate()
    if as_json:
        documents = [
            {"stream": one.stream, "bytes": one.bytes, "fragments": one.fragments}
            | {"start": format_time(one.start_us), "end": format_time(one.end_us)}
            for one in found
        ]
        print_json({"bytes": sum(one.bytes for one in found), "streams": documents})
        return EXIT_DONE
    for one in found:
        print(f"{one.stream}: {bytes_text(one.bytes)}, {format_time(one.start_us)} to {format_time(one.end_us)}")
    print(f"{bytes_text(sum(one.bytes for one in found))} in all; nothing was written")
    return EXIT_DONE


def _tell_made(made: Path, as_json: bool) -> int:
    size = made.stat().st_size if made.is_file() else sum(one.stat().st_size for one in made.rglob("*"))
    if as_json:
        print_json({"package": str(made), "bytes": size})
    else:
        print(f"{made}: {bytes_text(size)}; `keyreel verify {made}` checks it, as verify.py in it does elsewhere")
    return EXIT_DONE


def check(path: Path, key: str, data: Path | None, trusted: list[Path], as_json: bool) -> int:
    """Verify a package, and what the cameras signed themselves."""
    trust = Trust.read(trusted)
    try:
        known = [one.id for one in Keys.open(DataDir.open(data).keys_path).keys if one.use == "ledger"] if data else []
        report: dict[str, Any] = verify(str(path), (*known, *([key.lower()] if key else [])))
    except (NoPackage, OSError) as error:
        raise NotFound(f"{path}: {error}", reason="no-package") from None
    code = exit_code_of(report)
    told = lines(report)
    for stream, judged in zip(report["streams"], _cameras(path, trust), strict=False):
        stream["camera"] = {"signed": judged is not None} | (described(judged) if judged else {})
        if judged is not None:
            untrusted = bool(trust.anchors) and judged.provenance is not Provenance.TRUSTED
            code = EXIT_DAMAGE if judged.verdict is Verdict.NOT_AUTHENTIC or untrusted else code
            told.append(f"{stream['stream']}: signed by the camera itself: {judged.verdict}, {judged.provenance}")
            told += [f"! {stream['stream']}: {format_time(one.start_us)}: {one.detail}" for one in judged.findings]
    if as_json:
        print_json(msgspec.to_builtins(report))
    else:
        print("\n".join(told))
    return code


def _cameras(path: Path, trust: Trust) -> Iterator[StreamReport | None]:
    """By stream, what its camera signed; None where it does not."""
    manifest = json.loads(Files(str(path), Findings()).whole(MANIFEST))
    for document in manifest["streams"]:
        is_signed = document["file"] and document["camera_signing"]["signed"]
        try:
            yield judge_file(str(path), document, trust) if is_signed else None
        except (KeyError, TypeError, ValueError, IndexError):  # told by the package's own check
            yield None
