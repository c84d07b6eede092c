"""A recorded file → chunks and index rows of a stream, beside whatever else records.

Kept true: a file is stored whole or not at all: its chunks are written and synced in a folder of their own, take their
places by renaming, and enter the index in one transaction; what is stored begins where the stream's past has ended;
the stream is claimed, so no other process writes it meanwhile. Times are the file's own, laid on one given moment.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from base.claims import StreamClaims
from base.errors import UserError, VolumeError
from base.media import AudioConfig, StreamConfig, VideoConfig
from base.units import MEDIA_HZ, US, format_time, ticks_to_us, us_to_90k
from chunks.path import chunk_path
from chunks.records import ChunkHead, ClockState, GapCause
from chunks.recover import scan
from chunks.volume import IDENTITY_NAME, Volume, sync_directory
from chunks.writer import OpenChunk, VolumeWriter
from index import Index, StreamRow
from native.fragment import FragmentBuilder
from native.moof import Fragment
from recorder.pipeline import Resume, Rotation
from sources.feed import Feed
from sources.file import FileSource, Moment
from sources.formats import changes_configuration

CHUNKS_MAX: Final = 8192
HOLE_US: Final = 2 * US  # a longer pause between two pictures is an absence, not a long picture
QUEUE_BYTES: Final = 64 << 20
SPARE_BYTES: Final = 64 << 20
WAIT_S: Final = 0.005
FUTURE_US: Final = 60 * US


@dataclass(slots=True)
class ImportReport:
    """What was stored."""

    stream: str
    start_us: int = 0
    end_us: int = 0
    chunks: int = 0
    pictures: int = 0
    media_bytes: int = 0
    skipped_packets: int = 0  # before the first key frame, without a time, or damaged
    times_from: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an import goes: the stream, the end of its past, the volume, and the bounds of chunks."""

    stream: StreamRow
    resume: Resume
    volume: Volume
    rotation: Rotation
    fragment_90k: int
    unit_bytes_max: int
    now_us: int


@contextmanager
def claimed(claims: StreamClaims, stream: StreamRow) -> Iterator[None]:
    """The stream is this process's alone; `UserError` when a recorder or another import has it."""
    if not claims.take(stream.id):
        raise UserError(
            f"stream {stream.name} is being recorded or imported into; stop that first, or name another --stream",
            reason="busy",
        )
    try:
        yield
    finally:
        claims.close()


def import_file(
    index: Index, source: FileSource, place: Place, started_us: int | None, progress: Callable[[int, int], None]
) -> ImportReport:
    """Store the whole file; `started_us` is the wall time of its first picture, None asks the file itself."""
    if place.volume.free_bytes() < source.size + SPARE_BYTES:
        raise VolumeError(f"{place.volume.root} has no room for {source.size} bytes more; free some", reason="enospc")
    staging = place.volume.root / f".import-{place.stream.id}"
    shutil.rmtree(staging, ignore_errors=True)  # what an import that died left; the claim says nobody works there
    staging.mkdir()
    try:
        shutil.copyfile(place.volume.root / IDENTITY_NAME, staging / IDENTITY_NAME)
        with _Writing(Volume(place.volume.id, staging, place.volume.node)) as writing:
            maker = _Maker(place, source, started_us, writing)
            for packet in source.packets():
                maker.push(packet)
                progress(min(max(packet.pos or 0, 0), source.size), source.size)
            maker.end()
        if not maker.chunks:
            raise UserError(f"{source.path} has no key frame, so nothing of it can be stored", reason="bad-file")
        paths = _put_in_place(place.volume.root, staging, maker.chunks)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    with index.write() as transaction:
        for path in paths:
            transaction.apply(scan(path))
    progress(source.size, source.size)
    return maker.report


def _put_in_place(root: Path, staging: Path, chunks: list[ChunkHead]) -> list[Path]:
    """Rename each chunk to where it belongs; all names are on stable storage when this returns."""
    paths = []
    for head in chunks:
        made = chunk_path(staging, head.stream_name, head.start_us, head.sequence)
        path = chunk_path(root, head.stream_name, head.start_us, head.sequence)
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        os.rename(made, path)
        paths.append(path)
    for folder in {path.parent for path in paths}:
        sync_directory(folder)
    sync_directory(paths[0].parent.parent)
    sync_directory(root)
    return paths


class _Writing:
    """The volume writer of one import; ends drained and synced, or raises what went wrong."""

    def __init__(self, volume: Volume) -> None:
        self._error: VolumeError | None = None
        self.writer = VolumeWriter(
            volume, on_commit=lambda records: None, on_failure=self._failed, queue_bytes_max=QUEUE_BYTES
        )

    def _failed(self, error: VolumeError, _chunks: list[OpenChunk]) -> None:
        self._error = error

    def __enter__(self) -> _Writing:
        self.writer.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.writer.stop()
        if error[0] is None:
            self.check()

    def check(self) -> None:
        """Raise what made the writer fail."""
        if self._error is not None:
            raise self._error


