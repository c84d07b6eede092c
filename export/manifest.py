"""The manifest: what a package says of itself, in one JSON document that the node signs (docs/format/export.md).

Kept true: its bytes are canonical (keys sorted, no space, integers and strings alone), so a document has one form and a
signature one meaning; what is said of a stream was read from its chunks and its index, and nothing is left out: every
moment asked for is in a fragment or in a gap with a cause.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from base.media import StreamConfig
from base.units import format_time
from chunks.codecs import codec_string, dimensions
from chunks.format import PRFT_CLOCK, clock_us
from chunks.records import GapCause
from clips.plan import ClipPlan, Piece
from clips.store import ChunkStore
from index import Snapshot, StreamRow

KIND: Final = "keyreel-evidence"
Range = tuple[int, int]
_PROVISIONAL: Final = "after_watermark"


def codec_epochs(pieces: Iterable[Piece]) -> list[dict[str, Any]]:
    """The codec configurations, in order of appearance."""
    found: dict[int, StreamConfig] = {}
    for piece in pieces:
        found.setdefault(piece.chunk.row.epoch, piece.config)
    return [
        {
            "epoch": epoch,
            "codec": config.video.codec,
            "codecs": codec_string(config),
            "width": dimensions(config.video)[0],
            "height": dimensions(config.video)[1],
            "audio": config.audio.codec if config.audio else "",
        }
        for epoch, config in found.items()
    ]


def chunk_documents(plan: ClipPlan) -> list[dict[str, Any]]:
    """Each chunk that the file has fragments of, and which."""
    found: list[dict[str, Any]] = []
    for piece in plan.pieces:
        head, row, table = piece.chunk.file.head, piece.chunk.row, piece.chunk.table
        numbers = [int(table.number[piece.first]), int(table.number[piece.last - 1])]
        if found and found[-1]["sequence"] == row.sequence:
            found[-1]["fragments"].append(numbers)
            continue
        found.append(
            {
                "sequence": row.sequence,
                "epoch": row.epoch,
                "run": row.run,
                "node": head.node.hex(),
                "volume": head.volume.hex(),
                "opening": head.opening.hex(),
                "start": format_time(head.start_us),
                "header_sha256": hashlib.sha256(piece.chunk.file.read_header()).hexdigest(),
                "clock": {"state": head.clock_state.name.lower(), "error_us": head.clock_error_us},
                "sealed": row.sealed,
                "stored_fragments": row.fragments if row.sealed else len(table),
                "fragments": [numbers],
            }
        )
    return found


def clock_document(plan: ClipPlan) -> dict[str, Any]:
    """How far the times of the file, the node's clock and the camera's own were apart."""
    stored_less_node: list[int] = []
    camera_less_stored: list[int] = []
    for piece in plan.pieces:
        table = piece.chunk.table
        first = plan.store.fragment(piece.chunk, piece.first)[: PRFT_CLOCK.stop]
        wall_us = int(table.wall_us[piece.first])
        stored_less_node.append(wall_us - clock_us(first, wall_us))
        camera = table.camera_us[piece.first : piece.last]
        told = camera > 0
        camera_less_stored += (camera[told] - table.wall_us[piece.first : piece.last][told]).tolist()
    return {"stored_less_node_us": _spread(stored_less_node), "camera_less_stored_us": _spread(camera_less_stored)}


def _spread(values: list[int]) -> list[int]:
    """Least, middle and greatest; empty when there are none."""
    return [int(np.min(values)), int(np.median(values)), int(np.max(values))] if values else []


def gap_documents(
    plan: ClipPlan | None, snapshot: Snapshot, store: ChunkStore, stream: StreamRow, asked: Range
) -> list[dict[str, Any]]:
    """Every moment asked for that no fragment covers, with its cause; `unknown` where none was recorded."""
    stream_id = stream.id
    declared = list(plan.gaps) if plan else snapshot.gaps(stream_id, *asked)
    spans = [
        (int(piece.chunk.table.wall_us[piece.first]), int(piece.chunk.table.end_us[piece.last - 1]))
        for piece in (plan.pieces if plan else ())
    ]
    durable_us, damaged = snapshot.durable_until(stream_id), list(_damaged(snapshot, store, stream, asked))
    declared.sort(key=lambda gap: (gap.start_us, gap.end_us))
    found: list[tuple[int, int, str, int]] = []
    for gap in declared:
        start_us, end_us = max(gap.start_us, asked[0]), min(gap.end_us, asked[1])
        if start_us < end_us:
            found.append((start_us, end_us, GapCause(gap.cause).name.lower(), gap.packets))
    for start_us, end_us in _holes([*spans, *((one[0], one[1]) for one in found)], asked):
        cut = min(max(durable_us, start_us), end_us)
        spoilt = any(low < cut and high > start_us for low, high in damaged)
        found += [(start_us, cut, "damage" if spoilt else "unknown", 0)] if cut - start_us > 1 else []
        found += [(cut, end_us, _PROVISIONAL, 0)] if end_us > cut else []
    return [
        {"start": format_time(start), "end": format_time(end), "cause": cause, "packets": packets}
        for start, end, cause, packets in sorted(found)
    ]


def _damaged(snapshot: Snapshot, store: ChunkStore, stream: StreamRow, asked: Range) -> Iterable[Range]:
    """Where fragments failed their check since the chunks were opened."""
    for row in snapshot.chunks(stream.id, *asked):
        if bad := store.damaged(row):
            table = store.open(stream.name, row).table
            yield from ((int(table.wall_us[i]), int(table.end_us[i])) for i in bad if i < len(table))


def _holes(covered: list[Range], asked: Range) -> Iterable[Range]:
    """Parts of a range that nothing covers."""
    at_us = asked[0]
    for start_us, end_us in sorted(covered):
        if start_us > at_us:
            yield at_us, min(start_us, asked[1])
        at_us = max(at_us, end_us)
        if at_us >= asked[1]:
            return
    if at_us < asked[1]:
        yield at_us, asked[1]


def losses(plan: ClipPlan) -> dict[str, int]:
    """RTP packets lost, and pictures stored although a part is missing, in the fragments of a plan."""
    packets = units = 0
    for piece in plan.pieces:
        table = piece.chunk.table
        packets += int(table.lost_packets[piece.first : piece.last].sum())
        units += int(table.incomplete_units[piece.first : piece.last].sum())
    return {"lost_packets": packets, "incomplete_pictures": units}
