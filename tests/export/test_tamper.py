"""Whatever is done to a package is found, and named by file and fragment."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from exports import export
from signers import signer, stranger
from support import T0, Recording, audio, video

from base.units import US
from export.verifier.files import Files, Findings, NoPackage, canonical
from export.verifier.ledger import key_name
from export.verifier.verdict import MANIFEST, MANIFEST_CONTEXT, SIGNATURE, read_manifest, verify
from export.verifier.video import ALTERED, INTACT, MISSING, Changed, Record, read_records, read_through

VIDEO = "streams/cam.main.mp4"
LIST = "streams/cam.main.fragments.jsonl"


class Held(Files):
    """A package's files in memory."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self.contents = contents
        self.places = dict.fromkeys(contents)  # type: ignore[assignment]

    def size(self, name: str) -> int:
        return len(self.contents[name]) if name in self.contents else -1

    def read(self, name: str, start: int, size: int) -> bytes:
        return self.contents[name][start : start + max(0, size)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two runs in five chunks, and an absence; as a directory, as a ZIP, and a second export of the same footage."""
    root = tmp_path_factory.mktemp("export")
    recording = Recording(root)
    recording.add(video(b_frames=2), audio(), chunk_s=2)
    recording.add(video(b_frames=2, first=100, profile="main"), audio(), start_us=T0 + 6 * US, chunk_s=3)
    export(recording, root / "whole", 1.3, 9.5)
    export(recording, root / "whole.zip", 1.3, 9.5)
    export(recording, root / "other", 0, 4, case="02")
    export(recording, root / "small", 2.1, 2.5)
    yield root
    recording.close()


@pytest.fixture
def package(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "whole", tmp_path / "package"))


def held(folder: Path) -> tuple[Held, dict[str, Any], list[Record]]:
    contents = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    document = json.loads(contents[MANIFEST])["streams"][0]
    return Held(contents), document, read_records(Held(contents), LIST)


def judged(files: Held, document: dict[str, Any], records: list[Record]) -> tuple[list[str], list[str]]:
    """(verdicts, findings) of a changed video file."""
    findings = Findings()
    passed = read_through(files, VIDEO, records)
    assert passed.sha256 != document["mp4"]["sha256"]
    changed = Changed(files, VIDEO, findings)
    changed.scan(document["mp4"]["tail_bytes"])
    changed.check_frame(document, records)
    return changed.align(records), [row["what"] for row in findings.rows]


def test_what_nobody_touched_is_whole(made: Path) -> None:
    for name in ("whole", "whole.zip", "other", "small"):
        report = verify(str(made / name))
        assert report["findings"] == []
        assert report["verdict"] == "not covered", "no ledger is in it"
        assert set(report["streams"][0]["seconds"]) <= {"not covered", "not recorded"}
        assert report["signer"]["key"] == key_name(signer().public_key)
        assert verify(str(made / name), (key_name(signer().public_key),))["verdict"] == "not covered"


def test_every_byte_of_boxes_flipped_is_found(made: Path) -> None:
    """Exhaustive: all bytes of the file that are no media; those of a fragment name that fragment alone."""
    files, document, records = held(made / "small")
    whole = files.contents[VIDEO]
    media = set()
    for one in records:
        at = one.offset + whole[one.offset :].index(b"mdat") + 4
        media.update(range(at, one.offset + one.length))
    for at in sorted(set(range(len(whole))) - media):
        files.contents[VIDEO] = whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :]
        verdicts, findings = judged(files, document, records)
        own = [i for i, one in enumerate(records) if one.offset <= at < one.offset + one.length]
        assert findings, at
        assert [i for i, verdict in enumerate(verdicts) if verdict != INTACT] == own, (at, findings)
        assert all(f"fragment {records[i].n} " in findings[0] for i in own), (at, findings)


def test_a_media_byte_flipped_names_its_fragment_alone(made: Path) -> None:
    files, document, records = held(made / "whole")
    whole = files.contents[VIDEO]
    for i, one in enumerate(records):
        for at in range(one.offset + one.length - 1, one.offset + 2_000, -997):
            files.contents[VIDEO] = whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :]
            verdicts, findings = judged(files, document, records)
            assert [k for k, verdict in enumerate(verdicts) if verdict == ALTERED] == [i]
            assert len(findings) == 1
            assert f"fragment {one.n} " in findings[0]


def without(parts: list[bytes], k: int) -> list[bytes]:
    return [*parts[:k], *parts[k + 1 :]]


def doubled(parts: list[bytes], k: int) -> list[bytes]:
    return [*parts[: k + 1], *parts[k:]]


def swapped(parts: list[bytes], k: int) -> list[bytes]:
    return [*parts[:k], parts[k + 1], parts[k], *parts[k + 2 :]]


def shortened(parts: list[bytes], k: int) -> list[bytes]:
    return [*parts[:k], parts[k][: len(parts[k]) // 2], *parts[k + 1 :]]


def moved_to_the_end(parts: list[bytes], k: int) -> list[bytes]:
    return [*parts[:k], *parts[k + 1 :], parts[k]]


@pytest.mark.parametrize(
    ("change", "verdict", "word"),
    [
        (without, MISSING, "is missing"),
        (doubled, INTACT, "is there twice"),
        (swapped, ALTERED, "is moved"),
        (moved_to_the_end, ALTERED, "is moved"),
        (shortened, ALTERED, "was altered"),
    ],
)
def test_fragments_moved_about_are_named(
    made: Path, change: Callable[[list[bytes], int], list[bytes]], verdict: str, word: str
) -> None:
    files, document, records = held(made / "whole")
    whole = files.contents[VIDEO]
    ends = [one.offset + one.length for one in records]
    front = whole[: records[0].offset]
    # What stands between two fragments, the header of the next chunk, stays with the fragment after it.
    parts = [whole[a:b] for a, b in zip([len(front), *ends], ends, strict=False)]
    for k in range(len(parts) - 1):
        files.contents[VIDEO] = front + b"".join(change(parts, k)) + whole[ends[-1] :]
        verdicts, findings = judged(files, document, records)
        wrong = [i for i, one in enumerate(verdicts) if one != INTACT]
        assert any(word in one for one in findings), (k, findings)
        if verdict == INTACT:
            assert wrong == []
            assert any(f"fragment {records[k].n} " in one for one in findings)
        else:
            assert len(wrong) == 1, (k, verdicts, findings)
            assert wrong[0] in (k, k + 1)
            assert verdicts[wrong[0]] == verdict


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 0.999])
def test_a_file_cut_off_names_what_is_gone(made: Path, share: float) -> None:
    files, document, records = held(made / "whole")
    files.contents[VIDEO] = files.contents[VIDEO][: int(len(files.contents[VIDEO]) * share)]
    left = len(files.contents[VIDEO])
    verdicts, findings = judged(files, document, records)
    assert any("its end" in one for one in findings)
    for one, verdict in zip(records, verdicts, strict=True):
        assert (verdict == INTACT) == (one.offset + one.length <= left)
    assert verdicts.count(ALTERED) <= 1, "the fragment that was cut"


def test_a_fragment_of_another_export_is_foreign(made: Path) -> None:
    """The same footage exported twice: what was spliced in is not what this package was signed with."""
    files, document, records = held(made / "whole")
    whole = files.contents[VIDEO]
    theirs, _, other = held(made / "other")
    for one in other:
        part = theirs.contents[VIDEO][one.offset : one.offset + one.length]
        twin = next((r for r in records if r.leaf == one.leaf), None)
        target = twin or records[3]
        start, end = target.offset, target.offset + target.length
        files.contents[VIDEO] = whole[:start] + part + whole[end:]
        verdicts, findings = judged(files, document, records)
        assert [r.n for r, v in zip(records, verdicts, strict=True) if v == ALTERED] == [target.n]
        assert any(f"fragment {target.n} " in row for row in findings)


def bad(package: Path, where: str, **more: Any) -> list[str]:
    """What is found, which must name the file."""
    report = verify(str(package), **more)
    assert report["verdict"] == ALTERED
    assert any(row["where"] == where for row in report["findings"]), report["findings"]
    return [row["what"] for row in report["findings"]]


def test_every_byte_of_the_manifest_counts(made: Path) -> None:
    files, _, _ = held(made / "small")
    for name in (MANIFEST, SIGNATURE):
        raw = files.contents[name]
        for at in range(len(raw)):
            files.contents[name] = raw[:at] + bytes([raw[at] ^ 1 << at % 7]) + raw[at + 1 :]
            findings = Findings()
            try:
                _, _, trusted = read_manifest(files, (), findings)
            except NoPackage:
                continue  # it cannot be read at all, and says so
            assert not trusted
            assert {row["where"] for row in findings.rows} <= {MANIFEST, SIGNATURE}
            assert findings.rows
        files.contents[name] = raw


def test_other_files_are_named_when_altered_missing_or_strange(package: Path) -> None:
    for name in (LIST, "verify.py"):
        path = package / name
        raw = path.read_bytes()
        path.write_bytes(raw[:9] + bytes([raw[9] ^ 4]) + raw[10:])
        bad(package, name)
        path.unlink()
        bad(package, name)
        path.write_bytes(raw)
    (package / "extra.txt").write_text("hello")
    bad(package, "extra.txt")


def test_a_video_that_is_not_there_is_missing(package: Path) -> None:
    (package / VIDEO).unlink()
    report = verify(str(package))
    assert report["streams"][0]["fragments"] == {MISSING: len((package / LIST).read_text().splitlines())}


def rewritten(package: Path, change: Callable[[dict[str, Any]], None], keys: Any) -> None:
    """An edited manifest, signed again."""
    manifest = json.loads((package / MANIFEST).read_bytes())
    change(manifest)
    body = canonical(manifest)
    (package / MANIFEST).write_bytes(body)
    signature = {"algorithm": "ed25519", "key": keys.public_key.hex()}
    signature["signature"] = keys.sign(MANIFEST_CONTEXT + body).hex()
    (package / SIGNATURE).write_bytes(canonical(signature))


def test_a_manifest_edited_and_not_signed_is_named(package: Path) -> None:
    manifest = json.loads((package / MANIFEST).read_bytes())
    manifest["case"] = "another"
    (package / MANIFEST).write_bytes(canonical(manifest))
    assert any("signature does not hold" in what for what in bad(package, MANIFEST))


def test_a_package_signed_again_by_a_stranger_is_not_by_the_expected_key(package: Path) -> None:
    rewritten(package, lambda manifest: manifest.update(case="another"), stranger())
    assert any(
        "not by an expected one" in what for what in bad(package, SIGNATURE, expected=(key_name(signer().public_key),))
    )
    report = verify(str(package))
    assert report["signer"]["key"] == key_name(stranger().public_key), (
        "without an expected key the reader is told whose"
    )


def test_footage_left_out_of_a_signed_manifest_is_missing(package: Path) -> None:
    """The exporter himself cannot leave out an absence: what is neither footage nor gap is missing."""
    rewritten(package, lambda manifest: manifest["streams"][0]["gaps"].clear(), signer())
    report = verify(str(package))
    assert report["streams"][0]["seconds"][MISSING] == pytest.approx(2.0)
    assert any("neither a fragment nor a gap" in row["what"] for row in report["findings"])


def test_files_of_two_packages_do_not_mix(made: Path, package: Path) -> None:
    for name in (MANIFEST, SIGNATURE):
        raw = (package / name).read_bytes()
        shutil.copy(made / "other" / name, package / name)
        assert verify(str(package))["verdict"] == ALTERED
        (package / name).write_bytes(raw)
    shutil.copy(made / "other" / VIDEO, package / VIDEO)
    bad(package, VIDEO)


def test_bytes_of_the_zip_file_itself_are_found(made: Path, tmp_path: Path) -> None:
    """All that is no file's content: headers, directory, end."""
    raw = (made / "whole.zip").read_bytes()
    report = Files(str(made / "whole.zip"), Findings())
    inside = set()
    for _, start, size in report.places.values():
        inside.update(range(start, start + size))
    path = tmp_path / "changed.zip"
    structure = sorted(set(range(len(raw))) - inside)
    assert len(structure) > 500
    for at in structure:
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 1 << at % 8]) + raw[at + 1 :])
        findings = Findings()
        try:
            files = Files(str(path), findings)
        except NoPackage:
            continue
        assert findings.rows or set(files.places) != set(report.places), at
    path.write_bytes(raw + b"x")
    findings = Findings()
    Files(str(path), findings)
    assert findings.rows


