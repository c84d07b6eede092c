"""The command line of exports: `keyreel export …` and `keyreel verify`, wired into `keyreel.main`.

Kept true: `--help` loads nothing of the product.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from keyreel.evidence_app import ConfigOption, DataOption, JsonOption

TIME_HELP = "RFC 3339 with an offset, like 2026-03-01T08:30:00+07:00."
export_app = typer.Typer(help="Evidence packages.", no_args_is_help=True, rich_markup_mode=None)


@export_app.command("create")
def export_create(
    data: DataOption,
    case: Annotated[str, typer.Option(help="Case number, in the form that evidence.case_pattern asks for.")],
    reason: Annotated[str, typer.Option(help="Why it is exported.")],
    stream: Annotated[list[str], typer.Option("--stream", help="Stream, like gate.main; may be repeated.")],
    start: Annotated[str, typer.Option(help=TIME_HELP)],
    end: Annotated[str, typer.Option(help=TIME_HELP)],
    to: Annotated[Path, typer.Option("--to", metavar="DIR|FILE.zip", help="What is made; nothing may be there yet.")],
    operator: Annotated[str, typer.Option(help="Who exports; the name of the user if absent.")] = "",
    keep_hold: Annotated[bool, typer.Option("--keep-hold", help="Let the range stay held afterwards.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell how large it would be, and do nothing.")] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Footage with proof: one MP4 per stream, a signed manifest, and the verifier. Goes on after a crash."""
    from keyreel.export import create

    raise typer.Exit(create(data, config, case, reason, operator, stream, start, end, to, keep_hold, dry_run, json))


def verify(
    path: Annotated[Path, typer.Argument(help="A package: directory or ZIP file.")],
    key: Annotated[
        str, typer.Option("--key", help="SHA-256 of the public key that must have signed, as `keyreel key show` tells.")
    ] = "",
    data: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--data", help="Data folder of the node that must have signed it."),
    ] = None,
    trust: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option("--trust", help="PEM certificates that cameras' own signatures must lead to; may be repeated."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check a package, offline; exit code 5 when something is altered, missing, or signed by another key."""
    from keyreel.export import check

    raise typer.Exit(check(path, key, data, trust or [], json))
