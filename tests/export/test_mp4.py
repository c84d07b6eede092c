"""The evidence file: what is in it, by readers that are not ours, and its signature by another library's reading."""

from __future__ import annotations

import hashlib
import io
import subprocess
from pathlib import Path
from typing import Any

import av
import pytest
from construct import Array, Const, CString, GreedyRange, Int16ub, Int32ub, Int64ub, Struct, Terminated, this
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from pymp4.parser import Box
from signers import PSS, signer
from support import T0, Recording, audio, shown, video

from base.errors import DamageError
from base.units import US
from chunks.format import unpack_seal
from clips.mp4 import ClipFile
from clips.plan import ClipPlan, plan
from export.mp4 import FragmentRecord, StreamFile
from export.onvif import ExportUnit, Source
from export.verifier.video import CHUNK_UUID, ORIGIN_UUID
from native.moof import SEAL_SIZE

STRING = CString(encoding="utf8")
# As the specification's syntax sections have them.
SUEP = Struct(
    "version" / Const(Int32ub, 1 << 24),
    "name" / STRING,
    "url" / STRING,
    "mac" / STRING,
    "time" / Int64ub,
    "operator" / STRING,
    "count" / Int32ub,
    "tracks"
    / Array(
        this.count,
        Struct("id" / Int16ub, "name" / STRING, "url" / STRING, "mac" / STRING, "line" / STRING),
    ),
    Terminated,
)
CSTB = Struct("count" / Int32ub, "tracks" / Array(this.count, Struct("id" / Int32ub, "start" / Int64ub)), Terminated)
IPRO = Struct("version" / Const(Int32ub, 0), "count" / Const(Int16ub, 1), "children" / GreedyRange(Box))
META = Struct("version" / Const(Int32ub, 0), "children" / GreedyRange(Box))


def planned(recording: Recording, start_s: float, end_s: float) -> ClipPlan:
    recording.flush()
    with recording.index.read() as snapshot:
        return plan(snapshot, recording.store, recording.stream_id, T0 + round(start_s * US), T0 + round(end_s * US))


def exported(asked: ClipPlan) -> tuple[bytes, list[FragmentRecord], StreamFile]:
    records: list[FragmentRecord] = []
    file = StreamFile(
        asked,
        unit=ExportUnit("Nút 1", T0 + 100 * US, "Nguyễn Văn A"),
        source=Source("gate", "rtsp://192.0.2.7/main", "00:11:22:33:44:55", "main"),
        signer=signer(),
        information="case 7",
        record=records.append,
    )
    return b"".join(file.parts()), records, file


def top_boxes(data: bytes) -> list[tuple[bytes, int, int]]:
    """(type, first byte, end) of the file's boxes, by pymp4."""
    found, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found.append((Box.parse(data[at : at + size]).type, at, at + size))
        at += size
    return found


def child(parent: Any, kind: bytes) -> Any:
    (found,) = [one for one in parent.children if one.type == kind]
    return found


@pytest.mark.parametrize(("codec", "b_frames"), [("h264", 2), ("h265", 2)])
def test_players_show_the_range_and_hide_what_is_before(recording: Recording, codec: str, b_frames: int) -> None:
    recording.add(video(codec, b_frames=b_frames), audio(), chunk_s=2)
    asked = planned(recording, 1.3, 3.2)
    data, records, file = exported(asked)
    made = ClipFile(asked)
    clip = shown(b"".join(map(bytes, made.read(0, made.size))))
    everything = shown(data)
    seen = [(time_s, number) for time_s, number in everything if time_s >= 0]
    assert [number for _, number in everything[: len(everything) - len(seen)]] == list(range(25, 33)), "from 1 s on"
    assert [number for _, number in seen[: len(clip)]] == [number for _, number in clip]
    assert seen[0] == (pytest.approx(clip[0][0], abs=0.01), clip[0][1])
    assert file.summary is not None
    assert file.summary.fragments == len(records)
    assert 0.29 * US < file.summary.hidden_us <= 0.4 * US, "from the key frame at 1 s, and the reorder delay"
    assert asked.start_us - file.origin_us == file.summary.hidden_us


@pytest.mark.needs_ffmpeg
def test_ffmpeg_decodes_every_epoch_and_every_sample_is_the_cameras(recording: Recording, tmp_path: Path) -> None:
    for i, profile in enumerate(("high", "baseline", "main")):
        recording.add(video(first=100 * i, profile=profile), audio(), start_us=T0 + i * 6 * US, chunk_s=2)
    data, records, _ = exported(planned(recording, 0, 18))
    path = tmp_path / "clip.mp4"
    path.write_bytes(data)
    done = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(path), "-f", "null", "-"], capture_output=True, check=True
    )
    assert done.stderr == b""
    assert [number for _, number in shown(data)] == list(range(300))
    with av.open(io.BytesIO(data), options={"ignore_editlist": "1"}) as container:
        samples = [hashlib.sha256(bytes(p)).hexdigest() for p in container.demux(video=0) if p.size]
    assert samples == [sha256 for _, _, sha256 in recording.pictures]
    assert sum(record.pictures for record in records) == 300


