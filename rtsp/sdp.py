"""What a camera offers, read from the SDP of its DESCRIBE answer (RFC 8866; payload formats RFC 6184, 7798, 3640).

Kept true: parsing never fails over one odd line; a track is `video` or `audio` with a configuration only when it can be
recorded; the number of tracks and parameter sets is bounded. A payload type's `rtpmap` counts more than the
static table, the AAC configuration more than `rtpmap`, as cameras mean it.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Final, Literal

from base.errors import CameraError
from base.media import AudioConfig, VideoConfig

TRACKS_MAX: Final = 8
_SETS_MAX: Final = 64
_LINE_BYTES_MAX: Final = 32 << 10
_STATIC: Final = {"0": "PCMU/8000", "8": "PCMA/8000", "10": "L16/44100/2", "11": "L16/44100"}
_CODECS: Final = {
    "h264": "h264", "h265": "h265", "hevc": "h265", "mpeg4-generic": "aac", "pcma": "pcma", "pcmu": "pcmu",
    "opus": "opus", "l16": "l16", "vnd.onvif.metadata": "metadata",
}  # fmt: skip
_AAC_RATES: Final = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)

Kind = Literal["video", "audio", "metadata", "other"]


@dataclass(frozen=True, slots=True)
class Track:
    """One `m=` section. `codec` is ours where we know it, else the camera's own word in lower case."""

    index: int
    kind: Kind
    codec: str
    payload_type: int
    clock_hz: int
    channels: int
    control_url: str
    video: VideoConfig | None = None
    audio: AudioConfig | None = None
    fmtp: dict[str, str] = field(default_factory=dict)

    @property
    def recordable(self) -> bool:
        return self.video is not None or self.audio is not None

    @property
    def donl(self) -> bool:
        """H.265 packets carry decoding order numbers (RFC 7798 §7.1)."""
        return _number(self.fmtp, "sprop-max-don-diff") > 0

    @property
    def aac_lengths(self) -> tuple[int, int, int]:
        """Bits of AU-size, AU-index and AU-index-delta."""
        return _aac_lengths(self.fmtp)

    @property
    def aac_frame_ticks(self) -> int:
        """Length of one AAC frame in the track's clock; longer than 1024 when that clock is SBR's output rate.

        A configuration by which a frame lasts no time, or over a second, is not believed.
        """
        core_hz, samples = _aac_core(self.audio.config if self.audio else b"")
        ticks = samples * self.clock_hz // core_hz if core_hz else samples
        return ticks if 0 < ticks <= self.clock_hz else samples


@dataclass(frozen=True, slots=True)
class Presentation:
    """All tracks of one URL and the URL that controls them together."""

    control_url: str
    tracks: tuple[Track, ...]
    name: str = ""

    def first(self, kind: Kind) -> Track | None:
        """The first recordable track of that kind."""
        return next((track for track in self.tracks if track.kind == kind and track.recordable), None)


def parse(data: bytes, base_url: str) -> Presentation:
    """SDP → tracks. `base_url` is Content-Base, Content-Location or the request's URL, in this order of preference."""
    session: dict[str, list[str]] = {}
    media: list[tuple[str, dict[str, list[str]]]] = []
    attributes = session
    name = ""
    for raw in data.decode("utf-8", "replace").splitlines():
        line = raw.strip()[:_LINE_BYTES_MAX]
        if line.startswith("m="):
            attributes = {}
            media.append((line[2:], attributes))
        elif line.startswith("s=") and not media:
            name = line[2:].strip()
        elif line.startswith("a="):
            word, _, value = line[2:].partition(":")
            values = attributes.setdefault(word.strip().lower(), [])
            if len(values) < _SETS_MAX:
                values.append(value.strip())
    if not media:
        raise CameraError(f"the answer to DESCRIBE names no media: {data[:32]!r}", reason="protocol")
    control_url = join_control(base_url, session.get("control", ["*"])[0])
    tracks = [_track(i, text, attrs, base_url) for i, (text, attrs) in enumerate(media[:TRACKS_MAX])]
    return Presentation(control_url, tuple(tracks), name)


def join_control(base_url: str, control: str) -> str:
    """`a=control` made absolute by appending, query or not: cameras do not follow RFC 3986 here."""
    if control in ("", "*"):
        return base_url
    if control.lower().startswith(("rtsp://", "rtsps://")):
        return control
    return base_url.rstrip("/") + "/" + control.lstrip("/")


def _track(index: int, media: str, attributes: dict[str, list[str]], base_url: str) -> Track:
    kind_word, _, _, payload = [*media.split(), "", "", "", ""][:4]
    name, clock_hz, channels = _rtpmap(payload, attributes.get("rtpmap", []))
    codec = _CODECS.get(name.lower(), name.lower())
    fmtp = _fmtp(payload, attributes.get("fmtp", []))
    video = _video(codec, fmtp) if kind_word == "video" else None
    audio = _audio(codec, clock_hz, channels, fmtp) if kind_word == "audio" else None
    return Track(
        index=index,
        kind=_kind(kind_word, codec),
        codec=codec,
        payload_type=int(payload) if payload.isascii() and payload.isdigit() and int(payload[:4]) < 128 else -1,
        clock_hz=clock_hz,
        channels=audio.channels if audio else channels,
        control_url=join_control(base_url, attributes.get("control", ["*"])[0]),
        video=video,
        audio=audio,
        fmtp=fmtp,
    )


def _kind(word: str, codec: str) -> Kind:
    if codec == "metadata":
        return "metadata"
    return "video" if word == "video" else "audio" if word == "audio" else "other"


