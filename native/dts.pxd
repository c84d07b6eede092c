# Decode times from presentation times, inline.
# Kept true: dts ascends strictly; without B-frames dts equals pts; with them dts is the sorted pts, late by the
# stream's reorder depth, which is learnt from the pictures and never shrinks; pts is kept, so cts may be negative.
from libc.stdint cimport int64_t

from native.moof cimport VideoSample

cdef enum:
    REORDER_MAX = 16  # pictures; H.264 A.3.1 and H.265 A.4.2 allow no deeper buffer
    FRAME_90K = 3600  # until two pictures tell better: 25 pictures a second

cdef struct Clock:
    int64_t held[17]  # the last `depth` presentation times not used as a dts yet, ascending
    int64_t recent[16]  # presentation times in decode order, a ring
    int recent_count
    int recent_next
    int depth
    bint started
    int64_t last_dts
    bint promised  # an end told to the fragment before is kept by the picture it was told for
    int64_t promised_pts
    int64_t promised_dts
    int64_t frame_90k


cdef inline void clock_restart(Clock* clock) noexcept nogil:
    """Forget times, keep what was learnt of the stream."""
    clock.recent_count = 0
    clock.recent_next = 0
    clock.started = False
    clock.promised = False
    if clock.frame_90k <= 0:
        clock.frame_90k = FRAME_90K


cdef inline int clock_learn(Clock* clock, VideoSample* samples, Py_ssize_t count, int64_t* nearest) noexcept nogil:
    """The depth these pictures need; `nearest` becomes the least distance of two of them."""
    cdef int depth = clock.depth, later, j
    cdef int64_t away
    cdef Py_ssize_t i
    for i in range(count):
        later = 0
        for j in range(clock.recent_count):
            away = clock.recent[j] - samples[i].pts
            if away > 0:
                later += 1
            else:
                away = -away
            if 0 < away < nearest[0]:
                nearest[0] = away
        if later > depth:
            depth = later
        clock.recent[clock.recent_next] = samples[i].pts
        clock.recent_next = (clock.recent_next + 1) % REORDER_MAX
        if clock.recent_count < REORDER_MAX:
            clock.recent_count += 1
    return depth


cdef inline void clock_deepen(Clock* clock, int depth, int64_t first, int64_t frame) noexcept nogil:
    """Room for `depth` held times: before the first picture of a run, or squeezed in after the last dts."""
    cdef int i, more
    if not clock.started:
        for i in range(depth):
            clock.held[i] = first - (depth - i) * frame
    else:
        more = depth - clock.depth
        for i in range(clock.depth - 1, -1, -1):
            clock.held[i + more] = clock.held[i]
        for i in range(more):
            clock.held[i] = clock.last_dts
    clock.depth = depth


cdef inline int64_t clock_turn(Clock* clock, int64_t pts) noexcept nogil:
    """Take a presentation time in, give the smallest held one out."""
    cdef int at = clock.depth
    cdef int64_t least
    while at > 0 and clock.held[at - 1] > pts:
        clock.held[at] = clock.held[at - 1]
        at -= 1
    clock.held[at] = pts
    least = clock.held[0]
    for at in range(clock.depth):
        clock.held[at] = clock.held[at + 1]
    return least


cdef inline void clock_assign(Clock* clock, VideoSample* samples, Py_ssize_t count) noexcept nogil:
    """Give the pictures of one fragment, in decode order, their dts."""
    cdef int64_t nearest = clock.frame_90k, dts
    cdef int depth = clock_learn(clock, samples, count, &nearest)
    cdef Py_ssize_t i
    if depth > clock.depth or not clock.started:
        clock_deepen(clock, depth, samples[0].pts, nearest)
    for i in range(count):
        dts = clock_turn(clock, samples[i].pts)
        if i == 0 and clock.promised and clock.promised_pts == samples[0].pts:
            dts = clock.promised_dts
        if clock.started and dts <= clock.last_dts:
            dts = clock.last_dts + 1
        samples[i].dts = dts
        clock.last_dts = dts
        clock.started = True
    clock.promised = False
    if count > 1 and samples[count - 1].dts - samples[0].dts >= count - 1:
        clock.frame_90k = (samples[count - 1].dts - samples[0].dts) // (count - 1)


cdef inline int64_t clock_promise(Clock* clock, int64_t next_pts) noexcept nogil:
    """The dts the next picture will have; its fragment keeps it."""
    cdef int64_t dts = next_pts
    if clock.depth > 0 and clock.held[0] < dts:
        dts = clock.held[0]
    if dts <= clock.last_dts:
        dts = clock.last_dts + 1
    clock.promised = True
    clock.promised_pts = next_pts
    clock.promised_dts = dts
    return dts
