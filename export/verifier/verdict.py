"""What a package is worth: signatures, files, and a verdict for each moment of each stream.

Kept true: nothing is believed that was not computed from the bytes here; a moment is authentic only when its fragment's
bytes are those that the recorder's signed ledger has; one whose fragment is merely unchanged since the export is told
as not covered, and one that no fragment and no gap covers as missing.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from export.verifier.files import Files, Findings, NoPackage, canonical, time_of, time_text
from export.verifier.ledger import Ledger, key_name
from export.verifier.signatures import ed25519_verify, pss_verify
from export.verifier.video import ALTERED, INTACT, MISSING, Changed, Record, read_records, read_through

FORMAT_VERSION = 1
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
MANIFEST_CONTEXT = b"keyreel-manifest-1\0"
AUTHENTIC, NOT_COVERED, NOT_RECORDED = "authentic", "not covered", "not recorded"
HOLE_US = 1_000_000  # an absence shorter than this needs no cause


def verify(path: str, expected: tuple[str, ...] = ()) -> dict[str, Any]:
    """Everything that can be said of a package; `expected` are names of keys, one of which must have signed it.

    `NoPackage` when there is none.
    """
    findings = Findings()
    if not os.path.exists(path):
        raise NoPackage("there is no such file or directory")
    files = Files(path, findings)
    manifest, key, trusted = read_manifest(files, expected, findings)
    streams = []
    try:
        check_names(files, manifest, findings)
        for document in manifest["streams"]:
            streams.append(Stream(files, document, manifest, findings, trusted).report())
    except (KeyError, TypeError, ValueError, AttributeError):
        findings.add(MANIFEST, "it does not say what a manifest says")
    told = {verdict for stream in streams for verdict in stream["seconds"]}
    bad = bool(findings.rows) or ALTERED in told or MISSING in told
    whole = AUTHENTIC if AUTHENTIC in told and NOT_COVERED not in told else NOT_COVERED
    return {
        "package": path,
        "verdict": ALTERED if bad else whole,
        **{word: str(manifest.get(word, "")) for word in ("export", "case", "operator", "created")},
        "signer": {"key": key_name(key), "expected": key_name(key) in expected if expected else None},
        "findings": findings.rows,
        "streams": streams,
    }


def read_manifest(files: Files, expected: tuple[str, ...], findings: Findings) -> tuple[dict[str, Any], bytes, bool]:
    """(manifest, signing key, whether its signature holds and is by an expected key)."""
    raw, signature_raw = files.whole(MANIFEST), files.whole(SIGNATURE)
    try:
        manifest = json.loads(raw)
        kind, version = manifest["kind"], manifest["format"]
    except (ValueError, KeyError, TypeError):
        raise NoPackage(f"it has no {MANIFEST} that can be read: missing, cut off or altered") from None
    if kind != "keyreel-evidence" or version != FORMAT_VERSION:
        raise NoPackage(f"it is {kind} of format {version}, this verifier knows {FORMAT_VERSION}; take a newer one")
    before = len(findings.rows)
    if canonical(manifest) != raw:
        findings.add(MANIFEST, "it was edited: it is not in the form in which it was signed")
    try:
        signature = json.loads(signature_raw)
        key, signed = bytes.fromhex(signature["key"]), bytes.fromhex(signature["signature"])
        written = {"algorithm": "ed25519", "key": key.hex(), "signature": signed.hex()}
        if canonical(written) != signature_raw:
            raise ValueError
    except (ValueError, KeyError, TypeError):
        findings.add(SIGNATURE, "it is missing, cut off or altered")
        return manifest, b"", False
    if not ed25519_verify(key, MANIFEST_CONTEXT + raw, signed):
        findings.add(MANIFEST, "its signature does not hold: manifest or signature were edited, or are of two packages")
    if expected and key_name(key) not in expected:
        findings.add(SIGNATURE, f"it is signed by the key {key_name(key)}, not by an expected one")
    return manifest, key, len(findings.rows) == before


def check_names(files: Files, manifest: dict[str, Any], findings: Findings) -> None:
    """Every file is there, is as listed, and no other is."""
    mp4 = {one["file"]: one["mp4"] for one in manifest["streams"] if one["file"]}
    videos = {name: (one["bytes"], one["sha256"]) for name, one in mp4.items()}
    listed = {one["name"]: one for one in manifest["files"]}
    for name, one in listed.items():
        if files.size(name) < 0:
            findings.add(name, "the file is missing")
        elif name in videos:
            if (one["bytes"], one["sha256"]) != videos[name]:
                findings.add(MANIFEST, f"it contradicts itself about {name}")
        elif files.size(name) != one["bytes"] or files.digest(name) != one["sha256"]:
            findings.add(name, "the file was altered")
    for name in sorted(set(files.places) - set(listed) - {MANIFEST, SIGNATURE}):
        findings.add(name, "the file is not part of the package")


class Stream:
    """One stream of a package."""

    def __init__(
        self, files: Files, document: dict[str, Any], manifest: dict[str, Any], findings: Findings, trusted: bool
    ) -> None:
        self._files, self._document, self._findings, self._trusted = files, document, findings, trusted
        self._asked = time_of(manifest["asked"]["start"]), time_of(manifest["asked"]["end"])
        self._listed = {one["name"]: one for one in manifest["files"]}
        self._keys = manifest["keys"]
        self._certificate = manifest.get("certificate_sha256", "")
        self._records: list[Record] = []
        self._verdicts: list[str] = []
        self._ledger_until = ""
        self._sequences: set[int] = set()  # chunks with fragments, as the ledger says
        self._stored = {one["sequence"]: one["stored_fragments"] for one in document.get("chunks", [])}

    def report(self) -> dict[str, Any]:
        """The verdicts over time; what is wrong goes to the findings."""
        if self._document["file"]:
            self._records = self._read_records()
            self._verdicts = self._judge()
            self._prove()
            self._check_order()
        ranges = self._ranges()
        seconds: dict[str, float] = {}
        for one in ranges:
            length = (time_of(one["end"]) - time_of(one["start"])) / 1e6
            seconds[one["verdict"]] = round(seconds.get(one["verdict"], 0) + length, 6)
        return {
            "stream": self._document["stream"],
            "file": self._document["file"],
            "fragments": {word: self._verdicts.count(word) for word in sorted(set(self._verdicts))},
            "seconds": seconds,
            "ledger_until": self._ledger_until,
            "ranges": ranges,
        }

    def _read_records(self) -> list[Record]:
        """The list of fragments; without one that is as listed, nothing can be said of any of them."""
        name = self._document["fragments"]
        if self._files.size(name) != self._listed.get(name, {}).get("bytes"):
            return []
        try:
            return read_records(self._files, name)
        except (ValueError, KeyError, TypeError):
            self._findings.add(name, "it cannot be read")
            return []

    def _judge(self) -> list[str]:
        """Intact, altered or missing, by fragment."""
        name, mp4 = self._document["file"], self._document["mp4"]
        if self._files.size(name) < 0:
            return [MISSING] * len(self._records)
        passed = read_through(self._files, name, self._records)
        verdicts = [
            INTACT if hashes == (one.frame, one.leaf) else ALTERED for one, hashes in zip(self._records, passed.hashes)
        ]
        if passed.sha256 != mp4["sha256"] or self._files.size(name) != mp4["bytes"]:
            changed = Changed(self._files, name, self._findings)
            before = len(self._findings.rows)
            changed.scan(mp4["tail_bytes"])
            changed.check_frame(self._document, self._records)
            verdicts = changed.align(self._records)
            if len(self._findings.rows) == before:
                self._findings.add(name, "it was altered outside its fragments")
        elif ALTERED in verdicts:
            self._findings.add(self._document["fragments"], "it lists other fragments than the file has")
        elif not pss_verify(passed.certificate, passed.signed, passed.signature):
            self._findings.add(name, "its own signature (ONVIF) does not hold")
        elif self._certificate and key_name(passed.certificate) != self._certificate:
            self._findings.add(name, "its own signature (ONVIF) is by another certificate than the manifest names")
        return verdicts

    def _prove(self) -> None:
        """What is intact becomes authentic, or not covered."""
        proven: set[tuple[int, int]] = set()
        ledger_name = self._document.get("ledger", "")
        if ledger_name and self._trusted:
            ledger = Ledger(self._files.whole(ledger_name), ledger_name, self._keys, self._findings)
            ledger.check_headers(self._document["chunks"])
            self._sequences = ledger.sequences()
            for chunk in self._document["chunks"]:
                self._stored[chunk["sequence"]] = max(ledger.stored(chunk), self._stored[chunk["sequence"]])
            self._ledger_until = time_text(ledger.signed_us) if ledger.signed_us else ""
            leaves: dict[int, dict[int, bytes]] = {}
            for one, verdict in zip(self._records, self._verdicts):
                if verdict == INTACT:
                    leaves.setdefault(one.sequence, {})[one.number] = bytes.fromhex(one.leaf)
            for chunk in self._document["chunks"]:
                sound = ledger.proven(chunk, leaves.get(chunk["sequence"], {}))
                proven |= {(chunk["sequence"], number) for number in sound}
        for i, (one, verdict) in enumerate(zip(self._records, self._verdicts)):
            if verdict == INTACT:
                self._verdicts[i] = AUTHENTIC if (one.sequence, one.number) in proven else NOT_COVERED

    def _check_order(self) -> None:
        """Between two fragments the recorder stored no other, unless a gap with a cause lies there."""
        gaps = [(time_of(gap["start"]), time_of(gap["end"])) for gap in self._document["gaps"]]
        for one, after in zip(self._records, self._records[1:]):
            if one.sequence == after.sequence and after.number == one.number + 1:
                continue
            skipped = any(one.sequence < sequence < after.sequence for sequence in self._sequences)
            is_next = after.sequence > one.sequence and after.number == 1 and not skipped
            if is_next and one.number >= self._stored.get(one.sequence, 0):
                continue
            start_us, end_us = one.end_us - HOLE_US, after.start_us + HOLE_US
            if not any(low < end_us and high > start_us for low, high in gaps):
                told = f"between {time_text(one.end_us)} and {time_text(after.start_us)}"
                self._findings.add(self._document["stream"], f"{told} the recorder stored more than is here")

    def _ranges(self) -> list[dict[str, Any]]:
        """The whole range asked for, in time order, each part with its verdict."""
        found: list[tuple[int, int, str, str]] = []
        for one, verdict in zip(self._records, self._verdicts):
            found.append((one.start_us, one.end_us, verdict, ""))
        for gap in self._document["gaps"]:
            found.append((time_of(gap["start"]), time_of(gap["end"]), NOT_RECORDED, gap["cause"]))
        found.sort()
        merged: list[list[Any]] = []
        at_us = self._asked[0]
        for start_us, end_us, verdict, cause in found:
            if start_us - at_us > HOLE_US:
                merged.append([at_us, start_us, MISSING, ""])
                self._tell_missing(at_us, start_us)
            if merged and merged[-1][2:] == [verdict, cause] and start_us - merged[-1][1] <= HOLE_US:
                merged[-1][1] = max(end_us, merged[-1][1])
            else:
                merged.append([start_us, end_us, verdict, cause])
            at_us = max(at_us, end_us)
        if self._asked[1] - at_us > HOLE_US:
            merged.append([at_us, self._asked[1], MISSING, ""])
            self._tell_missing(at_us, self._asked[1])
        return [
            {"start": time_text(a), "end": time_text(b), "verdict": verdict} | ({"cause": cause} if cause else {})
            for a, b, verdict, cause in merged
        ]

    def _tell_missing(self, start_us: int, end_us: int) -> None:
        told = f"{time_text(start_us)} to {time_text(end_us)}"
        self._findings.add(self._document["stream"], f"from {told} there is neither a fragment nor a gap with a cause")


def python_is_new_enough() -> bool:
    """What this file needs."""
    return sys.version_info >= (3, 9)
