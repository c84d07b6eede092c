# The parameter sets a decoder holds at this point of a stream.
from libc.stdint cimport uint8_t

cdef enum:
    SET_BYTES_MAX = 16384

cdef class ParameterSets:
    cdef int codec
    cdef dict _held  # (kind 0 vps, 1 sps, 2 pps; id) -> bytes
    cdef tuple _snapshot
    cdef int watch(self, int kind, const uint8_t* nal, Py_ssize_t size) except -1
    cpdef tuple snapshot(self)
