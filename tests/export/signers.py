"""Keys of a node and of a stranger, and exports signed by them."""

from __future__ import annotations

import datetime
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa, utils
from cryptography.x509.oid import NameOID

PSS = padding.PSS(padding.MGF1(hashes.SHA256()), 20)


class TestSigner:
    __test__ = False

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(65537, 2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node")])
        begin = datetime.datetime(2026, 1, 1)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(7)
            .not_valid_before(begin)
            .not_valid_after(begin.replace(year=2046))
            .sign(self.key, hashes.SHA256())
        )
        self.certificate = made.public_bytes(serialization.Encoding.DER)
        self.signature_bytes = 256
        self.certificates_pem = ""
        self.own = ed25519.Ed25519PrivateKey.generate()
        self.public_key = self.own.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

        self.documents = [{"key": self.public_key.hex(), "made_us": 0, "retired_us": 0, "revoked_us": 0}]

    def sign(self, data: bytes) -> bytes:
        return self.own.sign(data)

    def sign_digest(self, digest: bytes) -> bytes:
        return self.key.sign(digest, PSS, utils.Prehashed(hashes.SHA256()))


@cache
def signer() -> TestSigner:
    return TestSigner()


@cache
def stranger() -> TestSigner:
    return TestSigner()
