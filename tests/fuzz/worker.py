"""One target under libFuzzer: `python -m tests.fuzz.worker TARGET [libFuzzer's options] [folders or files]`.

Started by tests.fuzz.run with the sanitized modules first in PYTHONPATH; Python coverage is that of rtsp, chunks and
evidence.
"""

from __future__ import annotations

import sys
from typing import Any

import atheris


def main() -> None:
    name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=["rtsp", "chunks", "evidence"]):
        from tests.fuzz.targets import TARGETS

    import native.rtp

    assert "fuzz" in native.rtp.__file__, "these kernels are not the sanitized ones; start tests.fuzz.run"
    target = TARGETS[name]

    def one(data: bytes) -> Any:
        target(data)

    again = f"{sys.executable} -P -m tests.fuzz.worker {name}"  # how a merge starts its inner process
    atheris.Setup([again, *options], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
