from __future__ import annotations

import hashlib
import io
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from support import T0, Recording, audio, shown, video

from base.errors import DamageError, NotFound
from base.units import US
from chunks.records import FragmentStored, Gap, GapCause
from clips import hls, hlslive
from clips.segments import find_segments
from index import Index, Snapshot


def playlist(recording: Recording, start_s: float, end_s: float) -> str:
    recording.flush()
    with recording.index.read() as snapshot:
        asked = T0 + round(start_s * US), T0 + round(end_s * US)
        return hls.vod_playlist(snapshot, recording.stream_id, *asked).decode()


def named(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(("seg-", "key-"))]


def fetch(recording: Recording, name: str) -> bytes:
    with recording.index.read() as snapshot:
        return hls.file(snapshot, recording.store, recording.stream_id, name)


def test_segments_are_the_same_whoever_asks(recording: Recording) -> None:
    recording.add(video(b_frames=2), audio(), repeat=10, chunk_s=16)
    all_of_them = named(playlist(recording, 0, 40))
    part = named(playlist(recording, 9.5, 21))
    assert part == [name for name in all_of_them if name in part]
    data = fetch(recording, "init-1.mp4") + b"".join(fetch(recording, name) for name in all_of_them)
    with av.open(io.BytesIO(data)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    assert [hashlib.sha256(p).hexdigest() for p in packets] == [digest for _, _, digest in recording.pictures]
    for name in all_of_them:
        decoded = shown(fetch(recording, "init-1.mp4") + fetch(recording, name))
        assert decoded[0][1] % 25 == 0
        assert len(decoded) % 25 == 0


def test_what_still_grows_is_not_listed(recording: Recording) -> None:
    recording.add(video(), repeat=3, seal=False)  # 12 s: two finished segments, and one that may go on
    text = playlist(recording, 0, 60)
    before = named(text)
    assert sum(float(x) for x in re.findall(r"#EXTINF:([\d.]+)", text)) == pytest.approx(8, abs=0.01)
    assert before == [f"seg-0000000001-{(T0 + i * 4 * US) // (4 * US):010}.m4s" for i in range(2)]
    growing = f"seg-0000000001-{(T0 + 8 * US) // (4 * US):010}.m4s"
    with pytest.raises(NotFound, match="still grows"):
        fetch(recording, growing)


def test_a_playlist_opens_no_file(recording: Recording) -> None:
    recording.add(video(), repeat=10, chunk_s=16)
    recording.flush()
    for path in recording.chunk_paths():
        path.unlink()
    assert len(named(playlist(recording, 0, 40))) == 10


def test_a_hole_inside_a_chunk_ends_the_segment_before_it(recording: Recording) -> None:
    recording.add(video(), repeat=3)
    recording.flush()
    with recording.index.write() as transaction:
        transaction.apply([Gap(recording.stream_id, T0 + 3 * US, T0 + 4 * US, GapCause.PACKET_LOSS, 7)])
    text = playlist(recording, 0, 12)
    assert "#EXTINF:0003.00000,\n" in text
    assert text.count("#EXT-X-GAP") == 1
    with recording.index.read() as snapshot:
        found = find_segments(snapshot, recording.stream_id, T0, T0 + 12 * US)
    assert found.end_us.tolist() == [T0 + 3 * US, T0 + 8 * US, T0 + 12 * US]


def test_gaps_breaks_maps_and_times(recording: Recording) -> None:
    recording.add(video(), audio(), chunk_s=4)
    recording.add(video(profile="baseline"), audio(), start_us=T0 + 14 * US)
    text = playlist(recording, 1.5, 30)
    assert "#EXT-X-START:TIME-OFFSET=1.500,PRECISE=YES" in text
    assert text.count("#EXT-X-MAP:") == 2
    assert text.count("#EXT-X-GAP") == 3  # 10 s by at most 4 s
    assert text.count("#EXT-X-DISCONTINUITY") == 2
    assert "#EXT-X-PROGRAM-DATE-TIME:2026-03-01T01:30:14.000Z\n#EXTINF" in text
    assert text.endswith("#EXT-X-ENDLIST\n")
    longest = int(re.findall(r"TARGETDURATION:(\d+)", text)[0])
    durations = [float(x) for x in re.findall(r"#EXTINF:([\d.]+)", text)]
    assert max(durations) <= longest + 0.5
    assert sum(durations) == pytest.approx(18, abs=0.01)


@pytest.mark.needs_ffmpeg
@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_ffmpeg_plays_it(recording: Recording, tmp_path: Path, codec: str) -> None:
    recording.add(video(codec, b_frames=2), audio("pcmu", rate_hz=8000), repeat=3, chunk_s=5)
    recording.flush()
    text = playlist(recording, 0, 60)
    (tmp_path / "vod.m3u8").write_text(text)
    for name in ["init-1.mp4", *named(text)]:
        (tmp_path / name).write_bytes(fetch(recording, name))
    command = ["ffprobe", "-v", "error", "-count_packets", "-allowed_extensions", "ALL", "-of", "csv=p=0"]
    entries = ["-show_entries", "stream=codec_type,codec_tag_string,nb_read_packets"]
    done = subprocess.run([*command, *entries, str(tmp_path / "vod.m3u8")], capture_output=True, text=True, check=True)
    tag = {"h264": "avc1", "h265": "hvc1"}[codec]
    assert done.stdout.splitlines()[0] == f"video,{tag},300", "the pictures as they were recorded"
    assert done.stdout.splitlines()[1].startswith("audio,mp4a,"), "made from G.711, as browsers cannot play that"


def test_key_frames_alone(recording: Recording) -> None:
    recording.add(video(b_frames=2), audio(), chunk_s=2)
    recording.flush()
    with recording.index.read() as snapshot:
        text = hls.key_playlist(snapshot, recording.store, recording.stream_id, T0 + US, T0 + 4 * US).decode()
        ranges = re.findall(r"#EXT-X-BYTERANGE:(\d+)@(\d+)\nkeys-(\d+)\.m4s", text)
        files = {int(n): hls.key_file(snapshot, recording.store, recording.stream_id, int(n)) for _, _, n in ranges}
    assert "#EXT-X-I-FRAMES-ONLY" in text
    assert '#EXT-X-MAP:URI="init-1-video.mp4"' in text, "a player must not wait for sound"
    data = fetch(recording, "init-1-video.mp4")
    assert data.count(b"trak") == 1
    for size, first, number in ranges:
        one = b"".join(files[int(number)].read(int(first), int(first) + int(size)))
        assert len(one) == int(size)
        assert one[4:8] == b"moof"
        data += one
    assert [number for _, number in shown(data)] == [25, 50, 75]
    whole = b"".join(files[2].read(0, files[2].size))
    for first, end in ((0, 1), (5, 3000), (files[2].size - 7, files[2].size + 10)):
        assert b"".join(files[2].read(first, end)) == whole[first:end]


class Told:
    """All that live playlists said of a recording as it grew; what is said once of a number must stay."""

    def __init__(self) -> None:
        self.segments: dict[int, tuple[str, ...]] = {}
        self.parts: dict[int, list[str]] = {}
        self.number = self.breaks = 0

    def check(self, text: str) -> None:
        lines = text.splitlines()
        number = int(re.findall(r"MEDIA-SEQUENCE:(\d+)", text)[0])
        breaks = int(re.findall(r"DISCONTINUITY-SEQUENCE:(\d+)", text)[0])
        assert number >= self.number
        assert breaks >= self.breaks
        self.number, self.breaks = number, breaks
        about: list[str] = []
        parts: list[str] = []
        for line in lines:
            breaks += line == "#EXT-X-DISCONTINUITY"
            if line.startswith("#EXT-X-PART:"):
                parts.append(line)
            elif line.startswith(("#EXT-X-PROGRAM", "#EXTINF", "#EXT-X-GAP")):
                about.append(line)
            elif not line.startswith("#"):
                told = (line, str(breaks), *about)
                assert self.segments.setdefault(number, told) == told
                if parts:
                    assert self.parts.setdefault(number, parts)[: len(parts)] == parts[: len(self.parts[number])]
                    self.parts[number] = parts
                about, parts, number = [], [], number + 1
        known = self.parts.setdefault(number, [])
        assert parts[: len(known)] == known, "a part told of the growing segment stays where it is"
        self.parts[number] = parts


def grown(recording: Recording, root: Path) -> Iterator[Snapshot]:
    """The recording once more as it grew, one record after another."""
    recording.flush()
    with Index.open(root, create=True) as index:
        with index.write() as transaction:
            assert transaction.ensure_stream(recording.name).id == recording.stream_id
        for record in recording.records:
            with index.write() as transaction:
                transaction.apply([record])
            with index.read() as snapshot:
                yield snapshot


def live(playlists: hlslive.LivePlaylists, snapshot: Snapshot, stream_id: int) -> hlslive.LiveText | None:
    try:
        return playlists.text(snapshot, stream_id)
    except NotFound:
        return None


def test_live_numbers_are_the_same_in_every_process(recording: Recording, tmp_path: Path) -> None:
    """Many chunk borders in and at slots, holes, runs and epochs that change within a slot, GOPs of 10 s."""
    at_us = T0 + 300_000
    for pictures, repeat, chunk_s, pause_s in (
        (video(gop=25), 10, 3, 0.0), (video(gop=25), 4, 4, 2.5), (video(gop=100), 6, 9, 0.4),
        (video(gop=25), 5, 5, 30.0),
        (video(profile="baseline"), 4, 6, 0.0), (video(count=250, gop=250), 3, 60, 9.0), (video(gop=25), 6, 7, 0.0),
    ):  # fmt: skip
        recording.add(pictures, start_us=at_us, repeat=repeat, chunk_s=chunk_s, fragment_90k=45_000, keep=False)
        at_us = recording.end_us + round(pause_s * US)
    one, told = hlslive.LivePlaylists(recording.store), Told()
    texts = 0
    for turn, snapshot in enumerate(grown(recording, tmp_path / "again")):
        other = hlslive.LivePlaylists(recording.store)  # a playback that was just started
        found = live(other, snapshot, recording.stream_id)
        if turn % 3 == 0:  # the one that has run all the time is asked now and then
            assert live(one, snapshot, recording.stream_id) == found
        if found is not None:
            told.check(found.text.decode())
            texts += 1
    assert texts > 300
    assert min(told.segments) == T0 // (4 * US)
    assert max(told.segments) > min(told.segments) + 40
    numbers = range(min(told.segments), max(told.segments) + 1)
    assert [n for n in numbers if n not in told.segments] == [], "a number for every slot, and no other"
    lengths = [float(line[8:-1]) for said in told.segments.values() for line in said if line.startswith("#EXTINF")]
    assert max(lengths) <= 8.5
    assert min(lengths) > 0.1
    gaps = [n for n, said in told.segments.items() if "#EXT-X-GAP" in said]
    assert 7 <= len(gaps) <= 11, "30 s and 9 s"
    with recording.index.read() as snapshot:
        for number, said in told.segments.items():
            if number in gaps:
                continue
            names = re.findall(r'URI="(part-[^"]+)"', "".join(told.parts[number]))
            parts = [hls.file(snapshot, recording.store, recording.stream_id, name) for name in names]
            assert hls.file(snapshot, recording.store, recording.stream_id, said[0]) == b"".join(parts)


def test_most_live_segments_are_those_of_vod_playlists(recording: Recording) -> None:
    recording.add(video(), repeat=8, chunk_s=18)
    recording.flush()
    with recording.index.read() as snapshot:
        text = hlslive.LivePlaylists(recording.store).text(snapshot, recording.stream_id).text.decode()
    names = [line for line in text.splitlines() if line.endswith("m4s") and not line.startswith("#")]
    assert [name[:3] for name in names].count("cut") == 1, "the one that spans two chunks"
    assert len(set(named(text)) & set(named(playlist(recording, 0, 40)))) == 6


def test_a_hole_inside_a_run_is_told_live(recording: Recording) -> None:
    """Twelve seconds are lost on the network: two slots in which nothing begins, and a date range that says why."""
    recording.add(video(), repeat=3)
    recording.run -= 1
    recording.add(video(), repeat=3, start_us=T0 + 24 * US, gap_cause=GapCause.PACKET_LOSS)
    recording.flush()
    with recording.index.read() as snapshot:
        text = hlslive.LivePlaylists(recording.store).text(snapshot, recording.stream_id).text.decode()
    assert text.count("#EXT-X-GAP\n") == 3
    assert "#EXT-X-DISCONTINUITY\n" not in text, "the media clock went on"
    assert 'DURATION=12.000,X-CAUSE="packet-loss"' in text
    dates = re.findall(r"PROGRAM-DATE-TIME:\S+T01:(\d\d):(\d\d)\.(\d+)Z", text)
    lengths = [float(x) for x in re.findall(r"#EXTINF:([\d.]+)", text)]
    starts = [int(m) * 60 + int(s) + int(ms) / 1000 - 1800 for m, s, ms in dates]
    for start, length, after in zip(starts, lengths, starts[1:], strict=False):
        assert start + length == pytest.approx(after, abs=0.002), "times and lengths agree"


def test_the_growing_segment_is_told_in_parts(recording: Recording) -> None:
    recording.add(video(), repeat=3, seal=False, fragment_90k=45_000)
    recording.flush()
    lists = hlslive.LivePlaylists(recording.store)
    with recording.index.read() as snapshot:
        text, growing, parts = lists.text(snapshot, recording.stream_id)
        row = snapshot.last_chunk(recording.stream_id)
    lines = text.decode().splitlines()
    number = int(re.findall(r"MEDIA-SEQUENCE:(\d+)", text.decode())[0])
    assert growing == number + 2
    assert "CAN-BLOCK-RELOAD=YES" in text.decode()
    told = [line for line in lines if line.startswith("#EXT-X-PART:")]
    assert parts == len(told[16:]) == 8, "two segments of eight parts, and 4 s that may go on"
    assert told[0].endswith("INDEPENDENT=YES")
    assert sum(",INDEPENDENT=YES" in line for line in told) == 12
    names = re.findall(r'URI="(part-[^"]+)"', "\n".join(told))
    whole = b"".join(fetch(recording, name) for name in names[8:16])
    assert whole == fetch(recording, named(text.decode())[-1])
    data = fetch(recording, "init-1.mp4") + b"".join(fetch(recording, name) for name in names)
    with av.open(io.BytesIO(data)) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) == 300
    assert row is not None
    assert lines[-1] == f'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="part-{row.sequence:010}-{row.size:012}.m4s"'


