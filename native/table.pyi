from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

FRAGMENT_COLUMNS: Sequence[str]

def decode(
    records: Buffer,
) -> tuple[
    NDArray[np.int64],
    NDArray[np.uint32],
    NDArray[np.int64],
    NDArray[np.int32],
    NDArray[np.bool_],
    NDArray[np.uint32],
    NDArray[np.int64],
]: ...
