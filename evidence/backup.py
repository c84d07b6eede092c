"""Keys in one file, and back.

Kept true: a backup is readable by its owner alone and never replaces a file; bringing it back never replaces a key that
is there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives import serialization

from base.datadir import replace_synced
from base.errors import FormatError, UserError
from evidence.keys import NAME, USES, Key, Keys, load_private

FORMAT_VERSION: Final = 1


class _Backup(msgspec.Struct):
    format: int
    keys: list[Key]
    private: dict[str, str]  # id → PEM, PKCS#8


def write_backup(keys: Keys, path: Path, password: bytes | None, own_password: bytes | None) -> int:
    """All public parts and the private ones in use to a new file; how many of the latter.

    `own_password` protects these in the backup; without it they are protected there as they are here.
    """
    private: dict[str, str] = {}
    for use in USES:
        key = keys.current(use)
        loaded = keys.load(key, password)
        shield = own_password or password
        cipher: serialization.KeySerializationEncryption = (
            serialization.BestAvailableEncryption(shield) if shield else serialization.NoEncryption()
        )
        pem = loaded.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, cipher)
        private[key.id] = pem.decode()
    data = msgspec.json.format(msgspec.json.encode(_Backup(FORMAT_VERSION, keys.keys, private)))
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(handle)
    except FileExistsError:
        raise UserError(f"{path} is there already; name a new file") from None
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None
    return len(private)


def restore_backup(folder: Path, path: Path, password: bytes | None) -> list[Key]:
    """Bring back what is missing; the keys whose private part came back."""
    try:
        backup = msgspec.json.decode(path.read_bytes(), type=_Backup)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise UserError(f"{path} is no backup of keys: {error}") from None
    if backup.format != FORMAT_VERSION:
        raise FormatError(f"{path} has format {backup.format}, this version knows {FORMAT_VERSION}")
    keys = Keys(folder, backup.keys)
    with keys.changing():
        wanted = [key for key in keys.keys if not key.retired_us and key.id in backup.private]
        lacking = [key for key in wanted if not keys.path_of(key).exists()]
        if not lacking:
            raise UserError(f"{path} holds no private key that is missing in {folder}")
        for key in lacking:
            pem = backup.private[key.id].encode()
            load_private(pem, password, path)
            replace_synced(keys.path_of(key), pem, 0o600)
        if not (folder / NAME).exists():
            keys.write()
    return lacking
