from __future__ import annotations

import subprocess
import sys

COUNT = """
import resource
from playback.memory import keep_buffers
from sys import argv
if argv[1] == "kept":
    assert keep_buffers()
taken = [bytes(400_000), bytes(100_000)]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for size in range(200_000, 400_000, 500):
    block = bytearray(b"x") * size
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_buffers_are_used_again_instead_of_mapped_anew() -> None:
    """400 buffers of about a fragment's size: without it each one's pages are new to the process."""
    done = subprocess.run([sys.executable, "-c", COUNT, "kept"], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 5_000
