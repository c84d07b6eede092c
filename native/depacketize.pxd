# RTP payloads in order → access units in a Sink; one class per payload family.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from native.sink cimport Sink

cdef inline uint32_t be16(const uint8_t* data) noexcept nogil:
    return (<uint32_t>data[0] << 8) | data[1]

cdef class Depacketizer:
    cdef Sink _sink
    cdef readonly uint64_t malformed
    cdef uint64_t foreign  # packets whose NAL header the announced codec does not know
    # lost = packets known to be missing directly before this one
    cdef int payload(
        self, const uint8_t* data, Py_ssize_t size, int64_t time, int64_t arrival_us, bint marker, uint32_t lost
    ) except -1
    cdef int flush(self) except -1    # finish a unit that is known to be over
    cdef int restart(self) except -1  # the source changed: what is open ends here
