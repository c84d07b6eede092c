# cython: language_level=3
"""Chunk rows of the index → where each chunk begins and ends, without a Python step per row.

Kept true: a row is read only inside its own bytes; one that is too short raises ValueError.
Layout: docs/format/index.md.
"""
import numpy as np

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint64_t

cdef enum:
    KEY = 12            # u32 stream, u64 start, both big-endian
    FLAGS_AT = 12       # after u32 sequence, epoch, run
    END_AT = 29         # after the flags and the volume's 16 bytes
    ROW_MIN = END_AT + 8
    SEALED = 1
    GROW = 1024


cdef inline int64_t big(const uint8_t* at) noexcept nogil:
    cdef uint64_t value = 0
    cdef int i
    for i in range(8):
        value = value << 8 | at[i]
    return <int64_t>value


cdef inline int64_t little(const uint8_t* at) noexcept nogil:
    cdef uint64_t value = 0
    cdef int i
    for i in range(7, -1, -1):
        value = value << 8 | at[i]
    return <int64_t>value


def extents(rows, bytes stop not None):
    """(starts_us, ends_us, rows of open chunks) of the (key, value) pairs before the key `stop`.

    The arrays are int64; an open chunk's end is not in its row, so it comes back as (position, key, value).
    """
    cdef Py_ssize_t count = 0, room = GROW
    cdef int64_t[::1] starts = np.empty(room, np.int64), ends = np.empty(room, np.int64)
    cdef const uint8_t* at
    cdef bytes key, value
    cdef list unsealed = []
    for key, value in rows:
        if key >= stop:
            break
        if PyBytes_GET_SIZE(key) != KEY or PyBytes_GET_SIZE(value) < ROW_MIN:
            raise ValueError("a chunk row is damaged")
        if count == room:
            starts, ends = np.resize(starts, 2 * room), np.resize(ends, 2 * room)
            room *= 2
        at = <const uint8_t*>PyBytes_AS_STRING(value)
        starts[count] = big(<const uint8_t*>PyBytes_AS_STRING(key) + 4)
        ends[count] = little(at + END_AT)
        if not at[FLAGS_AT] & SEALED:
            unsealed.append((count, key, value))
        count += 1
    return np.asarray(starts)[:count], np.asarray(ends)[:count], unsealed
