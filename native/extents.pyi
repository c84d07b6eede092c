from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

def extents(
    rows: Iterable[tuple[bytes, bytes]], stop: bytes
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], list[tuple[int, bytes, bytes]]]: ...
