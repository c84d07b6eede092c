"""What is common instead of an index of key frames: a row of SQLite per recorded file of ten seconds.

A table of (camera, start, end, path) with an index on (camera, start), as network video recorders keep it; the key
frame is then looked for in the file itself. One real file stands for all: it is always in the page cache.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

import av
import numpy as np

from bench.archive import BEGIN_US

FILE_US: Final = 10_000_000
JOIN_US: Final = 100_000


class Rows:
    """`streams` × `days` of files on paper."""

    def __init__(self, path: Path, streams: int, days: int) -> None:
        self._file = _ten_seconds(path.with_suffix(".mp4"))
        self._db = sqlite3.connect(path)
        self._db.executescript(
            "pragma journal_mode=off; pragma synchronous=off; pragma cache_size=-1000000;"
            "create table files (camera text, start_us integer, end_us integer, path text)"
        )
        for stream in range(1, streams + 1):
            camera = f"cam{stream}"
            starts = range(BEGIN_US, BEGIN_US + days * 86_400_000_000, FILE_US)
            rows = ((camera, at, at + FILE_US, f"{camera}/{at}.mp4") for at in starts)
            self._db.executemany("insert into files values (?, ?, ?, ?)", rows)
        self._db.execute("create index files_at on files (camera, start_us)")
        self._db.commit()

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def seek(self, stream: int, time_us: int) -> str:
        """The file that holds a moment."""
        asked = "select path from files where camera = ? and start_us <= ? order by start_us desc limit 1"
        found = self._db.execute(asked, (f"cam{stream}", time_us)).fetchone()
        assert found is not None
        return str(found[0])

    def key_frame(self, stream: int, time_us: int) -> float:
        """The key frame before a moment: the row, then the file opened and sought in; its media time in s."""
        start_us = int(self.seek(stream, time_us).rpartition("/")[2].removesuffix(".mp4"))
        with av.open(self._file) as file:
            file.seek(time_us - start_us)
            packet = next(file.demux(video=0))
            assert packet.is_keyframe
            assert packet.pts is not None
            assert packet.time_base is not None
            return float(packet.pts * packet.time_base)

    def timeline(self, stream: int, start_us: int, end_us: int) -> list[tuple[int, int]]:
        """Spans of a range, files that touch joined."""
        asked = "select start_us, end_us from files where camera = ? and start_us between ? and ? order by start_us"
        spans: list[tuple[int, int]] = []
        for start, end in self._db.execute(asked, (f"cam{stream}", start_us, end_us)):
            if spans and start - spans[-1][1] <= JOIN_US:
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((start, end))
        return spans


def _ten_seconds(path: Path) -> str:
    """A file as a recorder of files leaves it: 25 pictures a second, a key frame every 4 s."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"g": "100", "sc_threshold": "0", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        noise = np.random.default_rng(1)
        for _ in range(250):
            picture = av.VideoFrame.from_ndarray(noise.integers(0, 255, (540, 640), np.uint8), format="yuv420p")
            file.mux(stream.encode(picture))
        file.mux(stream.encode())
    return str(path)
