# cython: language_level=3
"""RTP packets of a whole access unit or audio frame in one go: the sending side of the simulated cameras.

Kept true: a unit's bytes leave exactly as they lie in the table; every packet's payload is at most `payload_max`
bytes (raw audio frames excepted, they are never split); the marker stands on a picture's last packet and nowhere
else; packets are written into one scratch buffer of the process, so nothing is allocated per packet. One thread.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy

from native.nal cimport CODEC_H264, CODEC_H265, NAL_KEY, NAL_SLICE, nal_class

import os

cdef extern from *:
    """
    #include <errno.h>
    #include <stddef.h>
    #include <string.h>
    #include <sys/socket.h>
    #include <sys/uio.h>
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif
    typedef struct { size_t at, bytes; } keyreel_packet;

    #ifdef __linux__
    #include <netinet/in.h>
    #ifndef UDP_SEGMENT
    #define UDP_SEGMENT 103
    #endif
    #define KEYREEL_BATCH 64            /* packets per call; also the kernel's bound for segments of one message */
    #define KEYREEL_SEGMENTS_BYTES 60000

    typedef union { char room[CMSG_SPACE(sizeof(unsigned short))]; struct cmsghdr align; } keyreel_control;

    /* One call for up to KEYREEL_BATCH packets. Runs of equal packets (the last may be shorter) travel through the
       kernel as one message that it cuts back into datagrams (UDP_SEGMENT): 1.5 instead of 3.4 CPU-s per GB. */
    static int keyreel_send_batch(int fd, const void *address, unsigned address_bytes, const char *buffer,
                                  const keyreel_packet *packets, int count, int segments) {
        struct mmsghdr messages[KEYREEL_BATCH];
        struct iovec pieces[KEYREEL_BATCH];
        keyreel_control controls[KEYREEL_BATCH];
        int ends[KEYREEL_BATCH];
        int used = 0, at = 0, taken;
        memset(messages, 0, sizeof messages);
        while (at < count) {
            struct msghdr *head = &messages[used].msg_hdr;
            size_t size = packets[at].bytes, total = 0;
            int first = at;
            do {
                pieces[at].iov_base = (void *)(buffer + packets[at].at);
                pieces[at].iov_len = packets[at].bytes;
                total += packets[at].bytes;
                at++;
            } while (segments && at < count && packets[at - 1].bytes == size && packets[at].bytes <= size
                     && total + packets[at].bytes <= KEYREEL_SEGMENTS_BYTES);
            head->msg_name = (void *)address;
            head->msg_namelen = address_bytes;
            head->msg_iov = &pieces[first];
            head->msg_iovlen = at - first;
            if (at - first > 1) {
                struct cmsghdr *control;
                unsigned short segment = (unsigned short)size;
                head->msg_control = controls[used].room;
                head->msg_controllen = sizeof controls[used].room;
                control = CMSG_FIRSTHDR(head);
                control->cmsg_level = IPPROTO_UDP;
                control->cmsg_type = UDP_SEGMENT;
                control->cmsg_len = CMSG_LEN(sizeof segment);
                memcpy(CMSG_DATA(control), &segment, sizeof segment);
            }
            ends[used++] = at;
        }
        taken = sendmmsg(fd, messages, used, MSG_DONTWAIT | MSG_NOSIGNAL);
        return taken <= 0 ? -1 : ends[taken - 1];
    }
    #endif

    /* Sends packets one datagram each; returns how many the kernel took. */
    static int keyreel_send_datagrams(int fd, const void *address, unsigned address_bytes, const char *buffer,
                                      const keyreel_packet *packets, int count) {
        int sent = 0;
    #ifdef __linux__
        static int segments = 1;        /* cleared for good where the kernel or the path refuses them */
        while (sent < count) {
            int batch = count - sent < KEYREEL_BATCH ? count - sent : KEYREEL_BATCH;
            int taken = keyreel_send_batch(fd, address, address_bytes, buffer, packets + sent, batch, segments);
            if (taken > 0) sent += taken;
            else if (segments && errno != EAGAIN && errno != EWOULDBLOCK && errno != ECONNREFUSED) segments = 0;
            else break;
        }
    #else
        for (; sent < count; sent++)
            if (sendto(fd, buffer + packets[sent].at, packets[sent].bytes, MSG_DONTWAIT | MSG_NOSIGNAL,
                       (const struct sockaddr *)address, address_bytes) < 0)
                break;
    #endif
        return sent;
    }
    """
    ctypedef struct keyreel_packet:
        size_t at
        size_t bytes
    int keyreel_send_datagrams(int fd, const void* address, unsigned address_bytes, const char* buffer,
                               const keyreel_packet* packets, int count) nogil
    int MSG_DONTWAIT
    int MSG_NOSIGNAL
    ssize_t c_send "send"(int fd, const void* data, size_t size, int flags) nogil

cdef enum:
    FRAMING_BYTES = 4       # '$', channel, length: RFC 2326 §10.12; room for it lies before every packet
    RTP_HEAD_BYTES = 12     # RFC 3550 §5.1, no CSRC, no extension
    PAYLOAD_MIN = 64
    PAYLOAD_MAX = 65000     # an interleaved frame's length has 16 bits
    PART_BYTES_MAX = 64 << 20
    CODEC_AAC = 3
    CODEC_RAW = 4

cdef struct Part:
    const uint8_t* data
    Py_ssize_t size

# One scratch buffer, packet table and part list for the whole process: they are filled and sent within one call.
cdef uint8_t* _out = NULL
cdef Py_ssize_t _out_max = 0
cdef Py_ssize_t _at = 0
cdef keyreel_packet* _packets = NULL
cdef Py_ssize_t _packets_max = 0
cdef Py_ssize_t _packet_count = 0
cdef Part* _parts = NULL
cdef Py_ssize_t _parts_max = 0


cdef int _reserve(Py_ssize_t out_bytes, Py_ssize_t packets, Py_ssize_t parts) except -1:
    global _out, _out_max, _packets, _packets_max, _parts, _parts_max
    cdef void* grown
    if out_bytes > _out_max:
        grown = realloc(_out, out_bytes + out_bytes // 2)
        if grown == NULL:
            raise MemoryError
        _out = <uint8_t*>grown
        _out_max = out_bytes + out_bytes // 2
    if packets > _packets_max:
        grown = realloc(_packets, 2 * packets * sizeof(keyreel_packet))
        if grown == NULL:
            raise MemoryError
        _packets = <keyreel_packet*>grown
        _packets_max = 2 * packets
    if parts > _parts_max:
        grown = realloc(_parts, 2 * parts * sizeof(Part))
        if grown == NULL:
            raise MemoryError
        _parts = <Part*>grown
        _parts_max = 2 * parts
    return 0


cdef inline void _put(const uint8_t* data, Py_ssize_t size) noexcept nogil:
    global _at
    memcpy(_out + _at, data, size)
    _at += size


cdef inline void _put8(int value) noexcept nogil:
    global _at
    _out[_at] = <uint8_t>value
    _at += 1


cdef inline void _put16(int value) noexcept nogil:
    _put8(value >> 8)
    _put8(value)


cdef inline void _put32(uint32_t value) noexcept nogil:
    _put16(value >> 16)
    _put16(value & 0xffff)


cdef class UnitTable:
    """The units of one track, laid out for the packetizer; shared by every camera that shows the same loop.

    `codec` is a codec of base.media. A video unit's parts are its NAL units in order; an audio unit has one part.
    """

    def __cinit__(self, str codec, units):
        cdef Py_ssize_t count = len(units), total = 0, unit, part = 0, at = 0
        self.codec = codec
        self._codec = {"h264": CODEC_H264, "h265": CODEC_H265, "aac": CODEC_AAC}.get(codec, CODEC_RAW)
        for parts in units:
            if not parts:
                raise ValueError("a unit without bytes cannot be sent; leave it out")
            total += len(parts)
        self._first = <Py_ssize_t*>calloc(count + 1, sizeof(Py_ssize_t))
        self._stamp_before = <Py_ssize_t*>calloc(count + 1, sizeof(Py_ssize_t))
        self._part_at = <Py_ssize_t*>calloc(total + 1, sizeof(Py_ssize_t))
        self._part_bytes = <Py_ssize_t*>calloc(total + 1, sizeof(Py_ssize_t))
        if not (self._first and self._stamp_before and self._part_at and self._part_bytes):
            raise MemoryError
        least = 2 if self._codec == CODEC_H265 else 1
        for unit, parts in enumerate(units):
            self._first[unit] = part
            self._stamp_before[unit] = part + len(parts)
            for data in parts:
                size = len(data)
                if not least <= size <= PART_BYTES_MAX:
                    raise ValueError(f"unit {unit}: a part of {size} bytes; {least} to {PART_BYTES_MAX} can be sent")
                self._part_at[part] = at
                self._part_bytes[part] = size
                at += size
                if self._is_slice(data) and self._stamp_before[unit] > part:
                    self._stamp_before[unit] = part
                part += 1
        self._first[count] = part
        self._count = count
        self._data = b"".join([data for parts in units for data in parts])

    def __dealloc__(self):
        free(self._first)
        free(self._stamp_before)
        free(self._part_at)
        free(self._part_bytes)

    def _is_slice(self, bytes data):
        return self._codec <= CODEC_H265 and nal_class(self._codec, data[0]) in (NAL_SLICE, NAL_KEY)

    def __len__(self):
        return self._count

    def _check(self, Py_ssize_t index):
        if not 0 <= index < self._count:
            raise IndexError(f"unit {index} of {self._count}")

    def parts(self, Py_ssize_t index):
        """The unit's NAL units, or its audio frame, as they came."""
        self._check(index)
        return [
            self._data[self._part_at[part]:self._part_at[part] + self._part_bytes[part]]
            for part in range(self._first[index], self._first[index + 1])
        ]

    def is_key(self, Py_ssize_t index):
        """Whether a decoder can start here: audio always; video at an IDR (H.264) or IRAP (H.265) picture."""
        self._check(index)
        if self._codec > CODEC_H265:
            return True
        return any(nal_class(self._codec, part[0]) == NAL_KEY for part in self.parts(index))

    def sample(self, Py_ssize_t index, bytes stamp=None):
        """The unit as an MP4 sample (4-byte lengths before NAL units), the stamp where the packetizer puts it."""
        parts = self.parts(index)
        if self._codec > CODEC_H265:
            return b"".join(parts)
        if stamp is not None:
            parts.insert(self._stamp_before[index] - self._first[index], stamp)
        return b"".join([len(part).to_bytes(4, "big") + part for part in parts])


