# Where a depacketizer puts one track's access units; the border between native.rtp and native.fragment.
from libc.stdint cimport uint8_t, int64_t, uint32_t

cdef enum:
    UNIT_COMPLETE = 1   # no packet of this unit is known to be missing
    UNIT_LOSS_BEFORE = 2  # at least one packet was lost between the unit before and this one, or inside this one

cdef class Sink:
    # A video unit is unit_begin, then per NAL unit nal_begin, append…, nal_end (or nal_drop), then unit_end.
    # An audio unit is unit_begin, append…, unit_end. time is the unwrapped RTP timestamp in the track's own clock.
    cdef int unit_begin(self, int64_t time, int64_t arrival_us) except -1
    cdef int nal_begin(self, const uint8_t* head, Py_ssize_t head_bytes) except -1
    cdef int append(self, const uint8_t* data, Py_ssize_t size) except -1
    cdef int nal_end(self) except -1
    cdef int nal_drop(self) except -1
    cdef int unit_end(self, uint32_t flags, uint32_t lost_packets) except -1
    cdef int unit_drop(self, uint32_t lost_packets) except -1

cdef class CollectSink(Sink):
    cdef public list units
    cdef bint _length_prefix
    cdef int64_t _time
    cdef int64_t _arrival_us
    cdef bytearray _data
    cdef Py_ssize_t _nal_at
