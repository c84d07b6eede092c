# cython: language_level=3
"""Frame table records (a fragment's boxes without its media, then its seal) → columns of numbers.

Kept true: nothing is read past the records given; a record is taken only when its boxes, its sample sizes and its
seal tell the same lengths, so a sample's place computed from it lies inside its fragment.
"""
import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from native.moof import SEAL_UUID as _SEAL_UUID

cdef enum:
    SEAL_BYTES = 124
    PRFT_BYTES = 32
    VIDEO_TRACK = 1
    NOT_SYNC = 0x00010000

cdef enum:  # rows of the fragment columns
    OFFSET, LENGTH, HEAD, NUMBER, KEY, WALL, END, CAMERA, GAP_START, GAP_END, GAP_PACKETS, GAP_CAUSE, INCOMPLETE
    LOST, MEDIA, TFDT, AUDIO_TFDT, VIDEO_AT, VIDEO_FIRST, VIDEO_COUNT, AUDIO_AT, AUDIO_FIRST, AUDIO_COUNT
    COLUMNS

FRAGMENT_COLUMNS = (
    "offset", "length", "head_length", "number", "key", "wall_us", "end_us", "camera_us", "gap_start_us", "gap_end_us",
    "gap_packets", "gap_cause", "incomplete_units", "lost_packets", "media_bytes", "tfdt_90k", "audio_tfdt",
    "video_at", "video_first", "video_count", "audio_at", "audio_first", "audio_count",
)

cdef uint8_t _seal_uuid[16]
cdef const uint8_t* _uuid_bytes = _SEAL_UUID
memcpy(_seal_uuid, _uuid_bytes, 16)


cdef inline uint32_t u32(const uint8_t* p) noexcept nogil:
    return <uint32_t>p[0] << 24 | <uint32_t>p[1] << 16 | <uint32_t>p[2] << 8 | p[3]


cdef inline uint64_t u64(const uint8_t* p) noexcept nogil:
    return <uint64_t>u32(p) << 32 | u32(p + 4)


cdef inline bint is_box(const uint8_t* p, const char* kind) noexcept nogil:
    return memcmp(p + 4, kind, 4) == 0


# Where a pass over the records writes; with `sizes` NULL it only counts.
cdef struct Out:
    int64_t* fragments
    int64_t stride
    int64_t video
    int64_t audio
    uint32_t* sizes
    int64_t* dts
    int32_t* cts
    uint8_t* keys
    uint32_t* audio_sizes
    int64_t* audio_dts

# One traf as far as it was read.
cdef struct Track:
    uint32_t id
    uint32_t flags
    uint32_t duration
    uint32_t size
    int64_t tfdt
    uint32_t count
    int64_t data_at
    int64_t bytes


cdef int read_tfhd(const uint8_t* p, int64_t size, Track* track) noexcept nogil:
    cdef uint32_t flags
    cdef int64_t need = 16
    if size < need:
        return -1
    flags = u32(p + 8) & 0xffffff
    track.id = u32(p + 12)
    need += (8 if flags & 1 else 0) + (4 if flags & 2 else 0)
    need += (4 if flags & 8 else 0) + (4 if flags & 0x10 else 0) + (4 if flags & 0x20 else 0)
    if size < need or not flags & 0x020000:
        return -1
    p += 16 + (8 if flags & 1 else 0) + (4 if flags & 2 else 0)
    if flags & 8:
        track.duration = u32(p)
        p += 4
    if flags & 0x10:
        track.size = u32(p)
        p += 4
    if flags & 0x20:
        track.flags = u32(p)
    return 0


