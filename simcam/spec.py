"""What a simulated camera shows and how it behaves, as a value."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from simcam.encode import LoopSpec, make_loop
from simcam.faults import Faults
from simcam.files import load_loop
from simcam.loop import Loop

AuthScheme = Literal["basic", "digest-md5", "digest-sha256"]
LoopSource = LoopSpec | Path | Loop


@dataclass(frozen=True, slots=True)
class CameraSpec:
    """One camera. Its address is rtsp://HOST:PORT/NAME. Its loop is made, read from a file, or given."""

    name: str
    loop: LoopSource = field(default_factory=LoopSpec)
    stamp: bool | None = None  # None: made loops are stamped, files are served untouched
    user: str = ""
    password: str = ""
    auth: AuthScheme = "digest-md5"  # counts when a user is set
    rate: float = 1.0  # media seconds per second: 1.0005 is a clock 500 ppm fast, 10 plays ten times faster
    repeat: int = 0  # turns of the loop, then BYE; 0 goes on for ever
    transports: tuple[str, ...] = ("tcp", "udp")
    session_timeout_s: int = 60
    realm: str = "simcam"  # of its password; real cameras often put their serial number there
    server: str = "simcam"  # what its Server header says
    parameter_sets: bool = True  # in the SDP
    aggregate: bool = True  # small NAL units share packets
    donl: bool = False  # H.265 decoding order numbers in every packet
    payload_max: int = 1400
    metadata: bool = False  # a third track with ONVIF metadata
    first_rtp_time: int | None = None  # None: random (RFC 3550 §5.1)
    first_rtp_sequence: int | None = None
    log: bool = True  # keep what was sent, 32 bytes a picture
    faults: Faults = field(default_factory=Faults)

    @property
    def stamped(self) -> bool:
        """Whether pictures carry a stamp."""
        return isinstance(self.loop, LoopSpec) if self.stamp is None else self.stamp


def resolve(source: LoopSource) -> Loop:
    """The loop a spec names."""
    if isinstance(source, Loop):
        return source
    return load_loop(source) if isinstance(source, Path) else make_loop(source)
