# cython: language_level=3
"""RTP packets as they arrive → payloads in order, with unwrapped time (RFC 3550).

Kept true: every length is checked here, where bytes enter; a payload goes on once, in sequence order, with the number
of packets known to be missing before it; memory per track is bounded; over TCP a packet is read where the socket
put it, without a copy, an object or an allocation.
"""
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy
from native.depacketize cimport Depacketizer, be16
from native.sink cimport Sink

from native.depacketize import AacDepacketizer, FrameDepacketizer
from native.pictures import PictureDepacketizer

cdef enum:
    JUMP_PACKETS = 3000      # further ahead is a restart, not a loss (RFC 3550 §A.1)
    LATE_PACKETS = 100       # further behind is a restart, not a late packet
    WAIT_US = 200_000        # a packet missing for longer is given up
    SLOT_BYTES = 2048


cdef inline uint32_t be32(const uint8_t* data) noexcept nogil:
    return (<uint32_t>data[0] << 24) | (<uint32_t>data[1] << 16) | (<uint32_t>data[2] << 8) | data[3]


cdef Depacketizer depacketizer(
    str codec, Sink sink, Py_ssize_t unit_bytes_max, bint donl, tuple aac_lengths, int aac_frame_ticks
):
    """The depacketizer for a codec of base.media, or `metadata`, which is only counted."""
    if codec in ("h264", "h265"):
        return PictureDepacketizer(sink, codec == "h265", donl, unit_bytes_max)
    if codec == "aac" and aac_lengths[0] > 0:
        return AacDepacketizer(sink, aac_lengths, aac_frame_ticks, unit_bytes_max)
    if codec in ("aac", "pcma", "pcmu", "opus", "l16"):
        return FrameDepacketizer(sink)
    if codec == "metadata":
        return Depacketizer(sink)
    raise ValueError(f"no depacketizer for {codec!r}")


