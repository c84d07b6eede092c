# NAL unit classification, inline. Sources: ITU-T H.264 table 7-1, ITU-T H.265 table 7-1.
# Kept true: every function reads only bytes its caller has already bounded; no allocation, no GIL.
from libc.stdint cimport uint8_t

cdef enum:
    CODEC_H264 = 1
    CODEC_H265 = 2

cdef enum:
    NAL_OTHER = 0      # SEI, AUD, filler, end of sequence, everything unknown
    NAL_SLICE = 1      # coded slice that is not a random access point
    NAL_KEY = 2        # coded slice of an IDR (H.264) or IRAP (H.265) picture
    NAL_VPS = 3
    NAL_SPS = 4
    NAL_PPS = 5

cdef inline int h264_class(uint8_t head) noexcept nogil:
    cdef int kind = head & 0x1f
    if kind == 5:
        return NAL_KEY
    if 1 <= kind <= 4:
        return NAL_SLICE
    if kind == 7:
        return NAL_SPS
    if kind == 8:
        return NAL_PPS
    return NAL_OTHER

cdef inline int h265_class(uint8_t head) noexcept nogil:
    cdef int kind = (head >> 1) & 0x3f
    if 16 <= kind <= 21:
        return NAL_KEY
    if kind <= 9:
        return NAL_SLICE
    if kind == 32:
        return NAL_VPS
    if kind == 33:
        return NAL_SPS
    if kind == 34:
        return NAL_PPS
    return NAL_OTHER

cdef inline int nal_class(int codec, uint8_t head) noexcept nogil:
    return h264_class(head) if codec == CODEC_H264 else h265_class(head)

# With the whole header at hand: a key picture is of the base layer (H.265 3.1), and no header has its first bit set.
# H.264 slices in a stream that was announced as H.265 would else be taken for key frames.
cdef inline int nal_class_of(int codec, const uint8_t* head) noexcept nogil:
    cdef int kind = nal_class(codec, head[0])
    if kind == NAL_KEY and (head[0] & 0x80 or (codec == CODEC_H265 and (head[0] & 1 or not 1 <= head[1] <= 7))):
        return NAL_SLICE
    return kind

cdef inline int nal_head_bytes(int codec) noexcept nogil:
    return 1 if codec == CODEC_H264 else 2
