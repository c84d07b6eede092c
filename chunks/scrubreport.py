"""What scrubbing found on a volume: `keyreel-scrub.json` in its own directory, so it goes where the footage goes.

Kept true: the file is replaced atomically and synced; it is bounded; one that cannot be read is begun anew, as
scrubbing finds the same again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from base.datadir import replace_synced

REPORT_NAME: Final = "keyreel-scrub.json"
FORMAT_VERSION: Final = 1
DAMAGE_MAX: Final = 20_000  # some 4 MB; what passes it is counted, and a gap all the same
FINDINGS_MAX: Final = 200


class Damage(msgspec.Struct):
    """A range of a stream that cannot be played, and which bytes of which chunk that is."""

    stream: str
    stream_id: int
    sequence: int
    offset: int
    length: int
    start_us: int
    end_us: int
    what: str
    found_us: int


class Cycle(msgspec.Struct):
    """One turn over all sealed chunks of a volume; `ended_us` 0 while it lasts."""

    started_us: int = 0
    ended_us: int = 0
    chunks: int = 0
    fragments: int = 0
    bytes: int = 0
    damaged: int = 0


class ScrubReport(msgspec.Struct):
    """The turn going on and where it is, the last whole one, and all damage that is known."""

    format: int = FORMAT_VERSION
    cycle: Cycle = msgspec.field(default_factory=Cycle)
    last: Cycle | None = None
    at_stream: int = 0  # the chunk read last: stream and start
    at_us: int = 0
    damage: list[Damage] = []
    findings: list[str] = []  # what costs no media: a frame table, bytes of no fragment

    def replace(self, stream_id: int, sequence: int, found: list[Damage]) -> bool:
        """Let `found` be what is known of a chunk; True when that is news."""
        known = [one for one in self.damage if (one.stream_id, one.sequence) == (stream_id, sequence)]
        if [(one.offset, one.length) for one in known] == [(one.offset, one.length) for one in found]:
            return False
        rest = [one for one in self.damage if (one.stream_id, one.sequence) != (stream_id, sequence)]
        self.damage = [*rest, *found][:DAMAGE_MAX]
        return True

    def note(self, finding: str) -> None:
        """Remember a finding, once."""
        if finding not in self.findings:
            self.findings = [*self.findings, finding][-FINDINGS_MAX:]


def read_report(root: Path) -> ScrubReport:
    """The volume's report; a fresh one when there is none that can be read."""
    try:
        report = msgspec.json.decode((root / REPORT_NAME).read_bytes(), type=ScrubReport)
    except (OSError, msgspec.DecodeError, msgspec.ValidationError):
        return ScrubReport()
    return report if report.format == FORMAT_VERSION else ScrubReport()


def write_report(root: Path, report: ScrubReport) -> None:
    """Replace the volume's report."""
    replace_synced(root / REPORT_NAME, msgspec.json.format(msgspec.json.encode(report), indent=1))
