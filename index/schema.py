"""Databases, keys and row layouts of the index; `docs/format/index.md` is the page for people.

Kept true: keys are big-endian, so rows of a stream lie together in time order; values are little-endian and of one
fixed size per database (key-frame blocks and configurations apart); nothing here changes meaning within a format
version.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from lmdb import Cursor as Cursor
    from lmdb import _Database

FORMAT_VERSION: Final = 2
FORMAT_WITHOUT_USAGE: Final = 1  # read too, and made format 2 by the first who writes

META: Final = b"meta"  # name → bytes, names below
STREAMS: Final = b"streams"  # STREAM_KEY → name
STREAM_NAMES: Final = b"stream-names"  # name → STREAM_KEY
CAMERAS: Final = b"cameras"  # camera id → Camera as JSON
EPOCHS: Final = b"epochs"  # SEQUENCE_KEY (stream, epoch) → StreamConfig as MessagePack
CHUNKS: Final = b"chunks"  # TIME_KEY (stream, start) → CHUNK
SEQUENCES: Final = b"sequences"  # SEQUENCE_KEY (stream, sequence) → START
OPEN: Final = b"open"  # SEQUENCE_KEY (stream, sequence) → OPEN_CHUNK, START of the growing block, the block
KEY_FRAMES: Final = b"key-frames"  # TIME_KEY (stream, first key frame) → block of native.keyblock
GAPS: Final = b"gaps"  # TIME_KEY (stream, start) → GAP
EVENTS: Final = b"events"
HOLDS: Final = b"holds"  # HOLD_KEY → Hold as JSON
GARBAGE: Final = b"garbage"  # SEQUENCE_KEY (stream, sequence) → Garbage of index.expire as MessagePack
USAGE_DB: Final = b"usage"  # USAGE_KEY (stream, volume) → USAGE: what lies where
ENDS: Final = b"ends"  # STREAM_KEY → END: where streams ended whose last chunk was deleted
DATABASES: Final = (
    *(META, STREAMS, STREAM_NAMES, CAMERAS, EPOCHS, CHUNKS, SEQUENCES, OPEN, KEY_FRAMES, GAPS),
    *(EVENTS, HOLDS, GARBAGE, USAGE_DB, ENDS),
)


class Handles(NamedTuple):
    """The open databases, in the order of `DATABASES`."""

    meta: _Database
    streams: _Database
    stream_names: _Database
    cameras: _Database
    epochs: _Database
    chunks: _Database
    sequences: _Database
    open: _Database
    key_frames: _Database
    gaps: _Database
    events: _Database
    holds: _Database
    garbage: _Database
    usage: _Database
    ends: _Database


META_FORMAT: Final = b"format"  # decimal text
META_NODE: Final = b"node"  # 16 bytes
META_REGISTER: Final = b"register"  # decimal text: counts the changes of the camera register
META_INCOMPLETE: Final = b"incomplete"  # there while the index lacks chunks that it should hold; why, as below
READING_IN: Final = b"reading-in"
VOLUMES_AWAY: Final = b"volumes-away"
META_NEXT_STREAM: Final = b"next-stream"  # decimal text: ids below were given out, and never are again
META_NEXT_HOLD: Final = b"next-hold"  # decimal text, likewise

STREAM_KEY: Final = Struct(">I")
TIME_KEY: Final = Struct(">IQ")
SEQUENCE_KEY: Final = Struct(">II")
HOLD_KEY: Final = Struct(">I")
USAGE_KEY: Final = Struct(">I16s")

START: Final = Struct("<Q")
# sequence, epoch, run, flags, volume, end_us, size, origin_90k, samples, fragments, media_bytes, table_offset
CHUNK: Final = Struct("<IIIB16sQQqIIQQ")
CHUNK_SEALED: Final = 1
CHUNK_DTYPE: Final = np.dtype(
    [
        ("sequence", "<u4"),
        ("epoch", "<u4"),
        ("run", "<u4"),
        ("flags", "u1"),
        ("volume", "V16"),
        ("end_us", "<u8"),
        ("size", "<u8"),
        ("origin_90k", "<i8"),
        ("samples", "<u4"),
        ("fragments", "<u4"),
        ("media_bytes", "<u8"),
        ("table_offset", "<u8"),
    ]
)
# start_us, end_us, size, media_bytes, samples, fragments, flags
OPEN_CHUNK: Final = Struct("<QQQQIIB")
OPEN_SUPERSEDED: Final = 1  # a later chunk of the stream exists: its growing block is kept among the key frames too
# end_us, cause, packets
GAP: Final = Struct("<QBI")
# chunks, bytes, recorded_us
USAGE: Final = Struct("<QQQ")
# sequence, epoch, run, end_us
END: Final = Struct("<IIIQ")
GAP_DTYPE: Final = np.dtype([("end_us", "<u8"), ("cause", "u1"), ("packets", "<u4")])
TIME_KEY_DTYPE: Final = np.dtype([("stream_id", ">u4"), ("start_us", ">u8")])
KEY_FRAME_DTYPE: Final = np.dtype([("time_us", "<i8"), ("sequence", "<u4"), ("offset", "<i8")])

# In chunks, sequences and key-frames, key STREAM_KEY + suffix: zeros that fill half a page, see Transaction
PAGE_HEAD_SUFFIX: Final = b"\0"
HALF_PAGE_BYTES: Final = 2030  # longest key and value that LMDB keeps inside a page of 4096 bytes
ROW_KEY_BYTES_MIN: Final = SEQUENCE_KEY.size  # shorter keys are page heads

TIME_MAX_US: Final = 2**63 - 1
TIME_SANE_US: Final = 253_402_300_800 * 1_000_000  # the year 10,000: a chunk has no name after it
STREAM_NAME_BYTES_MAX: Final = 128
