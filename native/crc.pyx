# cython: language_level=3
"""CRC-32C (Castagnoli, RFC 3720 appendix B.4), the checksum of everything a chunk file holds.

Kept true: `crc32c(a + b) == crc32c(b, crc32c(a))`; the answer is the same on every machine. The processor's own
instruction is used where it exists, found at import: three independent runs hide its latency of three cycles, and
are joined by a table that advances a CRC over RUN zero bytes.
"""
from libc.stdint cimport uint8_t, uint32_t

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    #define KR_RUN 4096u
    static uint32_t kr_table[8][256];
    static uint32_t kr_shift[4][256];
    static int kr_hardware = 0;

    static uint32_t kr_plain(uint32_t crc, const uint8_t *p, size_t n) {
        while (n >= 8) {
            uint32_t low = crc ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
            crc = kr_table[7][low & 255] ^ kr_table[6][low >> 8 & 255] ^ kr_table[5][low >> 16 & 255]
                ^ kr_table[4][low >> 24] ^ kr_table[3][p[4]] ^ kr_table[2][p[5]]
                ^ kr_table[1][p[6]] ^ kr_table[0][p[7]];
            p += 8; n -= 8;
        }
        while (n--) crc = kr_table[0][(crc ^ *p++) & 255] ^ crc >> 8;
        return crc;
    }

    #if defined(__x86_64__) && defined(__GNUC__)
    #include <nmmintrin.h>
    #define KR_HAS_HARDWARE 1
    #define KR_TARGET __attribute__((target("sse4.2")))
    #define KR_STEP8(c, v) _mm_crc32_u64((c), (v))
    #define KR_STEP1(c, v) _mm_crc32_u8((uint32_t)(c), (v))
    static int kr_detect(void) { __builtin_cpu_init(); return __builtin_cpu_supports("sse4.2"); }
    #elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
    #include <arm_acle.h>
    #define KR_HAS_HARDWARE 1
    #define KR_TARGET
    #define KR_STEP8(c, v) __crc32cd((uint32_t)(c), (v))
    #define KR_STEP1(c, v) __crc32cb((uint32_t)(c), (v))
    static int kr_detect(void) { return 1; }
    #else
    #define KR_HAS_HARDWARE 0
    static int kr_detect(void) { return 0; }
    #endif

    #if KR_HAS_HARDWARE
    static inline uint64_t kr_load(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return v; }
    static inline uint32_t kr_advance(uint32_t c) {
        return kr_shift[0][c & 255] ^ kr_shift[1][c >> 8 & 255] ^ kr_shift[2][c >> 16 & 255] ^ kr_shift[3][c >> 24];
    }
    KR_TARGET static uint32_t kr_fast(uint32_t crc, const uint8_t *p, size_t n) {
        uint64_t a = crc, b, c;
        size_t i;
        while (n >= 3 * KR_RUN) {
            b = 0; c = 0;
            for (i = 0; i < KR_RUN; i += 8) {
                a = KR_STEP8(a, kr_load(p + i));
                b = KR_STEP8(b, kr_load(p + KR_RUN + i));
                c = KR_STEP8(c, kr_load(p + 2 * KR_RUN + i));
            }
            a = kr_advance(kr_advance((uint32_t)a) ^ (uint32_t)b) ^ (uint32_t)c;
            p += 3 * KR_RUN; n -= 3 * KR_RUN;
        }
        while (n >= 8) { a = KR_STEP8(a, kr_load(p)); p += 8; n -= 8; }
        while (n--) a = KR_STEP1(a, *p++);
        return (uint32_t)a;
    }
    #endif

    static void kr_init(void) {
        uint32_t i, j, k, c;
        for (i = 0; i < 256; i++) {
            c = i;
            for (k = 0; k < 8; k++) c = c & 1 ? c >> 1 ^ 0x82F63B78u : c >> 1;
            kr_table[0][i] = c;
        }
        for (i = 0; i < 256; i++)
            for (j = 1; j < 8; j++)
                kr_table[j][i] = kr_table[0][kr_table[j - 1][i] & 255] ^ kr_table[j - 1][i] >> 8;
        for (j = 0; j < 4; j++) {
            uint32_t bits[8];
            for (k = 0; k < 8; k++) {
                c = 1u << (8 * j + k);
                for (i = 0; i < KR_RUN; i++) c = kr_table[0][c & 255] ^ c >> 8;
                bits[k] = c;
            }
            for (i = 0; i < 256; i++) {
                c = 0;
                for (k = 0; k < 8; k++) if (i >> k & 1) c ^= bits[k];
                kr_shift[j][i] = c;
            }
        }
        kr_hardware = kr_detect();
    }

    static uint32_t kr_update(uint32_t value, const uint8_t *p, size_t n) {
    #if KR_HAS_HARDWARE
        if (kr_hardware) return ~kr_fast(~value, p, n);
    #endif
        return ~kr_plain(~value, p, n);
    }
    """
    int kr_hardware
    void kr_init()
    uint32_t kr_plain(uint32_t crc, const uint8_t* data, size_t size) noexcept nogil
    uint32_t kr_update(uint32_t value, const uint8_t* data, size_t size) noexcept nogil

kr_init()
IMPLEMENTATION = "hardware" if kr_hardware else "table"


cdef uint32_t crc32c_update(uint32_t value, const uint8_t* data, size_t size) noexcept nogil:
    return kr_update(value, data, size)


def crc32c(const uint8_t[::1] data not None, uint32_t value=0):
    """CRC-32C of `data`, going on from `value`."""
    cdef size_t size = data.shape[0]
    if size == 0:
        return value
    with nogil:
        value = kr_update(value, &data[0], size)
    return value


def crc32c_plain(const uint8_t[::1] data not None, uint32_t value=0):
    """The same by tables alone; what machines without the instruction run."""
    if data.shape[0] == 0:
        return value
    return ~kr_plain(~value, &data[0], data.shape[0]) & 0xFFFFFFFF
