"""A data folder that tests export from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from signers import signer
from support import T0, Recording

from base.datadir import DataDir
from base.units import US
from export.job import Job
from export.request import Request, Tools


def tools(recording: Recording, keys: Any = None) -> Tools:
    """What a job works with; the recording is on disk."""
    recording.flush()
    datadir = DataDir.create(recording.root / "node")
    return Tools(
        datadir=datadir, index=recording.index, store=recording.store, keys=keys or signer(), software="keyreel test"
    )


def request(
    target: Path, start_s: float, end_s: float, streams: tuple[str, ...] = ("cam.main",), **more: str
) -> Request:
    words = {"case": "01/2026 QĐ-CSĐT", "reason": "theft at the gate", "operator": "Nguyễn Văn A"} | more
    return Request(
        **words, streams=streams, start_us=T0 + round(start_s * US), end_us=T0 + round(end_s * US), target=str(target)
    )


def export(recording: Recording, target: Path, start_s: float, end_s: float, **more: Any) -> Path:
    return Job(tools(recording, more.pop("keys", None)), request(target, start_s, end_s, **more)).run(
        lambda done, total: None
    )
