"""The multivariant HLS playlist of a stream: its one variant and, of a range, the key frames for scrubbing.

Kept true: made from the index alone; bit rates are upper bounds over what the playlists name, codecs and size those of
what is served.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from base.media import StreamConfig
from base.units import US, format_time
from chunks.codecs import codec_string, dimensions, frame_rate
from clips.fmp4 import KEY_FRAGMENT_HEAD, served_config
from clips.hls import nothing_finished, stream_name
from clips.segments import Segments, find_segments
from clips.tables import Int64s
from index import ChunkRow, Snapshot

_LIVE_US: Final = 600 * US  # looked back for what a live playlist is like
_RATE_US_MIN: Final = US // 10  # over less, a bit rate says nothing


def multivariant(snapshot: Snapshot, stream_id: int, asked: tuple[int, int] | None) -> bytes:
    """Of the range [start_us, end_us) asked for, or without one of the live playlist."""
    until_us = snapshot.durable_until(stream_id)
    start_us, end_us = asked or (until_us - _LIVE_US, until_us + 1)
    found = find_segments(snapshot, stream_id, start_us, end_us)
    if not len(found):
        raise nothing_finished(stream_name(snapshot, stream_id), start_us, end_us)
    rows = [found.rows[i] for i in np.unique(found.at).tolist()]
    configs = [snapshot.config(stream_id, epoch) for epoch in sorted({row.epoch for row in rows})]
    shape, lines = _shape(configs), ["#EXTM3U", "#EXT-X-VERSION:8"]
    query = f"?start={format_time(start_us)}&end={format_time(end_us)}" if asked else ""
    if asked:
        codecs = _codecs([StreamConfig(config.video) for config in configs])
        rates = f"BANDWIDTH={_peak_bps(*_gops(snapshot, stream_id, found))}"
        lines.append("#EXT-X-INDEPENDENT-SEGMENTS")
        lines.append(f'#EXT-X-I-FRAME-STREAM-INF:{rates},CODECS="{codecs}"{shape},URI="iframes.m3u8{query}"')
    size, length_us = found.stop - found.offset, found.end_us - found.start_us
    rates = f"BANDWIDTH={_peak_bps(size, length_us)},AVERAGE-BANDWIDTH={size.sum() * 8 * US // length_us.sum()}"
    rate = _frame_rate(rows, configs)
    shape += f",FRAME-RATE={rate:.3f}" if rate else ""
    lines.append(f'#EXT-X-STREAM-INF:{rates},CODECS="{_codecs(configs)}"{shape}')
    lines.append(f"{'vod' if asked else 'live'}.m3u8{query}")
    return "\n".join(lines).encode() + b"\n"


def _codecs(configs: list[StreamConfig]) -> str:
    """All that is served, each once."""
    return ",".join(dict.fromkeys(",".join(codec_string(served_config(config)) for config in configs).split(",")))


def _shape(configs: list[StreamConfig]) -> str:
    """RESOLUTION of the largest configuration."""
    width, height = max((dimensions(config.video) for config in configs), key=lambda size: size[0] * size[1])
    return f",RESOLUTION={width}x{height}" if width and height else ""


def _frame_rate(rows: list[ChunkRow], configs: list[StreamConfig]) -> float:
    """Pictures a second: the most that the parameter sets say, else as recorded."""
    told = max(frame_rate(config.video) for config in configs)
    recorded = [row.samples * US / (row.end_us - row.start_us) for row in rows if row.end_us - row.start_us > US]
    return told or max(recorded, default=0.0)


def _gops(snapshot: Snapshot, stream_id: int, found: Segments) -> tuple[Int64s, Int64s]:
    """(bytes, µs) of each GOP; a key frame is no larger than its GOP, and its size is not in the index."""
    keys = snapshot.key_frames(stream_id, int(found.start_us[0]), int(found.end_us[-1]))
    same = keys["sequence"][1:] == keys["sequence"][:-1]
    size, length_us = np.diff(keys["offset"].astype(np.int64))[same], np.diff(keys["time_us"])[same]
    if not len(size):
        return found.stop - found.offset, found.end_us - found.start_us
    return size + KEY_FRAGMENT_HEAD, length_us


def _peak_bps(size: Int64s, length_us: Int64s) -> int:
    return int((size * 8 * US // np.maximum(length_us, _RATE_US_MIN)).max())
