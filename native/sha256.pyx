# cython: language_level=3
"""SHA-256 of many fragments at once, as leaves of a hash tree (docs/format/ledger.md): of 0x00 and their bytes.

Kept true: the answers are those of hashlib, whatever the machine; media is copied nowhere and the interpreter lock is
free meanwhile. One SHA-256 is a chain of rounds that leaves most of a core idle, so several run side by side: sixteen
by AVX-512, two by the processor's own SHA instructions. The machine's best is found at import; without either it is
hashlib's.
"""
from hashlib import sha256

from libc.stdint cimport uint8_t
from libc.stdlib cimport free, malloc

from native.moof cimport Fragment, iovec

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #include <sys/uio.h>

    typedef struct {
        uint32_t h[8];
        const struct iovec* parts;
        size_t count, part, at;   /* where the reading stands */
        uint64_t bytes;           /* read so far, the leading 0x00 included */
        const uint8_t* run;       /* whole blocks that come next */
        size_t blocks;
        size_t fill;              /* bytes in tail that are no whole block yet */
        int ended;
        uint8_t tail[128];
    } kr_job;

    static const uint32_t kr_first[8] = {
        0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
    static const uint32_t kr_k[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2 };

    static void kr_begin(kr_job* job, const struct iovec* parts, size_t count) {
        memcpy(job->h, kr_first, 32);
        job->parts = parts; job->count = count; job->part = 0; job->at = 0;
        job->tail[0] = 0; job->fill = 1; job->bytes = 1;
        job->blocks = 0; job->ended = 0;
    }

    /* The job's next whole blocks; 0 when all of them, padding included (FIPS 180-4, 5.1.1), were given. */
    static int kr_next(kr_job* job) {
        size_t total;
        int i;
        if (job->ended) return 0;
        while (job->part < job->count) {
            const struct iovec* part = &job->parts[job->part];
            const uint8_t* data = (const uint8_t*)part->iov_base + job->at;
            size_t left = part->iov_len - job->at, take;
            if (left == 0) { job->part++; job->at = 0; continue; }
            if (job->fill == 0 && left >= 64) {
                job->run = data; job->blocks = left / 64;
                job->at += job->blocks * 64; job->bytes += job->blocks * 64;
                return 1;
            }
            take = 64 - job->fill < left ? 64 - job->fill : left;
            memcpy(job->tail + job->fill, data, take);
            job->fill += take; job->at += take; job->bytes += take;
            if (job->fill == 64) {
                job->run = job->tail; job->blocks = 1; job->fill = 0;
                return 1;
            }
        }
        job->tail[job->fill++] = 0x80;
        total = job->fill <= 56 ? 64 : 128;
        memset(job->tail + job->fill, 0, total - 8 - job->fill);
        for (i = 0; i < 8; i++) job->tail[total - 1 - i] = (uint8_t)(job->bytes * 8 >> 8 * i);
        job->run = job->tail; job->blocks = total / 64; job->ended = 1;
        return 1;
    }

    static void kr_digest(const kr_job* job, uint8_t* out) {
        int i;
        for (i = 0; i < 32; i++) out[i] = (uint8_t)(job->h[i / 4] >> (24 - 8 * (i % 4)));
    }

    #if defined(__x86_64__) && defined(__GNUC__)
    #include <cpuid.h>
    #include <immintrin.h>
    #define KR_X86 1

    static int kr_has_sha(void) {
        unsigned a, b, c, d;
        __builtin_cpu_init();
        return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1) && __builtin_cpu_supports("sse4.1");
    }
    static int kr_has_lanes(void) {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
    }

    /* ---- SHA instructions: COUNT (1 or 2) jobs side by side ---- */
    #define KR_SHA __attribute__((target("sha,sse4.1,ssse3")))
    KR_SHA static inline __attribute__((always_inline)) void kr_sha(kr_job** jobs, size_t n, const int COUNT) {
        const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
        __m128i low[2], high[2], low0, high0, m[2][4], t;
        __m128i was_low[2], was_high[2];
        int s, r;
        size_t k;
        for (s = 0; s < COUNT; s++) {
            low0 = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i*)jobs[s]->h), 0xB1);
            high0 = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i*)(jobs[s]->h + 4)), 0x1B);
            low[s] = _mm_alignr_epi8(low0, high0, 8);
            high[s] = _mm_blend_epi16(high0, low0, 0xF0);
        }
        for (k = 0; k < n; k++) {
            for (s = 0; s < COUNT; s++) { was_low[s] = low[s]; was_high[s] = high[s]; }
            #pragma GCC unroll 16
            for (r = 0; r < 16; r++)
                #pragma GCC unroll 2
                for (s = 0; s < COUNT; s++) {
                    if (r < 4) {
                        t = _mm_loadu_si128((const __m128i*)(jobs[s]->run + 64 * k + 16 * r));
                        m[s][r] = _mm_shuffle_epi8(t, swap);
                    }
                    t = _mm_add_epi32(m[s][r & 3], _mm_loadu_si128((const __m128i*)(kr_k + 4 * r)));
                    high[s] = _mm_sha256rnds2_epu32(high[s], low[s], t);
                    low[s] = _mm_sha256rnds2_epu32(low[s], high[s], _mm_shuffle_epi32(t, 0x0E));
                    if (r >= 3 && r < 15) {
                        t = _mm_add_epi32(_mm_sha256msg1_epu32(m[s][(r + 1) & 3], m[s][(r + 2) & 3]),
                                          _mm_alignr_epi8(m[s][r & 3], m[s][(r + 3) & 3], 4));
                        m[s][(r + 1) & 3] = _mm_sha256msg2_epu32(t, m[s][r & 3]);
                    }
                }
            for (s = 0; s < COUNT; s++) {
                low[s] = _mm_add_epi32(low[s], was_low[s]);
                high[s] = _mm_add_epi32(high[s], was_high[s]);
            }
        }
        for (s = 0; s < COUNT; s++) {
            low0 = _mm_shuffle_epi32(low[s], 0x1B);
            high0 = _mm_shuffle_epi32(high[s], 0xB1);
            _mm_storeu_si128((__m128i*)jobs[s]->h, _mm_blend_epi16(low0, high0, 0xF0));
            _mm_storeu_si128((__m128i*)(jobs[s]->h + 4), _mm_alignr_epi8(high0, low0, 8));
        }
    }
    KR_SHA static void kr_sha1(kr_job** jobs, size_t n) { kr_sha(jobs, n, 1); }
    KR_SHA static void kr_sha2(kr_job** jobs, size_t n) { kr_sha(jobs, n, 2); }

    /* ---- AVX-512: 16 jobs, one 32-bit lane each; what a round waits for is kept to three steps ---- */
    #define KR_LANES __attribute__((target("avx512f,avx512bw")))
    #define KR_AHEAD 512  /* sixteen places at once are more than the processor foresees by itself */
    #define KR_ROR _mm512_ror_epi32
    #define KR_ADD _mm512_add_epi32
    #define KR_XOR3(a, b, c) _mm512_ternarylogic_epi32(a, b, c, 0x96)
    #define KR_ROUND(a, b, c, d, e, f, g, h, i, w) { \\
        __m512i x = KR_ADD(KR_ADD(h, _mm512_set1_epi32((int)kr_k[i])), w), y = KR_ADD(x, d); \\
        __m512i ch = _mm512_ternarylogic_epi32(e, f, g, 0xCA); \\
        __m512i s1 = KR_XOR3(KR_ROR(e, 6), KR_ROR(e, 11), KR_ROR(e, 25)); \\
        __m512i maj = _mm512_ternarylogic_epi32(a, b, c, 0xE8); \\
        __m512i s0 = KR_ADD(maj, KR_XOR3(KR_ROR(a, 2), KR_ROR(a, 13), KR_ROR(a, 22))); \\
        d = KR_ADD(KR_ADD(y, ch), s1); \\
        h = KR_ADD(KR_ADD(KR_ADD(x, ch), s1), s0); }
    #define KR_SIGMA0(x) KR_XOR3(KR_ROR(x, 7), KR_ROR(x, 18), _mm512_srli_epi32(x, 3))
    #define KR_SIGMA1(x) KR_XOR3(KR_ROR(x, 17), KR_ROR(x, 19), _mm512_srli_epi32(x, 10))
    #define KR_GIVEN(i) w[i]
    #define KR_NEXT(i) (w[(i) & 15] = KR_ADD(KR_ADD(w[(i) & 15], w[((i) + 9) & 15]), \\
        KR_ADD(KR_SIGMA0(w[((i) + 1) & 15]), KR_SIGMA1(w[((i) + 14) & 15]))))
    #define KR_EIGHT(i, W) \\
        KR_ROUND(a, b, c, d, e, f, g, h, i, W(i)) KR_ROUND(h, a, b, c, d, e, f, g, i + 1, W(i + 1)) \\
        KR_ROUND(g, h, a, b, c, d, e, f, i + 2, W(i + 2)) KR_ROUND(f, g, h, a, b, c, d, e, i + 3, W(i + 3)) \\
        KR_ROUND(e, f, g, h, a, b, c, d, i + 4, W(i + 4)) KR_ROUND(d, e, f, g, h, a, b, c, i + 5, W(i + 5)) \\
        KR_ROUND(c, d, e, f, g, h, a, b, i + 6, W(i + 6)) KR_ROUND(b, c, d, e, f, g, h, a, i + 7, W(i + 7))

    KR_LANES static inline __attribute__((always_inline)) void kr_transpose(__m512i* w) {
        __m512i t[16], u[16], a, b, c, d;
        int i;
        for (i = 0; i < 16; i += 2) {
            t[i] = _mm512_unpacklo_epi32(w[i], w[i + 1]);
            t[i + 1] = _mm512_unpackhi_epi32(w[i], w[i + 1]);
        }
        for (i = 0; i < 16; i += 4) {
            u[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
            u[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
            u[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
            u[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
        }
        for (i = 0; i < 4; i++) {
            a = _mm512_shuffle_i32x4(u[i], u[i + 4], 0x88);
            b = _mm512_shuffle_i32x4(u[i], u[i + 4], 0xdd);
            c = _mm512_shuffle_i32x4(u[i + 8], u[i + 12], 0x88);
            d = _mm512_shuffle_i32x4(u[i + 8], u[i + 12], 0xdd);
            w[i] = _mm512_shuffle_i32x4(a, c, 0x88);
            w[i + 8] = _mm512_shuffle_i32x4(a, c, 0xdd);
            w[i + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
            w[i + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
        }
    }

    KR_LANES static void kr_lanes(kr_job** jobs, int count, size_t n) {
        const __m512i swap = _mm512_broadcast_i32x4(_mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL));
        uint32_t state[8][16];
        const uint8_t* from[16];
        __m512i s[8], w[16], a, b, c, d, e, f, g, h;
        size_t k;
        int i, j;
        for (i = 0; i < 16; i++) {
            kr_job* job = jobs[i < count ? i : 0];  /* idle lanes work along, and nobody looks */
            from[i] = job->run;
            for (j = 0; j < 8; j++) state[j][i] = job->h[j];
        }
        for (j = 0; j < 8; j++) s[j] = _mm512_loadu_si512(state[j]);
        for (k = 0; k < n; k++) {
            for (i = 0; i < 16; i++) {
                _mm_prefetch((const char*)(from[i] + 64 * k + KR_AHEAD), _MM_HINT_T0);
                w[i] = _mm512_shuffle_epi8(_mm512_loadu_si512(from[i] + 64 * k), swap);
            }
            kr_transpose(w);
            a = s[0]; b = s[1]; c = s[2]; d = s[3]; e = s[4]; f = s[5]; g = s[6]; h = s[7];
            KR_EIGHT(0, KR_GIVEN) KR_EIGHT(8, KR_GIVEN) KR_EIGHT(16, KR_NEXT) KR_EIGHT(24, KR_NEXT)
            KR_EIGHT(32, KR_NEXT) KR_EIGHT(40, KR_NEXT) KR_EIGHT(48, KR_NEXT) KR_EIGHT(56, KR_NEXT)
            s[0] = KR_ADD(s[0], a); s[1] = KR_ADD(s[1], b); s[2] = KR_ADD(s[2], c); s[3] = KR_ADD(s[3], d);
            s[4] = KR_ADD(s[4], e); s[5] = KR_ADD(s[5], f); s[6] = KR_ADD(s[6], g); s[7] = KR_ADD(s[7], h);
        }
        for (j = 0; j < 8; j++) _mm512_storeu_si512(state[j], s[j]);
        for (i = 0; i < count; i++)
            for (j = 0; j < 8; j++) jobs[i]->h[j] = state[j][i];
    }
    #else
    #define KR_X86 0
    static int kr_has_sha(void) { return 0; }
    static int kr_has_lanes(void) { return 0; }
    static void kr_sha1(kr_job** jobs, size_t n) { (void)jobs; (void)n; }
    static void kr_sha2(kr_job** jobs, size_t n) { (void)jobs; (void)n; }
    static void kr_lanes(kr_job** jobs, int count, size_t n) { (void)jobs; (void)count; (void)n; }
    #endif

    #define KR_FEW 4  /* so many by the SHA instructions take as long as sixteen lanes */

    static void kr_hash(kr_job* jobs, size_t count, int sha, int lanes) {
        kr_job* at[16];
        const int width = lanes ? 16 : 2;
        size_t next = 0, n;
        int active = 0, i;
        for (;;) {
            while (active < width && next < count) { kr_next(&jobs[next]); at[active++] = &jobs[next++]; }
            if (!active) return;
            for (n = at[0]->blocks, i = 1; i < active; i++) if (at[i]->blocks < n) n = at[i]->blocks;
            if (lanes && (!sha || active >= KR_FEW)) kr_lanes(at, active, n);
            else for (i = 0; i < active; i += 2) (i + 1 < active ? kr_sha2 : kr_sha1)(at + i, n);
            for (i = 0; i < active; i++) {
                at[i]->run += 64 * n;
                at[i]->blocks -= n;
                if (!at[i]->blocks && !kr_next(at[i])) at[i--] = at[--active];
            }
        }
    }
    """
    ctypedef struct kr_job:
        pass
    int kr_has_sha()
    int kr_has_lanes()
    void kr_begin(kr_job* job, const iovec* parts, size_t count) noexcept nogil
    void kr_hash(kr_job* jobs, size_t count, int sha, int lanes) noexcept nogil
    void kr_digest(const kr_job* job, uint8_t* out) noexcept nogil

cdef enum:
    BY_HASHLIB = 0
    BY_SHA = 1
    BY_LANES = 2

cdef int _sha = kr_has_sha()
cdef int _ways = (BY_SHA if _sha else 0) | (BY_LANES if kr_has_lanes() else 0)
IMPLEMENTATIONS = tuple(
    [name for name, needs in (("avx512+sha", 3), ("avx512", 2), ("sha", 1), ("hashlib", 0)) if needs & _ways == needs]
)
cdef dict _WAYS = {"avx512+sha": 3, "avx512": 2, "sha": 1, "hashlib": 0}


cdef list _hash(kr_job* jobs, Py_ssize_t count, int ways):
    cdef uint8_t digest[32]
    cdef Py_ssize_t i
    with nogil:
        kr_hash(jobs, count, ways & BY_SHA, ways & BY_LANES)
    result = []
    for i in range(count):
        kr_digest(&jobs[i], digest)
        result.append(digest[:32])
    return result


def fragment_leaves(list fragments not None, by=None):
    """Leaf hashes of fragments that `write` has laid into a file, in their order."""
    cdef int ways = _WAYS[by or IMPLEMENTATIONS[0]] & _ways
    cdef Py_ssize_t count = len(fragments), i, total = 0
    cdef Fragment fragment
    cdef iovec* parts
    cdef iovec* at
    cdef kr_job* jobs
    for fragment in fragments:
        if fragment.head_bytes == 0 or fragment.sealed_at < 0:
            raise ValueError("a fragment has its hash once it lies in a file")
        total += fragment.video_extent.count + fragment.audio_extent.count + 2
    if not ways:
        return [sha256(b"\0" + (<Fragment>fragment).to_bytes((<Fragment>fragment).sealed_at)).digest()
                for fragment in fragments]
    parts = <iovec*>malloc((total or 1) * sizeof(iovec))
    jobs = <kr_job*>malloc((count or 1) * sizeof(kr_job))
    try:
        if parts == NULL or jobs == NULL:
            raise MemoryError
        at = parts
        for i in range(count):
            fragment = fragments[i]
            total = fragment._parts(at)
            kr_begin(&jobs[i], at, total)
            at += total
        return _hash(jobs, count, ways)
    finally:
        free(parts)
        free(jobs)


def leaves(list pieces not None, by=None):
    """Leaf hashes of these bytes, in their order."""
    cdef int ways = _WAYS[by or IMPLEMENTATIONS[0]] & _ways
    cdef Py_ssize_t count = len(pieces), i
    cdef const uint8_t[::1] view
    cdef iovec* parts
    cdef kr_job* jobs
    if not ways:
        return [sha256(b"\0" + piece).digest() for piece in pieces]
    views = [memoryview(piece) for piece in pieces]
    parts = <iovec*>malloc((count or 1) * sizeof(iovec))
    jobs = <kr_job*>malloc((count or 1) * sizeof(kr_job))
    try:
        if parts == NULL or jobs == NULL:
            raise MemoryError
        for i in range(count):
            view = views[i]
            parts[i].iov_base = <void*>&view[0] if view.shape[0] else NULL
            parts[i].iov_len = view.shape[0]
            kr_begin(&jobs[i], &parts[i], 1)
        return _hash(jobs, count, ways)
    finally:
        free(parts)
        free(jobs)
