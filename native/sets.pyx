# cython: language_level=3
"""The parameter sets a decoder holds at this point of a stream.

Kept true: a set replaces the one of its kind and id and nothing else; `snapshot()` gives the same object until some
set's bytes change; ids are those the standards allow (H.264 7.4.2.1, 7.4.2.2; H.265 7.4.3.1 to 7.4.3.3), so at most
32 + 256 sets of at most SET_BYTES_MAX each are held. A set that is not understood is left to the stream itself.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp

from native.nal cimport CODEC_H264, CODEC_H265, NAL_PPS, NAL_SPS, NAL_VPS, nal_class

cdef enum:
    CLEAN_BYTES = 256  # enough for an id: H.265 puts up to 7 sub-layer levels of 12 bytes before it


cdef struct Bits:
    uint8_t* data
    Py_ssize_t size
    Py_ssize_t at  # in bits


cdef uint32_t take_bit(Bits* bits) noexcept nogil:
    cdef uint32_t bit
    if bits.at >= bits.size * 8:
        bits.at = bits.size * 8 + 1
        return 0
    bit = (bits.data[bits.at >> 3] >> (7 - (bits.at & 7))) & 1
    bits.at += 1
    return bit


cdef uint32_t take_bits(Bits* bits, int count) noexcept nogil:
    cdef uint32_t value = 0
    cdef int _i
    for _i in range(count):
        value = value << 1 | take_bit(bits)
    return value


cdef long take_ue(Bits* bits) noexcept nogil:
    """ue(v) of H.264 9.1; -1 when it is not there."""
    cdef int zeros = 0
    if bits.at >= bits.size * 8:
        return -1
    while zeros < 24 and bits.at < bits.size * 8 and take_bit(bits) == 0:
        zeros += 1
    if zeros >= 24 or bits.at > bits.size * 8 - zeros:
        return -1
    return (1 << zeros) - 1 + <long>take_bits(bits, zeros)


cdef Py_ssize_t unescape(const uint8_t* nal, Py_ssize_t size, uint8_t* clean) noexcept nogil:
    """Up to CLEAN_BYTES without emulation prevention bytes (H.264 7.4.1.1)."""
    cdef Py_ssize_t i, n = 0
    cdef int zeros = 0
    for i in range(size):
        if n == CLEAN_BYTES:
            break
        if zeros >= 2 and nal[i] == 3:
            zeros = 0
            continue
        zeros = zeros + 1 if nal[i] == 0 else 0
        clean[n] = nal[i]
        n += 1
    return n


cdef long h265_sps_id(Bits* bits) noexcept nogil:
    """Past profile_tier_level (H.265 7.3.3) to the id."""
    cdef int i, sub_layers
    cdef uint32_t flags[8]
    take_bits(bits, 4)
    sub_layers = take_bits(bits, 3)
    take_bits(bits, 1)
    bits.at += 96
    for i in range(sub_layers):
        flags[i] = take_bits(bits, 2)
    if sub_layers > 0:
        bits.at += 2 * (8 - sub_layers)
        for i in range(sub_layers):
            bits.at += (88 if flags[i] & 2 else 0) + (8 if flags[i] & 1 else 0)
    return take_ue(bits)


cdef long set_id(int codec, int kind, const uint8_t* nal, Py_ssize_t size) noexcept nogil:
    """The id inside its legal range, else -1."""
    cdef uint8_t clean[CLEAN_BYTES]
    cdef Bits bits
    cdef long value
    cdef int head = 1 if codec == CODEC_H264 else 2
    bits.data = clean
    bits.size = unescape(nal, size, clean)
    bits.at = 8 * head
    if codec == CODEC_H264:
        if kind == 1:
            bits.at += 24
        value = take_ue(&bits)
        return value if value <= (31 if kind == 1 else 255) else -1
    if kind == 0:
        return take_bits(&bits, 4) if bits.size > 2 else -1
    value = h265_sps_id(&bits) if kind == 1 else take_ue(&bits)
    return value if value <= (15 if kind == 1 else 63) else -1


cdef class ParameterSets:
    """Sets by kind and id; `watch` is the compiled entry and makes no copy while nothing is new."""

    def __cinit__(self, str video_codec):
        if video_codec not in ("h264", "h265"):
            raise ValueError(f"video codec {video_codec!r} has no parameter sets we know; use h264 or h265")
        self.codec = CODEC_H264 if video_codec == "h264" else CODEC_H265
        self._held = {}
        self._snapshot = ((), (), ())

    cdef int watch(self, int kind, const uint8_t* nal, Py_ssize_t size) except -1:
        """1 when this NAL unit of class NAL_VPS, NAL_SPS or NAL_PPS changed the sets."""
        cdef long number
        cdef int place = kind - NAL_VPS
        if size > SET_BYTES_MAX:
            return 0
        number = set_id(self.codec, place, nal, size)
        if number < 0:
            return 0
        key = (place, number)
        held = self._held.get(key)
        if held is not None and PyBytes_GET_SIZE(held) == size and memcmp(PyBytes_AS_STRING(held), nal, size) == 0:
            return 0
        self._held[key] = nal[:size]
        self._snapshot = None
        return 1

    def add(self, bytes nal):
        """Watch one NAL unit given from outside (SDP); True when it changed the sets."""
        cdef int kind
        if len(nal) < 2:
            return False
        kind = nal_class(self.codec, nal[0])
        if kind not in (NAL_VPS, NAL_SPS, NAL_PPS):
            return False
        return self.watch(kind, <const uint8_t*>PyBytes_AS_STRING(nal), len(nal)) == 1

    cpdef tuple snapshot(self):
        """(vps, sps, pps), each by ascending id."""
        cdef list kinds
        if self._snapshot is None:
            kinds = [[], [], []]
            for (kind, _), nal in sorted(self._held.items()):
                kinds[kind].append(nal)
            self._snapshot = (tuple(kinds[0]), tuple(kinds[1]), tuple(kinds[2]))
        return self._snapshot
