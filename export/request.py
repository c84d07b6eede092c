"""What an export is asked for, and what it works with.

Kept true: a request that was checked can be met as far as its words go; how a case number is written is the operator's.
"""

from __future__ import annotations

import re
from typing import Any, Final, Protocol

import msgspec

from base.datadir import DataDir
from base.errors import ConfigError, UserError
from clips.store import ChunkStore
from export.mp4 import Signer
from index import Index

STREAMS_MAX: Final = 64
SPAN_MAX_US: Final = 7 * 86_400 * 1_000_000  # a plan has 2 MB of tables per hour and stream in memory
TEXT_MAX: Final = 1_024
CASE_PATTERN: Final = r"\w[\w./ -]{0,63}"


class NodeKeys(Signer, Protocol):
    """The node's keys: RSA for the video files, Ed25519 for the manifest."""

    @property
    def public_key(self) -> bytes:
        """Ed25519, as SubjectPublicKeyInfo, DER."""

    @property
    def documents(self) -> list[dict[str, Any]]:
        """What a verifier has to know of the keys that may have signed the ledger."""

    @property
    def certificates_pem(self) -> str:
        """The certificate and those above it."""

    def sign(self, data: bytes) -> bytes:
        """Ed25519 signature."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for, by whom and why."""

    case: str
    reason: str
    operator: str
    streams: tuple[str, ...]
    start_us: int
    end_us: int
    target: str

    def check(self, case_pattern: str = CASE_PATTERN) -> None:
        """`UserError` says which word is wrong and how it is written."""
        try:
            fits = re.fullmatch(case_pattern, self.case) is not None
        except re.error as error:
            raise ConfigError(f"evidence.case_pattern is no regular expression: {error}") from None
        if not fits:
            raise UserError(
                f"case {self.case[:80]!r} is no case number here; it must match evidence.case_pattern, {case_pattern}",
                reason="bad-case",
            )
        for name in ("reason", "operator"):
            text = getattr(self, name)
            if not text.strip() or not text.isprintable() or len(text.encode("utf-8", "replace")) > TEXT_MAX:
                raise UserError(f"{name} is empty, too long or has control characters; write a line", reason="bad-text")
        if not 0 < len(self.streams) <= STREAMS_MAX or len(set(self.streams)) != len(self.streams):
            raise UserError(f"name 1 to {STREAMS_MAX} streams, each once", reason="bad-streams")
        if not 0 < self.end_us - self.start_us <= SPAN_MAX_US:
            raise UserError(
                "end is not after start, or more than 7 days; ask for a later end or for several packages",
                reason="bad-range",
            )


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What an export of a stream would be."""

    stream: str
    bytes: int
    start_us: int
    end_us: int
    fragments: int


class Tools(msgspec.Struct, frozen=True, kw_only=True):
    """What a job works with."""

    datadir: DataDir
    index: Index
    store: ChunkStore
    keys: NodeKeys
    software: str
    case_pattern: str = CASE_PATTERN
