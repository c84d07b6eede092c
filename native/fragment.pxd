# From access units to fragments.
from libc.stdint cimport int64_t, uint8_t, uint32_t

from native.dts cimport Clock
from native.moof cimport AudioSample, Fragment, VideoSample
from native.pace cimport Pace
from native.sets cimport ParameterSets
from native.sink cimport Sink
from native.slab cimport Chain

cdef class FragmentBuilder:
    cdef readonly Sink video
    cdef readonly Sink audio
    cdef readonly long dropped_units
    cdef readonly long dropped_audio
    cdef readonly int64_t audio_shift
    cdef readonly int64_t video_shift_90k  # media time minus the camera's RTP time
    cdef object on_fragment
    cdef ParameterSets sets
    cdef int codec
    cdef int64_t fragment_90k
    cdef int64_t unit_bytes_max
    cdef int64_t fragment_bytes_max
    cdef int64_t audio_rate_hz
    # video: finished samples of the pending fragment, then the unit being received
    cdef Chain video_chain
    cdef VideoSample* samples
    cdef Py_ssize_t count
    cdef Py_ssize_t room
    cdef int64_t fragment_start  # positions in video_chain
    cdef int64_t sample_start
    cdef int64_t unit_start
    cdef int64_t nal_start
    cdef int64_t unit_pts
    cdef int64_t unit_arrival_us
    cdef bint unit_open
    cdef bint skip
    cdef bint unit_key
    cdef bint unit_picture
    cdef int nal_kind
    cdef Pace pace
    cdef Clock clock
    # the pending fragment's own
    cdef tuple first_sets
    cdef tuple key_sets
    cdef long generation
    cdef bint discontinuity
    cdef uint32_t incomplete_units
    cdef uint32_t lost_packets
    cdef bint loss_open
    cdef bint loss_here
    cdef bint loss_clipped
    cdef int64_t loss_start
    cdef int64_t loss_first
    cdef int64_t loss_end
    cdef int64_t whole_end
    cdef bint have_whole
    # audio
    cdef Chain audio_chain
    cdef AudioSample* frames
    cdef Py_ssize_t frame_count
    cdef Py_ssize_t frame_room
    cdef int64_t audio_start
    cdef int64_t frame_start
    cdef bint frame_open
    cdef bint frame_skip
    cdef int64_t frame_time
    cdef int64_t frame_arrival_us
    cdef bint audio_have_last
    cdef int64_t audio_last
    cdef int64_t audio_last_arrival_us
    cdef int64_t audio_step

    cdef int video_begin(self, int64_t time, int64_t arrival_us) except -1
    cdef int nal_begin(self, const uint8_t* head, Py_ssize_t head_bytes) except -1
    cdef int video_append(self, const uint8_t* data, Py_ssize_t size) except -1
    cdef int nal_end(self) except -1
    cdef int nal_drop(self) except -1
    cdef int video_end(self, uint32_t flags, uint32_t lost_packets) except -1
    cdef int video_drop(self, uint32_t lost_packets) except -1
    cdef int watch_set(self) except -1
    cdef int add_sample(self, bint whole) except -1
    cdef void note_loss(self) noexcept
    cdef void close_loss(self, int64_t pts) noexcept
    cdef int bridge(self) except -1
    cdef int cut(self, bint have_next, int64_t next_pts, bint last) except -1
    cdef int hand_video(self, Fragment fragment) except -1
    cdef int hand_audio(self, Fragment fragment, bint last) except -1
    cdef int audio_begin(self, int64_t time, int64_t arrival_us) except -1
    cdef int audio_append(self, const uint8_t* data, Py_ssize_t size) except -1
    cdef int audio_end(self) except -1
    cdef int audio_drop(self) except -1
