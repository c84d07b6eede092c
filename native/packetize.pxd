# RTP packetizing for the simulated cameras.
# Sources: RFC 3550 §5.1, RFC 6184 §5, RFC 7798 §4.4, RFC 3640 §3.3.6, RFC 2326 §10.12.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef class UnitTable:
    cdef readonly str codec
    cdef int _codec
    cdef bytes _data
    cdef Py_ssize_t _count
    cdef Py_ssize_t* _part_at
    cdef Py_ssize_t* _part_bytes
    cdef Py_ssize_t* _first
    cdef Py_ssize_t* _stamp_before

cdef class RtpStream:
    cdef readonly uint32_t ssrc
    cdef readonly int payload_type
    cdef readonly uint32_t packets
    cdef readonly uint64_t payload_bytes
    cdef readonly uint16_t next_sequence
    cdef int _channel
    cdef Py_ssize_t _payload_max
    cdef bint _aggregate
    cdef bint _donl
    cdef uint16_t _decoding_order
    cdef uint32_t _timestamp
    cdef int _pack(self, UnitTable units, Py_ssize_t index, uint32_t timestamp, const uint8_t* stamp,
                   Py_ssize_t stamp_bytes) except -1
    cdef int _pack_video(self, int codec, Py_ssize_t count) except -1
    cdef int _pack_aac(self, const uint8_t* data, Py_ssize_t size) except -1
    cdef int _single(self, int codec, Py_ssize_t nal, bint last) except -1
    cdef int _aggregated(self, int codec, Py_ssize_t first, Py_ssize_t end, bint last) except -1
    cdef int _fragmented(self, int codec, Py_ssize_t nal, bint last) except -1
    cdef void _begin(self) noexcept nogil
    cdef void _end(self, bint marker) noexcept nogil
