"""Which streams a recorder process has, when the recording is spread over several.

Kept true: every stream belongs to exactly one of the node's workers, by its id alone, so workers need not agree on
anything while they run; each worker keeps within its part of the node's bounds, so that all together keep them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from base.config import Config

# The fraction of id × (√2 − 1) spreads ids evenly also where every second one is a sub stream, which `id % workers`
# does not. It is not the golden ratio of `Rotation.slot`: with that, all chunks of one worker would end together.
SPREAD: Final = 2**0.5 - 1


@dataclass(frozen=True, slots=True)
class Share:
    """Worker number `worker` of `workers`; without arguments the one recorder that has all streams."""

    worker: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.worker < self.workers:
            raise ValueError(f"there is no worker {self.worker} among {self.workers}")

    @property
    def first(self) -> bool:
        """This worker also does what is done once in a node."""
        return self.worker == 0

    def owns(self, stream_id: int) -> bool:
        """Whether a stream is this worker's to record, to tend and to tell of."""
        return int(stream_id * SPREAD % 1.0 * self.workers) == self.worker

    def part_of(self, config: Config) -> Config:
        """The configuration with this worker's part of the bounds that it grants the node."""
        node = config.recorder
        part = msgspec.structs.replace(
            node,
            queue_bytes_max=max(node.queue_bytes_max // self.workers, 2 * node.unit_bytes_max),
            pre_record_bytes_max=node.pre_record_bytes_max // self.workers,
            receive_bytes_max=max(node.receive_bytes_max // self.workers, 2 * node.unit_bytes_max),
            handshakes_max=max(1, node.handshakes_max // self.workers),
        )
        return msgspec.structs.replace(config, recorder=part)


WHOLE: Final = Share()