cdef int read_trun(const uint8_t* p, int64_t size, Track* track, Out* out) noexcept nogil:
    """Samples of the only trun of a traf."""
    cdef uint32_t flags, count, i, sample_size, sample_flags, first_flags, step
    cdef bint video = track.id == VIDEO_TRACK
    cdef int64_t time = track.tfdt
    cdef int64_t duration
    cdef const uint8_t* end = p + size
    if size < 20 or track.count != 0:
        return -1
    flags = u32(p + 8) & 0xffffff
    count = u32(p + 12)
    if not flags & 1:
        return -1
    track.data_at = <int32_t>u32(p + 16)
    first_flags = track.flags
    p += 20
    if flags & 4:
        if end - p < 4:
            return -1
        first_flags = u32(p)
        p += 4
    step = (4 if flags & 0x100 else 0) + (4 if flags & 0x200 else 0)
    step += (4 if flags & 0x400 else 0) + (4 if flags & 0x800 else 0)
    if <int64_t>count * step != end - p or (step == 0 and count > 65536):
        return -1
    for i in range(count):
        duration = track.duration
        sample_size = track.size
        sample_flags = first_flags if i == 0 else track.flags
        if flags & 0x100:
            duration = u32(p)
            p += 4
        if flags & 0x200:
            sample_size = u32(p)
            p += 4
        if flags & 0x400:
            sample_flags = u32(p)
            p += 4
        if out.sizes != NULL:
            if video:
                out.sizes[out.video + i] = sample_size
                out.dts[out.video + i] = time
                out.cts[out.video + i] = <int32_t>u32(p) if flags & 0x800 else 0
                out.keys[out.video + i] = not sample_flags & NOT_SYNC
            else:
                out.audio_sizes[out.audio + i] = sample_size
                out.audio_dts[out.audio + i] = time
        if flags & 0x800:
            p += 4
        time += duration
        track.bytes += sample_size
    track.count = count
    return 0


cdef int read_traf(const uint8_t* p, int64_t size, Track* track, Out* out) noexcept nogil:
    cdef int64_t at = 8, part
    while at + 8 <= size:
        part = u32(p + at)
        if part < 8 or part > size - at:
            return -1
        if is_box(p + at, b"tfhd"):
            if read_tfhd(p + at, part, track) < 0:
                return -1
        elif is_box(p + at, b"tfdt"):
            if part < 20:
                return -1
            track.tfdt = <int64_t>u64(p + at + 12)
        elif is_box(p + at, b"trun"):
            if read_trun(p + at, part, track, out) < 0:
                return -1
        at += part
    return 0 if at == size else -1


cdef int64_t read_record(const uint8_t* p, int64_t left, Out* out, int64_t n) noexcept nogil:
    """Length of the record at p, or -1."""
    cdef int64_t moof, at = PRFT_BYTES + 8, part, media, offset
    cdef const uint8_t* seal
    cdef Track video, audio, track
    cdef int64_t row[COLUMNS]
    cdef int i
    if left < PRFT_BYTES + 16 + SEAL_BYTES or u32(p) != PRFT_BYTES or not is_box(p, b"prft"):
        return -1
    moof = u32(p + PRFT_BYTES)
    if not is_box(p + PRFT_BYTES, b"moof") or moof < 8 or moof > left - PRFT_BYTES - 8 - SEAL_BYTES:
        return -1
    video.count = audio.count = 0
    video.bytes = audio.bytes = 0
    video.data_at = audio.data_at = 0
    video.tfdt = audio.tfdt = 0
    while at + 8 <= PRFT_BYTES + moof:
        part = u32(p + at)
        if part < 8 or part > PRFT_BYTES + moof - at:
            return -1
        if is_box(p + at, b"traf"):
            track.id = track.flags = track.duration = track.size = track.count = 0
            track.tfdt = track.data_at = track.bytes = 0
            if read_traf(p + at, part, &track, out) < 0:
                return -1
            if track.id == VIDEO_TRACK:
                if video.count:
                    return -1
                video = track
            else:
                if audio.count:
                    return -1
                audio = track
        at += part
    if at != PRFT_BYTES + moof or not is_box(p + at, b"mdat") or video.count == 0:
        return -1
    media = <int64_t>u32(p + at) - 8
    at += 8
    seal = p + at
    if media != video.bytes + audio.bytes or u32(seal) != SEAL_BYTES or not is_box(seal, b"uuid"):
        return -1
    if memcmp(seal + 8, _seal_uuid, 16) != 0 or <int64_t>u32(seal + 52) != at or u32(seal + 116) != media:
        return -1
    if <int64_t>u32(seal + 48) != at + media + SEAL_BYTES or u32(seal + 108) != video.count:
        return -1
    if u32(seal + 112) != audio.count or video.data_at != at - PRFT_BYTES:
        return -1
    if audio.count and audio.data_at != video.data_at + video.bytes:
        return -1
    offset = <int64_t>u64(seal + 40)
    if out.fragments != NULL:
        row[OFFSET] = offset
        row[LENGTH] = at + media + SEAL_BYTES
        row[HEAD] = at
        row[NUMBER] = u32(seal + 36)
        row[KEY] = seal[27] & 1
        row[WALL] = <int64_t>u64(seal + 56)
        row[END] = <int64_t>u64(seal + 64)
        row[CAMERA] = <int64_t>u64(seal + 72)
        row[GAP_START] = <int64_t>u64(seal + 80)
        row[GAP_END] = <int64_t>u64(seal + 88)
        row[GAP_PACKETS] = u32(seal + 96)
        row[GAP_CAUSE] = u32(seal + 100) >> 16
        row[INCOMPLETE] = u32(seal + 100) & 0xffff
        row[LOST] = u32(seal + 104)
        row[MEDIA] = media
        row[TFDT] = video.tfdt
        row[AUDIO_TFDT] = audio.tfdt
        row[VIDEO_AT] = offset + at
        row[VIDEO_FIRST] = out.video
        row[VIDEO_COUNT] = video.count
        row[AUDIO_AT] = offset + at + video.bytes
        row[AUDIO_FIRST] = out.audio
        row[AUDIO_COUNT] = audio.count
        for i in range(COLUMNS):
            out.fragments[i * out.stride + n] = row[i]
    out.video += video.count
    out.audio += audio.count
    return at + SEAL_BYTES