def test_the_hinted_part_is_the_one_that_comes(recording: Recording, tmp_path: Path) -> None:
    recording.add(video(), repeat=4, fragment_90k=45_000)
    hints, came = [], set()
    for snapshot in grown(recording, tmp_path / "again"):
        found = live(hlslive.LivePlaylists(recording.store), snapshot, recording.stream_id)
        if found is not None:
            hints += re.findall(r'PRELOAD-HINT:TYPE=PART,URI="([^"]+)"', found.text.decode())
            came |= set(re.findall(r'#EXT-X-PART:.*URI="([^"]+)"', found.text.decode()))
    assert len(hints) > 10
    assert set(hints[:-1]) <= came


def test_nothing_to_list(recording: Recording) -> None:
    recording.add(video(), seal=False)
    recording.flush()
    with pytest.raises(NotFound):
        playlist(recording, 100, 200)
    with recording.index.read() as snapshot, pytest.raises(NotFound, match="no finished segment yet"):
        hlslive.LivePlaylists(recording.store).text(snapshot, recording.stream_id)


@pytest.mark.parametrize(
    "name",
    [
        "", "..", "init-9.mp4", "seg-1-0-0.m4s", "seg-0000000001-0000000000.m4s", "seg-0000000009-0443082150.m4s",
        "seg-9999999999-0443082150.m4s", "seg-0000000001-443082150.m4s", "seg-0000000001-0443082150.m4s/..",
        "gap-5.m4s", "part-0000000001-000000000007.m4s", "part-0000000001-999999999999.m4s", "x" * 5000,
        "seg-000000000١-0443082150.m4s", "cut-0000000001-000000000000-0000000001-000000000007.m4s",
        "cut-0000000001-000000000000-9999999999-999999999999.m4s",
        "cut-9999999999-000000000000-0000000001-000000000009.m4s",
    ],
)  # fmt: skip
def test_names_of_nothing(recording: Recording, name: str) -> None:
    recording.add(video())
    recording.flush()
    with pytest.raises(NotFound) as caught:
        fetch(recording, name)
    assert len(str(caught.value)) < 300


