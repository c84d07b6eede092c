# RTP payloads in order → access units in a Sink; one class per payload family.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from native.sink cimport Sink

cdef class Depacketizer:
    cdef Sink _sink
    cdef readonly uint64_t malformed
    # lost = packets known to be missing directly before this one
    cdef int payload(
        self, const uint8_t* data, Py_ssize_t size, int64_t time, int64_t arrival_us, bint marker, uint32_t lost
    ) except -1
    cdef int flush(self) except -1    # finish a unit that is known to be over
    cdef int restart(self) except -1  # the source changed: what is open ends here

cdef Depacketizer depacketizer(
    str codec, Sink sink, Py_ssize_t unit_bytes_max, bint donl, tuple aac_lengths, int aac_frame_ticks
)
