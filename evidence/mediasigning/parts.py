"""What is found of each signed part of a stream: a GOP, or a part of a long one.

Kept true: a verdict is one of the specification's four, or `not-covered`, which says that what would decide lies
outside of what was looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from evidence.mediasigning.certificates import Key, Provenance


class Verdict(StrEnum):
    """From the worst to the best for who wants to prove something."""

    NOT_AUTHENTIC = "not-authentic"
    NOT_SIGNED = "not-signed"
    NOT_COVERED = "not-covered"
    MISSING_UNITS = "authentic-with-missing-units"
    AUTHENTIC = "authentic"


class Reason(StrEnum):
    """Why a verdict is not `authentic`: short stable words."""

    NONE = ""
    ALTERED = "units-altered"
    MISSING = "units-missing"
    PART_MISSING = "part-missing"
    NO_SIGNATURE = "signature-missing"
    WRONG_SIGNATURE = "signature-wrong"
    UNREADABLE = "signature-unreadable"
    ORDER = "order-changed"
    OTHER_KEY = "key-changed"
    NO_KEY = "certificate-missing"
    UNSIGNED = "no-signature-anywhere"
    DANGLING = "signature-lies-behind"
    INTERRUPTED = "signature-lies-in-gap"


DETAIL = {
    Reason.NONE: "",
    Reason.ALTERED: "units are not those that the camera signed",
    Reason.MISSING: "the camera signed units that are not there",
    Reason.PART_MISSING: "the camera signed a part here that is not there",
    Reason.NO_SIGNATURE: "the camera signs, and no signature for this part is there",
    Reason.WRONG_SIGNATURE: "the signature does not fit the camera's key",
    Reason.UNREADABLE: "the SEI with the signature cannot be read",
    Reason.ORDER: "this part does not follow the one that the camera signed before it",
    Reason.OTHER_KEY: "signed with another key than the parts before it, and no trusted certificate stands behind that",
    Reason.NO_KEY: "the camera's certificate is not in what was looked at; it comes when a connection begins",
    Reason.UNSIGNED: "no camera signature is in the stream",
    Reason.DANGLING: "the signature of this part comes after the end of what was looked at",
    Reason.INTERRUPTED: "the recording has a gap where the signature of this part was to come",
}


@dataclass(frozen=True, slots=True)
class Part:
    """One signed part, or a GOP that should have been one. Times are those the units were fed with."""

    verdict: Verdict
    reason: Reason
    start_us: int
    end_us: int  # of its last unit
    units: int = 0  # that are there
    missing: int = 0
    altered: int = 0
    added: int = 0
    counter: int | None = None
    partial: bool = False
    camera_us: int | None = None  # when it began by the camera's own word
    key: Key | None = None
    provenance: Provenance | None = None
    signature_us: int | None = None  # of the picture that its signature came with
    first: bool = False  # the camera had signed nothing before

    @property
    def detail(self) -> str:
        """The reason as a sentence."""
        counts = {"altered": self.altered, "missing": self.missing, "added": self.added}
        told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
        return DETAIL[self.reason] + (f" ({told} of {self.units + self.missing} units)" if told else "")


@dataclass(slots=True)
class Draft:
    """A part until its verdict is final: one that an unsigned SEI describes waits for the signature above it."""

    start_us: int
    end_us: int
    units: int
    missing: int = 0
    altered: int = 0
    added: int = 0
    counter: int | None = None
    partial: bool = False
    camera_us: int | None = None
    verdict: Verdict | None = None
    reason: Reason = Reason.NONE
    key: Key | None = None
    provenance: Provenance | None = None
    signature_us: int | None = None
    first: bool = False
    below: list[Draft] = field(default_factory=list)  # parts whose SEIs, signed by this one, are among its units

    def settle(
        self,
        reason: Reason,
        key: Key | None = None,
        provenance: Provenance | None = None,
        signature_us: int | None = None,
    ) -> None:
        """Decide this part and all that hang on it; `reason` is what is wrong with the signature above, if anything."""
        waiting = [self]
        while waiting:
            one = waiting.pop()
            if one.verdict is None:
                sure = reason and reason not in _UNDECIDED
                one.reason = reason if sure else one.own_reason or reason
                one.verdict = _VERDICTS.get(one.reason, Verdict.NOT_AUTHENTIC)
                one.key, one.provenance, one.signature_us = key, provenance, signature_us
            waiting += one.below
            one.below = []

    @property
    def own_reason(self) -> Reason:
        """What is wrong with the units themselves."""
        if self.reason:
            return self.reason
        if self.altered or self.added:
            return Reason.ALTERED
        return Reason.MISSING if self.missing else Reason.NONE

    def final(self) -> Part:
        """The part as it is told."""
        assert self.verdict is not None
        return Part(
            self.verdict, self.reason, self.start_us, self.end_us, self.units, self.missing, self.altered, self.added,
            self.counter, self.partial, self.camera_us, self.key, self.provenance, self.signature_us, self.first,
        )  # fmt: skip


_UNDECIDED = {Reason.NO_KEY, Reason.DANGLING}  # with which units may still be found altered
_VERDICTS = {
    Reason.NONE: Verdict.AUTHENTIC,
    Reason.MISSING: Verdict.MISSING_UNITS,
    Reason.PART_MISSING: Verdict.MISSING_UNITS,
    Reason.UNSIGNED: Verdict.NOT_SIGNED,
    Reason.NO_KEY: Verdict.NOT_COVERED,
    Reason.DANGLING: Verdict.NOT_COVERED,
    Reason.INTERRUPTED: Verdict.NOT_COVERED,
}
