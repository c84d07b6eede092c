"""`keyreel key`: see, change, protect, back up and certify the node's keys.

Kept true: no private key is ever printed; what changes keys says what the running recorder does about it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from base.clock import wall_us
from base.config import key_password, read_password
from base.units import format_time, parse_time
from evidence.backup import restore_backup, write_backup
from evidence.keys import Key, Keys, Use
from keyreel.node import Node, open_node
from keyreel.output import print_json, table

SOON = "a running recorder takes it up within a minute"


def node_name(node: Node) -> str:
    """What certificates call this node."""
    return f"node {node.datadir.node_id.hex()}"


def report(key: Key) -> dict[str, Any]:
    """A key as a document."""
    times = {name: format_time(at) if (at := getattr(key, f"{name}_us")) else None for name in _TIMES}
    return {
        "id": key.id, "use": key.use, "state": _state(key), **times, "revoked_reason": key.revoked_reason,
        "endorsed_by": key.endorsed_by, "public": key.public, "certificates": key.certificates,
    }  # fmt: skip


_TIMES = ("made", "retired", "expires", "revoked")


def show(data: Path, config: Path | None, pem: bool, as_json: bool) -> None:
    """Print all keys, or the public parts of those in use."""
    node = open_node(data, config)
    keys = Keys.open(node.datadir.keys_path)
    if as_json:
        print_json({"keys": [report(key) for key in keys.keys]})
    elif pem:
        for key in keys.keys:
            if not key.retired_us:
                print(f"{key.use} {key.id}\n{key.public}{key.certificates}", end="")
    else:
        rows = [
            [key.id[:16], key.use, _state(key), format_time(key.made_us), _when(key.retired_us)] for key in keys.keys
        ]
        table(["key", "use", "state", "made", "retired"], rows, "no keys")


def rotate(data: Path, config: Path | None, use: Use, lost: bool, as_json: bool) -> None:
    """Put a new key in the place of the one in use."""
    node = open_node(data, config)
    folder = node.datadir.keys_path
    keys = Keys(folder, []) if lost and not folder.exists() else Keys.open(folder)
    key = keys.rotate(use, key_password(node.config), wall_us(), lost=lost, name=node_name(node))
    _tell(key, f"{key.id[:16]} signs for {key.use} from now on; {SOON}; `keyreel key backup` keeps it safe", as_json)


def revoke(data: Path, config: Path | None, key_id: str, since: str, reason: str, as_json: bool) -> None:
    """Let nothing that a key signed since then hold."""
    node = open_node(data, config)
    since_us = parse_time(since) if since else wall_us()
    key = Keys.open(node.datadir.keys_path).revoke(key_id, since_us, reason)
    text = f"{key.id[:16]} is revoked since {format_time(key.revoked_us)}"
    more = "" if key.retired_us else "; it is in use and signs no more: `keyreel key rotate --lost` makes another"
    _tell(key, text + more, as_json)


def protect(data: Path, config: Path | None, password_file: Path | None, as_json: bool) -> None:
    """Write the private keys anew under another password, or none."""
    node = open_node(data, config)
    new = read_password(password_file) if password_file is not None else None
    keys = Keys.open(node.datadir.keys_path)
    keys.protect(key_password(node.config), new)
    text = "protected by the new password; set evidence.key_password_file to it" if new else "protected by no password"
    if as_json:
        print_json({"protected": new is not None})
    else:
        print(f"the private keys are {text}")


def backup(data: Path, config: Path | None, to: Path, password_file: Path | None, as_json: bool) -> None:
    """Write all keys into one file."""
    node = open_node(data, config)
    password = key_password(node.config)
    own = read_password(password_file) if password_file is not None else None
    count = write_backup(Keys.open(node.datadir.keys_path), to, password, own)
    if as_json:
        print_json({"file": str(to), "private_keys": count, "protected": bool(own or password)})
    else:
        how = "" if own or password else " They are protected by no password: who has the file has the keys."
        print(f"{count} private keys are in {to}; keep it away from this node.{how}")


def restore(data: Path, config: Path | None, file: Path, password_file: Path | None, as_json: bool) -> None:
    """Bring back keys that are missing."""
    node = open_node(data, config)
    password = read_password(password_file) if password_file is not None else key_password(node.config)
    back = restore_backup(node.datadir.keys_path, file, password)
    if as_json:
        print_json({"keys": [report(key) for key in back]})
    else:
        print(f"{', '.join(f'{key.use} {key.id[:16]}' for key in back)} came back; {SOON}")


def request(data: Path, config: Path | None) -> None:
    """Print a certificate signing request for the export key."""
    node = open_node(data, config)
    print(Keys.open(node.datadir.keys_path).request(key_password(node.config), node_name(node)), end="")


def import_chain(data: Path, config: Path | None, file: Path, as_json: bool) -> None:
    """Give the export key an authority's certificates."""
    from base.errors import UserError

    node = open_node(data, config)
    try:
        pem = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from None
    key = Keys.open(node.datadir.keys_path).import_chain(pem)
    _tell(key, f"exports carry this chain from now on; it expires at {format_time(key.expires_us)}", as_json)


def _tell(key: Key, text: str, as_json: bool) -> None:
    if as_json:
        print_json(report(key))
    else:
        print(text)


def _when(at_us: int) -> str:
    return format_time(at_us) if at_us else ""


def _state(key: Key) -> str:
    if key.revoked_us:
        return "revoked"
    return "retired" if key.retired_us else "in use"