cdef class RtpStream:
    """One RTP stream to one receiver. `channel` is the interleaved channel; it is ignored over UDP."""

    def __cinit__(self, int payload_type, uint32_t ssrc, int sequence, *, int channel=0, Py_ssize_t payload_max=1400,
                  bint aggregate=True, bint donl=False):
        if not 0 <= payload_type <= 127 or not 0 <= channel <= 255 or not 0 <= sequence <= 0xffff:
            raise ValueError("payload type is 0 to 127, channel 0 to 255, sequence 0 to 65535")
        if not PAYLOAD_MIN <= payload_max <= PAYLOAD_MAX:
            raise ValueError(f"payload_max is {PAYLOAD_MIN} to {PAYLOAD_MAX} bytes, not {payload_max}")
        self.payload_type = payload_type
        self.ssrc = ssrc
        self.next_sequence = sequence
        self._channel = channel
        self._payload_max = payload_max
        self._aggregate = aggregate
        self._donl = donl

    cdef void _begin(self) noexcept nogil:
        global _at
        _packets[_packet_count].at = _at + FRAMING_BYTES
        _at += FRAMING_BYTES + RTP_HEAD_BYTES

    cdef void _end(self, bint marker) noexcept nogil:
        global _at, _packet_count
        cdef keyreel_packet* packet = &_packets[_packet_count]
        cdef Py_ssize_t end = _at
        packet.bytes = end - packet.at
        _at = packet.at - FRAMING_BYTES
        _put8(0x24)
        _put8(self._channel)
        _put16(<int>packet.bytes)
        _put8(0x80)
        _put8((0x80 if marker else 0) | self.payload_type)
        _put16(self.next_sequence)
        _put32(self._timestamp)
        _put32(self.ssrc)
        _at = end
        _packet_count += 1
        self.next_sequence += 1
        self.packets += 1
        self.payload_bytes += packet.bytes - RTP_HEAD_BYTES

    cdef int _pack(self, UnitTable units, Py_ssize_t index, uint32_t timestamp, const uint8_t* stamp,
                   Py_ssize_t stamp_bytes) except -1:
        global _at, _packet_count
        cdef Py_ssize_t part, count = 0, first, end, total = 0, packets
        cdef const uint8_t* data = <const uint8_t*>PyBytes_AS_STRING(units._data)
        if not 0 <= index < units._count:
            raise IndexError(f"unit {index} of {units._count}")
        first = units._first[index]
        end = units._first[index + 1]
        _reserve(0, 0, end - first + 1)
        for part in range(first, end + 1):
            if stamp != NULL and part == units._stamp_before[index]:
                _parts[count].data = stamp
                _parts[count].size = stamp_bytes
                total += stamp_bytes
                count += 1
            if part < end:
                _parts[count].data = data + units._part_at[part]
                _parts[count].size = units._part_bytes[part]
                total += units._part_bytes[part]
                count += 1
        packets = total // (self._payload_max - 16) + count + 1
        _reserve(total + packets * (FRAMING_BYTES + RTP_HEAD_BYTES + 16), packets, 0)
        _at = 0
        _packet_count = 0
        self._timestamp = timestamp
        if units._codec <= CODEC_H265:
            return self._pack_video(units._codec, count)
        if units._codec == CODEC_AAC:
            return self._pack_aac(_parts[0].data, _parts[0].size)
        if _parts[0].size > PAYLOAD_MAX:
            raise ValueError(f"an audio frame of {_parts[0].size} bytes does not fit one packet; cut it before")
        self._begin()
        _put(_parts[0].data, _parts[0].size)
        self._end(False)
        return 0

    cdef int _pack_video(self, int codec, Py_ssize_t count) except -1:
        cdef Py_ssize_t first = 0, end, size, head = 1 if codec == CODEC_H264 else 2
        while first < count:
            size = head + 1 + 2 * self._donl
            end = first
            while end < count and size + 3 + _parts[end].size <= self._payload_max:
                size += 3 + _parts[end].size
                end += 1
            if self._aggregate and end - first > 1:
                self._aggregated(codec, first, end, end == count)
                first = end
                continue
            if _parts[first].size + 2 * self._donl <= self._payload_max:
                self._single(codec, first, first + 1 == count)
            else:
                self._fragmented(codec, first, first + 1 == count)
            first += 1
        return 0

    cdef int _single(self, int codec, Py_ssize_t nal, bint last) except -1:
        cdef Py_ssize_t head = 2 if codec == CODEC_H265 and self._donl else 0
        self._begin()
        if head:
            _put(_parts[nal].data, head)
            _put16(self._decoding_order)
            self._decoding_order += 1
        _put(_parts[nal].data + head, _parts[nal].size - head)
        self._end(last)
        return 0

    cdef int _aggregated(self, int codec, Py_ssize_t first, Py_ssize_t end, bint last) except -1:
        cdef Py_ssize_t nal
        cdef int forbidden = 0, importance = 0, layer = 63, temporal = 7
        cdef const uint8_t* head
        self._begin()
        for nal in range(first, end):
            head = _parts[nal].data
            forbidden |= head[0] & 0x80
            importance = max(importance, head[0] & 0x60)
            if codec == CODEC_H265:
                layer = min(layer, ((head[0] & 1) << 5) | (head[1] >> 3))
                temporal = min(temporal, head[1] & 7)
        if codec == CODEC_H264:
            _put8(forbidden | importance | 24)                  # STAP-A, RFC 6184 §5.7.1
        else:
            _put8(forbidden | (48 << 1) | (layer >> 5))         # AP, RFC 7798 §4.4.2
            _put8(((layer & 31) << 3) | temporal)
        for nal in range(first, end):
            if codec == CODEC_H265 and self._donl:
                if nal == first:
                    _put16(self._decoding_order)
                else:
                    _put8(0)                                    # DOND: the difference minus one
                self._decoding_order += 1
            _put16(<int>_parts[nal].size)
            _put(_parts[nal].data, _parts[nal].size)
        self._end(last)
        return 0

    cdef int _fragmented(self, int codec, Py_ssize_t nal, bint last) except -1:
        cdef const uint8_t* data = _parts[nal].data
        cdef Py_ssize_t at = 1 if codec == CODEC_H264 else 2, size = _parts[nal].size, piece, room
        cdef int start = 0x80, stop
        while at < size:
            self._begin()
            room = self._payload_max - (2 if codec == CODEC_H264 else 3)
            if codec == CODEC_H265 and self._donl and start:
                room -= 2
            piece = min(room, size - at)
            stop = 0x40 if at + piece == size else 0
            if codec == CODEC_H264:
                _put8((data[0] & 0xe0) | 28)                    # FU-A, RFC 6184 §5.8
                _put8(start | stop | (data[0] & 0x1f))
            else:
                _put8((data[0] & 0x81) | (49 << 1))             # FU, RFC 7798 §4.4.3
                _put8(data[1])
                _put8(start | stop | ((data[0] >> 1) & 0x3f))
                if self._donl and start:
                    _put16(self._decoding_order)
                    self._decoding_order += 1
            _put(data + at, piece)
            self._end(last and stop != 0)
            at += piece
            start = 0
        return 0

    cdef int _pack_aac(self, const uint8_t* data, Py_ssize_t size) except -1:
        cdef Py_ssize_t at = 0, piece
        if size >= 1 << 13:
            raise ValueError(f"an AAC frame of {size} bytes does not fit AAC-hbr's 13-bit size")
        while at < size:
            piece = min(self._payload_max - 4, size - at)
            self._begin()
            _put16(16)                                          # AU-headers-length in bits: one header
            _put16(<int>(size << 3))                            # AU-size 13 bits, AU-Index 3 bits
            _put(data + at, piece)
            at += piece
            self._end(at == size)
        return 0

    def pack(self, UnitTable units not None, Py_ssize_t index, uint32_t timestamp, bytes stamp=None):
        """All packets of one unit with their interleaved framing, back to back."""
        self._pack(units, index, timestamp, _stamp_data(stamp), _stamp_bytes(stamp))
        return PyBytes_FromStringAndSize(<char*>_out, _at)

    def pack_list(self, UnitTable units not None, Py_ssize_t index, uint32_t timestamp, bytes stamp=None):
        """All packets of one unit, each alone and without framing: for faults, which need them one by one."""
        self._pack(units, index, timestamp, _stamp_data(stamp), _stamp_bytes(stamp))
        return [
            PyBytes_FromStringAndSize(<char*>_out + _packets[i].at, _packets[i].bytes) for i in range(_packet_count)
        ]

    def send_tcp(self, int fd, UnitTable units not None, Py_ssize_t index, uint32_t timestamp, bytes stamp=None):
        """Packs one unit and hands it to the kernel; returns what the kernel did not take. OSError when it is gone."""
        cdef ssize_t taken
        self._pack(units, index, timestamp, _stamp_data(stamp), _stamp_bytes(stamp))
        taken = c_send(fd, _out, _at, MSG_DONTWAIT | MSG_NOSIGNAL)
        if taken < 0:
            if errno != EAGAIN and errno != EINTR:
                raise OSError(errno, os.strerror(errno))
            taken = 0
        return PyBytes_FromStringAndSize(<char*>_out + taken, _at - taken)

    def send_udp(self, int fd, bytes address not None, UnitTable units not None, Py_ssize_t index, uint32_t timestamp,
                 bytes stamp=None):
        """Packs one unit and sends a datagram per packet to a packed address; returns how many were not taken."""
        cdef int taken
        self._pack(units, index, timestamp, _stamp_data(stamp), _stamp_bytes(stamp))
        taken = keyreel_send_datagrams(fd, PyBytes_AS_STRING(address), <unsigned>PyBytes_GET_SIZE(address),
                                       <char*>_out, _packets, <int>_packet_count)
        return _packet_count - taken

    def jump(self, uint32_t ssrc, int sequence):
        """Goes on with another SSRC and sequence number, as a camera does that restarted its encoder."""
        self.ssrc = ssrc
        self.next_sequence = sequence & 0xffff


cdef inline const uint8_t* _stamp_data(bytes stamp) noexcept:
    return NULL if stamp is None else <const uint8_t*>PyBytes_AS_STRING(stamp)


cdef inline Py_ssize_t _stamp_bytes(bytes stamp) noexcept:
    return 0 if stamp is None else PyBytes_GET_SIZE(stamp)
