"""The command of the stand-alone verifier, and how a verdict is told.

Exit codes: 0 nothing altered or missing; 2 no package, or the command line is wrong; 5 something is altered or missing,
or signed by a key that is not the expected one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from export.verifier.files import NoPackage
from export.verifier.verdict import verify
from export.verifier.video import ALTERED

EXIT_GOOD, EXIT_NO_PACKAGE, EXIT_BAD = 0, 2, 5
TOLD_MAX = 40  # lines of each kind; --json has all
MEANING = {
    "authentic": "every byte is what the recorder stored and signed while it recorded",
    "not covered": "nothing was changed since the export; no signed ledger entry covers part of it",
    "altered": "SOMETHING WAS ALTERED, IS MISSING, OR IS NOT SIGNED AS EXPECTED",
}


def lines(report: dict[str, Any]) -> list[str]:
    """A verdict for people."""
    signer = report["signer"]
    known = {None: "compare it with the one the node's owner tells you", True: "as expected", False: "NOT AS EXPECTED"}
    told = [
        f"{report['package']}: {report['verdict'].upper()}",
        f"  {MEANING[report['verdict']]}",
        f"  export {report['export']}, case {report['case']}, by {report['operator']}, {report['created']}",
        f"  signed by key {signer['key']} ({known[signer['expected']]})",
    ]
    for stream in report["streams"]:
        told.append(f"{stream['stream']}:" + ("" if stream["file"] else " no footage"))
        told += [
            f"  {one['start']} to {one['end']}  {one['verdict']}" + (f" ({one['cause']})" if "cause" in one else "")
            for one in stream["ranges"][:TOLD_MAX]
        ]
        told += [f"  and {len(stream['ranges']) - TOLD_MAX} more ranges"] if len(stream["ranges"]) > TOLD_MAX else []
    told += [f"! {one['where']}: {one['what']}" for one in report["findings"][:TOLD_MAX]]
    rest = len(report["findings"]) - TOLD_MAX
    return told + ([f"! and {rest} more findings"] if rest > 0 else [])


def exit_code_of(report: dict[str, Any]) -> int:
    """What a script is told."""
    return EXIT_BAD if report["verdict"] == ALTERED else EXIT_GOOD


def main() -> int:
    """Verify the package named on the command line."""
    parser = argparse.ArgumentParser(description="Verifies a Keyreel evidence package, offline.")
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("path", nargs="?", default=here, help="directory or ZIP file; where this file lies if absent")
    parser.add_argument("--key", default="", help="SHA-256 of the public key that must have signed, in hexadecimal")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    asked = parser.parse_args()
    try:
        report = verify(asked.path, (asked.key.lower(),) if asked.key else ())
    except (NoPackage, OSError) as error:
        print(f"{asked.path}: {error}", file=sys.stderr)
        return EXIT_NO_PACKAGE
    print(json.dumps(report, indent=2, ensure_ascii=False) if asked.json else "\n".join(lines(report)))
    return exit_code_of(report)
