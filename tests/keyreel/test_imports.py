"""`keyreel import` as a user runs it: real files by an independent muxer, read back byte for byte from the chunks."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import support
from support import made

from base.claims import StreamClaims
from base.datadir import DataDir
from base.units import US, format_time, parse_time
from index import Index

START = "2026-03-01T01:30:00Z"
START_US = parse_time(START)


def keyreel(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "keyreel", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def later(film: bytes, by_90k: int) -> bytes:
    """A fragmented file whose media clock begins elsewhere: every `tfdt` (version 1) moved."""
    moved = bytearray(film)
    at = film.find(b"tfdt\1")
    while at >= 0:
        time = int.from_bytes(film[at + 8 : at + 16], "big") + by_90k
        moved[at + 8 : at + 16] = time.to_bytes(8, "big")
        at = film.find(b"tfdt\1", at + 1)
    return bytes(moved)


def stored(data: Path, stream: str) -> list[tuple[float, str]]:
    """(presentation time since the first, hash) of every picture in a stream's chunks, by an independent demuxer."""
    found = []
    for path in sorted((data / "media" / stream).rglob("*.mp4")):
        with av.open(str(path)) as container:
            for packet in container.demux(video=0):
                if packet.size:
                    found.append((float(packet.pts * packet.time_base), hashlib.sha256(bytes(packet)).hexdigest()))
    return found


def timeline(data: Path, stream: str) -> Any:
    done = keyreel("timeline", stream, "--start", "2020-01-01T00:00:00Z", "--data", data, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def agree(data: Path) -> None:
    done = keyreel("check", "--deep", "--data", data)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("form", "codec", "b_frames", "options"),
    [
        ("mp4", "h264", 2, {}),
        ("mp4", "h265", 0, {"movflags": "frag_keyframe+empty_moov"}),
        ("matroska", "h264", 0, {}),
        ("matroska", "h265", 2, {}),
        ("mpegts", "h264", 0, {}),
        ("flv", "h264", 0, {}),
    ],
)
def test_a_file_is_stored_as_it_is(
    tmp_path: Path, form: str, codec: str, b_frames: int, options: dict[str, str]
) -> None:
    video, sound = support.video(codec, 60, b_frames=b_frames), support.audio("aac", 2.4)
    file, data = tmp_path / f"card.{form}", tmp_path / "data"
    hashes = made(file, form, video, sound, options)
    done = keyreel("import", file, "--stream", "gate.card", "--start", START, "--data", data, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["pictures"], report["skipped_packets"], report["times_from"]) == (60, 0, "start")
    assert report["start"] == format_time(START_US)
    found = stored(data, "gate.card")
    if form == "mpegts":  # the muxer puts an access unit delimiter before each picture, and that is stored too
        assert len(found) == 60
    else:
        assert [digest for _, digest in found] == hashes
    times = sorted(time for time, _ in found)
    assert all(abs(b - a - 0.04) < 0.0011 for a, b in pairwise(times))
    spans = timeline(data, "gate.card")["spans"]
    assert len(spans) == 1
    assert abs(parse_time(spans[0]["end"]) - START_US - 2.4 * US) < 0.1 * US
    agree(data)
    assert not list((data / "media").glob(".import*"))
    clip = tmp_path / "clip.mp4"
    done = keyreel("clip", "gate.card", "--start", START, "--end", "2026-03-01T01:30:02Z", "-o", clip, "--data", data)
    assert done.returncode == 0, done.stderr
    assert [number for _, number in support.shown(clip.read_bytes())] == list(range(50))
    rebuilt = keyreel("rebuild", "--data", data, "--json")
    assert (rebuilt.returncode, json.loads(rebuilt.stdout)["chunks"]) == (0, report["chunks"])
    agree(data)


