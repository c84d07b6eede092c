# cython: language_level=3
"""RTP over UDP: many datagrams per call from a socket into a receiver.

Kept true: one buffer serves every socket of the process, which is right as long as all are drained from one thread,
under the GIL; a call takes a bounded number of datagrams; no object is made per packet.
"""
from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport EAGAIN, ECONNREFUSED, EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint64_t
from native.rtp cimport Receiver

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <sys/socket.h>
    #include <sys/uio.h>
    """
    struct iovec:
        void* iov_base
        size_t iov_len
    struct msghdr:
        iovec* msg_iov
        size_t msg_iovlen
        int msg_flags
    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    int recvmmsg(int fd, mmsghdr* messages, unsigned int count, int flags, void* timeout) nogil
    int MSG_DONTWAIT
    int MSG_TRUNC

cdef enum:
    BATCH = 32
    DATAGRAM_BYTES = 16384   # a packet over Ethernet has 1,500, over jumbo frames 9,000
    ROUNDS_MAX = 16          # then other sockets have their turn

cdef uint8_t[BATCH][DATAGRAM_BYTES] buffers
cdef iovec[BATCH] vectors
cdef mmsghdr[BATCH] messages

cdef int i
for i in range(BATCH):
    vectors[i].iov_base = buffers[i]
    vectors[i].iov_len = DATAGRAM_BYTES
    messages[i].msg_hdr.msg_iov = &vectors[i]
    messages[i].msg_hdr.msg_iovlen = 1


cdef class UdpReader:
    """Feeds a receiver from a connected, non-blocking socket that its caller owns and keeps open."""

    cdef int _fd
    cdef Receiver _receiver
    cdef readonly uint64_t datagrams
    cdef readonly uint64_t truncated_datagrams

    def __cinit__(self, int fd, Receiver receiver not None):
        self._fd = fd
        self._receiver = receiver

    def drain(self, int64_t arrival_us):
        """Take what has arrived, at most 512 datagrams; their number."""
        cdef int got, i, _round
        cdef int total = 0
        for _round in range(ROUNDS_MAX):
            got = recvmmsg(self._fd, messages, BATCH, MSG_DONTWAIT, NULL)
            if got < 0:
                if errno == EINTR or errno == ECONNREFUSED:  # the latter tells of a datagram of ours
                    continue
                if errno == EAGAIN:
                    break
                PyErr_SetFromErrno(OSError)
            for i in range(got):
                if messages[i].msg_hdr.msg_flags & MSG_TRUNC:
                    self.truncated_datagrams += 1
                else:
                    self._receiver.packet(buffers[i], messages[i].msg_len, arrival_us)
            total += got
            if got < BATCH:
                break
        self.datagrams += total
        return total
