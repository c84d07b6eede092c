"""Whether a camera is to be recorded at a moment: always, by its schedule, or while somebody asked for it.

Kept true: asking costs the same whatever was asked before; a request outlives a restart, as it lies in the register.
"""

from __future__ import annotations

from base.schedule import parse_schedule
from index import Camera


def wanted(camera: Camera, wall_us: int) -> bool:
    """True when what the camera sends now is to be stored."""
    if camera.record == "continuous" or wall_us < camera.demanded_until_us:
        return True
    return camera.record == "schedule" and parse_schedule(camera.schedule).covers(wall_us)