def test_a_file_that_knows_its_time(tmp_path: Path) -> None:
    data = tmp_path / "data"
    tagged, dated, own = tmp_path / "tagged.mp4", tmp_path / "dated.mp4", tmp_path / "plain.mp4"
    made(tagged, "mp4", support.video(count=25), tags={"creation_time": START})
    done = keyreel("import", tagged, "--stream", "a.card", "--data", data, "--json")
    report = json.loads(done.stdout)
    assert (report["times_from"], report["start"]) == ("creation_time", format_time(START_US))
    made(dated, "mp4", support.video(count=25), options={"movflags": "frag_keyframe+empty_moov"})  # from 80 ms on
    dated.write_bytes(later(dated.read_bytes(), (START_US + 3600 * US) * 9 // 100))
    done = keyreel("import", dated, "--stream", "b.card", "--data", data, "--json")
    report = json.loads(done.stdout)
    assert (report["times_from"], report["start"]) == ("tfdt", format_time(START_US + 3600 * US + 80_000))
    made(own, "mp4", support.video(count=25))
    done = keyreel("import", own, "--stream", "c.card", "--data", data)
    assert done.returncode == 2
    assert "--start" in done.stderr


def test_our_own_chunk_comes_back_at_its_time(tmp_path: Path) -> None:
    data = tmp_path / "data"
    file = tmp_path / "card.mp4"
    made(file, "mp4", support.video(count=50), support.audio("aac", 2.0))
    assert keyreel("import", file, "--stream", "a.card", "--start", START, "--data", data).returncode == 0
    chunk = next((data / "media" / "a.card").rglob("*.mp4"))
    done = keyreel("import", chunk, "--stream", "b.card", "--data", data, "--json")
    report = json.loads(done.stdout)
    assert report["times_from"] == "prft"
    assert abs(parse_time(report["start"]) - START_US) <= 1
    assert stored(data, "a.card") == stored(data, "b.card")


def test_a_pause_in_the_file_is_an_absence(tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "card.mp4"
    made(file, "mp4", support.video(count=50), pause=(25, 3600 * 90_000))
    done = keyreel("import", file, "--stream", "a.card", "--start", START, "--data", data, "--json")
    assert json.loads(done.stdout)["pictures"] == 50
    told = timeline(data, "a.card")
    assert len(told["spans"]) == 2
    assert [gap["cause"] for gap in told["gaps"]] == ["no-media"]
    agree(data)


def test_overlap_is_refused_and_later_footage_is_not(tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "card.mp4"
    made(file, "mp4", support.video(count=50))
    words = ("import", file, "--stream", "a.card", "--data", data)
    assert keyreel(*words, "--start", START).returncode == 0
    before = stored(data, "a.card")
    for start in (START, "2026-03-01T01:30:01Z", "2026-03-01T01:29:00Z"):
        done = keyreel(*words, "--start", start)
        assert done.returncode == 2
        assert "holds footage until 2026-03-01T01:30:02" in done.stderr
    assert stored(data, "a.card") == before
    assert keyreel(*words, "--start", "2026-03-01T01:31:00Z").returncode == 0
    told = timeline(data, "a.card")
    assert [gap["cause"] for gap in told["gaps"]] == ["unknown"]
    assert len(told["spans"]) == 2
    agree(data)
    done = keyreel(*words, "--start", "2999-01-01T00:00:00Z")
    assert done.returncode == 2
    assert "yet to come" in done.stderr
    agree(data)


def test_beside_a_recorder_a_stream_has_one_writer(tmp_path: Path) -> None:
    """The lock of a recorder is held by this test, and so is one of its streams."""
    data, file = tmp_path / "data", tmp_path / "card.mp4"
    made(file, "mp4", support.video(count=25))
    words = ("import", file, "--start", START, "--data", data)
    assert keyreel(*words, "--stream", "first.card").returncode == 0
    datadir = DataDir.open(data)
    with Index.open(datadir.index_path) as index, index.write() as transaction:
        stream = transaction.ensure_stream("gate.main")
    with datadir.lock():
        claims = StreamClaims(datadir.run_path)
        assert claims.take(stream.id)
        done = keyreel(*words, "--stream", "gate.main")
        assert done.returncode == 2
        assert "being recorded" in done.stderr
        assert keyreel(*words, "--stream", "second.card").returncode == 0
        claims.close()
    agree(data)


def test_what_an_import_that_died_left_is_removed(tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "card.mp4"
    made(file, "mp4", support.video(count=25))
    words = ("import", file, "--stream", "a.card", "--data", data)
    assert keyreel(*words, "--start", START).returncode == 0
    left = data / "media" / ".import-1"
    shutil.copytree(data / "media" / "a.card", left / "a.card")
    agree(data)
    assert keyreel(*words, "--start", "2026-03-01T01:31:00Z").returncode == 0
    assert not left.exists()


def test_an_import_that_died_before_its_rows(tmp_path: Path) -> None:
    """The chunks are in place and the index does not know them: the next import takes them in and says so."""
    data, file = tmp_path / "data", tmp_path / "card.mp4"
    made(file, "mp4", support.video(count=25))
    words = ("import", file, "--stream", "a.card", "--data", data)
    assert keyreel(*words, "--start", START).returncode == 0
    shutil.copytree(data / "index", tmp_path / "index")
    assert keyreel(*words, "--start", "2026-03-01T01:31:00Z").returncode == 0
    shutil.rmtree(data / "index")
    shutil.copytree(tmp_path / "index", data / "index")
    done = keyreel(*words, "--start", "2026-03-01T01:31:00Z")
    assert (done.returncode, "until 2026-03-01T01:31:01" in done.stderr) == (2, True), done.stderr
    assert len(timeline(data, "a.card")["spans"]) == 2
    agree(data)


def test_bad_files(tmp_path: Path) -> None:
    data = tmp_path / "data"
    text, jpeg, cut = tmp_path / "text.mp4", tmp_path / "jpeg.avi", tmp_path / "cut.mp4"
    text.write_text("<html>not a film</html>" * 100)
    with av.open(str(jpeg), "w") as out:
        stream: Any = out.add_stream("mjpeg", 5, width=64, height=48, pix_fmt="yuvj420p")
        for packet in [*stream.encode(av.VideoFrame(64, 48, "yuvj420p")), *stream.encode(None)]:
            out.mux(packet)
    made(cut, "mp4", support.video(count=25))
    cut.write_bytes(cut.read_bytes()[:2000])
    playlist = tmp_path / "list.m3u8"
    playlist.write_text("#EXTM3U\n#EXTINF:2,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    for file, code, says in (
        (tmp_path / "absent.mp4", 3, "there is no file"),
        (text, 2, "cannot be read"),
        (jpeg, 2, "H.264 or H.265"),
        (cut, 2, "cut.mp4"),
        (playlist, 2, "cannot be read"),
    ):
        done = keyreel("import", file, "--stream", "a.card", "--start", START, "--data", data)
        assert (done.returncode, says in done.stderr) == (code, True), (file, done.stderr)
        assert "Traceback" not in done.stderr
    assert keyreel("import", jpeg, "--stream", "card", "--start", START, "--data", data).returncode == 2
    assert not data.exists()


def test_a_file_that_is_odd_and_sound(tmp_path: Path) -> None:
    """Words in no known script, and a track that appears only on the way."""
    data, file = tmp_path / "data", tmp_path / "card.flv"
    hashes = made(file, "flv", support.video(count=50), support.audio("aac", 2.0))
    film = file.read_bytes()
    odd, at, tags = film[:4] + b"\1" + film[5:13], 13, 0
    while at < len(film):  # FLV tags: kind, size u24, 7 bytes, body, size u32
        size = 15 + int.from_bytes(film[at + 1 : at + 4], "big")
        if film[at] != 8 or tags > 40:
            odd += film[at : at + size]
        at, tags = at + size, tags + 1
    file.write_bytes(odd.replace(b"encoder", b"\xe9ncod\xff\xfe"))
    done = keyreel("import", file, "--stream", "a.card", "--start", START, "--data", data)
    assert done.returncode == 0, done.stderr
    assert [digest for _, digest in stored(data, "a.card")] == hashes


@pytest.mark.needs_corpus
@pytest.mark.parametrize("name", ["footage/car-detection.mp4", "footage/one-by-one-person-detection.mp4",
                                  "signed/test_signed_h264.mp4", "signed/test_signed_h265.mp4"])  # fmt: skip
def test_real_footage(tmp_path: Path, corpus: Path, name: str) -> None:
    data = tmp_path / "data"
    done = keyreel("import", corpus / name, "--stream", "a.card", "--start", START, "--data", data, "--json")
    assert done.returncode == 0, done.stderr
    with av.open(str(corpus / name)) as container:
        film = b"".join(bytes(packet) for packet in container.demux(video=0))
    kept = b""
    for path in sorted((data / "media" / "a.card").rglob("*.mp4")):
        with av.open(
            str(path)
        ) as container:  # a signature that had a sample of its own is part of the picture after it
            kept += b"".join(bytes(packet) for packet in container.demux(video=0))
    assert hashlib.sha256(kept).digest() == hashlib.sha256(film).digest()
    agree(data)
