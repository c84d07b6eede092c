"""X.509 certificates of the key that signs exported files.

Kept true: a node's own certificate signs itself and says so; a chain is taken only when its first certificate is of the
node's key and each is signed by the next.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from base.errors import UserError

VALID: Final = timedelta(days=3652)
CHAIN_MAX: Final = 8


def _subject(name: str) -> x509.Name:
    attributes = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Keyreel"),
        x509.NameAttribute(NameOID.COMMON_NAME, name),
    ]
    return x509.Name(attributes)


def make_certificate(key: rsa.RSAPrivateKey, name: str, now_us: int) -> tuple[str, int]:
    """A self-signed certificate as PEM, and when it expires."""
    now = datetime.fromtimestamp(now_us // 1_000_000, UTC)
    subject = _subject(name[:64])
    usage = x509.KeyUsage(True, True, False, False, False, False, False, False, False)  # signature, non-repudiation
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + VALID)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pem([certificate]), _us(certificate.not_valid_after_utc)


def make_request(key: rsa.RSAPrivateKey, name: str) -> str:
    """A certificate signing request for an authority, PEM."""
    request = x509.CertificateSigningRequestBuilder().subject_name(_subject(name[:64])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def chain_of(pem: bytes, public: str) -> tuple[str, int]:
    """Certificates for this public key, checked, as PEM, and when the first of them expires."""
    try:
        chain = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise UserError(f"no certificates in PEM: {error}; give the node's own first, then those above it") from None
    if len(chain) > CHAIN_MAX:
        raise UserError(f"a chain of {len(chain)} certificates; {CHAIN_MAX} is the most")
    own = (
        chain[0].public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    if own.decode() != public:
        raise UserError(
            "the first certificate is of another key; have `keyreel key request` signed and give that first"
        )
    for lower, upper in pairwise(chain):
        try:
            lower.verify_directly_issued_by(upper)
        except (ValueError, TypeError, InvalidSignature):
            name = lower.subject.rfc4514_string()
            raise UserError(f"{name} is not signed by the certificate after it; put them in order") from None
    return _pem(chain), _us(min(one.not_valid_after_utc for one in chain))


def _pem(chain: list[x509.Certificate]) -> str:
    return "".join(one.public_bytes(serialization.Encoding.PEM).decode() for one in chain)


def _us(at: datetime) -> int:
    return int(at.timestamp()) * 1_000_000
