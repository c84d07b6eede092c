# Pooled memory for media on its way to disk: a Chain is a byte stream laid over shared, reused slabs.
from libc.stdint cimport uint8_t, int64_t
from libc.string cimport memcpy

cdef enum:
    SLAB_BYTES = 65536
    SLAB_PAYLOAD = 65520  # SLAB_BYTES less the two fields before the data

cdef struct Slab:
    Slab* next
    int64_t refs
    uint8_t data[65520]

# Positions are absolute in the stream: slabs[0] holds [base, base + SLAB_PAYLOAD), the next byte goes to fill.
cdef struct Chain:
    Slab** slabs
    Py_ssize_t count
    Py_ssize_t capacity
    int64_t base
    int64_t fill

cdef void slab_release(Slab* slab) noexcept
cdef int chain_grow(Chain* chain) except -2
cdef int chain_append_slow(Chain* chain, const uint8_t* data, Py_ssize_t size) except -2
cdef void chain_truncate(Chain* chain, int64_t position) noexcept
cdef void chain_forget(Chain* chain, int64_t position) noexcept
cdef int64_t chain_clear(Chain* chain) noexcept
cdef void chain_free(Chain* chain) noexcept
cdef void chain_put_u32(Chain* chain, int64_t position, unsigned int value) noexcept
cdef void chain_read(const Chain* chain, int64_t position, uint8_t* target, Py_ssize_t size) noexcept

# 0 when stored, -1 when the pool is at its bound (part of the bytes may be stored; truncate).
cdef inline int chain_append(Chain* chain, const uint8_t* data, Py_ssize_t size) except -2:
    cdef int64_t at = chain.fill - chain.base
    cdef int64_t room = <int64_t>chain.count * SLAB_PAYLOAD - at
    if size <= room and room <= SLAB_PAYLOAD and size > 0:
        memcpy(chain.slabs[chain.count - 1].data + (SLAB_PAYLOAD - room), data, size)
        chain.fill += size
        return 0
    return chain_append_slow(chain, data, size)
