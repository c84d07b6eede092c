# One fragment on its way to disk: sample tables and slabs, both owned by it.
from libc.stdint cimport int64_t, uint8_t, uint32_t

from native.slab cimport Chain, Slab

cdef extern from "sys/uio.h" nogil:
    struct iovec:
        void* iov_base
        size_t iov_len

cdef enum:
    SEAL_BYTES = 124
    FLAG_KEY = 1

cdef struct VideoSample:
    int64_t pts
    int64_t dts
    int64_t arrival_us
    uint32_t size
    uint32_t key

cdef struct AudioSample:
    int64_t time
    int64_t arrival_us
    uint32_t duration
    uint32_t size

# Bytes [first, first + size) of a run of slabs.
cdef struct Extent:
    Slab** slabs
    Py_ssize_t count
    int64_t first
    int64_t size

cdef int extent_share(Chain* chain, int64_t start, int64_t end, Extent* extent) except -1

cdef struct SealFields:
    uint32_t stream_id
    uint32_t sequence
    uint32_t number
    uint32_t seed
    int64_t wall_us
    int64_t end_us
    int64_t camera_us
    int64_t clock_us
    int64_t gap_start_us
    int64_t gap_end_us
    uint32_t gap_packets
    uint32_t gap_cause

cdef class Fragment:
    cdef VideoSample* video
    cdef Py_ssize_t video_count
    cdef AudioSample* audio
    cdef Py_ssize_t audio_count
    cdef Extent video_extent
    cdef Extent audio_extent
    cdef tuple sets
    cdef readonly bint key
    cdef readonly bint discontinuity
    cdef readonly int key_frames
    cdef readonly long parameter_generation
    cdef readonly uint32_t incomplete_units
    cdef readonly uint32_t lost_packets
    cdef readonly int64_t first_pts_90k
    cdef readonly int64_t first_dts_90k
    cdef readonly int64_t end_dts_90k
    cdef readonly int64_t first_arrival_us
    cdef readonly int64_t min_delay_us
    cdef readonly int64_t audio_first_ts
    cdef readonly int64_t audio_end_ts
    cdef readonly int64_t audio_first_arrival_us
    cdef readonly object loss
    cdef uint8_t* head
    cdef Py_ssize_t head_bytes
    cdef Py_ssize_t head_room
    cdef Py_ssize_t audio_skip
    cdef int64_t audio_skip_bytes
    cdef SealFields fields
    cdef int64_t sealed_at
    cdef uint8_t seal[124]
    cdef void put_head(self, int64_t video_base_90k, int64_t audio_base) noexcept
    cdef void seal_at(self, int64_t offset) noexcept nogil
    cdef Py_ssize_t _parts(self, iovec* parts) noexcept nogil