@pytest.mark.parametrize("name", ["whole", "whole.zip"])
def test_the_file_in_the_package_verifies_alone(made: Path, tmp_path: Path, name: str) -> None:
    """By a Python that has nothing but its standard library, with the same answer and exit code."""
    tool = made / "whole" / "verify.py"
    command = [sys.executable, "-I", "-S", str(tool), str(made / name), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    assert json.loads(done.stdout) == verify(str(made / name))
    changed = tmp_path / "changed"
    (shutil.copytree if (made / name).is_dir() else shutil.copy)(made / name, changed)
    video_file = changed / VIDEO if changed.is_dir() else changed
    raw = bytearray(video_file.read_bytes())
    raw[20_000] ^= 1
    video_file.write_bytes(raw)
    done = subprocess.run([*command[:4], str(changed)], capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert "was altered" in done.stdout
    nothing = subprocess.run([*command[:4], str(tmp_path / "nothing")], capture_output=True, text=True, check=False)
    assert nothing.returncode == 2


def leaves_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to everything that is neither a list nor an object."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from leaves_of(value[key], (*path, key))
    else:
        yield path


def test_a_manifest_that_says_nonsense_ends_no_verifier(package: Path) -> None:
    """Each word of it replaced, and signed: there is a verdict, and it is not a good one where the word counts."""
    whole = (package / MANIFEST).read_bytes()
    nonsense: list[Any] = [None, -1, 1 << 70, "", "x", [], {}, "9999-99-99T99:99:99.000000Z", True]
    for number, path in enumerate(leaves_of(json.loads(whole))):
        (package / MANIFEST).write_bytes(whole)

        def change(manifest: dict[str, Any], path: tuple[Any, ...] = path, number: int = number) -> None:
            at: Any = manifest
            for key in path[:-1]:
                at = at[key]
            at[path[-1]] = nonsense[number % len(nonsense)]

        rewritten(package, change, signer())
        try:
            report = verify(str(package))
        except NoPackage:
            assert path[0] in ("kind", "format")
            continue
        if path[0] == "files" or (path[2:3] == ("mp4",) and path[3] in ("sha256", "bytes")):
            assert report["verdict"] == ALTERED, path


def test_anything_done_to_any_file_is_found(made: Path, tmp_path: Path) -> None:
    """Bytes changed, put in, taken out and repeated at random places of random files."""
    folder = Path(shutil.copytree(made / "whole", tmp_path / "package"))
    names = [path for path in folder.rglob("*") if path.is_file()]
    rng = random.Random(7)
    for _ in range(150):
        path = rng.choice(names)
        raw = path.read_bytes()
        at, size = rng.randrange(len(raw)), rng.randrange(1, 400)
        part = rng.randbytes(size)
        changed = rng.choice(
            [
                raw[:at] + part + raw[at + size :],
                raw[:at] + part + raw[at:],
                raw[:at] + raw[at + size :],
                raw[:at] + raw[at : at + size] + raw[at:],
                raw[:at],
            ]
        )
        path.write_bytes(changed)
        try:
            assert verify(str(folder))["verdict"] == ALTERED or changed == raw
        except NoPackage:
            assert path.name == MANIFEST
        path.write_bytes(raw)
