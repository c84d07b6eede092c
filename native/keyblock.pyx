# cython: language_level=3
"""Packed key-frame blocks: many (time, offset) pairs of one chunk in one index row, and seeking over such rows.

Kept true: times and offsets in a block strictly ascend, so one forward walk answers every question; a block is
read only inside its own bytes whatever those bytes are (a damaged one raises ValueError, never reads past its
end); appending never changes the meaning of what is already in the block. Layout: docs/format/index.md.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

cdef enum:
    HEAD = 5            # u32 sequence (little-endian), u8 count
    FRAMES_MAX = 64     # key frames per block: two minutes at the common 2 s
    VARINT_MAX = 10     # bytes of a 64-bit LEB128
    BLOCK_MAX = HEAD + VARINT_MAX + 2 * VARINT_MAX * (FRAMES_MAX - 1)
    KEY = 12            # u32 stream, u64 time of the first key frame, both big-endian

KEY_FRAMES_MAX = FRAMES_MAX

cdef struct Walk:
    const uint8_t* at
    const uint8_t* end
    int64_t time_us
    int64_t offset
    int64_t time_step
    int64_t offset_step
    uint32_t sequence
    int count
    int left            # key frames after the present one


cdef inline int read_varint(Walk* walk, uint64_t* value) noexcept nogil:
    cdef uint64_t result = 0
    cdef int shift = 0
    cdef uint8_t byte
    while walk.at < walk.end and shift < 64:
        byte = walk.at[0]
        walk.at += 1
        result |= <uint64_t>(byte & 0x7f) << shift
        if byte < 0x80:
            if shift == 63 and byte > 1:
                return -1
            value[0] = result
            return 0
        shift += 7
    return -1


cdef inline uint8_t* write_varint(uint8_t* at, uint64_t value) noexcept nogil:
    while value >= 0x80:
        at[0] = <uint8_t>(value | 0x80)
        at += 1
        value >>= 7
    at[0] = <uint8_t>value
    return at + 1


cdef inline uint64_t zigzag(int64_t value) noexcept nogil:
    return (<uint64_t>value << 1) ^ <uint64_t>(value >> 63)


cdef inline int64_t unzigzag(uint64_t value) noexcept nogil:
    return <int64_t>((value >> 1) ^ (0 - (value & 1)))


cdef int walk_begin(Walk* walk, const uint8_t* block, Py_ssize_t size, int64_t start_us) noexcept nogil:
    # Stands on the first key frame afterwards. 0, or -1 when the bytes are no block.
    cdef uint64_t offset
    if size <= HEAD or start_us < 0:
        return -1
    walk.sequence = block[0] | <uint32_t>block[1] << 8 | <uint32_t>block[2] << 16 | <uint32_t>block[3] << 24
    walk.count = block[4]
    walk.left = walk.count - 1
    walk.at = block + HEAD
    walk.end = block + size
    walk.time_us = start_us
    walk.time_step = 0
    walk.offset_step = 0
    if walk.count < 1 or walk.count > FRAMES_MAX or read_varint(walk, &offset) or offset > <uint64_t>INT64_MAX:
        return -1
    walk.offset = <int64_t>offset
    return 0


cdef inline int walk_step(Walk* walk) noexcept nogil:
    # To the next key frame; the caller has seen left > 0. Sums wrap as unsigned and are then checked to ascend.
    cdef uint64_t change
    if read_varint(walk, &change):
        return -1
    walk.time_step = <int64_t>(<uint64_t>walk.time_step + <uint64_t>unzigzag(change))
    if read_varint(walk, &change):
        return -1
    walk.offset_step = <int64_t>(<uint64_t>walk.offset_step + <uint64_t>unzigzag(change))
    if walk.time_step <= 0 or walk.offset_step <= 0:
        return -1
    if walk.time_step > INT64_MAX - walk.time_us or walk.offset_step > INT64_MAX - walk.offset:
        return -1
    walk.time_us += walk.time_step
    walk.offset += walk.offset_step
    walk.left -= 1
    return 0


cdef int walk_floor(Walk* walk, int64_t time_us) noexcept nogil:
    # From the first key frame to the last one at or before time_us. 1 found, 0 none (the first is later), -1 damaged.
    cdef Walk ahead
    if walk.time_us > time_us:
        return 0
    ahead = walk[0]
    while ahead.left:
        if walk_step(&ahead):
            return -1
        if ahead.time_us > time_us:
            break
        walk[0] = ahead
    return 1


cdef int walk_ceiling(Walk* walk, int64_t time_us) noexcept nogil:
    # From the first key frame to the first one at or after time_us. 1 found, 0 none (all are earlier), -1 damaged.
    while walk.time_us < time_us:
        if walk.left == 0:
            return 0
        if walk_step(walk):
            return -1
    return 1


cdef inline object found(Walk* walk):
    return walk.time_us, walk.sequence, walk.offset


cdef int begin(Walk* walk, bytes block, int64_t start_us) except -1:
    if walk_begin(walk, <const uint8_t*>PyBytes_AS_STRING(block), PyBytes_GET_SIZE(block), start_us):
        raise ValueError(f"key-frame block at {start_us} has no valid head")
    return 0


cdef object damaged(int64_t start_us):
    return ValueError(f"key-frame block at {start_us} is damaged")


def extend(uint32_t sequence, int64_t start_us, bytes block not None, frames):
    """Append `frames`, an iterable of (time_us, offset), to `block` (b"" for none yet, `start_us` then unused).

    Returns [(start_us, block), …]: all but the last are full and final, the last one may still grow.
    ValueError when a time or an offset does not ascend, or the block is damaged.
    """
    cdef Walk last
    cdef uint8_t buffer[BLOCK_MAX]
    cdef uint8_t* at = NULL
    cdef int64_t time_us, offset, time_step, offset_step
    cdef list done = []
    if PyBytes_GET_SIZE(block) > BLOCK_MAX:
        raise damaged(start_us)
    if block:
        begin(&last, block, start_us)
        while last.left:
            if walk_step(&last):
                raise damaged(start_us)
        if last.sequence != sequence:
            raise ValueError(f"key-frame block at {start_us} belongs to chunk {last.sequence}, not {sequence}")
        memcpy(buffer, PyBytes_AS_STRING(block), last.at - <const uint8_t*>PyBytes_AS_STRING(block))
        at = buffer + (last.at - <const uint8_t*>PyBytes_AS_STRING(block))
    for time_us, offset in frames:
        if time_us < 0 or offset < 0 or (at != NULL and (time_us <= last.time_us or offset <= last.offset)):
            raise ValueError(f"key frame at {time_us}, offset {offset} does not come after the one before it")
        if at == NULL or buffer[4] == FRAMES_MAX:
            if at != NULL:
                done.append((start_us, PyBytes_FromStringAndSize(<char*>buffer, at - buffer)))
            start_us = time_us
            buffer[0] = <uint8_t>sequence
            buffer[1] = <uint8_t>(sequence >> 8)
            buffer[2] = <uint8_t>(sequence >> 16)
            buffer[3] = <uint8_t>(sequence >> 24)
            buffer[4] = 1
            at = write_varint(buffer + HEAD, <uint64_t>offset)
            time_step = offset_step = 0
        else:
            time_step = time_us - last.time_us
            offset_step = offset - last.offset
            at = write_varint(at, zigzag(time_step - last.time_step))
            at = write_varint(at, zigzag(offset_step - last.offset_step))
            buffer[4] += 1
        last.time_us, last.offset, last.time_step, last.offset_step = time_us, offset, time_step, offset_step
    if at != NULL:
        done.append((start_us, PyBytes_FromStringAndSize(<char*>buffer, at - buffer)))
    return done


def count(bytes block not None):
    """Number of key frames in a block."""
    cdef Walk walk
    begin(&walk, block, 0)
    return walk.count


def full(bytes block not None):
    """True when the next key frame must begin a new block."""
    return count(block) == FRAMES_MAX


def floor(bytes block not None, int64_t start_us, int64_t time_us):
    """(time_us, sequence, offset) of the last key frame at or before `time_us`, or None."""
    cdef Walk walk
    begin(&walk, block, start_us)
    cdef int result = walk_floor(&walk, time_us)
    if result < 0:
        raise damaged(start_us)
    return found(&walk) if result else None


def ceiling(bytes block not None, int64_t start_us, int64_t time_us):
    """(time_us, sequence, offset) of the first key frame at or after `time_us`, or None."""
    cdef Walk walk
    begin(&walk, block, start_us)
    cdef int result = walk_ceiling(&walk, time_us)
    if result < 0:
        raise damaged(start_us)
    return found(&walk) if result else None


def decode_into(bytes block not None, int64_t start_us, int64_t[:] times_us, uint32_t[:] sequences,
                int64_t[:] offsets, Py_ssize_t at):
    """Write all key frames of a block into the columns from row `at`; returns the row after the last one."""
    cdef Walk walk
    begin(&walk, block, start_us)
    if at < 0 or at + walk.count > min(times_us.shape[0], sequences.shape[0], offsets.shape[0]):
        raise ValueError("the columns are too short for this block")
    while True:
        times_us[at] = walk.time_us
        sequences[at] = walk.sequence
        offsets[at] = walk.offset
        at += 1
        if walk.left == 0:
            break
        if walk_step(&walk):
            raise damaged(start_us)
    if walk.at != walk.end:
        raise damaged(start_us)
    return at


cdef inline bytes make_key(uint32_t stream_id, uint64_t time_us):
    cdef bytes key = PyBytes_FromStringAndSize(NULL, KEY)
    cdef uint8_t* at = <uint8_t*>PyBytes_AS_STRING(key)
    cdef int i
    for i in range(4):
        at[i] = <uint8_t>(stream_id >> (24 - 8 * i))
    for i in range(8):
        at[4 + i] = <uint8_t>(time_us >> (56 - 8 * i))
    return key


cdef inline int64_t key_time(bytes key) noexcept:
    # -1, no valid start, for a key of another shape or a time beyond 63 bits.
    if PyBytes_GET_SIZE(key) != KEY:
        return -1
    cdef const uint8_t* at = <const uint8_t*>PyBytes_AS_STRING(key)
    cdef uint64_t value = 0
    cdef int i
    for i in range(4, KEY):
        value = value << 8 | at[i]
    return <int64_t>value if value <= <uint64_t>INT64_MAX else -1


cdef inline bint same_stream(bytes key, bytes other) noexcept:
    # Shorter keys head the pages of a stream and are no rows.
    return PyBytes_GET_SIZE(key) >= 8 and memcmp(PyBytes_AS_STRING(key), PyBytes_AS_STRING(other), 4) == 0


cdef inline tuple step_before(cursor, bytes wanted):
    # (row before `wanted` under this stream or None, True when the stream has no row from `wanted` on).
    cdef bint is_last = True
    if cursor.set_range(wanted):
        is_last = not same_stream(cursor.key(), wanted)
        if not cursor.prev():
            return None, is_last
    elif not cursor.last():
        return None, True
    cdef tuple row = cursor.item()
    return (row if same_stream(row[0], wanted) else None), is_last


cdef object growing(cursor, uint32_t stream_id, Py_ssize_t skip):
    # (start_us, block) that the newest open chunk of a stream still grows, or None.
    cdef bytes wanted = make_key(stream_id, <uint64_t>-1)
    cdef tuple row = step_before(cursor, wanted)[0]
    if row is None:
        return None
    cdef bytes value = row[1]
    cdef const uint8_t* at = <const uint8_t*>PyBytes_AS_STRING(value) + skip
    cdef uint64_t start_us = 0
    cdef int i
    if PyBytes_GET_SIZE(value) <= skip + 8:
        return None
    for i in range(8):
        start_us |= <uint64_t>at[i] << (8 * i)
    return <int64_t>start_us, value[skip + 8:]


def seek_floor(rows, open_rows, Py_ssize_t skip, uint32_t stream_id, int64_t time_us):
    """(time_us, sequence, offset) of a stream's last key frame at or before `time_us`, or None.

    `rows` and `open_rows` are cursors over the key-frame rows and the open chunks; in a row of the latter, byte
    `skip` begins u64 start and the block that is not among `rows` yet. Both cursors are left anywhere.
    """
    cdef Walk walk
    cdef bytes key, block
    cdef int64_t start_us = -1
    if time_us < 0:
        return None
    cdef tuple before = step_before(rows, make_key(stream_id, <uint64_t>time_us + 1))
    if before[0] is not None:
        key, block = before[0]
        start_us = key_time(key)
    if before[1]:  # no later row, so the growing block may be nearer
        tail = growing(open_rows, stream_id, skip)
        if tail is not None and start_us < tail[0] <= time_us:
            return floor(tail[1], tail[0], time_us)
    if before[0] is None:
        return None
    begin(&walk, block, start_us)
    if walk_floor(&walk, time_us) != 1:
        raise damaged(start_us)
    return found(&walk)


def seek_many(rows, open_rows, Py_ssize_t skip, stream_ids, int64_t time_us):
    """`seek_floor` of many streams at one instant, in the order given."""
    return [seek_floor(rows, open_rows, skip, stream_id, time_us) for stream_id in stream_ids]
