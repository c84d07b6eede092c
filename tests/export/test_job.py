"""An export holds first, appears whole or not at all, and goes on after a crash."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from exports import export, request, tools
from signers import signer
from support import T0, Recording, audio, video

from base.errors import DamageError, NotFound, UserError, VolumeError
from base.units import US, parse_time
from chunks.records import GapCause
from export.job import Job
from export.verifier.verdict import verify
from index.holds import holds


def visible(folder: Path) -> list[str]:
    return sorted(
        path.name for path in folder.iterdir() if path.name not in {"index", "media", "node", "register.json"}
    )


def active(recording: Recording) -> int:
    with recording.index.read() as snapshot:
        return sum(not hold.released_us for hold in holds(snapshot))


def parts_of(target: Path) -> dict[str, bytes]:
    if target.is_dir():
        return {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    with zipfile.ZipFile(target) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_a_package_says_what_was_asked_and_what_is_in_it(recording: Recording, name: str) -> None:
    recording.add(video(), audio(), chunk_s=2)
    recording.add(video(), start_us=T0 + 6 * US, gap_cause=GapCause.OVERLOAD)
    target = export(recording, recording.root / name, 1.3, 12)
    contents = parts_of(target)
    manifest = json.loads(contents["manifest.json"])
    assert (manifest["case"], manifest["operator"]) == ("01/2026 QĐ-CSĐT", "Nguyễn Văn A")
    (stream,) = manifest["streams"]
    assert [(gap["cause"], gap["start"][-10:-8]) for gap in stream["gaps"]] == [
        ("overload", "04"),
        ("after_watermark", "10"),
    ]
    assert stream["hidden"]["before_us"] == 320_000
    assert parse_time(stream["delivered"]["start"]) == T0 + 1 * US
    assert [len(chunk["fragments"]) for chunk in stream["chunks"]] == [1, 1, 1]
    assert set(contents) == {one["name"] for one in manifest["files"]} | {"manifest.json", "manifest.sig"}
    assert visible(recording.root) == [name]
    assert active(recording) == 0, "what was held for the export is let go"


def test_a_stream_without_footage_is_told_not_left_out(recording: Recording) -> None:
    recording.add(video())
    with recording.index.write() as transaction:
        transaction.ensure_stream("hall.main")
    target = export(recording, recording.root / "out", 0, 4, streams=("hall.main", "cam.main"))
    report = verify(str(target))
    assert report["findings"] == []
    empty, full = report["streams"]
    assert (empty["stream"], empty["file"], empty["seconds"]) == ("hall.main", "", {"not recorded": 4.0})
    assert full["seconds"] == {"not covered": 4.0}


@pytest.mark.parametrize("chunk", [0, -1])
def test_what_is_damaged_is_a_gap_of_the_package(recording: Recording, chunk: int) -> None:
    recording.add(video(), chunk_s=2)
    recording.flush()
    path = recording.chunk_paths()[chunk]
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 3] ^= 1
    path.write_bytes(raw)
    target = export(recording, recording.root / "out", 0, 4)
    (stream,) = json.loads((target / "manifest.json").read_bytes())["streams"]
    assert [gap["cause"] for gap in stream["gaps"]] == ["damage"]
    assert verify(str(target))["findings"] == []


def run_killed(recording: Recording, target: Path, by: str, upto_bytes: int, streams: tuple[str, ...]) -> int:
    """Export in another process, which gets the signal when so much is written."""
    root = recording.root
    tools(recording)
    held = {"certificate": signer().certificate, "signature_bytes": 256, "public_key": signer().public_key}
    held |= {"documents": signer().documents, "certificates_pem": ""}
    (root / "keys.pickle").write_bytes(pickle.dumps(held))
    (root / "request.pickle").write_bytes(pickle.dumps(request(target, 0, 8, streams)))
    here = Path(__file__).parent
    arguments = [str(root), recording.volume.id.hex(), by, str(upto_bytes), "request.pickle"]
    environment = os.environ | {"PYTHONPATH": str(here.parent.parent)}
    done = subprocess.run(
        [sys.executable, str(here / "killed.py"), *arguments], check=False, env=environment, capture_output=True
    )
    for name in ("keys.pickle", "request.pickle"):
        (root / name).unlink()
    return done.returncode


@pytest.mark.parametrize("name", ["out", "out.zip"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_after_a_crash_it_goes_on_to_the_same_package(recording: Recording, name: str, share: float) -> None:
    """Killed anywhere; the same request again makes the package that nobody disturbed, but for the signatures' salt."""
    recording.add(video(), audio(), chunk_s=2, repeat=2)
    second = Recording.__new__(Recording)
    second.__dict__.update(recording.__dict__)
    with recording.index.write() as transaction:
        second.name, second.stream_id = "hall.main", transaction.ensure_stream("hall.main").id
    second.add(video(first=200), chunk_s=3, repeat=2)
    streams = ("cam.main", "hall.main")
    calm = export(recording, recording.root / f"calm{name[3:]}", 0, 8, streams=streams)
    size = sum(len(data) for path, data in parts_of(calm).items() if path.endswith(".mp4"))
    target = recording.root / name
    assert run_killed(recording, target, "SIGKILL", int(size * share), streams) == -9
    assert not target.exists()
    assert visible(recording.root) != [calm.name], "the rest lies beside it, under hidden names"
    assert active(recording) == 1, "still held"
    with pytest.raises(UserError, match="was interrupted"):
        export(recording, target, 0, 8, streams=streams, case="99")
    export(recording, target, 0, 8, streams=streams)
    assert visible(recording.root) == sorted([calm.name, name])
    assert active(recording) == 0
    again, before = parts_of(target), parts_of(calm)
    assert list(again) == list(before)
    for path in again:
        if path.endswith(".mp4"):
            assert again[path][:-2000] == before[path][:-2000], "all but meta and mfra, where the signature is"
        elif path.endswith((".jsonl", ".py")):
            assert again[path] == before[path]
    first_bytes = len(before["streams/cam.main.mp4"])
    expected = [] if share * size < first_bytes else ["its own signature (ONVIF) does not hold"]
    assert [row["what"] for row in verify(str(target))["findings"]] == expected, "the killed process signed with zeros"