class _Maker:
    """Packets → fragments → chunks, timed by the file."""

    def __init__(self, place: Place, source: FileSource, started_us: int | None, writing: _Writing) -> None:
        self.report = ImportReport(place.stream.name)
        self.chunks: list[ChunkHead] = []
        self._place = place
        self._source = source
        self._started_us = started_us
        self._writing = writing
        self._video: VideoConfig = source.layout.video
        self._audio: AudioConfig | None = source.layout.audio
        self._moment: Moment | None = None
        self._builder: FragmentBuilder | None = None
        self._feed: Feed | None = None
        self._top_90k = 0
        self._end_us = place.resume.end_us
        self._config: StreamConfig | None = place.resume.config
        self._epoch = place.resume.epoch
        self._run = place.resume.run
        self._chunk: OpenChunk | None = None
        self._slot = 0
        self._lead_90k = self._base_90k = 0
        self._to_media_90k: int | None = None  # media time of the run less the file's time
        self._cause = place.resume.gap_cause

    # -- packets ------------------------------------------------------------------------------------------------------

    def push(self, packet: object) -> None:
        """One packet of the file."""
        is_video = packet.stream_index == self._source.layout.video_index  # type: ignore[attr-defined]
        if self._builder is None and (not is_video or not self._begin(packet)):
            self.report.skipped_packets += 1
            return
        assert self._feed is not None
        if changes_configuration(packet, self._source.layout):
            raise UserError(
                f"{self._source.path} changes its codec configuration at {self._top_90k / MEDIA_HZ:.1f} s of its "
                "clock; cut it there and import the parts",
                reason="bad-file",
            )
        stamp = packet.pts if packet.pts is not None else packet.dts  # type: ignore[attr-defined]
        time_90k = 0 if stamp is None else round(stamp * packet.time_base * MEDIA_HZ)  # type: ignore[attr-defined]
        if is_video and stamp is not None:
            if time_90k - self._top_90k > us_to_90k(HOLE_US):
                self._next_run()
            self._top_90k = max(self._top_90k, time_90k)
        self._feed.push(packet, ticks_to_us(time_90k))  # type: ignore[arg-type]

    def _begin(self, packet: object) -> bool:
        """The first picture that has a time says when the file begins."""
        stamp = packet.pts if packet.pts is not None else packet.dts  # type: ignore[attr-defined]
        if stamp is None:
            if self.report.skipped_packets > 100:
                raise UserError(
                    f"{self._source.path} carries no times; put it into a container with ffmpeg -r RATE -c copy",
                    reason="bad-file",
                )
            return False
        first_90k = round(stamp * packet.time_base * MEDIA_HZ)  # type: ignore[attr-defined]
        moment = self._source.recorded(first_90k) if self._started_us is None else None
        if self._started_us is not None:
            moment = Moment(self._started_us, first_90k, "start")
        if moment is None:
            raise UserError(
                f"{self._source.path} does not say when it was recorded; give the time of its first picture as --start",
                reason="no-time",
            )
        self._moment, self._top_90k, self.report.times_from = moment, first_90k, moment.source
        self._refuse_overlap(self._wall(first_90k))
        self._new_builder()
        return True

    def _refuse_overlap(self, start_us: int) -> None:
        place = self._place
        if start_us < place.resume.end_us:
            raise UserError(
                f"{self._source.path} begins {format_time(start_us)}, but stream {place.stream.name} holds footage "
                f"until {format_time(place.resume.end_us)}; name another --stream, or import older files first",
                reason="overlap",
            )

    def _new_builder(self) -> None:
        place, layout = self._place, self._source.layout
        self._builder = FragmentBuilder(
            layout.video.codec,
            self._take,
            audio_rate_hz=self._audio.rate_hz if self._audio else 0,
            fragment_90k=place.fragment_90k,
            unit_bytes_max=place.unit_bytes_max,
            parameter_sets=[*self._video.vps, *self._video.sps, *self._video.pps],
        )
        self._feed = Feed(layout, self._builder.video, self._builder.audio)
        self._to_media_90k = None
        self._run += 1

    def _next_run(self) -> None:
        """The file pauses: what follows is a run of its own behind a declared absence."""
        self._end_run()
        self._cause = GapCause.NO_MEDIA
        self._new_builder()

    def _end_run(self) -> None:
        if self._builder is None or self._feed is None:
            return
        self._builder.finish()
        self._seal()
        self.report.skipped_packets += (
            self._feed.undated_packets + self._feed.malformed_packets + self._builder.dropped_units
        )

    def end(self) -> None:
        """The file is at its end."""
        self._end_run()
        self.report.chunks = len(self.chunks)
        self.report.end_us = self._end_us

    # -- fragments ----------------------------------------------------------------------------------------------------

    def _wall(self, time_90k: int) -> int:
        assert self._moment is not None
        return self._moment.wall_us + ticks_to_us(time_90k - self._moment.time_90k)

    def _take(self, fragment: Fragment) -> None:
        if fragment.discontinuity:
            at_us = ticks_to_us(fragment.first_pts_90k)
            raise UserError(
                f"the clock of {self._source.path} goes back at {at_us / US:.1f} s; cut it there and import the parts",
                reason="bad-file",
            )
        first_us = self._wall(fragment.first_pts_90k)
        if fragment.key and (self._chunk is None or self._is_over(fragment, first_us)):
            self._open(fragment, first_us)
        if self._chunk is None:
            self.report.skipped_packets += fragment.video_samples
            return
        self._append(self._chunk, fragment)

    def _append(self, chunk: OpenChunk, fragment: Fragment) -> None:
        start_us = max(self._wall(fragment.first_dts_90k + self._lead_90k), chunk.end_us)
        end_us = max(self._wall(fragment.end_dts_90k + self._lead_90k), start_us + 1)
        if end_us > self._place.now_us + FUTURE_US:
            raise UserError(
                f"{self._source.path} would reach {format_time(end_us)}, which is yet to come; correct --start",
                reason="bad-time",
            )
        while not self._writing.writer.append(
            chunk, fragment, start_us=start_us, end_us=end_us, video_base_90k=self._base_90k,
            audio_base=self._audio_base(fragment),
        ):  # fmt: skip
            self._writing.check()
            time.sleep(WAIT_S)  # the queue is full; its thread empties it
        self._end_us = end_us
        self.report.start_us = self.report.start_us or start_us
        self.report.pictures += fragment.video_samples
        self.report.media_bytes += fragment.media_bytes

    def _audio_base(self, fragment: Fragment) -> int:
        """Audio time at the chunk's time zero; both tracks of a file share its clock."""
        if self._audio is None or not fragment.audio_samples:
            return 0
        return min(self._base_90k * self._audio.rate_hz // MEDIA_HZ, fragment.audio_first_ts)

    def _is_over(self, fragment: Fragment, first_us: int) -> bool:
        place = self._place
        assert self._chunk is not None
        if self._chunk.size >= place.rotation.bytes_max or place.rotation.slot(place.stream.id, first_us) != self._slot:
            return True
        return self._config_of(fragment) != self._config

    def _config_of(self, fragment: Fragment) -> StreamConfig:
        return StreamConfig(VideoConfig(self._video.codec, *fragment.parameter_sets()), self._audio)

    def _open(self, fragment: Fragment, first_us: int) -> None:
        self._seal()
        if len(self.chunks) >= CHUNKS_MAX:
            raise UserError(f"{self._source.path} fills more than {CHUNKS_MAX} chunks; cut it into parts")
        place = self._place
        config = self._config_of(fragment)
        start_us = max(first_us, self._end_us)
        absent = self._end_us > 0 and start_us > self._end_us and (not self.chunks or self._cause is GapCause.NO_MEDIA)
        self._epoch += config != self._config
        if self._to_media_90k is None:
            self._to_media_90k = us_to_90k(start_us) - fragment.first_pts_90k
        head = ChunkHead(
            node=place.volume.node,
            volume=place.volume.id,
            opening=os.urandom(16),
            stream_id=place.stream.id,
            stream_name=place.stream.name,
            sequence=place.resume.next_sequence + len(self.chunks),
            epoch=self._epoch,
            run=self._run,
            start_us=start_us,
            monotonic_us=0,
            clock_state=ClockState.UNKNOWN,
            clock_error_us=0,
            origin_90k=fragment.first_dts_90k + self._to_media_90k,
            gap_start_us=self._end_us if absent else 0,
            gap_cause=self._cause if absent else GapCause.UNKNOWN,
        )
        self._chunk = self._writing.writer.open_chunk(head, config)
        self.chunks.append(head)
        self._config, self._cause = config, GapCause.UNKNOWN
        self._base_90k = fragment.first_dts_90k
        self._lead_90k = fragment.first_pts_90k - fragment.first_dts_90k
        self._slot = place.rotation.slot(place.stream.id, first_us)

    def _seal(self) -> None:
        if self._chunk is not None:
            self._writing.writer.seal(self._chunk)
            self._chunk = None
