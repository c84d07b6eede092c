from collections.abc import Callable
from typing import Self

from typing_extensions import Buffer

from native.rtp import Receiver

class FramingError(ValueError): ...

class Interleaved:
    @property
    def noise_bytes(self) -> int: ...
    @property
    def unknown_frames(self) -> int: ...
    def __new__(
        cls,
        on_text: Callable[[bytes], int],
        on_rtcp: Callable[[int, bytes], None],
        *,
        noise_bytes_max: int = ...,
    ) -> Self: ...
    def assign(self, channel: int, rtcp_channel: int, receiver: Receiver) -> None: ...
    def release(self) -> None: ...
    def feed(self, buffer: Buffer, size: int, arrival_us: int) -> None: ...
