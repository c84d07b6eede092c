# cython: language_level=3
"""Where a depacketizer puts one track's access units: the border between native.rtp and native.fragment.

Kept true: calls come in the order unit_begin, (nal_begin, append…, nal_end | nal_drop)…, unit_end | unit_drop,
from one thread; a NAL unit's bytes reach the sink exactly as the camera made them, header included.
"""
from libc.stdint cimport uint8_t, int64_t, uint32_t


cdef class Sink:
    """Base of all sinks; swallows everything (used for tracks that are counted and not stored)."""

    cdef int unit_begin(self, int64_t time, int64_t arrival_us) except -1:
        return 0

    cdef int nal_begin(self, const uint8_t* head, Py_ssize_t head_bytes) except -1:
        return 0

    cdef int append(self, const uint8_t* data, Py_ssize_t size) except -1:
        return 0

    cdef int nal_end(self) except -1:
        return 0

    cdef int nal_drop(self) except -1:
        return 0

    cdef int unit_end(self, uint32_t flags, uint32_t lost_packets) except -1:
        return 0

    cdef int unit_drop(self, uint32_t lost_packets) except -1:
        return 0


cdef class CollectSink(Sink):
    """Keeps every unit as (time, arrival_us, data, flags, lost_packets) in `units`; for tests and tools.

    Video data is NAL units with a 4-byte big-endian length before each; audio data is the frame as it came.
    """

    def __cinit__(self, bint length_prefix=True):
        self.units = []
        self._length_prefix = length_prefix
        self._data = bytearray()

    cdef int unit_begin(self, int64_t time, int64_t arrival_us) except -1:
        self._time = time
        self._arrival_us = arrival_us
        self._data = bytearray()
        return 0

    cdef int nal_begin(self, const uint8_t* head, Py_ssize_t head_bytes) except -1:
        self._nal_at = len(self._data)
        if self._length_prefix:
            self._data += b"\0\0\0\0"
        self._data += head[:head_bytes]
        return 0

    cdef int append(self, const uint8_t* data, Py_ssize_t size) except -1:
        self._data += data[:size]
        return 0

    cdef int nal_end(self) except -1:
        if self._length_prefix:
            size = len(self._data) - self._nal_at - 4
            self._data[self._nal_at:self._nal_at + 4] = size.to_bytes(4, "big")
        return 0

    cdef int nal_drop(self) except -1:
        del self._data[self._nal_at:]
        return 0

    cdef int unit_end(self, uint32_t flags, uint32_t lost_packets) except -1:
        self.units.append((self._time, self._arrival_us, bytes(self._data), flags, lost_packets))
        self._data = bytearray()
        return 0

    cdef int unit_drop(self, uint32_t lost_packets) except -1:
        self._data = bytearray()
        return 0