def test_a_crash_after_the_last_step_is_made_good(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package had its name already; the journal and the hold are what is left."""
    recording.add(video())
    with monkeypatch.context() as patch:
        patch.setattr("export.journal.Journal.drop", lambda self: None)
        Job(tools(recording), request(recording.root / "out", 0, 4), keep_hold=True).run(lambda done, total: None)
    assert (active(recording), len(visible(recording.root))) == (1, 2)
    before = parts_of(recording.root / "out")
    export(recording, recording.root / "out", 0, 4)
    assert (active(recording), visible(recording.root)) == (0, ["out"])
    assert parts_of(recording.root / "out") == before


@pytest.mark.parametrize("by", ["SIGINT"])
@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_cancelled_it_leaves_nothing(recording: Recording, name: str, by: str) -> None:
    recording.add(video(), audio(), chunk_s=2, repeat=2)
    assert run_killed(recording, recording.root / name, by, 40_000, ("cam.main",)) != 0
    assert visible(recording.root) == []
    assert active(recording) == 0


def refused(recording: Recording, kind: type[Exception], why: str, target: Path, **more: Any) -> None:
    before = visible(recording.root)
    with pytest.raises(kind) as caught:
        export(recording, target, *more.pop("range_s", (0, 4)), **more)
    assert caught.value.reason == why  # type: ignore[attr-defined]
    assert visible(recording.root) == before
    assert active(recording) == 0


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(recording: Recording) -> None:
    recording.add(video())
    out = recording.root / "out"
    refused(recording, UserError, "bad-case", out, case="")
    refused(recording, UserError, "bad-case", out, case="a;b")
    refused(recording, UserError, "bad-text", out, reason=" ")
    refused(recording, UserError, "bad-text", out, operator="a\nb")
    refused(recording, UserError, "bad-range", out, range_s=(4, 4))
    refused(recording, UserError, "bad-range", out, range_s=(0, 8 * 86_400))
    refused(recording, UserError, "bad-streams", out, streams=())
    refused(recording, NotFound, "no-footage", out, range_s=(100, 200))
    refused(recording, NotFound, "unknown-stream", out, streams=("nobody.main",))
    refused(recording, UserError, "bad-target", recording.root / "nowhere" / "out")
    out.mkdir()
    (out / "mine").write_text("keep")
    refused(recording, UserError, "exists", out)
    assert (out / "mine").read_text() == "keep"


def test_a_disk_without_room_is_refused_before_anything_is_written(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording.add(video())
    monkeypatch.setattr("export.job.ROOM_SPARE_BYTES", 1 << 60)
    refused(recording, VolumeError, "enospc", recording.root / "out.zip")


@pytest.mark.needs_mount
@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_a_disk_that_fills_up_meanwhile_is_left_clean(recording: Recording, name: str) -> None:
    """Somebody else takes the last block when the first bytes are written."""
    recording.add(video(), audio(), chunk_s=2, repeat=4)
    disk = recording.root / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "keyreel-test", disk], check=True)
    try:

        def fill(done: int, total: int) -> None:
            with contextlib.suppress(OSError), (disk / "other").open("ab", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 16))

        with pytest.raises(VolumeError, match="name a --to on another disk") as caught:
            Job(tools(recording), request(disk / name, 0, 16)).run(fill)
        assert caught.value.reason == "enospc"
        assert [path.name for path in disk.iterdir()] == ["other"]
        assert active(recording) == 0
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


def test_an_error_of_the_footage_leaves_nothing(recording: Recording) -> None:
    recording.add(video(), chunk_s=2)
    recording.flush()
    for path in recording.chunk_paths():
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises((DamageError, NotFound)):
        export(recording, recording.root / "out", 0, 4)
    assert visible(recording.root) == []
    assert active(recording) == 0


def test_a_dry_run_tells_the_size_and_does_nothing(recording: Recording) -> None:
    recording.add(video(), audio(), chunk_s=2)
    target = recording.root / "out"
    asked = request(target, 0.5, 3.5)
    (estimate,) = Job(tools(recording), asked).estimate()
    assert visible(recording.root) == []
    made = export(recording, target, 0.5, 3.5)
    size = (made / "streams" / "cam.main.mp4").stat().st_size
    assert 0.8 * size < estimate.bytes < 1.25 * size
