"""The node's keys, as an export needs them.

Kept true: both keys are in hand before anything is written; what the manifest says of keys is their public part.
"""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, utils

from evidence.keys import PSS_SALT_BYTES, Key, Keys


class NodeKeys:
    """RSA for the video files, Ed25519 for the manifest; `ConfigError` when one of them cannot be used."""

    def __init__(self, keys: Keys, password: bytes | None) -> None:
        self._rsa = keys.export_key(password)
        self._own = keys.signer(password)
        chain = x509.load_pem_x509_certificates(self._rsa.certificates_pem.encode())
        self.certificate = chain[0].public_bytes(serialization.Encoding.DER)
        self.signature_bytes = (self._rsa.key.key_size + 7) // 8
        self.public_key = _spki(keys.current("ledger"))
        self.documents = [_document(key) for key in keys.keys if key.use == "ledger"]
        self.certificates_pem = self._rsa.certificates_pem

    def sign(self, data: bytes) -> bytes:
        """Ed25519."""
        return self._own.sign(data)

    def sign_digest(self, digest: bytes) -> bytes:
        """RSASSA-PSS of a SHA-256 digest."""
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), PSS_SALT_BYTES)
        return self._rsa.key.sign(digest, pss, utils.Prehashed(hashes.SHA256()))


def _spki(key: Key) -> bytes:
    public = serialization.load_pem_public_key(key.public.encode())
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _document(key: Key) -> dict[str, Any]:
    """What a verifier has to know of a key that may have signed heads of the ledger."""
    return {
        "id": key.id,
        "key": _spki(key).hex(),
        "made_us": key.made_us,
        "retired_us": key.retired_us,
        "revoked_us": key.revoked_us,
        "endorsed_by": key.endorsed_by,
        "endorsement": key.endorsement,
    }
