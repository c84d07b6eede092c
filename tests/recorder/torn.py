"""Volumes as a crash leaves them: chunks open in the index, with more in the files than it knows, and torn ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from chunks.records import ChunkHead, ClockState, FragmentStored, StoredRecord
from chunks.volume import Volume
from chunks.writer import VolumeWriter
from index import Index
from recorder.committer import stream_of
from tests.chunks.media import START_US, Media, build

TIMELINE = (0, 1 << 60)
Told = Callable[[list[StoredRecord]], None]


def head_of(volume: Volume, stream_id: int, sequence: int, start_us: int) -> ChunkHead:
    return ChunkHead(
        node=bytes(16), volume=volume.id, opening=bytes([sequence]) * 16, stream_id=stream_id,
        stream_name=f"s{stream_id - 1}.main", sequence=sequence, epoch=1, run=1, start_us=start_us, monotonic_us=1,
        clock_state=ClockState.SYNCED, clock_error_us=0, origin_90k=start_us * 9 // 100,
    )  # fmt: skip


def put(writer: VolumeWriter, media: Media, head: ChunkHead, *, seal: bool) -> Path:
    """Queue one chunk with all of the media."""
    fragments = build(media)
    chunk = writer.open_chunk(head, media.config)
    base = fragments[0].first_dts_90k
    for fragment in fragments:
        assert writer.append(
            chunk, fragment,
            start_us=head.start_us + (fragment.first_dts_90k - base) * 100 // 9,
            end_us=head.start_us + (fragment.end_dts_90k - base) * 100 // 9,
            video_base_90k=base, audio_base=0,
        )  # fmt: skip
    if seal:
        writer.seal(chunk)
    return chunk.path


def write_one(
    volume: Volume, media: Media, stream_id: int, sequence: int, told: Told, *, start_us: int = START_US,
    seal: bool = True,
) -> None:  # fmt: skip
    """One chunk on a volume; its records go to `told`."""
    writer = VolumeWriter(volume, on_commit=told, on_failure=lambda *_: None)
    writer.start()
    put(writer, media, head_of(volume, stream_id, sequence, start_us), seal=seal)
    writer.stop()


def write_chunks(
    folder: Path, media: Media, *, streams: int, chunks: int = 1, missed: set[int] = frozenset(), torn: bool = True,  # type: ignore[assignment]
    told: int = 1 << 30,
) -> Volume:  # fmt: skip
    """A volume and an index: `told` fragments of each chunk are in the index, no record of the chunks `missed`; when
    `torn`, chunks are not sealed and their files end in half a fragment."""
    volume = Volume.create(folder / "media", bytes(16))
    index = Index.open(folder / "index", create=True)
    with index.write() as transaction:
        ids = [transaction.ensure_stream(f"s{i}.main").id for i in range(streams)]
    records: list[StoredRecord] = []
    writer = VolumeWriter(volume, on_commit=records.extend, on_failure=lambda *_: None, queue_bytes_max=4 << 30)
    writer.start()
    paths = []
    for stream_id in ids:
        for sequence in range(1, chunks + 1):
            head = head_of(volume, stream_id, sequence, START_US + sequence * 60_000_000)
            paths.append(put(writer, media, head, seal=not torn))
    writer.stop()
    for path in paths if torn else []:
        with path.open("ab") as file:
            file.write(b"\0\0\1\0moof" + b"half a fragment" * 5)
    records.sort(key=stream_of)
    with index.write() as transaction:
        transaction.apply(
            record
            for record in records
            if _sequence(record) not in missed and not (isinstance(record, FragmentStored) and record.number > told)
        )
    index.close()
    return volume


def _sequence(record: StoredRecord) -> int:
    head = getattr(record, "head", record)
    return int(head.sequence)
