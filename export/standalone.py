"""The verifier as one file that needs nothing but Python: the modules of `export/verifier`, joined.

Kept true: what a package carries is the code that `keyreel verify` runs, statement for statement.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent / "verifier"
MODULES: Final = (
    "signatures",
    "files",
    "video",
    "ledger",
    "verdict",
    "command",
)  # in the order of imports
_HEAD: Final = '''#!/usr/bin/env python3
"""Verifies a Keyreel evidence package, offline, with Python 3.9 or newer and nothing else: python3 verify.py [PATH].

With PATH absent it verifies the package in whose directory it lies. --help tells the rest.
"""

from __future__ import annotations

'''
_OURS: Final = re.compile(r"(?ms)^from export\.[\w.]+ import (?:\(.*?\)|[^\n]*)\n")
_IMPORT: Final = re.compile(r"(?m)^(?:import|from) [^\n]*\n")


def standalone() -> bytes:
    """The text of `verify.py`."""
    imports: set[str] = set()
    bodies = []
    for name in MODULES:
        text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
        _, said, rest = text.split('"""', 2)
        rest = _OURS.sub("", rest)
        imports.update(_IMPORT.findall(rest))
        comment = "\n".join(f"# {line}".rstrip() for line in said.strip().splitlines())
        bodies.append(f"# === {name}\n{comment}\n\n" + _IMPORT.sub("", rest).strip() + "\n")
    imports.discard("from __future__ import annotations\n")
    ending = '\n\nif __name__ == "__main__":\n    sys.exit(main())\n'
    return (_HEAD + "".join(sorted(imports)) + "\n\n" + "\n\n".join(bodies) + ending).encode()
