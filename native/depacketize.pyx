# cython: language_level=3
"""RTP payloads in order → audio frames: AAC (RFC 3640) and formats of a frame a packet; the base of all depacketizers.

Kept true: a frame reaches the sink byte for byte or not at all; its size is bounded; no object is made per packet.
Every length is checked where it is read.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t
from native.sink cimport UNIT_COMPLETE, UNIT_LOSS_BEFORE, Sink


cdef enum:
    AHEAD_FRAMES_MAX = 0xffff  # left out between two frames of a packet; a camera's indices have 3 bits


cdef class Depacketizer:
    """Base: takes payloads and makes nothing of them (metadata tracks)."""

    def __cinit__(self, Sink sink not None, *_):
        self._sink = sink

    cdef int payload(
        self, const uint8_t* data, Py_ssize_t size, int64_t time, int64_t arrival_us, bint marker, uint32_t lost
    ) except -1:
        return 0

    cdef int flush(self) except -1:
        return 0

    cdef int restart(self) except -1:
        return 0


cdef class FrameDepacketizer(Depacketizer):
    """G.711, Opus, L16: a packet is a unit."""

    cdef uint32_t _lost

    cdef int payload(
        self, const uint8_t* data, Py_ssize_t size, int64_t time, int64_t arrival_us, bint marker, uint32_t lost
    ) except -1:
        self._lost += lost
        if size == 0:
            return 0
        self._sink.unit_begin(time, arrival_us)
        self._sink.append(data, size)
        lost = self._lost
        self._lost = 0
        return self._sink.unit_end(UNIT_COMPLETE | (UNIT_LOSS_BEFORE if lost else 0), lost)


cdef inline uint32_t bits_at(const uint8_t* data, Py_ssize_t at, int count) noexcept nogil:
    """`count` ≤ 32 bits from bit `at`; the caller has checked that they are there."""
    cdef uint32_t value = 0
    cdef int i
    for i in range(count):
        value = (value << 1) | ((data[(at + i) >> 3] >> (7 - ((at + i) & 7))) & 1)
    return value


cdef class AacDepacketizer(Depacketizer):
    """AAC in the generic mode of RFC 3640: AU headers of any lengths, several frames a packet or one over several."""

    cdef int _size_bits
    cdef int _index_bits
    cdef int _delta_bits
    cdef int _frame_ticks
    cdef Py_ssize_t _unit_bytes_max
    cdef uint32_t _lost
    cdef bint _open          # a frame over several packets is under way
    cdef int64_t _time
    cdef Py_ssize_t _size    # its size
    cdef Py_ssize_t _left    # bytes of it still to come

    def __cinit__(self, Sink sink not None, tuple lengths, int frame_ticks, Py_ssize_t unit_bytes_max):
        if max(lengths) > 32 or min(lengths) < 0:
            raise ValueError(f"AAC header lengths {lengths} are not 0 to 32 bits")
        self._size_bits, self._index_bits, self._delta_bits = lengths
        self._frame_ticks = frame_ticks
        self._unit_bytes_max = unit_bytes_max

    cdef int payload(
        self, const uint8_t* data, Py_ssize_t size, int64_t time, int64_t arrival_us, bint marker, uint32_t lost
    ) except -1:
        cdef Py_ssize_t header_bits, unit
        cdef int width = self._size_bits + self._index_bits
        if lost:
            self._lost += lost
            self._drop()
        if size == 0:
            return 0
        if size < 2:
            return self._malformed()
        header_bits = be16(data)
        data += 2
        size -= 2 + ((header_bits + 7) >> 3)
        if size <= 0 or header_bits < width:
            return self._malformed()
        unit = bits_at(data, 0, self._size_bits)
        if unit > size:
            return self._part(data + ((header_bits + 7) >> 3), size, unit, time, arrival_us)
        if self._open:
            self._malformed()
        return self._frames(data, header_bits, size, time, arrival_us)

    cdef int _frames(
        self, const uint8_t* headers, Py_ssize_t header_bits, Py_ssize_t size, int64_t time, int64_t arrival_us
    ) except -1:
        cdef const uint8_t* data = headers + ((header_bits + 7) >> 3)
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t unit
        cdef uint32_t ahead
        cdef int index_bits = self._index_bits
        while header_bits - at >= self._size_bits + index_bits:
            unit = bits_at(headers, at, self._size_bits)
            if at:
                ahead = bits_at(headers, at + self._size_bits, index_bits)
                if ahead > AHEAD_FRAMES_MAX:
                    return self._malformed()
                time += (1 + <int64_t>ahead) * self._frame_ticks
            at += self._size_bits + index_bits
            index_bits = self._delta_bits
            if unit == 0 or unit > size:
                return self._malformed()
            self._sink.unit_begin(time, arrival_us)
            self._sink.append(data, unit)
            self._end()
            data += unit
            size -= unit
        return 0

    cdef int _part(
        self, const uint8_t* data, Py_ssize_t size, Py_ssize_t unit, int64_t time, int64_t arrival_us
    ) except -1:
        if not self._open:
            if unit > self._unit_bytes_max:
                return self._malformed()
            self._open = True
            self._time = time
            self._size = self._left = unit
            self._sink.unit_begin(time, arrival_us)
        elif time != self._time or unit != self._size or size > self._left:
            return self._malformed()
        self._left -= size
        self._sink.append(data, size)
        if self._left == 0:
            self._open = False
            self._end()
        return 0

    cdef int _end(self) except -1:
        cdef uint32_t lost = self._lost
        self._lost = 0
        return self._sink.unit_end(UNIT_COMPLETE | (UNIT_LOSS_BEFORE if lost else 0), lost)

    cdef int _drop(self) except -1:
        if self._open:
            self._open = False
            return self._sink.unit_drop(0)
        return 0

    cdef int _malformed(self) except -1:
        self.malformed += 1
        return self._drop()

    cdef int restart(self) except -1:
        return self._drop()
