"""A node's keys: made, loaded, rotated, revoked, protected, kept safe; refused with a clear word."""

from __future__ import annotations

import re
import shutil
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.x509.oid import NameOID

from base.errors import ConfigError, FormatError, KeyreelError, UserError
from evidence import backup as backup_module
from evidence import keys as keys_module
from evidence.backup import restore_backup, write_backup
from evidence.keys import CLOCK_SLACK_US, ENDORSED_CONTEXT, Key, Keys, endorsed_bytes

NOW_US = 1_790_000_000_000_000
DAY_US = 86_400_000_000


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys once, as an RSA key takes its time."""
    folder = tmp_path_factory.mktemp("made") / "keys"
    Keys.ensure(folder, None, NOW_US, "node 1234")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "keys"))


def private_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.pem"))


def test_keys_are_made_once_and_for_their_owner_alone(folder: Path) -> None:
    keys = Keys.ensure(folder, None, NOW_US + 5)
    assert [(key.use, key.made_us) for key in keys.keys] == [("ledger", NOW_US), ("export", NOW_US)]
    assert len(private_files(folder)) == 2
    for path in [*private_files(folder), folder / "keys.json"]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_fresh_folder_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_module, "RSA_BITS", 1024)
    Keys.ensure(tmp_path / "keys", None, NOW_US)
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700


def test_both_keys_sign_as_they_should(folder: Path) -> None:
    keys = Keys.open(folder)
    signer = keys.signer(None)
    signature = signer.sign(b"data")
    assert keys.check_signature(signer.id, b"data", signature, NOW_US) == ""
    assert keys.check_signature(signer.id, b"dato", signature, NOW_US) == "the signature does not hold"
    assert "not known" in keys.check_signature(bytes(32), b"data", signature, NOW_US)
    export = keys.export_key(None)
    certificate = x509.load_pem_x509_certificate(export.certificates_pem.encode())
    public = certificate.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    assert public.key_size == 3072
    public.verify(export.sign(b"data"), b"data", padding.PSS(padding.MGF1(hashes.SHA256()), 20), hashes.SHA256())
    certificate.verify_directly_issued_by(certificate)
    assert "node 1234" in certificate.subject.rfc4514_string()
    assert keys.current("export").expires_us == int(certificate.not_valid_after_utc.timestamp()) * 1_000_000


def test_a_rotated_key_stays_provable_and_endorses_the_next(folder: Path) -> None:
    keys = Keys.open(folder)
    old = keys.signer(None)
    signature = old.sign(b"data")
    (folder / "authority.pem").write_bytes(b"somebody put it here")
    new = keys.rotate("ledger", None, NOW_US + DAY_US)
    again = Keys.open(folder)
    assert (folder / "authority.pem").exists()
    (folder / "authority.pem").unlink()
    assert again.signer(None).id.hex() == new.id != old.id.hex()
    assert again.check_signature(old.id, b"data", signature, NOW_US + 10) == ""
    late_us = NOW_US + DAY_US + CLOCK_SLACK_US + 1
    assert "retired before" in again.check_signature(old.id, b"data", signature, late_us)
    assert len(private_files(folder)) == 2
    public = serialization.load_pem_public_key(again.find(old.id.hex()).public.encode())
    assert isinstance(public, ed25519.Ed25519PublicKey)
    public.verify(bytes.fromhex(new.endorsement), endorsed_bytes(new))
    with pytest.raises(InvalidSignature):
        public.verify(bytes.fromhex(new.endorsement), endorsed_bytes(again.current("export")))
    assert new.endorsed_by == old.id.hex()


def test_validity_is_judged_at_the_time_of_signing(folder: Path) -> None:
    keys = Keys.open(folder)
    signer = keys.signer(None)
    signature = signer.sign(b"data")
    keys.revoke(signer.id.hex()[:12], NOW_US + 10 * DAY_US, "stolen")
    assert keys.check_signature(signer.id, b"data", signature, NOW_US + 9 * DAY_US) == ""
    assert "revoked before (stolen)" in keys.check_signature(signer.id, b"data", signature, NOW_US + 10 * DAY_US)
    assert "made later" in keys.check_signature(signer.id, b"data", signature, NOW_US - 2 * DAY_US)
    with pytest.raises(ConfigError, match="is revoked; make another") as caught:
        Keys.open(folder).signer(None)
    assert caught.value.reason == "key-revoked"
    key = keys.current("export")
    assert "had expired" in key.judge(key.expires_us + 1)
    keys.revoke(signer.id.hex(), NOW_US + 20 * DAY_US, "later")
    assert Keys.open(folder).find(signer.id.hex()).revoked_us == NOW_US + 10 * DAY_US  # never later than said before


def test_a_password_protects_the_private_parts(folder: Path) -> None:
    keys = Keys.open(folder)
    keys.protect(None, b"long enough")
    assert all(b"ENCRYPTED" in path.read_bytes() for path in private_files(folder))
    assert keys.signer(b"long enough").id
    for password, what in ((None, "protected by a password"), (b"another", "its password is another one")):
        with pytest.raises(ConfigError, match=what) as caught:
            Keys.open(folder).signer(password)
        assert caught.value.reason == "key-password"
    keys.protect(b"long enough", None)
    assert Keys.open(folder).signer(b"set, and not needed").id


SPOILT: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "missing": (lambda path: path.unlink(), "is missing; bring it back", "no-key"),
    "open to others": (lambda path: path.chmod(0o640), "can be read by others .mode 0640.; `chmod 600", "key-mode"),
    "damaged": (lambda path: path.write_bytes(path.read_bytes()[:60]), "cannot be loaded: it is damaged", "no-key"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be loaded: it is damaged", "no-key"),
    "a directory": (lambda path: (path.unlink(), path.mkdir(mode=0o700)), "cannot be read: Is a directory", "no-key"),
    "a link": (lambda path: (path.rename(path.with_suffix(".away")), path.symlink_to(path.with_suffix(".away"))),
               "cannot be read: Too many levels", "no-key"),
}  # fmt: skip


@pytest.mark.parametrize("how", SPOILT)
def test_a_key_that_cannot_be_used_is_refused_with_what_to_do(folder: Path, how: str) -> None:
    spoil, what, reason = SPOILT[how]
    spoil(next(folder.glob("ledger-*.pem")))
    with pytest.raises(ConfigError, match=what) as caught:
        Keys.open(folder).signer(None)
    assert caught.value.reason == reason


def test_another_key_in_its_place_is_refused(folder: Path) -> None:
    path = next(folder.glob("ledger-*.pem"))
    keys_module.write_private(path, ed25519.Ed25519PrivateKey.generate(), None)
    with pytest.raises(ConfigError, match="is not the key that"):
        Keys.open(folder).signer(None)


def test_a_register_that_cannot_be_read_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no keys"):
        Keys.open(tmp_path / "nowhere")
    (folder / "keys.json").write_text("{")
    with pytest.raises(ConfigError, match="is damaged"):
        Keys.open(folder)
    (folder / "keys.json").write_text('{"format": 2}')
    with pytest.raises(FormatError, match="has format 2"):
        Keys.open(folder)


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_rotation_cut_short_leaves_one_key_or_the_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    """It ends before the private part, or before the register that names it, is in place."""
    before = Keys.open(folder).signer(None).id
    calls = 0
    real = keys_module.replace_synced

    def failing(path: Path, data: bytes, mode: int) -> None:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise OSError(28, "No space left on device")
        real(path, data, mode)

    monkeypatch.setattr(keys_module, "replace_synced", failing)
    with pytest.raises(ConfigError, match="nothing was"):
        Keys.open(folder).rotate("ledger", None, NOW_US + DAY_US)
    monkeypatch.undo()
    assert Keys.open(folder).signer(None).id == before
    Keys.ensure(folder, None, NOW_US + DAY_US)
    assert len(private_files(folder)) == 2
    assert Keys.open(folder).rotate("ledger", None, NOW_US + DAY_US).endorsed_by == before.hex()


def test_a_lost_key_is_replaced_when_that_is_said(folder: Path) -> None:
    next(folder.glob("ledger-*.pem")).unlink()
    with pytest.raises(ConfigError, match="is missing"):
        Keys.open(folder).rotate("ledger", None, NOW_US)
    new = Keys.open(folder).rotate("ledger", None, NOW_US, lost=True)
    assert new.endorsed_by == ""
    assert Keys.open(folder).signer(None).id.hex() == new.id


def test_a_backup_brings_back_what_is_missing_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    keys = Keys.open(folder)
    ledger_id = keys.signer(None).id
    file = tmp_path / "backup.json"
    assert write_backup(keys, file, None, b"of the backup") == 2
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_bytes().count(b"ENCRYPTED PRIVATE KEY") == 4
    with pytest.raises(UserError, match="is there already"):
        write_backup(keys, file, None, None)
    with pytest.raises(UserError, match="holds no private key that is missing"):
        restore_backup(folder, file, b"of the backup")
    next(folder.glob("ledger-*.pem")).unlink()
    with pytest.raises(ConfigError, match="password"):
        restore_backup(folder, file, b"another")
    assert [key.use for key in restore_backup(folder, file, b"of the backup")] == ["ledger"]
    assert Keys.open(folder).signer(b"of the backup").id == ledger_id
    shutil.rmtree(folder)
    assert [key.use for key in restore_backup(folder, file, b"of the backup")] == ["ledger", "export"]
    assert Keys.open(folder).signer(b"of the backup").id == ledger_id
    (tmp_path / "no.json").write_text("[]")
    with pytest.raises(UserError, match="is no backup"):
        restore_backup(folder, tmp_path / "no.json", None)


def _issue(subject: str, key: rsa.RSAPublicKey, issuer: str, by: rsa.RSAPrivateKey) -> x509.Certificate:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=30))
        .sign(by, hashes.SHA256())
    )


def test_a_chain_of_an_authority_is_taken_when_it_is_the_keys_own(folder: Path) -> None:
    authority = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    keys = Keys.open(folder)
    request = x509.load_pem_x509_csr(keys.request(None, "node 1").encode())
    assert request.is_signature_valid
    public = request.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    own = _issue("node 1", public, "authority", authority)
    root = _issue("authority", authority.public_key(), "authority", authority)
    pem = [one.public_bytes(serialization.Encoding.PEM) for one in (own, root)]
    key = keys.import_chain(b"".join(pem))
    assert Keys.open(folder).export_key(None).certificates_pem.encode() == b"".join(pem)
    assert key.expires_us == int(own.not_valid_after_utc.timestamp()) * 1_000_000
    with pytest.raises(UserError, match="of another key"):
        keys.import_chain(b"".join(reversed(pem)))
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    stranger = _issue("authority", other.public_key(), "authority", other).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(UserError, match="not signed by the certificate after it"):
        keys.import_chain(pem[0] + stranger)
    with pytest.raises(UserError, match="no certificates"):
        keys.import_chain(b"nothing")
    with pytest.raises(UserError, match="8 is the most"):
        keys.import_chain(pem[0] * 9)


def test_an_id_is_found_by_its_beginning(folder: Path) -> None:
    keys = Keys.open(folder)
    assert keys.find(keys.keys[0].id[:10]) is keys.keys[0]
    for start in ("", "zz"):
        with pytest.raises(UserError, match="keys begin with"):
            keys.find(start)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(KeyreelError, match="cannot be written: Not a directory"):
        Keys.ensure(tmp_path / "file" / "keys", None, NOW_US)


def test_the_page_and_the_code_agree() -> None:
    page = (Path(__file__).parents[2] / "docs" / "format" / "keys.md").read_text()
    told = re.findall(r"^\| `(\w+)` \|", page.split("\n## Key\n")[1].split("\n## ")[0], re.M)
    assert told == [field.name for field in msgspec.structs.fields(Key)]
    assert f"Format version {keys_module.FORMAT_VERSION}." in page
    assert f"format version {backup_module.FORMAT_VERSION}, mode 0600" in page
    assert f"`{ENDORSED_CONTEXT.rstrip(bytes(1)).decode()}`, one byte 0" in page
    assert f"RSA of {keys_module.RSA_BITS} bits" in page
    assert f"a salt of {keys_module.PSS_SALT_BYTES} bytes" in page
    assert CLOCK_SLACK_US == DAY_US
