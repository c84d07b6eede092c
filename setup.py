"""Builds the compiled kernels: every .pyx under native/ is one extension, nothing else is compiled.

KEYREEL_EXT=rtp,crc limits the build to those modules while working on them.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

ROOT = Path(__file__).parent
FLAGS = ["-O3", "-fno-strict-aliasing", "-Wno-unused-function"]


def extensions() -> list[Extension]:
    """One extension for each .pyx, or for those named in KEYREEL_EXT."""
    only = {name for name in os.environ.get("KEYREEL_EXT", "").split(",") if name}
    sources = sorted(path for path in (ROOT / "native").glob("*.pyx") if not only or path.stem in only)
    args = FLAGS if platform.system() != "Windows" else []
    return [Extension(f"native.{path.stem}", [f"native/{path.name}"], extra_compile_args=args) for path in sources]


setup(
    ext_modules=cythonize(
        extensions(),
        language_level=3,
        compiler_directives={
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "freethreading_compatible": False,
        },
    ),
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
)
