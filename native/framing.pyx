# cython: language_level=3
"""What an RTSP connection sends, told apart: RTP and RTCP frames and RTSP text (RFC 2326 §10.12).

Kept true: an RTP frame that lies whole in the read buffer goes to its receiver from there, without a copy; at most one
frame is kept from read to read; how the stream was cut into reads makes no difference; noise is stepped over, bounded.
"""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove, memset
from native.depacketize cimport be16
from native.rtp cimport RTP_HEAD_BYTES, Receiver

cdef enum:
    CARRY_BYTES = 2048       # first size of the carry
    JUDGE_BYTES = 6          # enough to tell frame, text and noise apart


class FramingError(ValueError):
    """An interleaved connection sends nothing that can be told from noise."""


cdef enum:
    UNKNOWN = 0
    RTP = 1
    RTCP = 2

cdef enum:
    MORE = 0
    FRAME = 1
    TEXT = 2
    NOISE = 3


cdef bint is_text(const uint8_t* data) noexcept nogil:
    """The first five letters of a response, or of a request a server may send."""
    cdef const char* words = b"RTSP/OPTIOANNOUGET_PSET_PREDIRTEARD"
    cdef int i, j
    for i in range(0, 35, 5):
        j = 0
        while j < 5 and data[j] == <uint8_t>words[i + j]:
            j += 1
        if j == 5:
            return True
    return False


