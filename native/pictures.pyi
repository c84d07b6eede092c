from typing import Self

from native.depacketize import Depacketizer
from native.sink import Sink

class PictureDepacketizer(Depacketizer):
    def __new__(cls, sink: Sink, h265: bool, donl: bool, unit_bytes_max: int) -> Self: ...
