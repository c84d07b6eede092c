"""A node's keys: Ed25519 for the heads of its ledgers, RSA for the files it exports.

    DATA/keys/               mode 0700
    DATA/keys/keys.json      every key the node ever had: public part, times, certificates
    DATA/keys/<use>-<first 16 digits of the id>.pem   the private part of a key in use, PKCS#8, mode 0600
    DATA/keys/lock           held by whoever makes or changes keys

Kept true: a private key is never readable by others, and one that is is refused; `keys.json` is replaced as one and
names a key only after its private part is on stable storage, so a crash leaves the old key or the new one; what an old
key signed stays judged by what held when it signed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from base.datadir import replace_synced
from base.errors import ConfigError, FormatError, UserError
from evidence.certificates import chain_of, make_certificate, make_request

FORMAT_VERSION: Final = 1
NAME: Final = "keys.json"
RSA_BITS: Final = 3072
PSS_SALT_BYTES: Final = 20  # as the ONVIF Export File Format asks
# Stored time may be apart from the wall clock by which keys are made and retired.
CLOCK_SLACK_US: Final = 86_400_000_000
_OWN_FILE: Final = re.compile(r"(?:ledger|export)-[0-9a-f]{16}\.pem(?:\.new)?")
ENDORSED_CONTEXT: Final = b"keyreel-next-key-1\0"
Use = Literal["ledger", "export"]
USES: Final[tuple[Use, ...]] = ("ledger", "export")
PrivateKey = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


class Key(msgspec.Struct, kw_only=True):
    """What everybody may know of a key."""

    id: str  # SHA-256 of the public key as SubjectPublicKeyInfo, DER, in hexadecimal
    use: Use
    public: str  # PEM
    made_us: int
    retired_us: int = 0
    expires_us: int = 0
    revoked_us: int = 0
    revoked_reason: str = ""
    endorsed_by: str = ""  # the key before it, and its signature over this one's id
    endorsement: str = ""
    certificates: str = ""  # PEM, this key's own first

    def judge(self, at_us: int) -> str:
        """Whether what it signed at this time holds: empty, or why not, for people."""
        if self.revoked_us and at_us >= self.revoked_us:
            return f"its key {self.id[:16]} was revoked before ({self.revoked_reason or 'no reason given'})"
        if self.expires_us and at_us > self.expires_us:
            return f"its key {self.id[:16]} had expired"
        if self.retired_us and at_us > self.retired_us + CLOCK_SLACK_US:
            return f"its key {self.id[:16]} was retired before"
        if at_us < self.made_us - CLOCK_SLACK_US:
            return f"its key {self.id[:16]} was made later"
        return ""


class _Register(msgspec.Struct):
    format: int
    keys: list[Key] = []


class Signer(NamedTuple):
    """A ledger's key in hand."""

    id: bytes
    key: ed25519.Ed25519PrivateKey

    def sign(self, data: bytes) -> bytes:
        """Ed25519 signature, 64 bytes."""
        return self.key.sign(data)


class ExportKey(NamedTuple):
    """The key that signs exported files, and its certificates, its own first."""

    id: bytes
    key: rsa.RSAPrivateKey
    certificates_pem: str

    def sign(self, data: bytes) -> bytes:
        """RSASSA-PSS with SHA-256 and a salt of 20 bytes."""
        return self.key.sign(data, padding.PSS(padding.MGF1(hashes.SHA256()), PSS_SALT_BYTES), hashes.SHA256())


