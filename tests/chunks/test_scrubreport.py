"""The scrub report: the page and the code agree, old files are read, and none of it grows without end."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from chunks.scrubreport import (
    DAMAGE_MAX,
    FINDINGS_MAX,
    FORMAT_VERSION,
    REPORT_NAME,
    Cycle,
    Damage,
    ScrubReport,
    read_report,
    write_report,
)

PAGE = Path(__file__).parents[2] / "docs" / "format" / "scrub.md"
OF_FORMAT_1 = """{"format": 1,
 "cycle": {"started_us": 5, "ended_us": 0, "chunks": 2, "fragments": 7, "bytes": 900, "damaged": 1},
 "last": {"started_us": 1, "ended_us": 2, "chunks": 3, "fragments": 9, "bytes": 1000, "damaged": 0},
 "at_stream": 4, "at_us": 1790000000000000,
 "damage": [{"stream": "gate.main", "stream_id": 4, "sequence": 12, "offset": 4096, "length": 300,
             "start_us": 1790000000000000, "end_us": 1790000000500000, "what": "it is damaged", "found_us": 6}],
 "findings": ["a.mp4: it has no frame table at its end"]}"""


def damage(sequence: int) -> Damage:
    return Damage("gate.main", 1, sequence, 0, 10, 1, 2, "it is not what was written", 3)


def test_page_and_code_agree() -> None:
    page = PAGE.read_text()
    assert page.startswith(f"# The scrub report, format {FORMAT_VERSION}\n")
    assert f"`{REPORT_NAME}`" in page
    tables = [re.findall(r"(?m)^\| `(\w+)` \|", part) for part in page.split("\n| field | |\n")[1:]]
    assert tables == [list(one.__struct_fields__) for one in (ScrubReport, Cycle, Damage)]


def test_a_file_of_format_1_is_read(tmp_path: Path) -> None:
    (tmp_path / REPORT_NAME).write_text(OF_FORMAT_1)
    report = read_report(tmp_path)
    assert report == msgspec.json.decode(OF_FORMAT_1, type=ScrubReport)
    assert (report.cycle.bytes, report.damage[0].sequence, report.last is not None) == (900, 12, True)
    write_report(tmp_path, report)
    assert read_report(tmp_path) == report


@pytest.mark.parametrize(
    "text", [None, "", '{"format": 1, "cyc', '{"format": 2}', '{"format": 1, "damage": [{}]}', "[]"]
)
def test_what_cannot_be_read_is_begun_anew(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / REPORT_NAME).write_text(text)
    assert read_report(tmp_path) == ScrubReport()


def test_it_is_bounded() -> None:
    report = ScrubReport()
    for sequence in range(3):
        assert report.replace(1, sequence, [damage(sequence)] * (DAMAGE_MAX // 2))
    assert len(report.damage) == DAMAGE_MAX
    assert not report.replace(1, 1, [damage(1)] * (DAMAGE_MAX // 2)), "no news"
    assert report.replace(1, 1, []), "sound again"
    assert {one.sequence for one in report.damage} == {0}
    for number in range(FINDINGS_MAX + 5):
        report.note(f"finding {number}")
        report.note(f"finding {number}")
    assert report.findings == [f"finding {number}" for number in range(5, FINDINGS_MAX + 5)]
