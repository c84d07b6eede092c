# cython: language_level=3
"""H.264 and H.265 payloads in order → pictures (RFC 6184, RFC 7798).

Kept true: NAL units reach the sink byte for byte or not at all; a unit is flagged complete only when no packet of it
can be missing; the bytes of a unit are bounded; no object is made and, past a stream's first packets, no memory is
taken per packet. Every length is checked where it is read.

A picture ends when the RTP timestamp changes, or when its marker was seen and a NAL unit follows that can only begin
the next picture. NAL units in front of a picture's first slice wait in a small buffer and go into that
picture whatever timestamp they carried: some cameras send parameter sets with the timestamp, or marker, of another.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy
from native.depacketize cimport Depacketizer, be16
from native.nal cimport CODEC_H264, CODEC_H265
from native.sink cimport UNIT_COMPLETE, UNIT_LOSS_BEFORE, Sink

cdef enum:
    PREFIX_BYTES_MAX = 256 * 1024

cdef enum:  # what a NAL unit says about the border between pictures (H.264 §7.4.1.2.3, H.265 §7.4.2.4.4)
    LEADS = 0    # after a slice it can only belong to the next picture
    SLICE = 1
    TRAILS = 2   # belongs to the picture before it

cdef enum:  # where the bytes of the NAL unit in progress go
    NOWHERE = 0
    TO_SINK = 1
    TO_PREFIX = 2

cdef enum:  # is the first packet of the next unit known to be there?
    HEAD_CERTAIN = 0
    HEAD_AFTER_LOSS = 1   # yes, though packets before it are lost
    HEAD_DOUBTFUL = 2     # no: packets are lost and nothing tells what they held
    HEAD_AT_START = 3     # the first packet of a source: its content tells


cdef inline int h264_place(int kind) noexcept nogil:
    if 1 <= kind <= 5 or 19 <= kind <= 21:
        return SLICE
    return LEADS if 6 <= kind <= 9 or 14 <= kind <= 18 else TRAILS


cdef inline int h265_place(int kind) noexcept nogil:
    if kind < 32:
        return SLICE
    return LEADS if kind <= 35 or kind == 39 or 41 <= kind <= 44 or 48 <= kind <= 55 else TRAILS


# Heads that no camera sends in the codec announced, and most packets of the other codec have.
cdef inline bint h264_foreign(const uint8_t* data) noexcept nogil:
    cdef int kind = data[0] & 0x1f
    return data[0] & 0x80 != 0 or kind == 0 or 2 <= kind <= 4 or kind >= 30  # 2 to 4: data partitions


cdef inline bint h265_foreign(const uint8_t* data) noexcept nogil:
    cdef int kind = (data[0] >> 1) & 0x3f
    return data[0] & 0x81 != 0 or not 1 <= data[1] <= 7 or 41 <= kind <= 47 or kind >= 50  # layer 0 alone is sent


cdef class PictureDepacketizer(Depacketizer):
    """H.264 and H.265; they differ in NAL header and aggregation layout alone."""

    cdef int _codec
    cdef int _head_bytes
    cdef bint _donl
    cdef Py_ssize_t _unit_bytes_max
    cdef bint _started
    cdef int64_t _time          # of the last packet, and of the open unit
    cdef int64_t _arrival_us
    cdef bint _open             # the sink has an open unit; it holds a slice
    cdef bint _marker           # its marker was seen
    cdef bint _marker_wrong     # markers were seen within a picture
    cdef bint _whole            # no packet of it can be missing
    cdef bint _loss             # packets are missing before or in it
    cdef int _nals              # NAL units it holds
    cdef Py_ssize_t _unit_bytes
    cdef uint32_t _lost         # packets missing in the open unit, or before the next
    cdef int _head              # HEAD_*
    cdef int _nal               # TO_*: a NAL unit is in progress
    cdef uint8_t _fragment_kind
    cdef uint8_t* _prefix       # whole NAL units waiting for a slice: 4-byte length, bytes
    cdef Py_ssize_t _prefix_bytes
    cdef Py_ssize_t _prefix_room
    cdef Py_ssize_t _prefix_nal  # where the NAL unit in progress starts
    cdef bint _prefix_marker
    cdef int64_t _prefix_time
    cdef int64_t _prefix_arrival_us

    def __cinit__(self, Sink sink not None, bint h265, bint donl, Py_ssize_t unit_bytes_max):
        self._codec = CODEC_H265 if h265 else CODEC_H264
        self._head_bytes = 2 if h265 else 1
        self._donl = donl and h265
        self._unit_bytes_max = unit_bytes_max
        self._head = HEAD_AT_START

    def __dealloc__(self):
        free(self._prefix)

    cdef int payload(
        self, const uint8_t* data, Py_ssize_t size, int64_t time, int64_t arrival_us, bint marker, uint32_t lost
    ) except -1:
        if time != self._time or not self._started:
            self._turn(lost)
            self._time = time
            self._started = True
        elif lost:
            self._gap(lost)
        self._arrival_us = arrival_us
        if size > 1 and (h264_foreign(data) if self._codec == CODEC_H264 else h265_foreign(data)):
            self.foreign += 1
        if size <= self._head_bytes:
            if size:
                self._malformed()
        elif self._codec == CODEC_H264:
            self._h264(data, size)
        else:
            self._h265(data, size)
        if marker and self._open:
            self._marker = True
        elif marker and self._nal == NOWHERE:
            self._prefix_marker = True
        return 0

    cdef int _h264(self, const uint8_t* data, Py_ssize_t size) except -1:
        cdef int kind = data[0] & 0x1f
        cdef uint8_t head
        if 1 <= kind <= 23:
            return self._single(data, size)
        if kind == 24:
            return self._aggregate(data + 1, size - 1)
        if kind != 28 or size < 2:  # STAP-B, MTAP, FU-B belong to interleaved mode, which SETUP never asked for
            return self._malformed()
        head = (data[0] & 0xe0) | (data[1] & 0x1f)
        return self._fragment(&head, data[1], data[1] & 0x1f, data + 2, size - 2)

    cdef int _h265(self, const uint8_t* data, Py_ssize_t size) except -1:
        cdef int kind = (data[0] >> 1) & 0x3f
        cdef int donl = 2 if self._donl else 0
        cdef uint8_t[2] head
        if kind < 48:
            if size <= 2 + donl:
                return self._malformed()
            self._nal_begin(data, kind, data[2 + donl] & 0x80)
            self._append(data + 2 + donl, size - 2 - donl)
            return self._nal_end()
        if kind == 48:
            return self._aggregate(data + 2, size - 2)
        if kind != 49 or size < 3:
            return self._malformed()
        if data[2] & 0x80:
            if size < 3 + donl:
                return self._malformed()
        else:
            donl = 0
        head[0] = (data[0] & 0x81) | ((data[2] & 0x3f) << 1)
        head[1] = data[1]
        return self._fragment(head, data[2], data[2] & 0x3f, data + 3 + donl, size - 3 - donl)

    cdef int _single(self, const uint8_t* data, Py_ssize_t size) except -1:
        """One whole NAL unit of either codec, longer than its header."""
        if self._codec == CODEC_H264:
            self._nal_begin(data, data[0] & 0x1f, data[1] & 0x80)
        else:
            self._nal_begin(data, (data[0] >> 1) & 0x3f, data[2] & 0x80)
        self._append(data + self._head_bytes, size - self._head_bytes)
        return self._nal_end()

    cdef int _aggregate(self, const uint8_t* data, Py_ssize_t size) except -1:
        """STAP-A or AP: 16-bit size, NAL unit, again; with DONL a number before each size (RFC 7798 §4.4.2)."""
        cdef Py_ssize_t skip = 2 if self._donl else 0
        cdef Py_ssize_t length
        cdef int kind
        while size > 0:
            if size < skip + 2:
                return self._malformed()
            length = be16(data + skip)
            data += skip + 2
            size -= skip + 2
            skip = 1 if self._donl else 0
            if length > size:
                return self._malformed()
            if length > self._head_bytes:
                kind = data[0] & 0x1f if self._codec == CODEC_H264 else (data[0] >> 1) & 0x3f
                if kind >= (24 if self._codec == CODEC_H264 else 48):
                    return self._malformed()
                self._single(data, length)
            elif length:
                self._malformed()
            data += length
            size -= length
        return 0

    cdef int _fragment(
        self, const uint8_t* head, uint8_t flags, int kind, const uint8_t* data, Py_ssize_t size
    ) except -1:
        """FU-A or FU: `flags` has the start and end bits, `head` is the NAL header rebuilt."""
        if flags & 0x80:
            if kind >= (24 if self._codec == CODEC_H264 else 48):
                return self._malformed()
            self._nal_begin(head, kind, size > 0 and data[0] & 0x80)
            self._fragment_kind = kind
        elif self._nal == NOWHERE:  # its start is lost or was refused
            return self._damage()
        elif self._fragment_kind != kind:
            return self._malformed()
        self._append(data, size)
        if flags & 0x40:
            self._nal_end()
        return 0

    cdef int _nal_begin(self, const uint8_t* head, int kind, bint first_slice) except -1:
        cdef int place = h264_place(kind) if self._codec == CODEC_H264 else h265_place(kind)
        if self._nal != NOWHERE:
            self._nal_drop()
        if self._open and self._marker and place != TRAILS:
            if place == LEADS or first_slice:
                self._end_unit()
            else:
                self._marker = False  # one picture goes on: the camera's markers mean nothing
                self._marker_wrong = True
        if not self._open:
            if place == SLICE:
                self._begin_unit(first_slice)
            else:
                return self._prefix_begin(head, place == LEADS and kind == (9 if self._codec == CODEC_H264 else 35))
        self._nal = TO_SINK
        self._unit_bytes += self._head_bytes
        return self._sink.nal_begin(head, self._head_bytes)

    cdef int _append(self, const uint8_t* data, Py_ssize_t size) except -1:
        if self._nal == TO_SINK:
            self._unit_bytes += size
            if self._unit_bytes > self._unit_bytes_max:
                return self._malformed()
            return self._sink.append(data, size)
        if self._nal == TO_PREFIX:
            return self._prefix_append(data, size)
        return 0

    cdef int _nal_end(self) except -1:
        cdef uint32_t length
        if self._nal == TO_SINK:
            self._nals += 1
            self._sink.nal_end()
        elif self._nal == TO_PREFIX:
            length = self._prefix_bytes - self._prefix_nal - 4
            memcpy(self._prefix + self._prefix_nal, &length, 4)
        self._nal = NOWHERE
        return 0

    cdef int _nal_drop(self) except -1:
        """The NAL unit in progress will not be whole."""
        cdef int nal = self._nal
        self._nal = NOWHERE
        if nal == TO_SINK:
            self._whole = False
            return self._sink.nal_drop()
        if nal == TO_PREFIX:
            self._prefix_bytes = self._prefix_nal
            self._head = HEAD_DOUBTFUL
        return 0

    cdef int _damage(self) except -1:
        """Something of the current unit is missing."""
        if self._nal != NOWHERE:
            self._nal_drop()
        if self._open:
            self._whole = False
        else:
            self._head = HEAD_DOUBTFUL
        return 0

    cdef int _malformed(self) except -1:
        self.malformed += 1
        return self._damage()

    cdef int _gap(self, uint32_t lost) except -1:
        """Packets are missing and the timestamp did not change."""
        self._damage()
        if self._marker:  # they may have been the head of a picture with the same timestamp
            self._head = HEAD_DOUBTFUL
        self._lost += lost
        self._loss = True
        return 0

    cdef int _turn(self, uint32_t lost) except -1:
        """The timestamp changes: the open unit is over, and `lost` packets are missing before the next."""
        if self._nal != NOWHERE:
            self._nal_drop()
        if self._open:
            if lost and not self._marker:
                self._whole = False
                self._loss = True
                self._lost += lost
                self._end_unit()
                self._loss = True
                self._head = HEAD_DOUBTFUL
                return 0
            self._end_unit()
        if self._prefix_bytes and (lost or self._head == HEAD_DOUBTFUL):
            self._prefix_bytes = 0  # what waited led a picture that is lost
            self._loss = True
        if lost:
            self._lost += lost
            self._loss = True
            self._head = HEAD_DOUBTFUL
        elif self._started and self._prefix_bytes == 0:
            self._head = HEAD_AFTER_LOSS if self._loss else HEAD_CERTAIN
        return 0

    cdef int _begin_unit(self, bint first_slice) except -1:
        """A slice opens the unit; what waited for it goes in front, byte for byte."""
        cdef Py_ssize_t at = 0
        cdef uint32_t length
        cdef int64_t arrival_us = self._arrival_us
        if self._prefix_bytes and self._prefix_time == self._time:
            arrival_us = self._prefix_arrival_us
        self._whole = self._head < HEAD_DOUBTFUL or (
            self._head == HEAD_AT_START and (first_slice or self._prefix_bytes > 0)
        )
        self._head = HEAD_CERTAIN
        self._open = True
        self._nals = 0
        self._unit_bytes = 0
        self._sink.unit_begin(self._time, arrival_us)
        while at < self._prefix_bytes:
            memcpy(&length, self._prefix + at, 4)
            at += 4
            self._sink.nal_begin(self._prefix + at, self._head_bytes)
            self._sink.append(self._prefix + at + self._head_bytes, length - self._head_bytes)
            self._sink.nal_end()
            self._unit_bytes += length
            self._nals += 1
            at += length
        self._prefix_bytes = 0
        return 0

    cdef int _end_unit(self) except -1:
        cdef uint32_t flags = (UNIT_COMPLETE if self._whole else 0) | (UNIT_LOSS_BEFORE if self._loss else 0)
        cdef uint32_t lost = self._lost
        self._open = False
        self._marker = False
        self._loss = False
        self._lost = 0
        if self._nals:
            return self._sink.unit_end(flags, lost)
        self._loss = True  # the next unit tells of it
        return self._sink.unit_drop(lost)

    cdef int _prefix_begin(self, const uint8_t* head, bint delimiter) except -1:
        cdef uint32_t length = 0  # known at its end
        self._prefix_marker = False
        if self._prefix_bytes == 0:
            self._prefix_time = self._time
            self._prefix_arrival_us = self._arrival_us
            if delimiter and self._head == HEAD_DOUBTFUL:  # an access unit delimiter is always first
                self._head = HEAD_AFTER_LOSS
        self._nal = TO_PREFIX
        self._prefix_nal = self._prefix_bytes
        self._prefix_append(<const uint8_t*>&length, 4)
        return self._prefix_append(head, self._head_bytes)

    cdef int _prefix_append(self, const uint8_t* data, Py_ssize_t size) except -1:
        cdef Py_ssize_t room
        cdef void* grown
        if self._nal != TO_PREFIX:
            return 0
        if self._prefix_bytes + size > self._prefix_room:
            room = max(2 * self._prefix_room, self._prefix_bytes + size, 512)
            if room > PREFIX_BYTES_MAX:
                return self._malformed()
            grown = realloc(self._prefix, room)
            if grown == NULL:
                raise MemoryError(f"no {room} bytes for NAL units in front of a picture")
            self._prefix = <uint8_t*>grown
            self._prefix_room = room
        memcpy(self._prefix + self._prefix_bytes, data, size)
        self._prefix_bytes += size
        return 0

    cdef int flush(self) except -1:
        if self._open and self._marker and self._nal == NOWHERE and not self._marker_wrong:
            return self._end_unit()
        return 0

    cdef int restart(self) except -1:
        self.flush()
        if self._open:
            self._damage()
            self._nals = 0  # nothing tells that it is over
            self._end_unit()
        if self._prefix_bytes and self._prefix_marker and self._head != HEAD_DOUBTFUL:
            self._begin_unit(False)  # a last unit without a slice, as one with a camera's signature
            self._end_unit()
        self._nal = NOWHERE
        self._prefix_bytes = 0
        self._head = HEAD_AT_START
        self._started = False
        return 0
