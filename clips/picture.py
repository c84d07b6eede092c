"""One moment as a JPEG: the picture shown at a wall time.

Kept true: the answer says the exact time of its picture; what is decoded is bounded, and checked before a decoder sees
it; the decoder is loaded with the first picture asked for.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Final

import numpy as np

from base.errors import DamageError, NotFound
from base.media import StreamConfig, VideoConfig
from base.units import format_time
from clips.plan import picture_walls
from clips.position import key_fragment_of
from clips.store import ChunkStore, OpenChunk
from index import KeyFrame, Snapshot

DECODED_MAX: Final = 1500  # pictures from the key frame on; past that the key frame itself is shown
DECODED_BYTES_MAX: Final = 64 << 20
_START_CODE: Final = b"\0\0\0\1"
_DECODERS: Final = {"h264": "h264", "h265": "hevc"}


def frame_jpeg(
    snapshot: Snapshot, store: ChunkStore, stream_id: int, at_us: int, *, exact: bool = True, width: int = 0
) -> tuple[bytes, int]:
    """(JPEG, wall time) of the last picture at or before `at_us`; the last key frame when not `exact`.

    `width` in pixels scales it down; 0 leaves it as it was recorded.
    """
    stream = snapshot.stream_by_id(stream_id)
    if stream is None:
        raise NotFound(f"there is no stream {stream_id}; see the list of streams")
    key = snapshot.seek(stream_id, at_us)
    row = snapshot.chunk(stream_id, key.sequence) if key else None
    if key is None or row is None:
        raise NotFound(f"{stream.name} has no picture at or before {format_time(at_us)}", reason="no-footage")
    chunk = store.open(stream.name, row)
    first = key_fragment_of(chunk, key)
    samples, wanted, time_us = _samples(chunk, store, first, at_us if exact else key.time_us)
    frame = _decode(chunk.config(snapshot), samples, wanted)
    return encode_jpeg(_scaled(frame, width)), time_us


def key_picture(snapshot: Snapshot, store: ChunkStore, stream_id: int, key: KeyFrame) -> Any:
    """A key frame, decoded."""
    stream, row = snapshot.stream_by_id(stream_id), snapshot.chunk(stream_id, key.sequence)
    if stream is None or row is None:
        raise NotFound(f"chunk {key.sequence} is no more", reason="no-footage")
    chunk = store.open(stream.name, row)
    samples, wanted, _ = _samples(chunk, store, key_fragment_of(chunk, key), key.time_us)
    return _decode(chunk.config(snapshot), samples, wanted)


def _scaled(frame: Any, width: int) -> Any:
    """The picture, not wider than `width`."""
    if not 0 < width < frame.width:
        return frame
    return frame.reformat(width=width & ~1, height=max(2, frame.height * width // frame.width & ~1))


def _samples(chunk: OpenChunk, store: ChunkStore, first: int, at_us: int) -> tuple[list[bytes], int, int]:
    """(samples to decode, index of the one to show, its wall time) for the GOP that begins with fragment `first`."""
    table = chunk.table
    later = np.flatnonzero(table.key[first + 1 :])
    gop_end = first + 1 + int(later[0]) if len(later) else len(table)
    last = first + max(1, int(np.searchsorted(table.wall_us[first:gop_end], at_us, "right")))
    pts, walls = picture_walls(chunk, first, last)
    shown = np.flatnonzero((walls <= at_us) & (pts >= pts[0]))
    wanted = int(shown[np.argmax(pts[shown])]) if len(shown) else 0
    at = int(table.video_first[first])
    if wanted >= DECODED_MAX or int(table.video_size[at : at + wanted + 1].sum(dtype=np.int64)) > DECODED_BYTES_MAX:
        wanted = 0
    samples: list[bytes] = []
    for i in range(first, last):
        if len(samples) > wanted:
            break
        data = store.fragment(chunk, i)
        offset = int(table.video_at[i] - table.offset[i])
        rows = slice(int(table.video_first[i]), int(table.video_first[i] + table.video_count[i]))
        for size in table.video_size[rows].tolist():
            samples.append(data[offset : offset + size])
            offset += size
    return samples[: wanted + 1], wanted, int(walls[wanted])


def _decode(config: StreamConfig, samples: list[bytes], wanted: int) -> Any:
    """The `wanted`-th picture in decode order."""
    import av

    context: Any = av.CodecContext.create(_DECODERS[config.video.codec], "r")
    context.thread_type, context.thread_count = "SLICE", 2
    last: Any = None
    for i, sample in enumerate([*samples, None]):
        packet = None
        if sample is not None:
            packet = av.Packet(annex_b(sample, config.video if i == 0 else None))
            packet.pts = packet.dts = i
        try:
            frames = context.decode(packet)
        except av.FFmpegError:  # one broken picture: those after it may still decode
            continue
        for frame in frames:
            if frame.pts == wanted:
                return frame
            last = frame
    if last is None:
        raise DamageError("no picture of this GOP can be decoded; ask for a later moment", reason="undecodable")
    return last


def annex_b(sample: bytes, config: VideoConfig | None = None) -> bytes:
    """A length-prefixed sample as an Annex B stream, after the parameter sets of `config`."""
    parts: list[bytes] = []
    for nal in (*config.vps, *config.sps, *config.pps) if config else ():
        parts += (_START_CODE, nal)
    at = 0
    while at + 4 <= len(sample):
        size = int.from_bytes(sample[at : at + 4], "big")
        parts += (_START_CODE, sample[at + 4 : at + 4 + size])
        at += 4 + size
    return b"".join(parts)


def encode_jpeg(frame: Any) -> bytes:
    """A decoded picture as a JPEG."""
    import av

    context: Any = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt = frame.width, frame.height, "yuvj420p"
    context.time_base = Fraction(1, 25)
    context.options = {"qscale": "3"}
    picture = frame.reformat(format="yuvj420p")
    picture.pts = 0
    packets = [*context.encode(picture), *context.encode(None)]
    return b"".join(bytes(packet) for packet in packets)
