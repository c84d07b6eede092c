"""Who gives way when a volume gets more than it can write: decided once per fragment, by rank and by share.

Kept true: a stream loses nothing while one of a lower level still begins GOPs; what is refused is a whole GOP, or the
rest of one when its level's time is long over; a refused stream comes back at a key frame only, when there is room
for its level and some more, and few come back at once. A decision takes the same time however many streams there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from base.clock import Clock
from chunks.writer import VolumeWriter
from index.register import Priority
from native.slab import pool
from recorder.alarm import Alarms, Episode

if TYPE_CHECKING:
    from native.moof import Fragment

RANKS: Final[dict[Priority, int]] = {"low": 0, "normal": 2, "high": 4}  # of the sub stream; the main stream's is one up
LEVELS: Final = 12  # two per rank: over its share, within it
FIRST_FILL: Final = 0.6  # a healthy volume stays below: it commits at a quarter, and gets some more while it syncs
STEP: Final = (1 - FIRST_FILL) / (LEVELS - 1)  # the last level is refused by nothing but the bound
RETURN_FILL: Final = 0.2  # a level comes back so far below its limit
POOL_SLOPE: Final = 4.0  # the pool of all media counts from nine tenths on, and is full with the queues'
GRANT_US: Final = 1_000_000  # in each such time 1, 2, 4… streams come back
GRANT_MAX: Final = 4096
PAUSE_MIN_US: Final = (
    1_000_000  # after a refusal nobody comes back for so long, and twice as long each time it was too early
)
PAUSE_MAX_US: Final = 16_000_000
RELAPSE_US: Final = 60_000_000  # a refusal so soon after somebody came back says that it was
SHARE_US: Final = 250_000  # a share is reckoned anew so often
WORD: Final = "overload"
TEXT: Final = "the volume gets more than it can write and others come first; it goes on by itself"


def rank_of(priority: Priority, stream_name: str) -> int:
    """A stream's rank: by its camera's priority, and main before sub."""
    return RANKS[priority] + (not stream_name.endswith(".sub"))


class Standing:
    """What decides over one stream, and whether it waits; owned by its pipeline."""

    __slots__ = ("gate", "level", "rank", "stream_id")

    def __init__(self, stream_id: int, rank: int = RANKS["normal"] + 1) -> None:
        self.stream_id = stream_id
        self.rank = rank
        self.level = 0  # at which it was refused
        self.gate: Gate | None = None  # at which it waits


class Gate:
    """One volume's."""

    __slots__ = (
        "_clock", "_grant", "_granted_us", "_left", "_pause_us", "_share_bytes", "_share_until_us", "_until_us",
        "episode",
    )  # fmt: skip

    def __init__(self, clock: Clock) -> None:
        self.episode: Episode | None = None
        self._clock = clock
        self._grant = 1
        self._left = 0
        self._until_us = 0
        self._pause_us = PAUSE_MIN_US
        self._granted_us: int | None = None  # when somebody last came back, until a refusal after that
        self._share_bytes = 0
        self._share_until_us = 0

    def share_bytes(self, writer: VolumeWriter) -> int:
        """What each of the streams that have something waiting may have."""
        now_us = self._clock.monotonic_us()
        if now_us >= self._share_until_us:
            self._share_until_us = now_us + SHARE_US
            self._share_bytes = writer.queue_bytes_max // max(writer.queued_streams(), 1)
        return self._share_bytes

    def refused(self) -> None:
        """Let nobody back for a while."""
        now_us = self._clock.monotonic_us()
        if self._granted_us is not None:
            relapse = now_us - self._granted_us < RELAPSE_US
            self._pause_us = min(self._pause_us * 2, PAUSE_MAX_US) if relapse else PAUSE_MIN_US
            self._granted_us = None
        self._grant, self._left = 1, 0
        self._until_us = now_us + self._pause_us

    def grants(self) -> bool:
        """One more may come back: few at first, as nobody knows how many are too many."""
        now_us = self._clock.monotonic_us()
        if now_us >= self._until_us:
            self._left, self._until_us = self._grant, now_us + GRANT_US
            self._grant = min(self._grant * 2, GRANT_MAX)
        if self._left <= 0:
            return False
        self._left -= 1
        self._granted_us = now_us
        return True


class Overload:
    """The gates of all volumes."""

    def __init__(self, clock: Clock, alarms: Alarms | None = None) -> None:
        self._clock = clock
        self.alarms = alarms or Alarms(clock)
        self._gates: dict[bytes, Gate] = {}

    def admits(self, writer: VolumeWriter, standing: Standing, fragment: Fragment) -> bool:
        """Whether the volume takes this fragment; a stream that is refused waits from then on."""
        fill = _fill(writer, fragment)
        if standing.gate is None and fill < FIRST_FILL:
            return True
        gate = self._gates.get(writer.volume.id)
        if gate is None:
            gate = self._gates[writer.volume.id] = Gate(self._clock)
        if standing.gate is not None:
            return self._returns(gate, standing, fill, key=fragment.key)
        level = standing.rank * 2 + (writer.queue_bytes_of(standing.stream_id) <= gate.share_bytes(writer))
        limit = FIRST_FILL + STEP * level + (0 if fragment.key else STEP / 2)  # a GOP under way may go on a little
        if fill < limit and fill <= 1:
            return True
        standing.level, standing.gate = level, gate
        gate.refused()
        if gate.episode is None or gate.episode.over:
            gate.episode = self.alarms.begin("disk", writer.volume.id.hex(), str(writer.volume.root))
        gate.episode.lost(standing.stream_id)
        return False

    def _returns(self, gate: Gate, standing: Standing, fill: float, *, key: bool) -> bool:
        room = FIRST_FILL + STEP * standing.level - RETURN_FILL
        if not key or fill > room or not gate.grants():
            return False
        self.leave(standing)
        return True

    def dropped(self, standing: Standing) -> None:
        """A GOP of a stream that waits was left out."""
        if standing.gate is not None and standing.gate.episode is not None:
            standing.gate.episode.lost(standing.stream_id, 1)

    def leave(self, standing: Standing) -> None:
        """The stream waits no more: it is recorded again, or its session has ended."""
        if standing.gate is not None and standing.gate.episode is not None:
            standing.gate.episode.back(standing.stream_id)
        standing.gate = None

    def tick(self) -> None:
        """End the episodes that are over; called about once a second."""
        self.alarms.tick()


def _fill(writer: VolumeWriter, fragment: Fragment) -> float:
    """How full it would be with this fragment: queue, memory of all media, or disk, whichever is scarcest."""
    used_bytes, _, bound_bytes = pool()
    of_queue = (writer.queue_bytes + fragment.memory_bytes) / max(writer.queue_bytes_max, 1)
    return max(of_queue, 1 - POOL_SLOPE * (1 - used_bytes / bound_bytes), writer.scarcity)
