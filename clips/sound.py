"""Sound that browsers cannot play (G.711, L16) as AAC, made while fragments are served; a derivative, never stored.

Kept true: a fragment's derived sound depends on the stored sound around it alone, so segments and parts never change,
and neighbours join without a click: frames lie on one grid of 1024 samples of the stream's media time, and each is
encoded with the true sound before and after it. `clip.mp4` keeps the original.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from fractions import Fraction
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from base.media import AudioConfig
from chunks.boxes import AUDIO_TRACK, box, full_box
from clips.store import OpenChunk

FRAME: Final = 1024  # samples of an AAC-LC frame (ISO/IEC 14496-3 §4.5.1.1)
_LEAD: Final = 2  # frames encoded before the first one kept, so that the encoder is in its stride
_AHEAD: Final = 1  # a frame's window reaches one frame beyond it
_HOLE_FRAMES_MAX: Final = 8  # absences up to this long are filled with silence
_KEPT: Final = 16  # decoded fragments held while neighbours are served
_WALK_MAX: Final = 64  # fragments looked back at for the sound before one
_AAC_RATES: Final = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_DERIVED_FROM: Final = frozenset({"pcma", "pcmu", "l16"})
_KEY_FLAGS: Final = 0x02000000

Pcm = npt.NDArray[np.int16]  # interleaved


def derived_config(config: AudioConfig) -> AudioConfig | None:
    """The AAC that stands for this sound; None where there is no need or no way."""
    if config.codec not in _DERIVED_FROM or config.rate_hz not in _AAC_RATES or config.channels not in (1, 2):
        return None
    specific = 2 << 11 | _AAC_RATES.index(config.rate_hz) << 7 | config.channels << 3  # object type 2: LC
    return AudioConfig("aac", config.rate_hz, config.channels, specific.to_bytes(2, "big"))


def decode_pcm(config: AudioConfig, data: bytes) -> Pcm:
    """Stored G.711 (ITU-T G.711) or L16 (RFC 3551 §4.5.11) bytes as samples."""
    if config.codec == "l16":
        return np.frombuffer(data[: len(data) // 2 * 2], ">i2").astype(np.int16)
    table = _MU_LAW if config.codec == "pcmu" else _A_LAW
    return table[np.frombuffer(data, np.uint8)]


class DerivedSound:
    """Makes the AAC of one stream's fragments. `before` is the chunk that `chunk` goes on from, in the same run."""

    def __init__(self, config: AudioConfig) -> None:
        self._config = config
        self._decoded: OrderedDict[tuple[int, int], tuple[int, Pcm]] = OrderedDict()

    def fragment(self, chunk: OpenChunk, i: int, before: OpenChunk | None) -> bytes:
        """moof and mdat of the frames that the i-th fragment's sound completes; empty when it completes none."""
        first, pcm = self._samples(chunk, i)
        if not len(pcm):
            return b""
        end = first + len(pcm) // self._config.channels
        earlier = [(first, pcm)]
        place: tuple[OpenChunk, int] | None = (chunk, i)
        at = first
        wanted: int | None = None
        for _ in range(_WALK_MAX):
            place = _previous(place, before) if place else None
            if place is None:
                break
            start, samples = self._samples(*place)
            if not len(samples):
                continue
            if wanted is None:  # the fragment whose frames ours go on from
                at = start + len(samples) // self._config.channels
                wanted = (at // FRAME - _AHEAD - _LEAD) * FRAME
            earlier.append((start, samples))
            if start <= wanted:
                break
        low, high = at // FRAME - _AHEAD, end // FRAME - _AHEAD
        if wanted is None or first - at > _HOLE_FRAMES_MAX * FRAME or at > end:
            low = -(-first // FRAME)
        if low >= high:
            return b""
        base = (low - _LEAD) * FRAME
        frames = _encode(self._config, _window(earlier, base, (high + _AHEAD) * FRAME, self._config.channels), base)
        return _audio_fragment(i + 1, low * FRAME, [frames[k * FRAME] for k in range(low, high)])

    def _samples(self, chunk: OpenChunk, i: int) -> tuple[int, Pcm]:
        """(place of the first sample on the stream's media clock, samples) of a fragment's sound."""
        key = (chunk.row.sequence, i)
        kept = self._decoded.get(key)
        if kept is not None:
            return kept
        table, rate = chunk.table, self._config.rate_hz
        low, count = int(table.audio_first[i]), int(table.audio_count[i])
        if not count:
            return 0, np.zeros(0, np.int16)
        data = chunk.read_fragment(i)
        at = int(table.audio_at[i] - table.offset[i])
        size = int(table.audio_size[low : low + count].sum(dtype=np.int64))
        first = int(table.audio_dts[low]) + chunk.row.origin_90k * rate // 90_000
        found = first, decode_pcm(self._config, data[at : at + size])
        self._decoded[key] = found
        if len(self._decoded) > _KEPT:
            self._decoded.popitem(last=False)
        return found


def _previous(place: tuple[OpenChunk, int], before: OpenChunk | None) -> tuple[OpenChunk, int] | None:
    """The fragment before one, over the chunk's border where the run goes on."""
    chunk, i = place
    if i > 0:
        return chunk, i - 1
    if before is None or before is chunk or not len(before.table):
        return None
    return before, len(before.table) - 1


def _window(parts: list[tuple[int, Pcm]], start: int, end: int, channels: int) -> Pcm:
    """Samples [start, end) of the media clock, silence where there are none."""
    window = np.zeros((end - start) * channels, np.int16)
    for first, pcm in parts:
        low, high = max(first, start), min(first + len(pcm) // channels, end)
        if low < high:
            window[(low - start) * channels : (high - start) * channels] = pcm[
                (low - first) * channels : (high - first) * channels
            ]
    return window


def _encode(config: AudioConfig, pcm: Pcm, base: int) -> dict[int, bytes]:
    """AAC frames by the place of their first sample. `pcm` begins at `base` and is whole frames."""
    import av

    context: Any = av.CodecContext.create("aac", "w")
    layout = "mono" if config.channels == 1 else "stereo"
    context.sample_rate, context.layout, context.format = config.rate_hz, layout, "fltp"
    context.bit_rate = 32_000 * config.channels if config.rate_hz <= 16_000 else 64_000 * config.channels
    context.time_base = Fraction(1, config.rate_hz)
    planes = (pcm.reshape(-1, config.channels).T / np.float32(32768)).astype(np.float32)
    packets = []
    for at in range(0, planes.shape[1], FRAME):
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(planes[:, at : at + FRAME]), format="fltp", layout=layout
        )
        frame.sample_rate, frame.pts, frame.time_base = config.rate_hz, at, context.time_base
        packets += context.encode(frame)
    packets += context.encode(None)
    return {base + int(packet.pts): bytes(packet) for packet in packets}


def _audio_fragment(number: int, start: int, frames: list[bytes]) -> bytes:
    """moof and mdat of AAC frames from `start` on."""
    tfhd = full_box(b"tfhd", 0, 0x020028, struct.pack(">III", AUDIO_TRACK, FRAME, _KEY_FLAGS))
    tfdt = full_box(b"tfdt", 1, 0, struct.pack(">Q", start))
    mfhd = full_box(b"mfhd", 0, 0, struct.pack(">I", number))
    sizes = struct.pack(f">{len(frames)}I", *map(len, frames))
    trun_bytes = 12 + 8 + len(sizes)
    offset = 8 + len(mfhd) + 8 + len(tfhd) + len(tfdt) + trun_bytes + 8
    trun = full_box(b"trun", 1, 0x201, struct.pack(">Ii", len(frames), offset) + sizes)
    return box(b"moof", mfhd, box(b"traf", tfhd, tfdt, trun)) + box(b"mdat", *frames)


def _mu_law() -> Pcm:
    code = ~np.arange(256) & 0xFF
    size = ((code & 0x0F) << 3) + 0x84 << ((code & 0x70) >> 4)
    return np.where(code & 0x80, 0x84 - size, size - 0x84).astype(np.int16)


def _a_law() -> Pcm:
    code = np.arange(256) ^ 0x55
    exponent = (code & 0x70) >> 4
    size = ((code & 0x0F) << 4) + 8
    size = np.where(exponent > 0, size + 0x100 << np.maximum(exponent - 1, 0), size)
    return np.where(code & 0x80, size, -size).astype(np.int16)


_MU_LAW: Final = _mu_law()
_A_LAW: Final = _a_law()
