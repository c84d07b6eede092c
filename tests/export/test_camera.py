"""Footage that a camera signed stays verifiable as such in an export, which ends on a signature."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from exports import export
from support import T0, Recording, Video

from base.units import US
from evidence.mediasigning import Provenance, Trust, Verdict
from export.camera import judge_file
from export.verifier.files import Files, Findings
from export.verifier.verdict import verify
from simcam.encode import LoopSpec, make_loop
from tests.clips.test_real_footage import loaded
from tests.evidence.signer import Authority, make_camera

GOP = 10


def footage(codec: str, *, signs: bool = True) -> tuple[Authority, Video]:
    """Fifteen seconds of ten pictures, a GOP each."""
    spec = LoopSpec(codec=codec, width=160, height=90, fps=GOP, gop=GOP, seconds=15, bitrate_bps=80_000, slices=1)  # type: ignore[arg-type]
    authority, track = Authority(), make_loop(spec).video
    units = [list(track.table.parts(i)) for i in range(len(track.table))]
    if signs:
        units = make_camera(authority, codec=codec, unit_us=1_000_000 // GOP).sign(units)
    pictures = [
        (i * 90_000 // GOP, b"".join(len(nal).to_bytes(4, "big") + nal for nal in unit), i % GOP == 0)
        for i, unit in enumerate(units)
    ]
    return authority, Video(track.config, GOP, pictures)


def judged(target: Path, trust: Trust) -> Any:
    (document,) = json.loads((target / "manifest.json").read_bytes())["streams"]
    return judge_file(str(target), document, trust)


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_signed_footage_stays_authentic_and_ends_on_a_signature(recording: Recording, codec: str) -> None:
    authority, pictures = footage(codec)
    recording.add(pictures, chunk_s=5, fragment_90k=45_000)
    target = export(recording, recording.root / "out", 3.3, 8.7)
    (stream,) = json.loads((target / "manifest.json").read_bytes())["streams"]
    assert stream["camera_signing"]["signed"]
    assert stream["hidden"]["after_us"] > 300_000, "it goes on to the next signature"
    assert verify(str(target))["findings"] == []
    report = judged(target, Trust([authority.certificate]))
    assert report.verdict is Verdict.AUTHENTIC
    assert report.provenance is Provenance.TRUSTED
    assert report.counts[Verdict.NOT_COVERED] == 0, "no end dangles"


def test_footage_that_is_not_signed_says_so(recording: Recording) -> None:
    _, pictures = footage("h264", signs=False)
    recording.add(pictures, chunk_s=5)
    target = export(recording, recording.root / "out", 3.3, 8.7)
    (stream,) = json.loads((target / "manifest.json").read_bytes())["streams"]
    assert stream["camera_signing"] == {"signed": False, "first_units": []}
    assert judged(target, Trust()).verdict is Verdict.NOT_SIGNED


def test_a_signature_taken_out_names_its_gop(recording: Recording) -> None:
    """Whoever had the camera's footage before it was recorded is found, though the package itself is whole."""
    authority, pictures = footage("h264")
    uuid = bytes.fromhex("005bc93f2d715e95ada4796f90877a6f")
    kept = list(pictures.pictures)
    place = next(i for i in range(55, 70) if uuid in kept[i][1])
    sample = kept[place][1]
    nals, at = [], 0
    while at < len(sample):
        size = int.from_bytes(sample[at : at + 4], "big")
        nals.append(sample[at : at + 4 + size])
        at += 4 + size
    kept[place] = (kept[place][0], b"".join(nal for nal in nals if uuid not in nal[:400]), kept[place][2])
    recording.add(Video(pictures.config, GOP, kept), chunk_s=5)
    target = export(recording, recording.root / "out", 0, 14)
    assert verify(str(target))["findings"] == []
    report = judged(target, Trust([authority.certificate]))
    assert report.verdict is not Verdict.AUTHENTIC
    assert any(abs(one.start_us - (T0 + place * US // GOP)) <= 2 * US for one in report.findings)


def test_a_zip_file_moved_elsewhere_is_judged_too(recording: Recording) -> None:
    authority, pictures = footage("h264")
    recording.add(pictures, chunk_s=5)
    target = export(recording, recording.root / "out.zip", 3.3, 8.7)
    moved = target.rename(recording.root / "elsewhere.zip")
    (document,) = json.loads(Files(str(moved), Findings()).whole("manifest.json"))["streams"]
    assert judge_file(str(moved), document, Trust([authority.certificate])).verdict is Verdict.AUTHENTIC


@pytest.mark.needs_corpus
@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_footage_signed_by_the_makers_of_the_specification_stays_authentic(
    recording: Recording, corpus: Path, codec: str
) -> None:
    recording.add(loaded(corpus / "signed" / f"test_signed_{codec}.mp4", fps=25), chunk_s=5)
    target = export(recording, recording.root / "out", 0, 3600)
    assert verify(str(target))["findings"] == []
    report = judged(target, Trust.read([corpus / "signed" / "ca.pem"]))
    assert report.verdict is Verdict.AUTHENTIC
    assert report.provenance is Provenance.EXPIRED, "their certificate was valid before the test's time"


@pytest.mark.needs_corpus
@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_their_footage_without_signatures_says_so(recording: Recording, corpus: Path, codec: str) -> None:
    recording.add(loaded(corpus / "signed" / f"test_{codec}.mp4", fps=25), chunk_s=5)
    target = export(recording, recording.root / "out", 0, 3600)
    assert verify(str(target))["findings"] == []
    assert judged(target, Trust()).verdict is Verdict.NOT_SIGNED
