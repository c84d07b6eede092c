# cython: language_level=3
"""From access units to fragments: what a depacketizer delivers becomes the pictures of one moof and mdat.

Kept true: NAL units keep their bytes and order; every byte is copied once, from the receive buffer into a slab; a
fragment is cut before a key frame, when its pictures span `fragment_90k`, by `flush`, and at its bounds; a damaged
key frame is stored but is none; a unit without a picture (parameter sets alone) is part of the picture after it.
Media time ascends for ever: where the camera's own jumps ahead of arrival or back, `video_shift_90k` bridges it, so
that arrival says how much time passed and no picture is lost; the fragment that begins there is a `discontinuity`.
"""
cimport cython
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove

from native.dts cimport clock_assign, clock_promise, clock_restart
from native.moof cimport AudioSample, Fragment, VideoSample, extent_share
from native.nal cimport CODEC_H264, NAL_KEY, NAL_OTHER, NAL_VPS, nal_class_of
from native.pace cimport pace_bridge, pace_jumped, pace_note
from native.sets cimport SET_BYTES_MAX, ParameterSets
from native.sink cimport Sink, UNIT_COMPLETE, UNIT_LOSS_BEFORE
from native.slab cimport chain_append, chain_clear, chain_forget, chain_free, chain_put_u32, chain_read, chain_truncate

import native.moof

cdef enum:
    KEY_BACK_90K = 9_000  # nothing is shown before a key frame that came before it; cameras jitter less than this
    SAMPLES_MAX = 4096  # pictures of one fragment
    FRAMES_MAX = 8192  # audio frames waiting for a fragment
    AUDIO_BYTES_MAX = 8 << 20


@cython.final
cdef class VideoSink(Sink):
    """A builder's video entry."""
    cdef FragmentBuilder owner

    cdef int unit_begin(self, int64_t time, int64_t arrival_us) except -1:
        return self.owner.video_begin(time, arrival_us)

    cdef int nal_begin(self, const uint8_t* head, Py_ssize_t head_bytes) except -1:
        return self.owner.nal_begin(head, head_bytes)

    cdef int append(self, const uint8_t* data, Py_ssize_t size) except -1:
        return self.owner.video_append(data, size)

    cdef int nal_end(self) except -1:
        return self.owner.nal_end()

    cdef int nal_drop(self) except -1:
        return self.owner.nal_drop()

    cdef int unit_end(self, uint32_t flags, uint32_t lost_packets) except -1:
        return self.owner.video_end(flags, lost_packets)

    cdef int unit_drop(self, uint32_t lost_packets) except -1:
        return self.owner.video_drop(lost_packets)


@cython.final
cdef class AudioSink(Sink):
    """A builder's audio entry."""
    cdef FragmentBuilder owner

    cdef int unit_begin(self, int64_t time, int64_t arrival_us) except -1:
        return self.owner.audio_begin(time, arrival_us)

    cdef int append(self, const uint8_t* data, Py_ssize_t size) except -1:
        return self.owner.audio_append(data, size)

    cdef int unit_end(self, uint32_t flags, uint32_t lost_packets) except -1:
        return self.owner.audio_end()

    cdef int unit_drop(self, uint32_t lost_packets) except -1:
        return self.owner.audio_drop()


globals()["Fragment"] = native.moof.Fragment  # what the callback gets, importable beside its maker


