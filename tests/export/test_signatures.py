"""The verifier's own Ed25519 and RSASSA-PSS agree with OpenSSL's, and refuse what is malformed."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from signers import signer, stranger

from export.verifier.signatures import L, ed25519_verify, pss_verify


def spki(key: ed25519.Ed25519PublicKey | rsa.RSAPublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("size", [0, 1, 63, 64, 5_000])
def test_ed25519_takes_what_openssl_signs_and_nothing_else(size: int) -> None:
    key = ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(bytes([size % 251])).digest())
    message, public = bytes(range(256)) * 20, spki(key.public_key())
    message = message[:size]
    signature = key.sign(message)
    assert ed25519_verify(public, message, signature)
    for at in range(0, 64, 5):
        assert not ed25519_verify(public, message, signature[:at] + bytes([signature[at] ^ 1]) + signature[at + 1 :])
    assert not ed25519_verify(public, message + b"x", signature)
    s = int.from_bytes(signature[32:], "little")
    assert not ed25519_verify(public, message, signature[:32] + (s + L).to_bytes(32, "little")), "malleable"
    for wrong in (b"", signature[:-1], signature + b"\0"):
        assert not ed25519_verify(public, message, wrong)
    assert not ed25519_verify(public[:-1], message, signature)
    assert not ed25519_verify(spki(stranger().key.public_key()), message, signature)


def test_a_vector_of_rfc_8032() -> None:
    public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    signature = bytes.fromhex(
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe246551"
        "41438e7a100b"
    )
    assert ed25519_verify(bytes.fromhex("302a300506032b6570032100") + public, b"", signature)


def test_pss_takes_what_openssl_signs_and_nothing_else() -> None:
    digest = hashlib.sha256(b"a file").digest()
    certificate, signature = signer().certificate, signer().sign_digest(digest)
    assert pss_verify(certificate, digest, signature)
    for at in range(0, 256, 17):
        assert not pss_verify(certificate, digest, signature[:at] + bytes([signature[at] ^ 1]) + signature[at + 1 :])
    assert not pss_verify(certificate, hashlib.sha256(b"another").digest(), signature)
    assert not pss_verify(stranger().certificate, digest, signature)
    assert not pss_verify(certificate, digest, signature, salt_bytes=32)
    for wrong in (b"", signature[:-1], b"\xff" * 256):
        assert not pss_verify(certificate, digest, wrong)
    for cut in range(0, len(certificate), 31):
        pss_verify(certificate[:cut], digest, signature)  # never raises