cdef class Receiver:
    """One track: checks and orders its RTP packets and feeds its depacketizer.

    `reorder_packets` is 0 for TCP; for UDP a packet that is early waits for those before it, at most that many
    packets and 200 ms long.
    """

    def __cinit__(
        self, str codec, Sink sink not None, *, int payload_type=-1, int clock_hz=90000, int reorder_packets=0,
        Py_ssize_t unit_bytes_max=8 << 20, bint donl=False, tuple aac_lengths=(13, 3, 3), int aac_frame_ticks=1024,
    ):
        if clock_hz <= 0:
            raise ValueError(f"clock rate {clock_hz} is not positive")
        if not 0 <= reorder_packets <= 1024 or reorder_packets & (reorder_packets - 1):
            raise ValueError(f"reorder window {reorder_packets} is not 0 or a power of two up to 1024")
        self._units = depacketizer(codec, sink, unit_bytes_max, donl, aac_lengths, aac_frame_ticks)
        self._payload_type = payload_type
        self.clock_hz = clock_hz
        self._clock_at_us = -1
        self._window = reorder_packets
        if reorder_packets:
            self._ring = <Slot*>calloc(reorder_packets, sizeof(Slot))
            if self._ring == NULL:
                raise MemoryError("no memory for a reorder window")
            for i in range(reorder_packets):
                self._ring[i].sequence = -1

    def __dealloc__(self):
        if self._ring != NULL:
            for i in range(self._window):
                free(self._ring[i].data)
            free(self._ring)

    cdef int packet(self, const uint8_t* data, Py_ssize_t size, int64_t arrival_us) except -1:
        """One packet from the network; what is wrong with it is counted, never raised."""
        cdef Py_ssize_t head
        cdef uint32_t ssrc
        cdef int sequence, ahead
        if size < RTP_HEAD_BYTES or data[0] >> 6 != 2:
            self._malformed += 1
            return 0
        head = RTP_HEAD_BYTES + 4 * (data[0] & 15)
        if data[0] & 0x10:
            if size < head + 4:
                self._malformed += 1
                return 0
            head += 4 + 4 * <Py_ssize_t>be16(data + head + 2)
        if data[0] & 0x20:
            if data[size - 1] == 0:
                self._malformed += 1
                return 0
            size -= data[size - 1]
        ssrc = be32(data + 8)
        sequence = be16(data + 2)
        if head > size:
            self._malformed += 1
            return 0
        if data[1] & 0x7f != self._payload_type and self._payload_type >= 0:
            self._malformed += 1
            self._foreign += 1
            if ssrc != self.ssrc or not self._locked:
                return 0
            size = head  # comfort noise and the like: a packet of ours, without a payload of ours
        if ssrc != self.ssrc or not self._locked:
            if not self._unlikely(ssrc, sequence):
                return 0
        ahead = <int16_t>(sequence - <int>(self._next & 0xffff))
        if ahead >= JUMP_PACKETS or ahead <= -LATE_PACKETS:
            if not self._unlikely(ssrc, sequence):
                return 0
            ahead = 0
        self.packets += 1
        self.bytes += size
        self.last_arrival_us = arrival_us
        self._received += 1
        if ahead or self._waiting:
            return self._out_of_order(
                data + head, size - head, ahead, be32(data + 4), data[1] >> 7, arrival_us
            )
        return self._deliver(data + head, size - head, be32(data + 4), data[1] >> 7, arrival_us)

    cdef int _deliver(
        self, const uint8_t* data, Py_ssize_t size, uint32_t rtp_time, bint marker, int64_t arrival_us
    ) except -1:
        """The payload wanted next."""
        cdef uint32_t transit
        cdef int64_t change
        cdef uint32_t lost = self._lost
        self._lost = 0
        self._next += 1
        if arrival_us != self._clock_at_us:
            self._clock_at_us = arrival_us
            self._clock = <uint32_t>(<uint64_t>arrival_us * <uint64_t>self.clock_hz // 1_000_000)
        transit = self._clock - rtp_time
        if self._timed:
            change = <int32_t>(transit - self._transit)
            self._jitter_16 += (-change if change < 0 else change) - ((self._jitter_16 + 8) >> 4)
            self._time += <int32_t>(rtp_time - <uint32_t>self._time)
        else:
            self._timed = True
            self._time = rtp_time
        self._transit = transit
        return self._units.payload(data, size, self._time, arrival_us, marker, lost)

    cdef int _unlikely(self, uint32_t ssrc, int sequence) except -1:
        """Another source, or a jump in sequence: believed at once over TCP, on its second packet over UDP."""
        if not self._locked or self._ring == NULL or (
            self._candidate_ssrc == ssrc and self._candidate_next == sequence
        ):
            self._lock(ssrc, sequence)
            return 1
        self._candidate_ssrc = ssrc
        self._candidate_next = (sequence + 1) & 0xffff
        return 0

    cdef int _lock(self, uint32_t ssrc, int sequence) except -1:
        while self._waiting:
            self._release()
        if self._locked and ssrc == self.ssrc:
            self._lost += 1  # how many, nobody knows
            self.lost_packets += 1
        elif self._locked:
            self.source_changes += 1
            self._jitter_16 = 0
            self._units.restart()
        self._locked = True
        self.ssrc = ssrc
        self._candidate_next = -1
        self._next = self._base = sequence
        self._received = 0
        return 0

    cdef int _out_of_order(
        self, const uint8_t* data, Py_ssize_t size, int ahead, uint32_t rtp_time, bint marker, int64_t arrival_us
    ) except -1:
        if ahead < 0:
            self.duplicate_packets += 1
            return 0
        if self._ring == NULL:
            self._lost += ahead
            self.lost_packets += ahead
            self._next += ahead
            return self._deliver(data, size, rtp_time, marker, arrival_us)
        if ahead == 0:
            self.reordered_packets += 1
            self._deliver(data, size, rtp_time, marker, arrival_us)
            return self._drain()
        self._keep(data, size, self._next + ahead, rtp_time, marker, arrival_us)
        if self._waiting and arrival_us - self._waiting_since_us > WAIT_US:
            return self._release()
        return 0

    cdef int _keep(
        self, const uint8_t* data, Py_ssize_t size, int64_t sequence, uint32_t rtp_time, bint marker, int64_t arrival_us
    ) except -1:
        """Put an early packet into the ring; packets a whole window behind it are given up."""
        cdef Slot* slot
        cdef void* grown
        while sequence - self._next >= self._window:
            if self._waiting == 0:
                self._lost += <uint32_t>(sequence - self._next)
                self.lost_packets += sequence - self._next
                self._next = sequence
                return self._deliver(data, size, rtp_time, marker, arrival_us)
            self._release()
        if sequence == self._next:
            self._deliver(data, size, rtp_time, marker, arrival_us)
            return self._drain()
        slot = &self._ring[sequence & (self._window - 1)]
        if slot.sequence == sequence:
            self.duplicate_packets += 1
            return 0
        if slot.room < size or slot.data == NULL:
            grown = realloc(slot.data, max(size, SLOT_BYTES))
            if grown == NULL:
                raise MemoryError("no memory for a packet out of order")
            slot.data = <uint8_t*>grown
            slot.room = max(size, SLOT_BYTES)
        memcpy(slot.data, data, size)
        slot.sequence = sequence
        slot.arrival_us = arrival_us
        slot.rtp_time = rtp_time
        slot.marker = marker
        slot.size = size
        if self._waiting == 0:
            self._waiting_since_us = arrival_us
        self._waiting += 1
        return 0

    cdef int _release(self) except -1:
        """Give up the packets that are missing in front of the first one that waits."""
        while self._ring[self._next & (self._window - 1)].sequence != self._next:
            self._next += 1
            self._lost += 1
            self.lost_packets += 1
        return self._drain()

    cdef int _drain(self) except -1:
        cdef Slot* slot
        while self._waiting:
            slot = &self._ring[self._next & (self._window - 1)]
            if slot.sequence != self._next:
                self._waiting_since_us = self.last_arrival_us
                return 0
            slot.sequence = -1
            self._waiting -= 1
            self._deliver(slot.data, slot.size, slot.rtp_time, slot.marker, slot.arrival_us)
        return 0

    def push(self, const uint8_t[::1] packet, int64_t arrival_us):
        """One packet from Python."""
        if packet.shape[0]:
            self.packet(&packet[0], packet.shape[0], arrival_us)
        else:
            self._malformed += 1

    def flush(self, int64_t now_us):
        """Give up what is overdue, and finish a unit whose last packet is known to have come."""
        if self._waiting and now_us - self._waiting_since_us > WAIT_US:
            self._release()
        self._units.flush()

    def finish(self):
        """End of session: deliver all that waits and end the open unit."""
        while self._waiting:
            self._release()
        self._units.restart()

    def unwrap(self, uint32_t rtp_time):
        """The unwrapped time that `rtp_time` has by the last packet; None before any."""
        return self._time + <int32_t>(rtp_time - <uint32_t>self._time) if self._timed else None

    @property
    def foreign_packets(self):
        """Packets of another payload type, or with a head that the announced codec does not have."""
        return self._foreign + self._units.foreign

    @property
    def malformed_packets(self):
        return self._malformed + self._units.malformed

    @property
    def jitter(self):
        """Interarrival jitter in ticks of the track's clock."""
        return self._jitter_16 / 16.0

    @property
    def highest_sequence(self):
        """Extended highest sequence number received (RFC 3550 §6.4.1)."""
        return (self._next - 1 + self._waiting) & 0xffffffff

    @property
    def expected_packets(self):
        """Packets this source has sent, as its sequence numbers tell."""
        return self._next - self._base

    @property
    def received_packets(self):
        """Packets received from this source, late and double ones too."""
        return self._received