def _rtpmap(payload: str, lines: list[str]) -> tuple[str, int, int]:
    """(encoding name, clock rate, channels); the clock is 90 kHz and one channel when nobody says."""
    found = _STATIC.get(payload, "")
    for line in lines:
        number, _, value = line.partition(" ")
        if number == payload and value.strip():
            found = value.strip()
    name, *numbers = found.split("/")
    clock_hz, channels = ([int(n) if n.strip().isdecimal() and len(n) < 10 else 0 for n in numbers] + [0, 0])[:2]
    return name.strip(), clock_hz or 90_000, min(channels or 1, 255)


def _fmtp(payload: str, lines: list[str]) -> dict[str, str]:
    fmtp: dict[str, str] = {}
    for line in lines:
        number, _, value = line.partition(" ")
        if number == payload:
            for part in value.split(";"):
                name, equals, text = part.strip().partition("=")
                if equals:
                    fmtp[name.strip().lower()] = text.strip()
    return fmtp


def _video(codec: str, fmtp: dict[str, str]) -> VideoConfig | None:
    if codec == "h264":
        sets = _sets(fmtp.get("sprop-parameter-sets", ""))
        sps = tuple(nal for nal in sets if nal[0] & 0x1F == 7)
        pps = tuple(nal for nal in sets if nal[0] & 0x1F == 8)
        return VideoConfig("h264", (), _by_id(sps, 4), _by_id(pps, 1))
    if codec == "h265":
        vps, sps, pps = (
            tuple(nal for nal in _sets(fmtp.get(name, "")) if nal[0] >> 1 & 0x3F == kind)
            for name, kind in (("sprop-vps", 32), ("sprop-sps", 33), ("sprop-pps", 34))
        )
        return VideoConfig("h265", tuple(sorted(vps, key=lambda nal: nal[2] >> 4)), sps, _by_id(pps, 2))
    return None


def _sets(text: str) -> list[bytes]:
    """Base64 parameter sets; zero bytes behind the stop bit belong to no NAL unit and go (H.264 §7.4.1)."""
    found = []
    for part in text.split(",")[:_SETS_MAX]:
        try:
            nal = base64.b64decode(part.strip() + "=" * (-len(part.strip()) % 4)).rstrip(b"\0")
        except ValueError:  # no base64, or not even ASCII
            continue
        if len(nal) > 3:
            found.append(nal)
    return found


def _by_id(nals: tuple[bytes, ...], at: int) -> tuple[bytes, ...]:
    """Sorted by the Exp-Golomb number that starts at byte `at` (H.264 §7.3.2, H.265 §7.3.2.3)."""

    def number(nal: bytes) -> int:
        bits = int.from_bytes(nal[at : at + 4].ljust(4, b"\0"), "big")
        zeros = 32 - bits.bit_length()
        return (bits >> max(31 - 2 * zeros, 0)) - 1

    return tuple(sorted(nals, key=number))


def _audio(codec: str, clock_hz: int, channels: int, fmtp: dict[str, str]) -> AudioConfig | None:
    match codec:
        case "pcma" | "pcmu" | "opus" | "l16":
            return AudioConfig(codec, clock_hz, channels)
        case "aac":
            try:
                config = bytes.fromhex(fmtp.get("config", ""))[:256]
            except ValueError:
                return None
            if len(config) < 2 or max(_aac_lengths(fmtp)) > 32:
                return None
            return AudioConfig("aac", clock_hz, _aac_channels(config) or channels, config)
    return None


def _number(fmtp: dict[str, str], name: str) -> int:
    """A numeric format parameter; 0 when absent or odd."""
    text = fmtp.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _aac_lengths(fmtp: dict[str, str]) -> tuple[int, int, int]:
    """Those of AAC-hbr when the camera does not say (RFC 3640 §3.3.6)."""
    if "sizelength" not in fmtp:
        return 13, 3, 3
    return _number(fmtp, "sizelength"), _number(fmtp, "indexlength"), _number(fmtp, "indexdeltalength")


class _Bits:
    """Reads numbers from the front of a few bytes; past the end come zeros."""

    def __init__(self, data: bytes) -> None:
        self._bits = int.from_bytes(data[:64].ljust(64, b"\0"), "big")
        self._left = 512

    def take(self, count: int) -> int:
        self._left -= count
        return self._bits >> self._left & ((1 << count) - 1)


def _aac_head(config: bytes) -> tuple[int, int, int, _Bits]:
    """(object type, core rate, channel configuration, reader behind) of an AudioSpecificConfig (14496-3 §1.6.2)."""
    bits = _Bits(config)
    kind = bits.take(5)
    if kind == 31:
        kind = 32 + bits.take(6)
    index = bits.take(4)
    rate_hz = bits.take(24) if index == 15 else _AAC_RATES[index] if index < len(_AAC_RATES) else 0
    return kind, rate_hz, bits.take(4), bits


def _aac_channels(config: bytes) -> int:
    channels = _aac_head(config)[2]
    return 8 if channels == 7 else channels if channels < 7 else 0


def _aac_core(config: bytes) -> tuple[int, int]:
    """(core rate, samples per frame) of an AudioSpecificConfig; (0, 1024) when there is none."""
    if len(config) < 2:
        return 0, 1024
    kind, rate_hz, _, bits = _aac_head(config)
    if kind in (5, 29):  # explicit SBR: the extension's rate and the core's object type follow
        if bits.take(4) == 15:
            bits.take(24)
        kind = bits.take(5)
    short = bits.take(1)
    if kind in (23, 39):
        return rate_hz, 480 if short else 512
    return rate_hz, 960 if short else 1024
