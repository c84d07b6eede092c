# cython: language_level=3
"""One fragment as it lies in a chunk file: prft, moof, mdat and the seal (docs/format/chunk.md).

Kept true: presentation times are exactly the camera's (dts + signed cts, trun version 1); a key frame only ever
stands first; the seal's CRC runs from the fragment's first byte to the CRC itself, seeded by the chunk's opening,
so bytes of another file, chunk or position never pass. Media is copied nowhere: slabs go to the file by pwritev.
"""
from cpython.bytes cimport PyBytes_AS_STRING
from libc.errno cimport EINTR, errno
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from native.crc cimport crc32c_update
from native.slab cimport SLAB_PAYLOAD, Chain, Slab, slab_release

cdef extern from "sys/uio.h" nogil:
    Py_ssize_t pwritev(int fd, const iovec* parts, int count, int64_t offset)

cdef enum:
    IOVEC_MAX = 1024  # IOV_MAX of Linux and POSIX systems we know
    PRFT_BYTES = 32
    PRFT_FLAGS = 24  # ISO/IEC 14496-12 8.16.5: wall clock and media time differ by a constant, both arbitrary
    VIDEO_TRACK = 1
    AUDIO_TRACK = 2
    SAMPLE_IS_KEY = 0x02000000  # depends on no other
    SAMPLE_NOT_KEY = 0x01010000  # depends on others, not a sync sample

cdef uint64_t NTP_UNIX_S = 2208988800  # 1900 to 1970, RFC 5905 figure 4

SEAL_UUID = bytes.fromhex("bbf5bf47198c420fbd9e233f16a7d332")
SEAL_VERSION = 1
SEAL_SIZE = SEAL_BYTES

cdef uint8_t _seal_uuid[16]
memcpy(_seal_uuid, PyBytes_AS_STRING(SEAL_UUID), 16)


cdef inline uint8_t* put_u16(uint8_t* p, uint32_t value) noexcept nogil:
    p[0] = value >> 8 & 0xff
    p[1] = value & 0xff
    return p + 2


cdef inline uint8_t* put_u32(uint8_t* p, uint32_t value) noexcept nogil:
    put_u16(p, value >> 16)
    return put_u16(p + 2, value)


cdef inline uint8_t* put_u64(uint8_t* p, uint64_t value) noexcept nogil:
    put_u32(p, <uint32_t>(value >> 32))
    return put_u32(p + 4, <uint32_t>value)


cdef inline uint8_t* put_box(uint8_t* p, uint32_t size, const char* kind) noexcept nogil:
    put_u32(p, size)
    memcpy(p + 4, kind, 4)
    return p + 8


cdef inline uint32_t duration_at(VideoSample* samples, Py_ssize_t count, Py_ssize_t i, int64_t end) noexcept nogil:
    return <uint32_t>((samples[i + 1].dts if i + 1 < count else end) - samples[i].dts)


cdef int extent_share(Chain* chain, int64_t start, int64_t end, Extent* extent) except -1:
    """Share [start, end) of a chain with a fragment."""
    cdef Py_ssize_t first = (start - chain.base) // SLAB_PAYLOAD
    cdef Py_ssize_t i
    if end <= start:
        return 0
    extent.count = (end - 1 - chain.base) // SLAB_PAYLOAD - first + 1
    extent.slabs = <Slab**>malloc(extent.count * sizeof(Slab*))
    if extent.slabs == NULL:
        extent.count = 0
        raise MemoryError
    extent.first = start - chain.base - <int64_t>first * SLAB_PAYLOAD
    extent.size = end - start
    for i in range(extent.count):
        extent.slabs[i] = chain.slabs[first + i]
        extent.slabs[i].refs += 1
    return 0


cdef void extent_free(Extent* extent) noexcept:
    cdef Py_ssize_t i
    for i in range(extent.count):
        slab_release(extent.slabs[i])
    free(extent.slabs)
    extent.slabs = NULL
    extent.count = 0