cdef class Interleaved:
    """Splits what an RTSP connection sends into RTP and RTCP frames and RTSP text.

    `on_text(data)` returns how many bytes it took up to the end of one message, or -1 when it took all and wants more.
    `on_rtcp(channel, data)` gets whole RTCP packets. After bytes that are neither, the next frame of a known channel
    with a right head, or text, is looked for.
    """

    cdef object _on_text
    cdef object _on_rtcp
    cdef list _receivers
    cdef PyObject* _by_channel[256]
    cdef uint8_t[256] _kind
    cdef bint _synced
    cdef bint _in_text
    cdef uint8_t* _carry      # the start of a frame whose rest is still to come
    cdef Py_ssize_t _carry_bytes
    cdef Py_ssize_t _carry_room
    cdef Py_ssize_t _noise_run_bytes
    cdef Py_ssize_t _noise_bytes_max
    cdef readonly uint64_t noise_bytes
    cdef readonly uint64_t unknown_frames

    def __cinit__(self, on_text, on_rtcp, *, Py_ssize_t noise_bytes_max=1 << 20):
        self._on_text = on_text
        self._on_rtcp = on_rtcp
        self._receivers = []
        self._synced = True
        self._noise_bytes_max = noise_bytes_max

    def __dealloc__(self):
        free(self._carry)

    def assign(self, int channel, int rtcp_channel, Receiver receiver not None):
        """The channels a camera granted to a track."""
        if not 0 <= channel <= 255 or not 0 <= rtcp_channel <= 255 or channel == rtcp_channel:
            raise ValueError(f"channels {channel} and {rtcp_channel} are not two of 0 to 255")
        if self._kind[channel] != UNKNOWN or self._kind[rtcp_channel] != UNKNOWN:
            raise ValueError(f"channel {channel} or {rtcp_channel} is taken")
        self._receivers.append(receiver)
        self._by_channel[channel] = <PyObject*>receiver
        self._kind[channel] = RTP
        self._kind[rtcp_channel] = RTCP

    def release(self):
        """From now on frames are stepped over; text is still told apart."""
        memset(self._kind, UNKNOWN, sizeof(self._kind))
        self._receivers.clear()

    def feed(self, buffer, Py_ssize_t size, int64_t arrival_us):
        """The first `size` bytes of `buffer`, as read from the connection."""
        cdef Py_buffer view
        PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
        try:
            if size > view.len:
                raise ValueError(f"{size} bytes are not in a buffer of {view.len}")
            self._feed(<const uint8_t*>view.buf, size, arrival_us)
        finally:
            PyBuffer_Release(&view)

    cdef int _feed(self, const uint8_t* data, Py_ssize_t size, int64_t arrival_us) except -1:
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t frame
        cdef int verdict
        while at < size:
            if self._in_text:
                at += self._text(data + at, size - at)
                continue
            if self._carry_bytes:
                at += self._complete(data + at, size - at, arrival_us)
                continue
            verdict = self._judge(data + at, size - at)
            if verdict == FRAME:
                frame = 4 + <Py_ssize_t>be16(data + at + 2)
                if frame > size - at:
                    return self._keep(data + at, size - at)
                self._frame(data + at, frame, arrival_us)
                at += frame
            elif verdict == MORE:
                return self._keep(data + at, size - at)
            elif verdict == TEXT:
                at += self._text(data + at, size - at)
            else:
                self._noise()
                at += 1
        return 0

    cdef int _judge(self, const uint8_t* data, Py_ssize_t size) noexcept:
        """What starts here. Out of step, only a frame that could not be better is believed."""
        cdef uint32_t frame
        cdef int kind
        if data[0] != 0x24:
            if size < 5:
                return MORE if 0x41 <= data[0] <= 0x54 else NOISE  # A…T
            return TEXT if is_text(data) else NOISE
        if size < JUDGE_BYTES:
            return FRAME if size >= 4 and self._synced and be16(data + 2) < 2 else MORE
        kind = self._kind[data[1]]
        frame = be16(data + 2)
        if self._synced:
            return FRAME if kind != UNKNOWN or frame < 2 or data[4] >> 6 == 2 else NOISE
        if kind == UNKNOWN or data[4] >> 6 != 2:
            return NOISE
        if kind == RTCP:
            return FRAME if frame >= 8 and 200 <= data[5] <= 204 else NOISE
        return FRAME if frame >= RTP_HEAD_BYTES and (
            data[5] & 0x7f == (<Receiver>self._by_channel[data[1]])._payload_type
            or (<Receiver>self._by_channel[data[1]])._payload_type < 0
        ) else NOISE

    cdef int _frame(self, const uint8_t* data, Py_ssize_t size, int64_t arrival_us) except -1:
        cdef int kind = self._kind[data[1]]
        self._synced = True
        self._noise_run_bytes = 0
        if kind == RTP:
            return (<Receiver>self._by_channel[data[1]]).packet(data + 4, size - 4, arrival_us)
        if kind == RTCP:
            self._on_rtcp(data[1], data[4:size])
        else:
            self.unknown_frames += 1
        return 0

    cdef Py_ssize_t _text(self, const uint8_t* data, Py_ssize_t size) except -1:
        cdef Py_ssize_t taken = self._on_text(data[:size])
        self._synced = True
        self._noise_run_bytes = 0
        self._in_text = taken < 0
        if taken > size:
            raise ValueError("on_text took more than it was given")
        return size if taken < 0 else taken

    cdef int _noise(self) except -1:
        self._synced = False
        self.noise_bytes += 1
        self._noise_run_bytes += 1
        if self._noise_run_bytes > self._noise_bytes_max:
            raise FramingError(f"{self._noise_run_bytes} bytes without an RTP frame or RTSP message")
        return 0

    cdef int _keep(self, const uint8_t* data, Py_ssize_t size) except -1:
        cdef Py_ssize_t room = self._carry_bytes + size
        cdef void* grown
        if room > self._carry_room:
            room = max(room, 2 * self._carry_room, CARRY_BYTES)
            grown = realloc(self._carry, room)
            if grown == NULL:
                raise MemoryError("no memory for the rest of a frame")
            self._carry = <uint8_t*>grown
            self._carry_room = room
        memcpy(self._carry + self._carry_bytes, data, size)
        self._carry_bytes += size
        return 0

    cdef Py_ssize_t _complete(self, const uint8_t* data, Py_ssize_t size, int64_t arrival_us) except -1:
        """Add to the carried bytes until they are decided; the number of bytes taken."""
        cdef Py_ssize_t taken = 0
        cdef Py_ssize_t wanted, part
        cdef int verdict
        while self._carry_bytes:
            verdict = self._judge(self._carry, self._carry_bytes)
            if verdict == NOISE:
                self._carry_bytes -= 1
                memmove(self._carry, self._carry + 1, self._carry_bytes)
                self._noise()
                continue
            if verdict == TEXT:
                wanted = self._carry_bytes
                self._carry_bytes = 0
                self._text(self._carry, wanted)  # five or six bytes are never a whole message
                break
            wanted = 5
            if self._carry[0] == 0x24:  # never past the end of the shortest frame, which has four bytes
                wanted = 4 if self._carry_bytes < 4 else JUDGE_BYTES
            if verdict == FRAME:
                wanted = 4 + <Py_ssize_t>be16(self._carry + 2)
            if self._carry_bytes == wanted:
                self._carry_bytes = 0
                self._frame(self._carry, wanted, arrival_us)
                break
            part = min(wanted - self._carry_bytes, size - taken)
            if part == 0:
                break
            self._keep(data + taken, part)
            taken += part
        return taken
