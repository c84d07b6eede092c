"""Fragmented MP4 as players fetch it: an init segment per epoch, and stored fragments moved to the stream's media time.

Kept true: media bytes are the stored ones, checked before they get here; what only the store needs (prft, seal) stays
behind; two fragments of one run keep their exact distance. Sound that no browser plays in fragments (G.711, L16) is
served as AAC made from it (`clips.sound`), or left out, as a player refuses a whole stream for one unknown track.
"""

from __future__ import annotations

import struct
from typing import Final

from base.errors import DamageError
from base.media import StreamConfig
from base.units import MEDIA_HZ
from chunks.boxes import KEY_FLAGS, VIDEO_TRACK, box, full_box, init_segment, walk
from chunks.codecs import codec_string
from clips.sound import DerivedSound, derived_config
from clips.store import OpenChunk

PLAYABLE_SOUND: Final = frozenset({"aac", "opus"})
_TFDT: Final = struct.Struct(">Q")
_OFFSET: Final = struct.Struct(">i")
KEY_FRAGMENT_HEAD: Final = 112  # bytes of a key fragment before its picture


def served_config(config: StreamConfig) -> StreamConfig:
    """What players are told of: the pictures, and sound as browsers play it."""
    if config.audio is None or config.audio.codec in PLAYABLE_SOUND:
        return config
    return StreamConfig(config.video, derived_config(config.audio))


def derived_tracks(config: StreamConfig) -> list[str]:
    """Which served tracks are not the recorded ones but made from them."""
    return ["audio"] if config.audio and derived_config(config.audio) else []


def served_init(config: StreamConfig) -> bytes:
    """The init segment of an epoch."""
    return init_segment(served_config(config))


def mime_type(config: StreamConfig) -> str:
    """Media type with codecs, as `MediaSource.isTypeSupported` takes it."""
    return f'video/mp4; codecs="{codec_string(served_config(config))}"'


class FragmentServer:
    """Serves fragments of one configuration; keeps some decoded sound between neighbours where sound is derived."""

    def __init__(self, config: StreamConfig) -> None:
        self._recorded = StreamConfig(config.video) if derived_tracks(config) else served_config(config)
        self._sound = DerivedSound(config.audio) if config.audio and derived_tracks(config) else None

    def fragment(self, chunk: OpenChunk, i: int, before: OpenChunk | None = None) -> bytes:
        """moof and mdat of the i-th fragment, and of its derived sound; `before` is the chunk it goes on from."""
        made = served_fragment(chunk, i, self._recorded)
        return made + self._sound.fragment(chunk, i, before) if self._sound else made


def served_fragment(chunk: OpenChunk, i: int, served: StreamConfig) -> bytes:
    """moof and mdat of the i-th fragment, of the tracks in `served`, decode times on the stream's media clock."""
    data = chunk.read_fragment(i)
    parts = {kind: (start, end) for kind, start, end in walk(data) if kind in (b"moof", b"mdat")}
    if len(parts) != 2:
        raise DamageError(f"{chunk.file.path}: a fragment without moof or mdat; run `keyreel check`")
    (moof_at, moof_end), (mdat_at, mdat_end) = parts[b"moof"], parts[b"mdat"]
    boxes = [(kind, bytearray(data[start - 8 : end])) for kind, start, end in walk(data, moof_at, moof_end)]
    kept = [made for kind, made in boxes if kind != b"traf" or _move(made, chunk.row.origin_90k, served)]
    if len(kept) == len(boxes):
        return b"".join((data[moof_at - 8 : moof_at], *kept, data[mdat_at - 8 : mdat_end]))
    dropped = sum(len(made) for _, made in boxes) - sum(map(len, kept))
    for made in kept[1:]:
        at = _payload(made, b"trun") + 8
        _OFFSET.pack_into(made, at, _OFFSET.unpack_from(made, at)[0] - dropped)
    first, count = int(chunk.table.video_first[i]), int(chunk.table.video_count[i])
    pictures_bytes = int(chunk.table.video_size[first : first + count].sum(dtype="int64"))
    return box(b"moof", *kept) + box(b"mdat", data[mdat_at : mdat_at + pictures_bytes])


def key_fragment(chunk: OpenChunk, i: int, shown: tuple[int, int] | None = None) -> bytes:
    """A fragment of the i-th fragment's key frame alone; for scrubbing.

    `shown` is when and for how long, in 90 kHz of another time line; without it the picture stays at its media time.
    """
    table, data = chunk.table, chunk.read_fragment(i)
    first = int(table.video_first[i])
    size, dts, cts = int(table.video_size[first]), int(table.video_dts[first]), int(table.video_cts[first])
    at = int(table.video_at[i] - table.offset[i])
    tfhd = full_box(b"tfhd", 0, 0x020000, struct.pack(">I", VIDEO_TRACK))
    start_90k, length_90k = shown or (dts + chunk.row.origin_90k, 3600)
    tfdt = full_box(b"tfdt", 1, 0, _TFDT.pack(start_90k))
    # data offset: 8 moof, 16 mfhd, 8 traf, 16 tfhd, 20 tfdt, 36 trun, 8 mdat
    trun = full_box(
        b"trun",
        1,
        0xF01,
        struct.pack(">IiIIIi", 1, KEY_FRAGMENT_HEAD, length_90k, size, KEY_FLAGS, 0 if shown else cts),
    )
    mfhd = full_box(b"mfhd", 0, 0, struct.pack(">I", i + 1))
    return box(b"moof", mfhd, box(b"traf", tfhd, tfdt, trun)) + box(b"mdat", data[at : at + size])


def _move(traf: bytearray, origin_90k: int, served: StreamConfig) -> bool:
    """Put a track fragment at its place in media time; False when its track is not served."""
    at = _payload(traf, b"tfhd") + 4
    if int.from_bytes(traf[at : at + 4], "big") == VIDEO_TRACK:
        rate = MEDIA_HZ
    elif served.audio is not None:
        rate = served.audio.rate_hz
    else:
        return False
    at = _payload(traf, b"tfdt") + 4
    _TFDT.pack_into(traf, at, _TFDT.unpack_from(traf, at)[0] + origin_90k * rate // MEDIA_HZ)
    return True


def _payload(traf: bytearray, wanted: bytes) -> int:
    """Where the payload of a box inside a track fragment begins."""
    return next(start for kind, start, _ in walk(memoryview(traf), 8) if kind == wanted)