cdef Py_ssize_t extent_parts(Extent* extent, int64_t skip, iovec* parts) noexcept nogil:
    """The slabs' bytes as iovecs, less the first `skip` bytes; parts has room for extent.count."""
    cdef int64_t at = extent.first + skip
    cdef int64_t left = extent.size - skip
    cdef int64_t part
    cdef Py_ssize_t n = 0
    while left > 0:
        part = SLAB_PAYLOAD - at % SLAB_PAYLOAD
        if part > left:
            part = left
        parts[n].iov_base = extent.slabs[at // SLAB_PAYLOAD].data + at % SLAB_PAYLOAD
        parts[n].iov_len = part
        n += 1
        at += part
        left -= part
    return n


cdef Py_ssize_t write_all(int fd, iovec* parts, Py_ssize_t count, int64_t offset) noexcept nogil:
    """Bytes written, or -errno; goes on after short writes and signals."""
    cdef Py_ssize_t done = 0, n
    cdef Py_ssize_t first = 0
    while first < count:
        n = pwritev(fd, parts + first, <int>(count - first if count - first < IOVEC_MAX else IOVEC_MAX), offset + done)
        if n < 0:
            if errno == EINTR:
                continue
            return -errno
        if n == 0:
            return -28  # ENOSPC: nothing taken and no reason given
        done += n
        while first < count and n >= <Py_ssize_t>parts[first].iov_len:
            n -= parts[first].iov_len
            first += 1
        if n > 0:
            parts[first].iov_base = <uint8_t*>parts[first].iov_base + n
            parts[first].iov_len -= n
    return done


cdef class Fragment:
    """Made by FragmentBuilder; `prepare`, then `write`. Holding it holds its slabs."""

    def __dealloc__(self):
        extent_free(&self.video_extent)
        extent_free(&self.audio_extent)
        free(self.video)
        free(self.audio)
        free(self.head)

    @property
    def video_samples(self):
        return self.video_count

    @property
    def audio_samples(self):
        return self.audio_count - self.audio_skip

    @property
    def media_bytes(self):
        return self.video_extent.size + self.audio_extent.size - self.audio_skip_bytes

    @property
    def memory_bytes(self):
        """What holding it costs: its media, its tables, and about 2 KiB for the objects around it."""
        return (self.video_extent.size + self.audio_extent.size + 2048
                + 64 * (self.video_count + self.audio_count))

    @property
    def camera_us(self):
        """As given to `prepare`: what a second writing of the fragment repeats."""
        return self.fields.camera_us

    @property
    def clock_us(self):
        """What the node's wall clock showed, as `prepare` was told."""
        return self.fields.clock_us

    def parameter_sets(self):
        """(vps, sps, pps) in force at the first unit, each by ascending id."""
        return self.sets

    def video_table(self):
        """[(dts, pts, size, key)] of the pictures; for tests and tools."""
        return [
            (self.video[i].dts, self.video[i].pts, self.video[i].size, bool(self.video[i].key))
            for i in range(self.video_count)
        ]

    def prepare(self, *, uint32_t number, uint32_t stream_id, uint32_t sequence, int64_t video_base_90k,
                int64_t audio_base, int64_t wall_us, int64_t end_us, int64_t camera_us=0, int64_t clock_us=0,
                int64_t gap_start_us=0, int64_t gap_end_us=0, uint32_t gap_cause=0, uint32_t gap_packets=0,
                uint32_t seed=0):
        """Build the boxes before the media; the whole fragment's length in bytes.

        `wall_us` is stored time and goes to the seal; `clock_us` is what the node's clock showed and goes to `prft`.
        Without it both are the same.

        tfdt is the dts less the base. Audio before its base is left out, as tfdt cannot be negative; a base after the
        first picture is a caller's mistake.
        """
        cdef Py_ssize_t room
        if self.first_dts_90k < video_base_90k:
            raise ValueError(
                f"fragment starts at dts {self.first_dts_90k}, before its chunk's base {video_base_90k}; lower the base"
            )
        self.audio_skip = 0
        self.audio_skip_bytes = 0
        while self.audio_skip < self.audio_count and self.audio[self.audio_skip].time < audio_base:
            self.audio_skip_bytes += self.audio[self.audio_skip].size
            self.audio_skip += 1
        room = 320 + 12 * self.video_count + 8 * self.audio_count
        if room > self.head_room:
            free(self.head)
            self.head_room = 0
            self.head = <uint8_t*>malloc(room)
            if self.head == NULL:
                raise MemoryError
            self.head_room = room
        self.fields.number = number
        self.fields.stream_id = stream_id
        self.fields.sequence = sequence
        self.fields.seed = seed
        self.fields.wall_us = wall_us
        self.fields.end_us = end_us
        self.fields.camera_us = camera_us
        self.fields.clock_us = clock_us or wall_us
        self.fields.gap_start_us = gap_start_us
        self.fields.gap_end_us = gap_end_us
        self.fields.gap_cause = gap_cause
        self.fields.gap_packets = gap_packets
        self.put_head(video_base_90k, audio_base)
        self.sealed_at = -1
        return self.head_bytes + self.media_bytes + SEAL_BYTES

    cdef void put_head(self, int64_t video_base_90k, int64_t audio_base) noexcept:
        cdef uint8_t* p = self.head
        cdef uint8_t* moof
        cdef uint8_t* video_data_at
        cdef uint8_t* audio_data_at = NULL
        cdef int64_t wall = self.fields.clock_us
        cdef int64_t media = self.video_extent.size + self.audio_extent.size - self.audio_skip_bytes
        cdef uint64_t seconds = wall // 1000000 + NTP_UNIX_S
        put_box(p, PRFT_BYTES, b"prft")
        put_u32(p + 8, 1 << 24 | PRFT_FLAGS)
        put_u32(p + 12, VIDEO_TRACK)
        put_u64(p + 16, seconds << 32 | ((<uint64_t>(wall % 1000000)) << 32) // 1000000)
        put_u64(p + 24, self.first_pts_90k - video_base_90k)
        moof = p + PRFT_BYTES
        p = put_box(moof + 8, 16, b"mfhd")
        p = put_u32(put_u32(p, 0), self.fields.number)
        p = put_video_traf(p, self.video, self.video_count, self.end_dts_90k, video_base_90k, &video_data_at)
        if self.audio_count > self.audio_skip:
            p = put_audio_traf(p, self.audio + self.audio_skip, self.audio_count - self.audio_skip, audio_base,
                               &audio_data_at)
        put_box(moof, <uint32_t>(p - moof), b"moof")
        put_u32(video_data_at, <uint32_t>(p - moof) + 8)
        if audio_data_at != NULL:
            put_u32(audio_data_at, <uint32_t>(p - moof) + 8 + <uint32_t>self.video_extent.size)
        p = put_box(p, <uint32_t>(8 + media), b"mdat")
        self.head_bytes = p - self.head

    cdef void seal_at(self, int64_t offset) noexcept nogil:
        """The seal for this place in the file, its CRC over everything before it."""
        cdef uint8_t* p = self.seal
        cdef SealFields* fields = &self.fields
        cdef int64_t media = self.video_extent.size + self.audio_extent.size - self.audio_skip_bytes
        cdef uint32_t crc
        if self.sealed_at == offset:
            return
        p = put_box(p, SEAL_BYTES, b"uuid")
        memcpy(p, _seal_uuid, 16)
        p = put_u16(put_u16(p + 16, 1), FLAG_KEY if self.key else 0)
        p = put_u32(put_u32(put_u32(p, fields.stream_id), fields.sequence), fields.number)
        p = put_u64(p, offset)
        p = put_u32(p, <uint32_t>(self.head_bytes + media + SEAL_BYTES))
        p = put_u32(p, <uint32_t>self.head_bytes)
        p = put_u64(put_u64(put_u64(p, fields.wall_us), fields.end_us), fields.camera_us)
        p = put_u64(put_u64(p, fields.gap_start_us), fields.gap_end_us)
        p = put_u32(p, fields.gap_packets)
        p = put_u16(p, fields.gap_cause)
        p = put_u16(p, self.incomplete_units if self.incomplete_units < 0xffff else 0xffff)
        p = put_u32(put_u32(p, self.lost_packets), <uint32_t>self.video_count)
        p = put_u32(put_u32(p, <uint32_t>(self.audio_count - self.audio_skip)), <uint32_t>media)
        crc = crc32c_update(fields.seed, self.head, self.head_bytes)
        crc = extent_crc(crc, &self.video_extent, 0)
        crc = extent_crc(crc, &self.audio_extent, self.audio_skip_bytes)
        put_u32(p, crc32c_update(crc, self.seal, SEAL_BYTES - 4))
        self.sealed_at = offset

    def write(self, int fd, int64_t offset):
        """Seal and write all of it at offset; bytes written. OSError when the file does not take them."""
        cdef Py_ssize_t count, done
        cdef iovec* parts = <iovec*>malloc((self.video_extent.count + self.audio_extent.count + 2) * sizeof(iovec))
        if parts == NULL:
            raise MemoryError
        try:
            with nogil:
                self.seal_at(offset)
                count = self._parts(parts)
                done = write_all(fd, parts, count, offset)
        finally:
            free(parts)
        if done < 0:
            raise OSError(-done, f"writing a fragment at {offset} failed")
        return done

    cdef Py_ssize_t _parts(self, iovec* parts) noexcept nogil:
        cdef Py_ssize_t n = 1
        parts[0].iov_base = self.head
        parts[0].iov_len = self.head_bytes
        n += extent_parts(&self.video_extent, 0, parts + n)
        n += extent_parts(&self.audio_extent, self.audio_skip_bytes, parts + n)
        parts[n].iov_base = self.seal
        parts[n].iov_len = SEAL_BYTES
        return n + 1

    def table_record(self, int64_t offset):
        """The fragment without its media: what the chunk's frame table keeps of it."""
        self.seal_at(offset)
        return self.head[:self.head_bytes] + self.seal[:SEAL_BYTES]

    def to_bytes(self, int64_t offset=0):
        """The whole fragment as `write` would lay it at offset."""
        cdef Py_ssize_t i, count
        cdef iovec* parts = <iovec*>malloc((self.video_extent.count + self.audio_extent.count + 2) * sizeof(iovec))
        if parts == NULL:
            raise MemoryError
        try:
            self.seal_at(offset)
            count = self._parts(parts)
            return b"".join([(<uint8_t*>parts[i].iov_base)[:parts[i].iov_len] for i in range(count)])
        finally:
            free(parts)


cdef uint32_t extent_crc(uint32_t crc, Extent* extent, int64_t skip) noexcept nogil:
    cdef int64_t at = extent.first + skip
    cdef int64_t left = extent.size - skip
    cdef int64_t part
    while left > 0:
        part = SLAB_PAYLOAD - at % SLAB_PAYLOAD
        if part > left:
            part = left
        crc = crc32c_update(crc, extent.slabs[at // SLAB_PAYLOAD].data + at % SLAB_PAYLOAD, part)
        at += part
        left -= part
    return crc


cdef uint8_t* put_video_traf(uint8_t* traf, VideoSample* samples, Py_ssize_t count, int64_t end, int64_t base,
                             uint8_t** data_at) noexcept nogil:
    """tfhd, tfdt and a trun with only the columns that vary."""
    cdef uint32_t duration = duration_at(samples, count, 0, end)
    cdef bint even = True, shifted = False
    cdef uint32_t flags = 0x201
    cdef Py_ssize_t i
    cdef uint8_t* p
    cdef uint8_t* trun
    for i in range(count):
        even = even and duration_at(samples, count, i, end) == duration
        shifted = shifted or samples[i].pts != samples[i].dts
    flags |= (0 if even else 0x100) | (0x800 if shifted else 0) | (0x4 if samples[0].key else 0)
    p = put_box(traf + 8, 24 if even else 20, b"tfhd")
    p = put_u32(put_u32(p, 0x020020 | (0x8 if even else 0)), VIDEO_TRACK)
    if even:
        p = put_u32(p, duration)
    p = put_u32(p, SAMPLE_NOT_KEY)
    p = put_u64(put_u32(put_box(p, 20, b"tfdt"), 1 << 24), samples[0].dts - base)
    trun = p
    p = put_u32(put_u32(p + 8, 1 << 24 | flags), <uint32_t>count)
    data_at[0] = p
    p += 4
    if samples[0].key:
        p = put_u32(p, SAMPLE_IS_KEY)
    for i in range(count):
        if not even:
            p = put_u32(p, duration_at(samples, count, i, end))
        p = put_u32(p, samples[i].size)
        if shifted:
            p = put_u32(p, <uint32_t><int32_t>(samples[i].pts - samples[i].dts))
    put_box(trun, <uint32_t>(p - trun), b"trun")
    put_box(traf, <uint32_t>(p - traf), b"traf")
    return p


cdef uint8_t* put_audio_traf(uint8_t* traf, AudioSample* samples, Py_ssize_t count, int64_t base,
                             uint8_t** data_at) noexcept nogil:
    """As for video; every audio frame is a sync sample, and G.711 frames are all alike."""
    cdef bint even = True, alike = True
    cdef uint32_t flags = 0x1
    cdef Py_ssize_t i
    cdef uint8_t* p
    cdef uint8_t* trun
    for i in range(count):
        even = even and samples[i].duration == samples[0].duration
        alike = alike and samples[i].size == samples[0].size
    flags |= (0 if even else 0x100) | (0 if alike else 0x200)
    p = put_box(traf + 8, 20 + (4 if even else 0) + (4 if alike else 0), b"tfhd")
    p = put_u32(put_u32(p, 0x020020 | (0x8 if even else 0) | (0x10 if alike else 0)), AUDIO_TRACK)
    if even:
        p = put_u32(p, samples[0].duration)
    if alike:
        p = put_u32(p, samples[0].size)
    p = put_u32(p, SAMPLE_IS_KEY)
    p = put_u64(put_u32(put_box(p, 20, b"tfdt"), 1 << 24), samples[0].time - base)
    trun = p
    p = put_u32(put_u32(p + 8, 1 << 24 | flags), <uint32_t>count)
    data_at[0] = p
    p += 4
    for i in range(count):
        if not even:
            p = put_u32(p, samples[i].duration)
        if not alike:
            p = put_u32(p, samples[i].size)
    put_box(trun, <uint32_t>(p - trun), b"trun")
    put_box(traf, <uint32_t>(p - traf), b"traf")
    return p