@cython.final
cdef class FragmentBuilder:
    """One stream's open fragment; `on_fragment` gets each one as it is cut."""

    def __cinit__(self, str video_codec, on_fragment, *, int64_t audio_rate_hz=0, int64_t fragment_90k=90000,
                  int64_t unit_bytes_max=8 << 20, int64_t fragment_bytes_max=32 << 20, parameter_sets=()):
        if fragment_90k <= 0 or not 0 < unit_bytes_max <= fragment_bytes_max <= 1 << 30 or audio_rate_hz < 0:
            raise ValueError("bounds must be positive, unit_bytes_max <= fragment_bytes_max <= 1 GiB")
        self.sets = ParameterSets(video_codec)
        self.codec = self.sets.codec
        self.on_fragment = on_fragment
        self.fragment_90k = fragment_90k
        self.unit_bytes_max = unit_bytes_max
        self.fragment_bytes_max = fragment_bytes_max
        self.audio_rate_hz = audio_rate_hz
        self.first_sets = self.sets.snapshot()
        clock_restart(&self.clock)
        for nal in parameter_sets:
            self.sets.add(bytes(nal))
        cdef VideoSink video = VideoSink.__new__(VideoSink)
        cdef AudioSink audio
        video.owner = self
        self.video = video
        if audio_rate_hz > 0:
            audio = AudioSink.__new__(AudioSink)
            audio.owner = self
            self.audio = audio

    def __dealloc__(self):
        chain_free(&self.video_chain)
        chain_free(&self.audio_chain)
        free(self.samples)
        free(self.frames)

    @property
    def pending_bytes(self):
        return self.video_chain.fill - self.fragment_start + self.audio_chain.fill - self.audio_start

    def parameter_sets(self):
        """(vps, sps, pps) in force now, each by ascending id."""
        return self.sets.snapshot()

    def flush(self, int64_t now_us, int64_t age_us):
        """Cut when the oldest finished picture arrived at least age_us ago; True when a fragment was handed on."""
        if self.count == 0 or now_us - self.samples[0].arrival_us < age_us:
            return False
        self.cut(False, 0, False)
        return True

    def finish(self):
        """End of the session: hand on what is whole, forget the rest, give all slabs back before the gc comes."""
        if self.unit_open:
            self.video_drop(0)
        if self.frame_open:
            self.audio_drop()
        if self.count > 0:
            self.samples[self.count - 1].size += <uint32_t>(self.video_chain.fill - self.sample_start)
            self.sample_start = self.video_chain.fill
            self.cut(False, 0, True)
        self.sample_start = self.fragment_start = chain_clear(&self.video_chain)
        self.dropped_audio += self.frame_count
        self.frame_count = 0
        self.audio_start = chain_clear(&self.audio_chain)

    def push_video(self, int64_t time, int64_t arrival_us, bytes sample, bint complete=True, uint32_t lost_packets=0):
        """One whole unit of NAL units with 4-byte lengths, as in an MP4 sample; for imports and tests."""
        cdef const uint8_t* data = sample
        cdef Py_ssize_t at = 0, left = len(sample)
        cdef Py_ssize_t size, head = 1 if self.codec == CODEC_H264 else 2
        self.video_begin(time, arrival_us)
        while at + 4 <= left:
            size = <Py_ssize_t>data[at] << 24 | data[at + 1] << 16 | data[at + 2] << 8 | data[at + 3]
            at += 4
            if size < head or size > left - at:
                self.video_drop(0)
                raise ValueError(f"NAL unit of {size} bytes at {at} does not fit its sample of {left} bytes")
            self.nal_begin(data + at, head)
            self.video_append(data + at + head, size - head)
            self.nal_end()
            at += size
        self.video_end((UNIT_COMPLETE if complete else 0) | (UNIT_LOSS_BEFORE if lost_packets else 0), lost_packets)

    def push_audio(self, int64_t time, int64_t arrival_us, bytes frame):
        """One whole audio frame; for imports and tests."""
        self.audio_begin(time, arrival_us)
        self.audio_append(<const uint8_t*>frame, len(frame))
        self.audio_end()

    # ---- video ----

    cdef int video_begin(self, int64_t time, int64_t arrival_us) except -1:
        if self.unit_open:
            self.video_drop(0)
        time += self.video_shift_90k
        self.unit_start = self.video_chain.fill
        self.unit_pts = time
        self.unit_arrival_us = arrival_us
        self.unit_open = True
        self.skip = False
        self.unit_key = False
        self.unit_picture = False
        self.nal_kind = NAL_OTHER
        if pace_jumped(&self.pace, time, arrival_us):
            return self.bridge()
        if self.count > 0 and (
            time - self.samples[0].pts >= self.fragment_90k
            or self.count >= SAMPLES_MAX
            or self.sample_start - self.fragment_start >= self.fragment_bytes_max - self.unit_bytes_max
        ):
            self.cut(True, time, False)
        return 0

    cdef int bridge(self) except -1:
        """The camera's clock jumped at the unit being received: it comes as long after the last one as it arrived."""
        cdef int64_t time = pace_bridge(&self.pace, self.unit_arrival_us, self.clock.frame_90k)
        if self.count > 0:
            self.cut(True, time, False)
        self.video_shift_90k += time - self.unit_pts
        self.unit_pts = time
        self.discontinuity = True
        return 0

    cdef int nal_begin(self, const uint8_t* head, Py_ssize_t head_bytes) except -1:
        cdef uint8_t length[4]
        cdef int kind
        if self.skip or not self.unit_open:
            return 0
        kind = nal_class_of(self.codec, head)
        if kind == NAL_KEY and not self.unit_picture:
            if self.pace.started and self.unit_pts < self.pace.top_pts - KEY_BACK_90K:
                self.bridge()
            elif self.count > 0:
                self.cut(True, self.unit_pts, False)
            self.unit_key = True
        self.nal_kind = kind
        self.nal_start = self.video_chain.fill
        length[0] = length[1] = length[2] = length[3] = 0
        self.video_append(length, 4)
        return self.video_append(head, head_bytes)

    cdef int video_append(self, const uint8_t* data, Py_ssize_t size) except -1:
        if self.skip:
            return 0
        if (self.video_chain.fill + size - self.sample_start > self.unit_bytes_max
                or chain_append(&self.video_chain, data, size) < 0):
            self.skip = True
            chain_truncate(&self.video_chain, self.sample_start)
            self.unit_start = self.sample_start
        return 0

    cdef int nal_end(self) except -1:
        if self.skip or not self.unit_open:
            return 0
        chain_put_u32(&self.video_chain, self.nal_start, <uint32_t>(self.video_chain.fill - self.nal_start - 4))
        if self.nal_kind >= NAL_VPS:
            return self.watch_set()
        if self.nal_kind != NAL_OTHER:
            self.unit_picture = True
        return 0

    cdef int watch_set(self) except -1:
        cdef Py_ssize_t size = self.video_chain.fill - self.nal_start - 4
        cdef uint8_t* nal
        if size > SET_BYTES_MAX:
            return 0
        nal = <uint8_t*>PyMem_Malloc(size)
        if nal == NULL:
            raise MemoryError
        try:
            chain_read(&self.video_chain, self.nal_start + 4, nal, size)
            self.sets.watch(self.nal_kind, nal, size)
        finally:
            PyMem_Free(nal)
        return 0

    cdef int nal_drop(self) except -1:
        if not self.skip and self.unit_open:
            chain_truncate(&self.video_chain, self.nal_start)
        return 0

    cdef int video_drop(self, uint32_t lost_packets) except -1:
        if not self.unit_open:
            return 0
        chain_truncate(&self.video_chain, self.unit_start)
        self.unit_open = False
        self.lost_packets += lost_packets
        self.dropped_units += 1
        self.note_loss()
        return 0

    cdef int video_end(self, uint32_t flags, uint32_t lost_packets) except -1:
        cdef bint whole = flags & UNIT_COMPLETE
        if not self.unit_open:
            return 0
        if self.skip or not (whole or self.unit_picture):  # what is left of a lost picture leads no other one
            return self.video_drop(lost_packets)
        self.unit_open = False
        self.lost_packets += lost_packets
        if flags & UNIT_LOSS_BEFORE or not whole:
            self.note_loss()
        if self.unit_picture:
            self.add_sample(whole)
        return 0

    cdef int add_sample(self, bint whole) except -1:
        """The unit just ended is the pending fragment's next picture."""
        cdef VideoSample* sample
        cdef Py_ssize_t room
        if self.count == self.room:
            room = 32 if self.room == 0 else self.room * 2
            sample = <VideoSample*>realloc(self.samples, room * sizeof(VideoSample))
            if sample == NULL:
                raise MemoryError
            self.samples = sample
            self.room = room
        sample = &self.samples[self.count]
        sample.pts = self.unit_pts
        sample.dts = self.unit_pts
        sample.arrival_us = self.unit_arrival_us
        sample.size = <uint32_t>(self.video_chain.fill - self.sample_start)
        sample.key = self.unit_key and whole
        if self.count == 0:
            self.first_sets = self.sets.snapshot()
            if sample.key and self.first_sets is not self.key_sets:
                if self.first_sets != self.key_sets:
                    self.generation += 1
                self.key_sets = self.first_sets
        self.count += 1
        self.sample_start = self.video_chain.fill
        if whole:
            if self.loss_open:
                self.close_loss(self.unit_pts)
                self.loss_open = False
            self.whole_end = self.unit_pts + self.clock.frame_90k
            self.have_whole = True
        else:
            self.incomplete_units += 1
        pace_note(&self.pace, self.unit_pts, self.unit_arrival_us)
        return 0

    cdef void note_loss(self) noexcept:
        """Something is missing from the end of the last whole picture on."""
        if not self.loss_open:
            self.loss_open = True
            self.loss_clipped = False
            self.loss_start = self.unit_pts
            if self.have_whole and self.whole_end < self.unit_pts:
                self.loss_start = self.whole_end

    cdef void close_loss(self, int64_t pts) noexcept:
        """The open loss, up to pts, belongs to the pending fragment; one of no length still spoils a picture."""
        cdef int64_t start = self.loss_start
        if pts <= start:
            if self.loss_clipped:
                return
            start = pts - self.clock.frame_90k
        if not self.loss_here:
            self.loss_first = start
            self.loss_end = pts
            self.loss_here = True
        else:
            self.loss_first = min(self.loss_first, start)
            self.loss_end = max(self.loss_end, pts)

    # ---- the cut ----

    cdef int cut(self, bint have_next, int64_t next_pts, bint last) except -1:
        """Everything finished becomes a fragment; the unit being received stays."""
        cdef Fragment fragment = Fragment.__new__(Fragment)
        cdef int64_t after
        clock_assign(&self.clock, self.samples, self.count)
        if have_next:
            fragment.end_dts_90k = clock_promise(&self.clock, next_pts)
            after = next_pts
        else:
            fragment.end_dts_90k = self.clock.last_dts + self.clock.frame_90k
            after = self.pace.top_pts + self.clock.frame_90k
        if self.loss_open:
            self.close_loss(after)
            self.loss_start = after
            self.loss_clipped = True
        self.hand_video(fragment)
        self.hand_audio(fragment, last)
        fragment.discontinuity = self.discontinuity
        fragment.parameter_generation = self.generation
        fragment.sets = self.first_sets
        fragment.incomplete_units = self.incomplete_units
        fragment.lost_packets = self.lost_packets
        fragment.loss = (self.loss_first, self.loss_end) if self.loss_here else None
        self.discontinuity = False
        self.incomplete_units = 0
        self.lost_packets = 0
        self.loss_here = False
        self.on_fragment(fragment)
        return 0

    cdef int hand_video(self, Fragment fragment) except -1:
        cdef int64_t delay_us
        cdef Py_ssize_t i
        fragment.video = <VideoSample*>malloc(self.count * sizeof(VideoSample))
        if fragment.video == NULL:
            raise MemoryError
        memcpy(fragment.video, self.samples, self.count * sizeof(VideoSample))
        fragment.video_count = self.count
        fragment.key = self.samples[0].key != 0
        fragment.key_frames = 1 if fragment.key else 0
        fragment.first_pts_90k = self.samples[0].pts
        fragment.first_dts_90k = self.samples[0].dts
        fragment.first_arrival_us = self.samples[0].arrival_us
        for i in range(self.count):
            delay_us = self.samples[i].arrival_us - self.samples[i].pts * 100 // 9
            if i == 0 or delay_us < fragment.min_delay_us:
                fragment.min_delay_us = delay_us
        extent_share(&self.video_chain, self.fragment_start, self.sample_start, &fragment.video_extent)
        self.count = 0
        self.fragment_start = self.sample_start
        chain_forget(&self.video_chain, self.fragment_start)
        return 0

    cdef int hand_audio(self, Fragment fragment, bint last) except -1:
        """All frames but the newest, whose length the next one tells; that one too at the end."""
        cdef Py_ssize_t n = self.frame_count if last else self.frame_count - 1
        cdef int64_t end = self.audio_start
        cdef Py_ssize_t i
        if n <= 0:
            return 0
        fragment.audio = <AudioSample*>malloc(n * sizeof(AudioSample))
        if fragment.audio == NULL:
            raise MemoryError
        memcpy(fragment.audio, self.frames, n * sizeof(AudioSample))
        fragment.audio_count = n
        for i in range(n):
            end += self.frames[i].size
            fragment.audio[i].duration = <uint32_t>(
                self.frames[i + 1].time - self.frames[i].time if i + 1 < self.frame_count else self.audio_step)
        fragment.audio_first_ts = fragment.audio[0].time
        fragment.audio_end_ts = fragment.audio[n - 1].time + fragment.audio[n - 1].duration
        fragment.audio_first_arrival_us = fragment.audio[0].arrival_us
        extent_share(&self.audio_chain, self.audio_start, end, &fragment.audio_extent)
        self.frame_count -= n
        memmove(self.frames, self.frames + n, self.frame_count * sizeof(AudioSample))
        self.audio_start = end
        chain_forget(&self.audio_chain, end)
        return 0

    # ---- audio ----

    cdef int audio_begin(self, int64_t time, int64_t arrival_us) except -1:
        """Keep the audio clock ascending: where it jumps, arrival says how much time passed."""
        cdef int64_t passed, step
        if self.frame_open:
            self.audio_drop()
        if self.frame_count >= FRAMES_MAX or self.audio_chain.fill - self.audio_start > AUDIO_BYTES_MAX:
            self.dropped_audio += self.frame_count
            self.frame_count = 0
            self.audio_start = chain_clear(&self.audio_chain)
        self.frame_start = self.audio_chain.fill
        self.frame_open = True
        self.frame_skip = False
        self.frame_arrival_us = arrival_us
        if self.audio_have_last:
            step = time + self.audio_shift - self.audio_last
            passed = (arrival_us - self.audio_last_arrival_us) * self.audio_rate_hz // 1000000
            if step <= 0 or step - passed > 10 * self.audio_rate_hz or passed - step > 10 * self.audio_rate_hz:
                self.audio_shift += max(passed, self.audio_step, <int64_t>1) - step
        self.frame_time = time + self.audio_shift
        return 0

    cdef int audio_append(self, const uint8_t* data, Py_ssize_t size) except -1:
        if self.frame_skip or not self.frame_open:
            return 0
        if (self.audio_chain.fill + size - self.frame_start > self.unit_bytes_max
                or chain_append(&self.audio_chain, data, size) < 0):
            self.frame_skip = True
        return 0

    cdef int audio_drop(self) except -1:
        chain_truncate(&self.audio_chain, self.frame_start)
        self.frame_open = False
        self.dropped_audio += 1
        return 0

    cdef int audio_end(self) except -1:
        cdef AudioSample* frame
        cdef Py_ssize_t room
        if not self.frame_open:
            return 0
        if self.frame_skip or self.audio_chain.fill == self.frame_start:
            return self.audio_drop()
        if self.frame_count == self.frame_room:
            room = 64 if self.frame_room == 0 else self.frame_room * 2
            frame = <AudioSample*>realloc(self.frames, room * sizeof(AudioSample))
            if frame == NULL:
                raise MemoryError
            self.frames = frame
            self.frame_room = room
        frame = &self.frames[self.frame_count]
        frame.time = self.frame_time
        frame.arrival_us = self.frame_arrival_us
        frame.size = <uint32_t>(self.audio_chain.fill - self.frame_start)
        frame.duration = 0
        self.frame_count += 1
        self.frame_open = False
        self.audio_step = self.frame_time - self.audio_last if self.audio_have_last else self.audio_rate_hz // 50
        self.audio_have_last = True
        self.audio_last = self.frame_time
        self.audio_last_arrival_us = self.frame_arrival_us
        return 0