def spoil(recording: Recording, fragment: int) -> FragmentStored:
    """One bit of a stored fragment is wrong."""
    victim = recording.fragments()[fragment]
    with recording.chunk_paths()[0].open("r+b") as file:
        file.seek(victim.offset + 900)
        byte = file.read(1)[0]
        file.seek(victim.offset + 900)
        file.write(bytes([byte ^ 1]))
    return victim


def damaged(text: str) -> list[str]:
    """Segments told as gaps."""
    return re.findall(r"#EXT-X-GAP\n#EXT-X-PROGRAM\S+\n#EXTINF:\S+\n(seg-\S+)", text)


def test_a_damaged_fragment_is_no_segment(recording: Recording) -> None:
    recording.add(video(), repeat=3)
    recording.flush()
    names = named(playlist(recording, 0, 12))
    spoil(recording, 5)
    for _ in range(2):
        with pytest.raises(DamageError):
            fetch(recording, names[1])
    assert fetch(recording, names[0])
    with recording.index.read() as snapshot:
        text = hls.vod_playlist(snapshot, recording.stream_id, T0, T0 + 12 * US, recording.store).decode()
    assert damaged(text) == [names[1]], "what was met once is told by the next playlist"
    assert named(text) == names


def test_declared_damage_is_a_gap_in_every_playlist(recording: Recording) -> None:
    recording.add(video(), repeat=6)
    recording.add(video(), start_us=T0 + 24 * US)
    recording.flush()
    victim = spoil(recording, 21)
    with recording.index.write() as transaction:
        transaction.apply([Gap(recording.stream_id, victim.start_us, victim.end_us, GapCause.DAMAGE)])
    text = playlist(recording, 0, 28)
    assert len(named(text)) == 7
    assert damaged(text) == [named(text)[5]], "the segment with it, at its full length, and no other"
    assert "#EXT-X-DISCONTINUITY" in text.partition(named(text)[5])[2], "that of the second run alone"
    with recording.index.read() as snapshot:
        live = hlslive.LivePlaylists(recording.store).text(snapshot, recording.stream_id).text.decode()
        keys = hls.key_playlist(snapshot, recording.store, recording.stream_id, T0, T0 + 28 * US).decode()
    assert re.findall(r"#EXT-X-GAP\n#EXTINF:4.00000,\n(\S+)", live)[0].startswith("cut-")
    assert live.count(",GAP=YES") == 1
    assert re.findall(r"#EXT-X-GAP\n#EXT-X-PROGRAM-DATE-TIME:(\S+)", keys) == ["2026-03-01T01:30:21.000Z"]
