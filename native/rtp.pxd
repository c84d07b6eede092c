# RTP packets as they arrive → payloads in order, with time.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from native.depacketize cimport Depacketizer

cdef enum:
    RTP_HEAD_BYTES = 12

cdef struct Slot:
    int64_t sequence      # extended; -1 = empty
    int64_t arrival_us
    uint32_t rtp_time
    bint marker
    uint32_t size
    uint32_t room
    uint8_t* data

cdef class Receiver:
    cdef Depacketizer _units
    cdef int _payload_type      # -1 = any
    cdef readonly int clock_hz
    cdef readonly uint64_t packets
    cdef readonly uint64_t bytes
    cdef readonly uint64_t lost_packets
    cdef readonly uint64_t reordered_packets
    cdef readonly uint64_t duplicate_packets
    cdef readonly uint64_t source_changes
    cdef readonly int64_t last_arrival_us
    cdef readonly uint32_t ssrc
    cdef uint64_t _malformed
    cdef uint64_t _foreign
    cdef bint _locked           # ssrc and sequence are known
    cdef uint32_t _candidate_ssrc
    cdef int _candidate_next    # sequence that would confirm a jump; -1 = none
    cdef int64_t _next          # extended sequence number wanted next
    cdef int64_t _base          # that of the source's first packet
    cdef uint64_t _received     # from this source
    cdef uint32_t _lost         # missing directly before the next payload
    cdef int64_t _time          # unwrapped; its low 32 bits are the last RTP timestamp
    cdef bint _timed
    cdef int64_t _clock_at_us   # arrival for which _clock is right
    cdef uint32_t _clock        # arrival in the track's clock
    cdef uint32_t _transit
    cdef uint32_t _jitter_16    # sixteenths of a tick (RFC 3550 §A.8)
    cdef Slot* _ring            # NULL when packets cannot be out of order
    cdef int _window            # slots; a power of two
    cdef int _waiting           # packets in the ring
    cdef int64_t _waiting_since_us
    cdef int packet(self, const uint8_t* data, Py_ssize_t size, int64_t arrival_us) except -1
    cdef int _deliver(
        self, const uint8_t* data, Py_ssize_t size, uint32_t rtp_time, bint marker, int64_t arrival_us
    ) except -1
    cdef int _unlikely(self, uint32_t ssrc, int sequence) except -1
    cdef int _lock(self, uint32_t ssrc, int sequence) except -1
    cdef int _out_of_order(
        self, const uint8_t* data, Py_ssize_t size, int ahead, uint32_t rtp_time, bint marker, int64_t arrival_us
    ) except -1
    cdef int _keep(
        self, const uint8_t* data, Py_ssize_t size, int64_t sequence, uint32_t rtp_time, bint marker, int64_t arrival_us
    ) except -1
    cdef int _release(self) except -1
    cdef int _drain(self) except -1
