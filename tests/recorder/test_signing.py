"""Looks at cameras' signatures, of real chunks in a real index."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog.testing

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support import T0, Recording, Video, recordings

from base.media import VideoConfig
from base.signatures import CameraSignature, forget, read_signatures, remember
from base.units import US
from evidence.ledger import CameraVerdict
from evidence.mediasigning import Trust
from index import StreamRow
from recorder.signing import Look, SignatureWatch, entry_of, judge
from simcam.encode import LoopSpec, make_loop
from tests.evidence.signer import Authority, Unit, make_camera, pem, sample

FPS = GOP = 10
SPEC = LoopSpec(codec="h264", width=160, height=90, fps=FPS, gop=GOP, seconds=12, bitrate_bps=80_000)
CA = Authority()


def footage(*, signs: bool = True, spoil: int | None = None, first: int = 0, **way: object) -> Video:
    """12 s of pictures; the one of number `spoil` is not as the camera signed it."""
    loop = make_loop(SPEC)
    units: list[Unit] = [list(loop.video.table.parts(i)) for i in range(len(loop.video.table))]
    if signs:
        units = make_camera(CA, **way).sign(units, closing=True)
    if spoil is not None:
        units[spoil][-1] = units[spoil][-1][:-9] + bytes((units[spoil][-1][-9] ^ 1,)) + units[spoil][-1][-8:]
    config = loop.video.config
    assert isinstance(config, VideoConfig)
    pictures = [(i * 90_000 // FPS, sample(unit), i % GOP == 0) for i, unit in enumerate(units)]
    return Video(config, FPS, pictures[first:])


@pytest.fixture
def recording(tmp_path: Path) -> Iterator[Recording]:
    yield from recordings(tmp_path)


class Watch:
    """A watch over one recording, looked with by hand."""

    def __init__(self, recording: Recording, folder: Path) -> None:
        trusted = folder / "ca.pem"
        trusted.write_bytes(pem(CA.certificate))
        self.looks: list[Look] = []
        self.recording = recording
        self.watch = SignatureWatch(recording.index, folder, 60, [str(trusted)], lambda: False, self.looks.append)
        self.watch._trust = Trust.read([trusted])
        self.row = StreamRow(recording.stream_id, recording.name)
        self.watch.follow([self.row], {recording.volume.id: recording.volume.root})

    def look(self) -> CameraSignature | None:
        self.recording.flush()
        return self.watch.told(self.row.name) if self.watch._look(self.row) else None


def test_each_new_chunk_is_looked_at_once(recording: Recording, tmp_path: Path) -> None:
    one = Watch(recording, tmp_path)
    assert one.look() is None
    recording.add(footage(), chunk_s=60)
    seen = one.look()
    assert seen is not None
    assert (seen.verdict, seen.provenance, seen.subject, seen.stopped_us) == ("authentic", "trusted", "CN=camera", 0)
    assert (seen.start_us, seen.signed_us) == (T0, seen.end_us)
    assert seen.end_us - seen.start_us < 2 * US, "one GOP is enough"
    assert one.look() is None
    assert [(look.sequence, look.fragment, look.seen) for look in one.looks] == [(1, 1, seen)]
    entry = entry_of(one.looks[0])
    assert entry == (T0, seen.end_us, 1, 1, CameraVerdict.AUTHENTIC, bytes.fromhex(seen.key), "")


def test_a_camera_that_stops_is_told_once_and_until_it_signs_again(
    recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = structlog.testing.CapturingLogger()  # one that wrote before goes on in its stream, whoever captures now
    monkeypatch.setattr("recorder.signing.log", structlog.wrap_logger(said, processors=[]))
    one = Watch(recording, tmp_path)
    verdicts = []
    for turn, signs in enumerate((True, False, False, True)):
        recording.add(footage(signs=signs), start_us=T0 + turn * 60 * US, chunk_s=60)
        seen = one.look()
        assert seen is not None
        verdicts.append((seen.verdict, seen.stopped_us > 0))
        assert read_signatures(tmp_path)[recording.name].stopped_us == seen.stopped_us
        gone = entry_of(one.looks[-1]).verdict == CameraVerdict.NO_LONGER_SIGNED
        assert gone is (seen.stopped_us > 0)
    assert verdicts == [("authentic", False), ("not-signed", True), ("not-signed", True), ("authentic", False)]
    events = [str(call.kwargs["event"]) for call in said.calls]
    assert sum("has stopped" in event for event in events) == 1
    assert sum("signs its pictures again" in event for event in events) == 1


def test_a_camera_that_never_signed_is_not_remembered(recording: Recording, tmp_path: Path) -> None:
    one = Watch(recording, tmp_path)
    recording.add(footage(signs=False), chunk_s=60)
    seen = one.look()
    assert seen is not None
    assert (seen.verdict, seen.stopped_us) == ("not-signed", 0)
    assert not read_signatures(tmp_path)


def test_pictures_that_are_not_as_signed_are_told(recording: Recording, tmp_path: Path) -> None:
    one = Watch(recording, tmp_path)
    recording.add(footage(spoil=3), chunk_s=60)
    seen = one.look()
    assert seen is not None
    assert (seen.verdict, seen.reason) == ("not-authentic", "units-altered")
    assert seen.signed_us


def test_a_certificate_that_came_when_the_connection_began_is_found(recording: Recording, tmp_path: Path) -> None:
    one = Watch(recording, tmp_path)
    recording.add(footage(certificate_sei=True), chunk_s=5)
    seen = one.look()
    assert seen is not None
    assert one.looks[0].sequence > 1
    assert (seen.verdict, seen.provenance) == ("authentic", "trusted")


def test_too_little_is_no_verdict() -> None:
    pictures = [(T0 + i * US // FPS, memoryview(data)) for i, (_, data, _) in enumerate(footage(signs=False).pictures)]
    assert judge(pictures[:25], "h264", Trust()) == (None, False)
    part, signs = judge(pictures, "h264", Trust())
    assert part is not None
    assert (part.verdict, signs) == ("not-signed", False)


def test_what_is_remembered_outlives_a_spoilt_file_and_is_forgotten_on_demand(tmp_path: Path) -> None:
    seen = CameraSignature(verdict="authentic", start_us=1, end_us=2)
    remember(tmp_path, "a.main", seen, True)
    remember(tmp_path, "b.main", seen, True)
    stopped = CameraSignature(verdict="not-signed", start_us=5, end_us=6)
    assert remember(tmp_path, "a.main", stopped, False)[1].stopped_us == 5
    forget(tmp_path, ["a.main"])
    assert set(read_signatures(tmp_path)) == {"b.main"}
    (tmp_path / "camera-signatures.json").write_text("{")
    assert remember(tmp_path, "b.main", stopped, False)[1].stopped_us == 0