def test_onvif_boxes_are_as_the_specification_lays_them_out(recording: Recording) -> None:
    recording.add(video(), audio(), chunk_s=2)
    data, _, file = exported(planned(recording, 0.5, 3.5))
    boxes = top_boxes(data)
    kinds = [kind for kind, _, _ in boxes]
    assert [*kinds[:2], *kinds[-2:]] == [b"ftyp", b"moov", b"meta", b"mfra"], "mfra must be last"
    assert Box.parse(data[: boxes[0][2]]).major_brand == b"isom"
    for kind, start, end in boxes:
        if kind == b"moof":
            moof = Box.parse(data[start:end])
            assert [[one.type for one in traf.children][:2] for traf in moof.children if traf.type == b"traf"] == [
                [b"tfhd", b"tfdt"]
            ] * 2
    start, end = boxes[-2][1:]
    meta = META.parse(data[start + 8 : end])
    assert [one.type for one in meta.children] == [b"hdlr", b"suep", b"ipro"]
    suep = SUEP.parse(child(meta, b"suep").data)
    assert (suep.name, suep.url, suep.mac, suep.operator) == ("Nút 1", "", "", "Nguyễn Văn A")
    assert suep.time == T0 // US + 100 + 2_082_844_800, "seconds since 1904"
    assert [(one.id, one.name, one.line) for one in suep.tracks] == [(1, "gate", "main"), (2, "gate", "main")]
    ipro = IPRO.parse(child(meta, b"ipro").data)
    (sinf,) = ipro.children
    assert [one.type for one in sinf.children] == [b"cstb", b"schm", b"schi"]
    schm = child(sinf, b"schm")
    assert (schm.scheme_type, schm.scheme_version) == (b"oeff", 0x00010000)
    assert [one.type for one in child(sinf, b"schi").children] == [b"sibo", b"cert", b"auib"]
    assert STRING.parse(child(child(sinf, b"schi"), b"auib").data) == "case 7"
    cstb = CSTB.parse(child(sinf, b"cstb").data)
    filetime = file.origin_us * 10 + 116_444_736_000_000_000
    assert [(one.id, one.start) for one in cstb.tracks] == [(1, filetime), (2, filetime)]


def test_the_signature_is_that_of_the_file_with_zeros_in_its_place(recording: Recording) -> None:
    recording.add(video(), chunk_s=2)
    data, _, file = exported(planned(recording, 0, 3))
    at = data.rindex(b"sibo") + 4
    signature = data[at : at + 256]
    start, end = top_boxes(data)[-2][1:]
    schi = child(IPRO.parse(child(META.parse(data[start + 8 : end]), b"ipro").data).children[0], b"schi")
    assert child(schi, b"sibo").data == signature
    key: Any = x509.load_der_x509_certificate(child(schi, b"cert").data).public_key()
    key.verify(signature, data[:at] + bytes(256) + data[at + 256 :], PSS, hashes.SHA256())
    assert file.summary is not None
    assert file.summary.sha256 == hashlib.sha256(data).hexdigest()
    assert file.summary.bytes == len(data)


def test_stored_chunks_can_be_made_again_from_the_file(recording: Recording) -> None:
    """What a leaf of the ledger is a hash of lies in the exported file, byte for byte."""
    recording.add(video(b_frames=1), audio(), chunk_s=2)
    data, records, _ = exported(planned(recording, 1.3, 3.2))
    stored = {path.name.split("-")[-1]: path.read_bytes() for path in recording.chunk_paths()}
    chunk, made = b"", {}
    boxes = top_boxes(data)
    for i, (kind, start, end) in enumerate(boxes):
        if kind != b"uuid":
            continue
        body = data[start + 24 : end]
        if data[start + 8 : start + 24] == CHUNK_UUID:
            chunk = next(raw for raw in stored.values() if raw.startswith(body))
            continue
        assert data[start + 8 : start + 24] == ORIGIN_UUID
        head = int.from_bytes(body[:4], "big")
        media = data[boxes[i + 2][1] + 8 : boxes[i + 2][2]]
        fragment = body[4 : 4 + head] + media + body[4 + head :]
        assert fragment in chunk
        seal = unpack_seal(fragment, len(fragment) - SEAL_SIZE)
        assert seal is not None
        made[start] = (seal.sequence, seal.number, hashlib.sha256(b"\0" + fragment).hexdigest())
        assert records[len(made) - 1].length == boxes[i + 2][2] - start
    assert made == {one.offset: (one.sequence, one.number, one.leaf) for one in records}


def test_a_spoilt_fragment_ends_the_file_before_it(recording: Recording) -> None:
    recording.add(video(), chunk_s=2)
    asked = planned(recording, 0, 4)
    path = recording.chunk_paths()[1]
    raw = bytearray(path.read_bytes())
    at = len(raw) // 2
    raw[at] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DamageError, match="not what was written"):
        exported(asked)
