# cython: language_level=3
"""RTP over UDP: many datagrams per call from a socket into a receiver.

Where the kernel can (Linux 5.0), runs of equal datagrams come as one message with their size beside it (UDP_GRO,
udp(7)) and are cut apart here: the way through the kernel costs more than the bytes.

Kept true: one buffer serves every socket of the process, which is right as long as all are drained from one thread,
under the GIL; a call takes a bounded number of messages; no object is made per packet.
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
    #include <netinet/in.h>
    #include <string.h>
    #ifndef UDP_GRO
    #define UDP_GRO 104
    #endif

    typedef union { char room[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } keyreel_gro_control;

    static void keyreel_gro_prepare(struct msghdr *message, keyreel_gro_control *control) {
        message->msg_control = control->room;
        message->msg_controllen = sizeof control->room;
    }

    /* Size of the datagrams in a message, the last may be shorter; 0: it is one datagram. */
    static int keyreel_gro_size(struct msghdr *message) {
        struct cmsghdr *control;
        int size = 0;
        for (control = CMSG_FIRSTHDR(message); control != NULL; control = CMSG_NXTHDR(message, control))
            if (control->cmsg_level == IPPROTO_UDP && control->cmsg_type == UDP_GRO)
                memcpy(&size, CMSG_DATA(control), sizeof size);
        return size > 0 ? size : 0;
    }

    static void keyreel_gro_enable(int fd) {
        int on = 1;
        (void)setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on);  /* an older kernel: a message a datagram */
    }
    """
    ctypedef struct keyreel_gro_control:
        pass
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
    void keyreel_gro_prepare(msghdr* message, keyreel_gro_control* control) nogil
    int keyreel_gro_size(msghdr* message) nogil
    void keyreel_gro_enable(int fd) nogil

cdef enum:
    BATCH = 16
    MESSAGE_BYTES = 65536    # more than any UDP message has
    ROUNDS_MAX = 16          # then other sockets have their turn

cdef uint8_t[BATCH][MESSAGE_BYTES] buffers
cdef iovec[BATCH] vectors
cdef mmsghdr[BATCH] messages
cdef keyreel_gro_control[BATCH] controls

cdef int i
for i in range(BATCH):
    vectors[i].iov_base = buffers[i]
    vectors[i].iov_len = MESSAGE_BYTES
    messages[i].msg_hdr.msg_iov = &vectors[i]
    messages[i].msg_hdr.msg_iovlen = 1


cdef class UdpReader:
    """Feeds a receiver from a connected, non-blocking socket that its caller owns and keeps open."""

    cdef int _fd
    cdef Receiver _receiver
    cdef readonly uint64_t datagrams

    def __cinit__(self, int fd, Receiver receiver not None):
        self._fd = fd
        self._receiver = receiver
        keyreel_gro_enable(fd)

    def drain(self, int64_t arrival_us):
        """Take what has arrived, at most 256 messages; the number of datagrams in them."""
        cdef int got, i, _round
        cdef uint64_t before = self.datagrams
        for _round in range(ROUNDS_MAX):
            for i in range(BATCH):
                keyreel_gro_prepare(&messages[i].msg_hdr, &controls[i])
            got = recvmmsg(self._fd, messages, BATCH, MSG_DONTWAIT, NULL)
            if got < 0:
                if errno == EINTR or errno == ECONNREFUSED:  # the latter tells of a datagram of ours
                    continue
                if errno == EAGAIN:
                    break
                PyErr_SetFromErrno(OSError)
            for i in range(got):
                self._message(buffers[i], messages[i].msg_len, keyreel_gro_size(&messages[i].msg_hdr), arrival_us)
            if got < BATCH:
                break
        return self.datagrams - before

    cdef int _message(self, const uint8_t* data, Py_ssize_t size, Py_ssize_t each, int64_t arrival_us) except -1:
        """Packets of `each` bytes, the last may be shorter; 0: one packet."""
        cdef Py_ssize_t part
        while True:
            part = each if 0 < each < size else size
            self.datagrams += 1
            self._receiver.packet(data, part, arrival_us)
            data += part
            size -= part
            if size == 0:
                return 0
