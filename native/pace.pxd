# A camera's media clock against arrival, inline: its least delay, and its jumps.
# Kept true: the network can only delay, so media time ahead of the least delayed picture is the camera's own doing; a
# late picture, or many after a stall, is no jump.
from libc.stdint cimport int64_t

cdef enum:
    JUMP_US = 1_000_000  # ahead of arrival, in one picture and of all before it
    FORGET_PPM = 1_000  # by which a slow camera's least delay may grow
    BACK_90K = 180_000  # no reordering reaches back 2 s

cdef struct Pace:
    bint started
    int64_t last_pts
    int64_t top_pts
    int64_t last_arrival_us
    int64_t least_delay_us  # arrival minus media time


cdef inline bint pace_jumped(const Pace* pace, int64_t pts, int64_t arrival_us) noexcept nogil:
    """Whether a picture's time cannot be: back beyond reordering, or ahead."""
    if not pace.started:
        return False
    if pts < pace.top_pts - BACK_90K:
        return True
    return ((pts - pace.last_pts) * 100 // 9 - (arrival_us - pace.last_arrival_us) > JUMP_US
            and arrival_us - pts * 100 // 9 < pace.least_delay_us - JUMP_US)


cdef inline int64_t pace_bridge(Pace* pace, int64_t arrival_us, int64_t frame_90k) noexcept nogil:
    """The time of a picture whose own is void: as long after the last one as it arrived."""
    cdef int64_t pts = pace.last_pts + (arrival_us - pace.last_arrival_us) * 9 // 100
    if pts < pace.top_pts + frame_90k:
        pts = pace.top_pts + frame_90k
    pace.least_delay_us = arrival_us - pts * 100 // 9
    return pts


cdef inline void pace_note(Pace* pace, int64_t pts, int64_t arrival_us) noexcept nogil:
    """One more picture."""
    cdef int64_t delay_us = arrival_us - pts * 100 // 9
    if pace.started and arrival_us > pace.last_arrival_us:
        pace.least_delay_us += (arrival_us - pace.last_arrival_us) * FORGET_PPM // 1_000_000
    if not pace.started or delay_us < pace.least_delay_us:
        pace.least_delay_us = delay_us
    if not pace.started or pts > pace.top_pts:
        pace.top_pts = pts
    pace.started = True
    pace.last_pts = pts
    pace.last_arrival_us = arrival_us
