"""A stream's samples → one report on what its camera signed.

Kept true: the report's size is bounded whatever the stream's length: parts alike and in a row are one range, and of
parts with something wrong the first are named, the others counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from base.media import VideoCodec
from evidence.mediasigning.certificates import Key, Provenance, Trust
from evidence.mediasigning.parts import Part, Reason, Verdict
from evidence.mediasigning.sei import Vendor
from evidence.mediasigning.units import nals_of
from evidence.mediasigning.verifier import Verifier

RANGES_MAX: Final = 10_000
FINDINGS_MAX: Final = 1_000


@dataclass(slots=True)
class Range:
    """Parts in a row with one verdict, one reason and one key."""

    verdict: Verdict
    reason: Reason
    start_us: int
    end_us: int  # of the last unit
    parts: int
    units: int
    key: Key | None
    provenance: Provenance | None


@dataclass(slots=True)
class StreamReport:
    """What a stream's camera signed, and what is wrong with it."""

    ranges: list[Range] = field(default_factory=list)
    findings: list[Part] = field(default_factory=list)  # parts that are not whole and authentic, in a signed stream
    counts: Counter[Verdict] = field(default_factory=Counter)
    keys: list[Key] = field(default_factory=list)
    provenances: Counter[Provenance] = field(default_factory=Counter)
    vendor: Vendor | None = None
    units: int = 0
    stripped: bool = False  # unsigned parts stand before one that was not the camera's first
    interrupted: int = 0  # parts whose signature lies in a gap of the recording

    @property
    def verdict(self) -> Verdict:
        """Of all of it: the worst of its parts. Where a camera began to sign, what came before is not covered.

        Parts whose signature lies outside are of no account beside such that were decided; where it lies in a gap of
        the recording, something is missing.
        """
        if not self.counts or self.counts.keys() == {Verdict.NOT_SIGNED}:
            return Verdict.NOT_SIGNED
        if self.counts[Verdict.NOT_AUTHENTIC] or self.stripped:
            return Verdict.NOT_AUTHENTIC
        if self.counts[Verdict.NOT_SIGNED]:
            return Verdict.NOT_COVERED
        decided = self.counts[Verdict.AUTHENTIC] or self.counts[Verdict.MISSING_UNITS]
        if decided and (self.interrupted or self.counts[Verdict.MISSING_UNITS]):
            return Verdict.MISSING_UNITS
        return Verdict.AUTHENTIC if decided else Verdict.NOT_COVERED

    @property
    def provenance(self) -> Provenance | None:
        """The worst that the anchors say of the keys; None when nothing was signed."""
        worst = (Provenance.UNTRUSTED, Provenance.EXPIRED, Provenance.UNKNOWN, Provenance.TRUSTED)
        return next((one for one in worst if self.provenances[one]), None)

    def add(self, part: Part) -> None:
        """The next part of the stream."""
        self.counts[part.verdict] += 1
        self.units += part.units
        unsigned = bool(self.ranges) and self.ranges[-1].verdict is Verdict.NOT_SIGNED
        self.stripped |= unsigned and part.verdict is not Verdict.NOT_SIGNED and not part.first
        self.interrupted += part.reason is Reason.INTERRUPTED
        if part.key is not None and part.key not in self.keys and len(self.keys) < FINDINGS_MAX:
            self.keys.append(part.key)
        if part.provenance is not None:
            self.provenances[part.provenance] += 1
        if part.verdict not in (Verdict.AUTHENTIC, Verdict.NOT_SIGNED) and len(self.findings) < FINDINGS_MAX:
            self.findings.append(part)
        self._add_range(part)

    def _add_range(self, part: Part) -> None:
        last = self.ranges[-1] if self.ranges else None
        alike = last is not None and (last.verdict, last.reason, last.key, last.provenance) == (
            part.verdict, part.reason, part.key, part.provenance
        )  # fmt: skip
        if last is not None and (alike or len(self.ranges) >= RANGES_MAX):
            last.end_us, last.parts, last.units = part.end_us, last.parts + 1, last.units + part.units
        else:
            same = part.verdict, part.reason, part.start_us, part.end_us
            self.ranges.append(Range(*same, 1, part.units, part.key, part.provenance))


def verify_stream(
    samples: Iterable[tuple[int, bytes | memoryview]],
    codec: VideoCodec,
    trust: Trust | None = None,
    *,
    start_us: int | None = None,
    end_us: int | None = None,
    known: Iterable[bytes | memoryview] = (),
    into: StreamReport | None = None,
) -> StreamReport:
    """Judge `samples`, (stored time, picture with NAL lengths of 4 bytes) in decode order; an empty one is a known gap.

    Parts that lie wholly outside [start_us, end_us) are left out: give some seconds of samples more at the end, as a
    signature comes after what it signs. `known` are samples from elsewhere that may hold the camera's certificate, as
    those of the beginning of its connection. `into` takes the parts, when a stream is judged in several calls.
    """
    verifier, report = Verifier(codec, trust), into or StreamReport()
    for sample in known:
        for nal in nals_of(sample):
            verifier.learn(nal)
    for time_us, sample in samples:
        if not sample:
            verifier.interrupt()
        for nal in nals_of(sample):
            for part in verifier.feed(nal, time_us):
                _take(report, part, start_us, end_us)
    for part in verifier.finish():
        _take(report, part, start_us, end_us)
    report.vendor = verifier.vendor or report.vendor
    return report


def _take(report: StreamReport, part: Part, start_us: int | None, end_us: int | None) -> None:
    if (end_us is None or part.start_us < end_us) and (start_us is None or part.end_us >= start_us):
        report.add(part)
