# cython: language_level=3
"""Pooled memory for media on its way to disk.

Kept true: a slab is in use by as many holders as `refs` says and goes back to the pool with the last of them; the
pool never holds more than its bound; memory once touched is used again, last in first out, as touching fresh pages
costs about 1 s per GiB on virtual machines. The GIL guards the pool; bytes below a chain's `fill` never change, so
a writer thread may read them without it.
"""
from libc.stdint cimport uint8_t, int64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove

cdef Slab* _spare = NULL
cdef int64_t _spare_count = 0
cdef int64_t _used_count = 0
cdef int64_t _limit_count = (<int64_t>1 << 30) // SLAB_BYTES


def configure(int64_t limit_bytes):
    """Bound of the pool in bytes, used and spare together (default 1 GiB)."""
    global _limit_count
    if limit_bytes < SLAB_BYTES:
        raise ValueError(f"slab pool bound is {limit_bytes} bytes; give at least {SLAB_BYTES}")
    _limit_count = limit_bytes // SLAB_BYTES


def pool():
    """(used, spare, bound) in bytes."""
    return _used_count * SLAB_BYTES, _spare_count * SLAB_BYTES, _limit_count * SLAB_BYTES


cdef Slab* slab_take() noexcept:
    """A slab with one holder, or NULL at the bound."""
    global _spare, _spare_count, _used_count
    cdef Slab* slab = _spare
    if _used_count >= _limit_count:
        return NULL
    if slab != NULL:
        _spare = slab.next
        _spare_count -= 1
    else:
        slab = <Slab*>malloc(sizeof(Slab))
        if slab == NULL:
            return NULL
    _used_count += 1
    slab.next = NULL
    slab.refs = 1
    return slab


cdef void slab_release(Slab* slab) noexcept:
    global _spare, _spare_count, _used_count
    slab.refs -= 1
    if slab.refs > 0:
        return
    _used_count -= 1
    if _used_count + _spare_count >= _limit_count:
        free(slab)
        return
    slab.next = _spare
    _spare = slab
    _spare_count += 1


cdef int chain_grow(Chain* chain) except -2:
    cdef Py_ssize_t capacity
    cdef Slab** slabs
    cdef Slab* slab
    if chain.count == chain.capacity:
        capacity = 8 if chain.capacity == 0 else chain.capacity * 2
        slabs = <Slab**>realloc(chain.slabs, capacity * sizeof(Slab*))
        if slabs == NULL:
            return -1
        chain.slabs = slabs
        chain.capacity = capacity
    slab = slab_take()
    if slab == NULL:
        return -1
    chain.slabs[chain.count] = slab
    chain.count += 1
    return 0


cdef int chain_append_slow(Chain* chain, const uint8_t* data, Py_ssize_t size) except -2:
    cdef int64_t at
    cdef Py_ssize_t index, part
    while size > 0:
        at = chain.fill - chain.base
        index = at // SLAB_PAYLOAD
        if index >= chain.count and chain_grow(chain) < 0:
            return -1
        at -= <int64_t>index * SLAB_PAYLOAD
        part = SLAB_PAYLOAD - at
        if part > size:
            part = size
        memcpy(chain.slabs[index].data + at, data, part)
        chain.fill += part
        data += part
        size -= part
    return 0


cdef void chain_truncate(Chain* chain, int64_t position) noexcept:
    """Forget everything at and after position."""
    chain.fill = position
    while chain.count > 0 and chain.base + <int64_t>(chain.count - 1) * SLAB_PAYLOAD >= position:
        chain.count -= 1
        slab_release(chain.slabs[chain.count])


cdef void chain_forget(Chain* chain, int64_t position) noexcept:
    """Let go of slabs that end at or before position."""
    cdef Py_ssize_t gone = (position - chain.base) // SLAB_PAYLOAD
    cdef Py_ssize_t i
    if gone > chain.count:
        gone = chain.count
    if gone <= 0:
        return
    for i in range(gone):
        slab_release(chain.slabs[i])
    memmove(chain.slabs, chain.slabs + gone, (chain.count - gone) * sizeof(Slab*))
    chain.count -= gone
    chain.base += <int64_t>gone * SLAB_PAYLOAD


cdef int64_t chain_clear(Chain* chain) noexcept:
    """Let go of every slab; the next byte opens a new one, at the position returned."""
    cdef Py_ssize_t i
    for i in range(chain.count):
        slab_release(chain.slabs[i])
    chain.count = 0
    chain.base = chain.fill
    return chain.fill


cdef void chain_free(Chain* chain) noexcept:
    chain_clear(chain)
    free(chain.slabs)
    chain.slabs = NULL
    chain.capacity = 0


cdef void chain_put_u32(Chain* chain, int64_t position, unsigned int value) noexcept:
    """Big-endian value over four bytes already stored; they may lie in two slabs."""
    cdef int i
    cdef int64_t at
    for i in range(4):
        at = position + i - chain.base
        chain.slabs[at // SLAB_PAYLOAD].data[at % SLAB_PAYLOAD] = (value >> (24 - 8 * i)) & 0xff


cdef void chain_read(const Chain* chain, int64_t position, uint8_t* target, Py_ssize_t size) noexcept:
    """Copy [position, position + size), which the caller knows to be stored."""
    cdef int64_t at
    cdef Py_ssize_t part
    while size > 0:
        at = position - chain.base
        part = SLAB_PAYLOAD - at % SLAB_PAYLOAD
        if part > size:
            part = size
        memcpy(target, chain.slabs[at // SLAB_PAYLOAD].data + at % SLAB_PAYLOAD, part)
        target += part
        position += part
        size -= part
