# cython: language_level=3
"""Whole access units from a demuxer to a sink: Annex B and length-prefixed samples become NAL units.

Kept true: a NAL unit's bytes are those of the sample, without start code, length and the zero bytes that Annex B allows
behind it (H.264 and H.265 B.1.1); a sample that does not hold what it says is dropped whole and gives False.
"""
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memchr

from native.nal cimport CODEC_H264, CODEC_H265, nal_head_bytes
from native.sink cimport Sink, UNIT_COMPLETE


cdef int codec_of(str name) except -1:
    if name == "h264":
        return CODEC_H264
    if name == "h265":
        return CODEC_H265
    raise ValueError(f"codec {name!r} has no NAL units; h264 and h265 have")


cdef Py_ssize_t start_code(const uint8_t* data, Py_ssize_t at, Py_ssize_t size) noexcept:
    """Place of the next 00 00 01 at or behind `at`; `size` when there is none."""
    cdef const uint8_t* found
    while at + 3 <= size:
        found = <const uint8_t*>memchr(data + at + 2, 1, size - at - 2)
        if found == NULL:
            return size
        at = found - data - 2
        if data[at] == 0 and data[at + 1] == 0:
            return at
        at += 1
    return size


cdef int put(Sink sink, const uint8_t* nal, Py_ssize_t size, int head) except -1:
    sink.nal_begin(nal, head)
    sink.append(nal + head, size - head)
    return sink.nal_end()


def push_annexb(Sink sink, str codec, int64_t time, int64_t arrival_us, const uint8_t[::1] sample, bint complete=True):
    """One unit with start codes; False when there is no NAL unit in it, and nothing reached the sink's stream."""
    cdef int head = nal_head_bytes(codec_of(codec))
    cdef Py_ssize_t size = sample.shape[0]
    cdef Py_ssize_t begin, end, after
    cdef bint any_nal = False
    sink.unit_begin(time, arrival_us)
    if size > 0:
        begin = start_code(&sample[0], 0, size) + 3
        while begin < size:
            after = start_code(&sample[0], begin, size)
            end = after
            while end > begin and sample[end - 1] == 0:
                end -= 1
            if end - begin >= head:
                put(sink, &sample[begin], end - begin, head)
                any_nal = True
            begin = after + 3
    if any_nal:
        sink.unit_end(UNIT_COMPLETE if complete else 0, 0)
    else:
        sink.unit_drop(0)
    return any_nal


def push_prefixed(Sink sink, str codec, int length_bytes, int64_t time, int64_t arrival_us,
                  const uint8_t[::1] sample, bint complete=True):
    """One unit with lengths of 1 to 4 bytes (ISO/IEC 14496-15); False, and the unit dropped, when they do not fit."""
    cdef int head = nal_head_bytes(codec_of(codec))
    cdef Py_ssize_t size = sample.shape[0]
    cdef Py_ssize_t at = 0, length
    cdef int i
    cdef bint any_nal = False
    if not 1 <= length_bytes <= 4:
        raise ValueError(f"NAL lengths have 1 to 4 bytes, not {length_bytes}")
    sink.unit_begin(time, arrival_us)
    while at < size:
        if length_bytes > size - at:
            sink.unit_drop(0)
            return False
        length = 0
        for i in range(length_bytes):
            length = length << 8 | sample[at + i]
        at += length_bytes
        if length > size - at:
            sink.unit_drop(0)
            return False
        if length >= head:
            put(sink, &sample[at], length, head)
            any_nal = True
        at += length
    if any_nal:
        sink.unit_end(UNIT_COMPLETE if complete else 0, 0)
    else:
        sink.unit_drop(0)
    return any_nal


def push_frame(Sink sink, int64_t time, int64_t arrival_us, const uint8_t[::1] frame):
    """One audio frame; an empty one is left out."""
    cdef Py_ssize_t size = frame.shape[0]
    if size == 0:
        return
    sink.unit_begin(time, arrival_us)
    sink.append(&frame[0], size)
    sink.unit_end(UNIT_COMPLETE, 0)
