"""With the recorder's ledger in it, a package proves that its footage is what was recorded, and all of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from exports import export
from ledgers import LedgerMaker
from signers import signer, stranger
from support import T0, Recording, audio, video
from test_tamper import rewritten

from base.datadir import DataDir
from base.units import US, format_time
from export.verifier.verdict import verify

LEDGER = "streams/cam.main.ledger"


def recorded(recording: Recording, *, keys: Any = None, **more: Any) -> LedgerMaker:
    """Eight chunks of two seconds, with fragments of half a second, and their ledger."""
    recording.add(video(b_frames=1), audio(), chunk_s=2, repeat=4, fragment_90k=45_000)
    recording.flush()
    made = LedgerMaker(keys)
    for path in recording.chunk_paths():
        made.chunk(path, **more)
    made.write(recording.root / "node" / "ledger" / "cam.main")
    return made


def ready(recording: Recording) -> None:
    """The data folder is made by the first export; here it is wanted before."""
    DataDir.create(recording.root / "node")


def verdicts(target: Path) -> dict[str, int]:
    report = verify(str(target))
    assert report["findings"] == [], report["findings"]
    return dict(report["streams"][0]["fragments"])


@pytest.mark.parametrize("name", ["out", "out.zip"])
@pytest.mark.parametrize(("start_s", "end_s"), [(0, 16), (2, 4), (1.3, 9.1), (5.1, 5.2)])
def test_fragments_under_a_signed_root_are_authentic(
    recording: Recording, name: str, start_s: float, end_s: float
) -> None:
    ready(recording)
    recorded(recording, roots=(2,))
    target = export(recording, recording.root / name, start_s, end_s)
    assert set(verdicts(target)) == {"authentic"}
    report = verify(str(target))
    assert report["verdict"] == "authentic"
    assert set(report["streams"][0]["seconds"]) == {"authentic"}


def test_what_no_root_covers_is_told(recording: Recording) -> None:
    ready(recording)
    recorded(recording, roots=(2,), sealed=False)
    target = export(recording, recording.root / "out", 0, 4)
    assert verdicts(target) == {"authentic": 4, "not covered": 4}
    assert verify(str(target))["verdict"] == "not covered"


def test_a_smaller_root_makes_a_shorter_proof(recording: Recording) -> None:
    """The beginning of a chunk is proven by a root from while it grew: nothing behind it has to be read."""
    ready(recording)
    recorded(recording, roots=(2, 3))
    target = export(recording, recording.root / "out", 0, 0.9)
    (chunk,) = json.loads((target / "manifest.json").read_bytes())["streams"][0]["chunks"]
    (proof,) = chunk["proofs"]
    assert (proof["first"], proof["count"], proof["hashes"]) == (1, 2, [])
    assert verdicts(target) == {"authentic": 2}


def test_each_byte_of_the_ledger_counts(recording: Recording) -> None:
    ready(recording)
    recorded(recording)
    target = export(recording, recording.root / "out", 0, 4)
    raw = (target / LEDGER).read_bytes()
    for at in range(0, len(raw), 41):
        (target / LEDGER).write_bytes(raw[:at] + bytes([raw[at] ^ 1 << at % 8]) + raw[at + 1 :])
        report = verify(str(target))
        assert report["verdict"] == "altered"
        assert LEDGER in {row["where"] for row in report["findings"]}


def listed(manifest: dict[str, Any], name: str, raw: bytes) -> None:
    """The manifest has a file as it is now."""
    row = next(one for one in manifest["files"] if one["name"].endswith(name))
    row["bytes"], row["sha256"] = len(raw), hashlib.sha256(raw).hexdigest()


def with_ledger(target: Path, made: LedgerMaker) -> None:
    """The exporter himself puts another ledger into a package, and signs it."""
    raw = b"".join(entry.raw for entry in made.entries)
    (target / LEDGER).write_bytes(raw)
    rewritten(target, lambda manifest: listed(manifest, LEDGER, raw), signer())


def test_a_ledger_signed_by_a_stranger_proves_nothing(recording: Recording) -> None:
    ready(recording)
    recorded(recording, keys=stranger())
    target = export(recording, recording.root / "out", 0, 4)
    report = verify(str(target))
    assert [row["where"] for row in report["findings"]] == [LEDGER]
    assert "authentic" not in report["streams"][0]["fragments"]


def test_a_ledger_of_other_footage_proves_nothing(recording: Recording) -> None:
    ready(recording)
    made = recorded(recording)
    target = export(recording, recording.root / "out", 0, 4)
    other = LedgerMaker()
    for entry in made.entries[1:]:
        content = entry.content
        if hasattr(content, "root"):
            other.add(entry.time_us, content._replace(root=bytes(32)))
        elif hasattr(content, "signature"):
            other.sign(entry.time_us)
        else:
            other.add(entry.time_us, content)
    with_ledger(target, other)
    assert verify(str(target))["streams"][0]["fragments"] == {"not covered": 8}


def test_an_entry_left_out_breaks_the_chain(recording: Recording) -> None:
    ready(recording)
    made = recorded(recording)
    target = export(recording, recording.root / "out", 0, 4)
    del made.entries[3]
    with_ledger(target, made)
    report = verify(str(target))
    assert any("does not follow" in row["what"] for row in report["findings"])


def test_a_revoked_key_is_judged_when_it_signed(recording: Recording) -> None:
    ready(recording)
    recorded(recording)
    target = export(recording, recording.root / "out", 0, 4)
    rewritten(target, lambda manifest: manifest["keys"][0].update(revoked_us=T0 + 3600 * US), signer())
    assert set(verdicts(target)) == {"authentic"}, "revoked later"
    rewritten(target, lambda manifest: manifest["keys"][0].update(revoked_us=T0 + 1), signer())
    report = verify(str(target))
    assert any("was revoked before" in row["what"] for row in report["findings"])
    assert "authentic" not in report["streams"][0]["fragments"]


def test_a_chunk_left_out_is_seen(recording: Recording) -> None:
    """Also where the list and the video of a package agree, and no time is missing that could be noticed."""
    ready(recording)
    recorded(recording)
    target = export(recording, recording.root / "out", 0, 6)
    path = target / "streams/cam.main.fragments.jsonl"
    left = [line for line in path.read_text().splitlines() if json.loads(line)["sequence"] != 2]
    path.write_text("\n".join(left) + "\n")

    def hide(manifest: dict[str, Any]) -> None:
        listed(manifest, path.name, path.read_bytes())
        gap = {"start": format_time(T0 + 60 * US), "end": format_time(T0 + 61 * US), "cause": "offline", "packets": 0}
        manifest["streams"][0]["gaps"].append(gap)

    rewritten(target, hide, signer())
    assert any("stored more than is here" in row["what"] for row in verify(str(target))["findings"])


def test_a_number_of_a_chunk_that_was_never_stored_is_no_absence(recording: Recording) -> None:
    ready(recording)
    recording.add(video(), chunk_s=2)
    recording.sequence += 1
    recording.add(video(first=100), start_us=T0 + 4 * US, chunk_s=2)
    target = export(recording, recording.root / "out", 0, 8)
    assert verify(str(target))["findings"] == []


def test_footage_the_exporter_left_out_is_seen(recording: Recording) -> None:
    """A manifest that hides fragments and is signed by the node itself is contradicted by the recorder's ledger."""
    ready(recording)
    recorded(recording)
    target = export(recording, recording.root / "out", 0, 4)

    def hide(manifest: dict[str, Any]) -> None:
        for chunk in manifest["streams"][0]["chunks"]:
            chunk["stored_fragments"] = 3

    rewritten(target, hide, signer())
    assert verify(str(target))["findings"] == [], "all four are here"
    path = target / "streams/cam.main.fragments.jsonl"
    lines = path.read_text().splitlines()
    left = [line for line in lines if json.loads(line)["number"] != 4 or json.loads(line)["sequence"] != 1]
    path.write_text("\n".join(left) + "\n")
    rewritten(
        target, lambda manifest: listed(manifest, "streams/cam.main.fragments.jsonl", path.read_bytes()), signer()
    )
    report = verify(str(target))
    assert any("stored more than is here" in row["what"] for row in report["findings"])