class Keys:
    """The keys folder of a node."""

    def __init__(self, folder: Path, keys: list[Key]) -> None:
        self.folder = folder
        self.keys = keys

    @classmethod
    def open(cls, folder: Path) -> Keys:
        """Read what is known of the keys; no private part is touched."""
        path = folder / NAME
        try:
            register = msgspec.json.decode(path.read_bytes(), type=_Register)
        except FileNotFoundError:
            raise ConfigError(
                f"{folder} has no keys ({NAME} is missing); bring back a backup with `keyreel key restore FILE`, "
                "or make new ones with `keyreel key rotate --lost`",
                reason="no-key",
            ) from None
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}; see who owns it", reason="no-key") from None
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise ConfigError(f"{path} is damaged: {error}; restore it from a backup", reason="no-key") from None
        if register.format != FORMAT_VERSION:
            raise FormatError(f"{path} has format {register.format}, this version knows {FORMAT_VERSION}")
        return cls(folder, register.keys)

    @classmethod
    def ensure(cls, folder: Path, password: bytes | None, now_us: int, name: str = "Keyreel") -> Keys:
        """The node's keys, made if it never had any."""
        with _locked(folder):
            if (folder / NAME).exists():
                keys = cls.open(folder)
                keys._tidy()
                return keys
            keys = cls(folder, [])
            keys._tidy()
            for use in USES:
                keys._make(use, password, now_us, name)
            keys.write()
            return keys

    # -- what is known ------------------------------------------------------------------------------------------------

    def current(self, use: Use) -> Key:
        """The key in use."""
        for key in reversed(self.keys):
            if key.use == use and not key.retired_us:
                return key
        raise ConfigError(f"{self.folder} has no key for {use}; make one with `keyreel key rotate`", reason="no-key")

    def find(self, start: str) -> Key:
        """The one key whose id begins so."""
        found = [key for key in self.keys if key.id.startswith(start.lower())]
        if len(found) != 1:
            raise UserError(f"{len(found) or 'no'} keys begin with {start!r}; `keyreel key show` lists them")
        return found[0]

    def check_signature(self, key_id: bytes, signed: bytes, signature: bytes, at_us: int) -> str:
        """Whether a head's signature holds and its key was valid then: empty, or what is wrong."""
        return check_signature(self.keys, key_id, signed, signature, at_us)

    # -- private parts ------------------------------------------------------------------------------------------------

    def signer(self, password: bytes | None) -> Signer:
        """The key in use for ledgers; ConfigError when it may not be used, with what to do."""
        key = self.current("ledger")
        _usable(key)
        private = self.load(key, password)
        if not isinstance(private, ed25519.Ed25519PrivateKey):
            raise ConfigError(f"{self.path_of(key)} is no Ed25519 key; restore it from a backup", reason="no-key")
        return Signer(bytes.fromhex(key.id), private)

    def export_key(self, password: bytes | None) -> ExportKey:
        """The key in use for exported files."""
        key = self.current("export")
        _usable(key)
        private = self.load(key, password)
        if not isinstance(private, rsa.RSAPrivateKey):
            raise ConfigError(f"{self.path_of(key)} is no RSA key; restore it from a backup", reason="no-key")
        return ExportKey(bytes.fromhex(key.id), private, key.certificates)

    def path_of(self, key: Key) -> Path:
        """Where the private part of a key in use lies."""
        return self.folder / f"{key.use}-{key.id[:16]}.pem"

    def load(self, key: Key, password: bytes | None) -> PrivateKey:
        """The private part; ConfigError with what to do."""
        path = self.path_of(key)
        private = load_private(_read_private(path), password, path)
        if key_id(private.public_key()) != key.id:
            raise ConfigError(f"{path} is not the key that {NAME} names; restore it from a backup", reason="no-key")
        return private

    # -- changes ------------------------------------------------------------------------------------------------------

    def _make(self, use: Use, password: bytes | None, now_us: int, name: str, before: Key | None = None) -> Key:
        private: PrivateKey = (
            ed25519.Ed25519PrivateKey.generate()
            if use == "ledger"
            else rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
        )
        public = private.public_key()
        key = Key(id=key_id(public), use=use, public=public_pem(public), made_us=now_us)
        if isinstance(private, rsa.RSAPrivateKey):
            key.certificates, key.expires_us = make_certificate(private, name, now_us)
        if before is not None and use == "ledger":
            old = self.load(before, password)
            assert isinstance(old, ed25519.Ed25519PrivateKey)
            key.endorsed_by, key.endorsement = before.id, old.sign(endorsed_bytes(key)).hex()
        write_private(self.path_of(key), private, password)
        self.keys.append(key)
        return key

    def rotate(
        self, use: Use, password: bytes | None, now_us: int, *, lost: bool = False, name: str = "Keyreel"
    ) -> Key:
        """Put a new key in the place of the one in use, whose public part stays; `lost` does without the old one."""
        with self.changing():
            before = [key for key in self.keys if key.use == use and not key.retired_us]
            key = self._make(use, password, now_us, name, before[-1] if before and not lost else None)
            for old in before:
                old.retired_us = now_us
            self.write()
            self._tidy()
        return key

    def revoke(self, start: str, since_us: int, reason: str) -> Key:
        """What this key signed since then holds no more."""
        with self.changing():
            key = self.find(start)
            key.revoked_us = min(since_us, key.revoked_us or since_us)
            key.revoked_reason = reason
            self.write()
        return key

    def protect(self, old: bytes | None, new: bytes | None) -> None:
        """Write the private keys in use anew, under another password or none."""
        with self.changing():
            current = [key for use in USES for key in self.keys if key.use == use and not key.retired_us]
            for key, private in [(key, self.load(key, old)) for key in current]:
                write_private(self.path_of(key), private, new)

    def request(self, password: bytes | None, name: str) -> str:
        """What an authority signs to give the export key a certificate, PEM."""
        return make_request(self.export_key(password).key, name)

    def import_chain(self, pem: bytes) -> Key:
        """Give the export key certificates of an authority: its own first, then those above it."""
        with self.changing():
            key = self.current("export")
            key.certificates, key.expires_us = chain_of(pem, key.public)
            self.write()
        return key

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """What is known now, while nobody else changes it."""
        with _locked(self.folder):
            if (self.folder / NAME).exists():
                self.keys = Keys.open(self.folder).keys
            yield

    def write(self) -> None:
        """Replace what is known."""
        data = msgspec.json.format(msgspec.json.encode(_Register(FORMAT_VERSION, self.keys)))
        replace_synced(self.folder / NAME, data, 0o600)

    def _tidy(self) -> None:
        """Private parts of retired keys, or of a change that a crash cut short, go."""
        wanted = {self.path_of(key).name for key in self.keys if not key.retired_us}
        for path in self.folder.iterdir():
            if _OWN_FILE.fullmatch(path.name) and path.name not in wanted:
                path.unlink()


