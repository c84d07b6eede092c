"""One writer per stream, held by the kernel."""

from __future__ import annotations

import os
from pathlib import Path

from base.claims import StreamClaims


def test_a_stream_has_one_claim(tmp_path: Path) -> None:
    first, second = StreamClaims(tmp_path / "run"), StreamClaims(tmp_path / "run")
    assert first.take(7)
    assert first.take(7)
    assert not second.take(7)
    assert second.take(8)
    first.close()
    first.close()
    assert second.take(7)
    second.close()


def test_a_claim_dies_with_its_process(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0 if StreamClaims(tmp_path).take(1) else 1)
    assert os.waitpid(child, 0)[1] == 0
    claims = StreamClaims(tmp_path)
    assert claims.take(1)
    claims.close()
