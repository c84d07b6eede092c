"""The command line of evidence: `keyreel key …` and `keyreel ledger …`, wired into `keyreel.main`.

Kept true: `--help` loads nothing of the product.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

DataOption = Annotated[Path, typer.Option("--data", envvar="KEYREEL_DATA", help="Data folder of the node.")]
ConfigOption = Annotated[
    Optional[Path],  # noqa: UP045 (typer evaluates this on 3.11)
    typer.Option("--config", help="Configuration file; DATA/keyreel.toml when it exists."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document for scripts.")]
PasswordFile = Optional[Path]  # noqa: UP045

key_app = typer.Typer(help="The keys that sign ledgers and exports.", no_args_is_help=True, rich_markup_mode=None)


@key_app.command("show")
def key_show(
    data: DataOption,
    config: ConfigOption = None,
    pem: Annotated[bool, typer.Option("--pem", help="Public parts and certificates of the keys in use.")] = False,
    json: JsonOption = False,
) -> None:
    """All keys this node ever had, with their state."""
    from keyreel.keys import show

    show(data, config, pem, json)


@key_app.command("rotate")
def key_rotate(
    data: DataOption,
    config: ConfigOption = None,
    use: Annotated[str, typer.Option(help="ledger or export.")] = "ledger",
    lost: Annotated[bool, typer.Option("--lost", help="Although the old key is not there to endorse it.")] = False,
    json: JsonOption = False,
) -> None:
    """Sign with a new key; the old one's public part stays, so what it signed stays provable."""
    from keyreel.keys import rotate

    if use not in ("ledger", "export"):
        raise typer.BadParameter("--use is ledger or export")
    rotate(data, config, use, lost, json)  # type: ignore[arg-type]


@key_app.command("revoke")
def key_revoke(
    key: Annotated[str, typer.Argument(help="Its id or the beginning of it, as `key show` tells.")],
    data: DataOption,
    reason: Annotated[str, typer.Option(help="Why.")],
    since: Annotated[str, typer.Option(help="From when on; RFC 3339 with an offset. Now if absent.")] = "",
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Let nothing hold that a key signed since then."""
    from keyreel.keys import revoke

    revoke(data, config, key, since, reason, json)


@key_app.command("protect")
def key_protect(
    data: DataOption,
    config: ConfigOption = None,
    password_file: Annotated[
        PasswordFile, typer.Option(help="File whose first line is the new password; without it there is none.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Put the private keys under another password."""
    from keyreel.keys import protect

    protect(data, config, password_file, json)


@key_app.command("backup")
def key_backup(
    to: Annotated[Path, typer.Option("--to", help="A new file.")],
    data: DataOption,
    config: ConfigOption = None,
    password_file: Annotated[
        PasswordFile, typer.Option(help="File whose first line is the backup's own password.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Write all keys into one file."""
    from keyreel.keys import backup

    backup(data, config, to, password_file, json)


@key_app.command("restore")
def key_restore(
    file: Annotated[Path, typer.Argument(help="What `key backup` wrote.")],
    data: DataOption,
    config: ConfigOption = None,
    password_file: Annotated[PasswordFile, typer.Option(help="File whose first line is the backup's password.")] = None,
    json: JsonOption = False,
) -> None:
    """Bring back keys that are missing."""
    from keyreel.keys import restore

    restore(data, config, file, password_file, json)


@key_app.command("request")
def key_request(data: DataOption, config: ConfigOption = None) -> None:
    """A certificate signing request for the export key, PEM."""
    from keyreel.keys import request

    request(data, config)


@key_app.command("import-chain")
def key_import_chain(
    file: Annotated[Path, typer.Argument(help="PEM: the export key's certificate, then those above it.")],
    data: DataOption,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Have exports carry an authority's certificates."""
    from keyreel.keys import import_chain

    import_chain(data, config, file, json)


ledger_app = typer.Typer(help="What proves the recordings.", no_args_is_help=True, rich_markup_mode=None)
TIME_HELP = "RFC 3339 with an offset, like 2026-03-01T08:30:00+07:00."


@ledger_app.command("verify")
def ledger_verify(
    data: DataOption,
    stream: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="This stream alone; may be repeated."),
    ] = None,
    no_chunks: Annotated[bool, typer.Option("--no-chunks", help="The ledgers alone, without reading chunks.")] = False,
    json: JsonOption = False,
) -> None:
    """Follow each ledger's chain and signatures, and prove every chunk by it; exit code 5 when something is wrong."""
    from keyreel.ledger import verify

    raise typer.Exit(verify(data, stream or [], not no_chunks, json))


@ledger_app.command("show")
def ledger_show(
    stream: Annotated[str, typer.Argument(help="Stream, like gate.main.")],
    data: DataOption,
    start: Annotated[Optional[str], typer.Option(help=f"Entries made from then on. {TIME_HELP}")] = None,  # noqa: UP045
    end: Annotated[Optional[str], typer.Option(help=f"And before then. {TIME_HELP}")] = None,  # noqa: UP045
    json: JsonOption = False,
) -> None:
    """The entries of a stream's ledger."""
    from keyreel.ledger import show

    show(data, stream, start, end, json)
