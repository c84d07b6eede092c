"""The values that travel from the chunk writer to the index, and back out of a chunk file.

Kept true: everything the index knows of recorded media is in these records, and each of them can be made again
from a chunk file alone; that is what makes the index disposable.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from base.media import StreamConfig


class GapCause(IntEnum):
    """Why there is no video; stored in files and index, so a number never changes its meaning."""

    UNKNOWN = 0
    OFFLINE = 1  # the camera could not be reached or refused us
    NO_MEDIA = 2  # connected, but nothing arrived
    PACKET_LOSS = 3  # packets lost on the network
    OVERLOAD = 4  # this node dropped whole GOPs to keep its bounds
    STOPPED = 5  # the recorder was stopped in order, or the camera was removed or disabled
    CRASH = 6  # the recorder or the machine died
    DAMAGE = 7  # stored bytes failed their check
    CLOCK = 8  # the media clock or the wall clock jumped
    VOLUME = 9  # the volume failed
    UNDECODABLE = 10  # no key frame yet, or a codec configuration that cannot be stored
    NOT_WANTED = 11  # outside the camera's schedule, or nobody asked for it
    EXPIRED = 12  # recorded, and deleted by a rule of retention; only ever in the index

    @property
    def word(self) -> str:
        """As people and programs read it: PACKET_LOSS → packet-loss."""
        return self.name.lower().replace("_", "-")


class ClockState(IntEnum):
    """What was known of the node's wall clock when a chunk was opened."""

    UNKNOWN = 0
    SYNCED = 1
    UNSYNCED = 2


@dataclass(frozen=True, slots=True)
class Gap:
    """Stored absence on one stream: wall time [start_us, end_us) and its cause; `packets` lost where that is known."""

    stream_id: int
    start_us: int
    end_us: int
    cause: GapCause
    packets: int = 0


@dataclass(frozen=True, slots=True)
class ChunkHead:
    """Identity of one chunk file, as in its `uuid` head box; never changed after the chunk is opened.

    `origin_90k` is the stream's media time (90 kHz, wall-based at the start of each run) at the chunk's tfdt 0;
    `run` counts the stream's camera sessions, so equal runs share one unbroken media clock.
    `gap_start_us`/`gap_cause` declare the absence this chunk ends (up to the chunk's `start_us`); 0/UNKNOWN if none.
    """

    node: bytes  # 16
    volume: bytes  # 16
    opening: bytes  # 16, random for each opening of a file
    stream_id: int  # u32
    stream_name: str  # ≤ 128 bytes of UTF-8
    sequence: int  # u32, ascending per stream over all its chunks
    epoch: int  # u32, ascending per stream with each new StreamConfig
    run: int  # u32
    start_us: int  # wall clock of the first sample
    monotonic_us: int
    clock_state: ClockState
    clock_error_us: int  # bound; 0 when unknown
    origin_90k: int
    gap_start_us: int = 0
    gap_cause: GapCause = GapCause.UNKNOWN


@dataclass(frozen=True, slots=True)
class ChunkOpened:
    """A chunk's head is on stable storage."""

    head: ChunkHead
    config: StreamConfig
    size: int  # bytes of the file so far: where the first fragment begins


@dataclass(frozen=True, slots=True)
class FragmentStored:
    """A whole fragment (prft, moof, mdat, seal) is on stable storage at [offset, offset + length) of its chunk."""

    stream_id: int
    sequence: int  # of the chunk
    number: int  # of the fragment in its chunk, from 1
    offset: int
    length: int
    start_us: int  # wall clock of the first picture
    end_us: int  # wall clock where its last picture ends
    key: bool  # its first sample is a key frame
    samples: int  # pictures
    media_bytes: int
    lost_packets: int = 0
    gap: Gap | None = None  # a gap that this fragment declares (loss inside, drop before it)


@dataclass(frozen=True, slots=True)
class ChunkSealed:
    """The chunk has its frame table and mfra and will never change again."""

    stream_id: int
    sequence: int
    end_us: int
    size: int
    table_offset: int


StoredRecord = ChunkOpened | FragmentStored | ChunkSealed | Gap