cdef int64_t read_all(const uint8_t* p, int64_t size, Out* out) noexcept nogil:
    """Number of records, or -1 - (where the first bad one begins)."""
    cdef int64_t at = 0, length, n = 0
    while at < size:
        length = read_record(p + at, size - at, out, n)
        if length < 0:
            return -1 - at
        at += length
        n += 1
    return n


def decode(const uint8_t[::1] records not None):
    """(fragment columns [len(FRAGMENT_COLUMNS), n], then per picture size, dts, cts, key, per audio frame size, dts).

    ValueError says where the first record that contradicts itself begins.
    """
    cdef Out out = Out(NULL, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL)
    cdef int64_t size = records.shape[0], n
    cdef const uint8_t* p = &records[0] if size else NULL
    with nogil:
        n = read_all(p, size, &out)
    if n < 0:
        raise ValueError(f"frame table record at {-1 - n} contradicts itself")
    fragments = np.empty((COLUMNS, n), np.int64)
    video = np.empty(out.video, np.uint32), np.empty(out.video, np.int64), np.empty(out.video, np.int32)
    keys = np.empty(out.video, np.bool_)
    audio = np.empty(out.audio, np.uint32), np.empty(out.audio, np.int64)
    if n == 0:
        return fragments, *video, keys, *audio
    cdef int64_t[:, ::1] fragments_view = fragments
    cdef uint32_t[::1] sizes = video[0]
    cdef int64_t[::1] dts = video[1]
    cdef int32_t[::1] cts = video[2]
    cdef uint8_t[::1] keys_view = keys.view(np.uint8)
    cdef uint32_t[::1] audio_sizes
    cdef int64_t[::1] audio_dts
    out.fragments = &fragments_view[0, 0]
    out.stride = n
    out.sizes = &sizes[0]
    out.dts = &dts[0]
    out.cts = &cts[0]
    out.keys = &keys_view[0]
    if out.audio:
        audio_sizes = audio[0]
        audio_dts = audio[1]
        out.audio_sizes = &audio_sizes[0]
        out.audio_dts = &audio_dts[0]
    out.video = out.audio = 0
    with nogil:
        read_all(p, size, &out)
    return fragments, *video, keys, *audio
