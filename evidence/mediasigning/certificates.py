"""The camera's certificates: its public key, and whether a trusted one stands behind it.

Kept true: a chain is judged at the time of the pictures, not of the look at them; only certificates given as trust
anchors are trusted. No revocation is asked for: it would need a network, and the answer of that day.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from base.errors import ConfigError, DamageError
from base.units import utc

_DEPTH_MAX: Final = 8
_CERTIFICATES_MAX: Final = 16
_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
_PKCS1_OIDS: Final = {bytes.fromhex(f"2a864886f70d0101{last:02x}") for last in (1, 11, 12, 13)}


class Provenance(StrEnum):
    """What the trust anchors say of a key."""

    TRUSTED = "trusted"
    UNTRUSTED = "untrusted"  # no anchor stands behind it
    EXPIRED = "not-valid-then"  # the chain leads to an anchor, and not all of it was valid when the pictures were taken
    UNKNOWN = "no-anchors"  # none were given


@dataclass(frozen=True, slots=True)
class Key:
    """The key that signs: of the leaf of a chain."""

    certificates: tuple[x509.Certificate, ...]

    @property
    def subject(self) -> str:
        """Of the leaf, as RFC 4514 writes it."""
        return self.certificates[0].subject.rfc4514_string()

    @property
    def issuer(self) -> str:
        """Of the leaf."""
        return self.certificates[0].issuer.rfc4514_string()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the leaf certificate."""
        return self.certificates[0].fingerprint(hashes.SHA256()).hex()

    @property
    def public_pem(self) -> str:
        """The public key as a PEM SubjectPublicKeyInfo."""
        pem = (
            self.certificates[0]
            .public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        return pem.decode()

    def verifies(self, signature: bytes, digest: bytes, hash_name: str, signing_oid: bytes) -> bool:
        """Whether `signature` is this key's over `digest`; False too when the kind of key is not one of ONVIF's."""
        public, known = self.certificates[0].public_key(), _HASHES[hash_name]
        try:
            if isinstance(public, ec.EllipticCurvePublicKey):
                public.verify(signature, digest, ec.ECDSA(utils.Prehashed(known)))
            elif isinstance(public, rsa.RSAPublicKey) and signing_oid in _PKCS1_OIDS:
                public.verify(signature, digest, padding.PKCS1v15(), utils.Prehashed(known))
            elif isinstance(public, rsa.RSAPublicKey):
                pss = padding.PSS(padding.MGF1(known), padding.PSS.AUTO)
                public.verify(signature, digest, pss, utils.Prehashed(known))
            else:
                return False
        except (InvalidSignature, UnsupportedAlgorithm, ValueError):
            return False
        return True


@lru_cache(maxsize=64)  # cameras send it with every signature
def read_key(pem: bytes) -> Key:
    """The key of a chain in PEM, leaf first; DamageError when it cannot be read."""
    try:
        certificates = x509.load_pem_x509_certificates(pem.rstrip(b"\0"))
        certificates[0].public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise DamageError(f"the camera's certificates cannot be read: {error}", reason="certificate") from None
    return Key(tuple(certificates[:_CERTIFICATES_MAX]))


class Trust:
    """The certificates that are trusted to vouch for cameras."""

    def __init__(self, anchors: Iterable[x509.Certificate] = ()) -> None:
        self.anchors: Final = tuple(anchors)
        self._path = lru_cache(maxsize=64)(self._find_path)

    @classmethod
    def read(cls, paths: Iterable[Path]) -> Trust:
        """Anchors from PEM files; ConfigError names the one that cannot be read."""
        found: list[x509.Certificate] = []
        for path in paths:
            try:
                found += x509.load_pem_x509_certificates(path.read_bytes())
            except (OSError, ValueError) as error:
                raise ConfigError(f"{path} has no certificates that can be read: {error}; give a PEM file") from None
        return cls(found)

    def judge(self, key: Key, at_us: int) -> Provenance:
        """What the anchors say of a key at the time of its pictures."""
        if not self.anchors:
            return Provenance.UNKNOWN
        path = self._path(key)
        if not path:
            return Provenance.UNTRUSTED
        return Provenance.TRUSTED if all(_valid_at(one, utc(at_us)) for one in path) else Provenance.EXPIRED

    def _find_path(self, key: Key) -> tuple[x509.Certificate, ...]:
        """From the leaf to an anchor; empty when there is none."""
        path = [key.certificates[0]]
        while path[-1] not in self.anchors:
            issuers = (*self.anchors, *key.certificates[1:])
            above = next((one for one in issuers if one not in path and _issued(one, path[-1], len(path) - 1)), None)
            if above is None or len(path) > _DEPTH_MAX:
                return ()
            path.append(above)
        return tuple(path)


def _issued(issuer: x509.Certificate, subject: x509.Certificate, below: int) -> bool:
    """Whether `issuer` may issue, with `below` authorities under it, and signed `subject`."""
    try:
        subject.verify_directly_issued_by(issuer)
        limits = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    allowed = limits.ca and (limits.path_length is None or limits.path_length >= below)
    usages = [one.value for one in issuer.extensions if isinstance(one.value, x509.KeyUsage)]
    return allowed and all(usage.key_cert_sign for usage in usages)


def _valid_at(certificate: x509.Certificate, moment: datetime) -> bool:
    return certificate.not_valid_before_utc <= moment.astimezone(UTC) <= certificate.not_valid_after_utc