def endorsed_bytes(key: Key) -> bytes:
    """What the key before signs of the next one."""
    return ENDORSED_CONTEXT + bytes.fromhex(key.id) + key.made_us.to_bytes(8, "big")


def check_signature(keys: list[Key], wanted: bytes, signed: bytes, signature: bytes, at_us: int) -> str:
    """Whether a head's signature holds by one of these keys, valid at that time: empty, or what is wrong."""
    key = next((one for one in keys if one.id == wanted.hex()), None)
    if key is None:
        return f"signed by the key {wanted.hex()[:16]}, which is not known"
    public = serialization.load_pem_public_key(key.public.encode())
    if not isinstance(public, ed25519.Ed25519PublicKey) or key_id(public) != key.id:
        return f"the key {key.id[:16]} is no Ed25519 key of that name"
    try:
        public.verify(signature, signed)
    except InvalidSignature:
        return "the signature does not hold"
    return key.judge(at_us)


def key_id(public: ed25519.Ed25519PublicKey | rsa.RSAPublicKey) -> str:
    """Fingerprint: SHA-256 of the SubjectPublicKeyInfo, DER."""
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return sha256(der).hexdigest()


def public_pem(public: ed25519.Ed25519PublicKey | rsa.RSAPublicKey) -> str:
    """As SubjectPublicKeyInfo, PEM."""
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def write_private(path: Path, private: PrivateKey, password: bytes | None) -> None:
    """Put a private key on stable storage, readable by its owner alone."""
    cipher: serialization.KeySerializationEncryption = (
        serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    )
    data = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, cipher)
    replace_synced(path, data, 0o600)


def load_private(data: bytes, password: bytes | None, path: Path) -> PrivateKey:
    """A private key from PEM; ConfigError with what to do."""
    try:
        try:
            private = serialization.load_pem_private_key(data, password)
        except TypeError:
            if password is None:
                raise ConfigError(
                    f"{path} is protected by a password; set evidence.key_password_file, or KEYREEL_KEY_PASSWORD",
                    reason="key-password",
                ) from None
            private = serialization.load_pem_private_key(data, None)  # a password is set, this key has none yet
    except ValueError:
        what = "its password is another one, or it is damaged" if password else "it is damaged"
        raise ConfigError(f"{path} cannot be loaded: {what}", reason="key-password" if password else "no-key") from None
    if not isinstance(private, ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey):
        raise ConfigError(f"{path} is neither an Ed25519 nor an RSA key", reason="no-key")
    return private


def _usable(key: Key) -> None:
    if key.revoked_us:
        raise ConfigError(
            f"the key in use for {key.use}, {key.id[:16]}, is revoked; make another with `keyreel key rotate`",
            reason="key-revoked",
        )


def _read_private(path: Path) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with open(handle, "rb") as file:
            mode = stat.S_IMODE(os.fstat(handle).st_mode)
            if mode & 0o077:
                raise ConfigError(
                    f"{path} can be read by others (mode {mode:04o}); `chmod 600 {path}`, and rotate if somebody did",
                    reason="key-mode",
                )
            return file.read()
    except FileNotFoundError:
        raise ConfigError(
            f"{path} is missing; bring it back with `keyreel key restore FILE`, or `keyreel key rotate --lost`",
            reason="no-key",
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; see who owns it", reason="no-key") from None


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}; see who owns it", reason="no-key") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    except OSError as error:
        raise ConfigError(f"keys in {folder} cannot be changed: {error}; nothing was", reason="no-key") from None
    finally:
        os.close(handle)
