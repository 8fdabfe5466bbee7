// Rows as they are stored in the file times one token, with AVX-512 VNNI: 16 rows at a time are transposed in registers,
// so that decoding needs no other copy of the weights. The next 16 rows lie behind these, and are prefetched to the
// second-level cache while these are used: memory sees one sequential stream. (Into the first level they do not fit:
// 12 GB/s instead of 26 where a plain sum reads 30.)
#include "rows512.h"
#include "kquant512.h"

KERNEL gemvQ40Avx512(struct gemv *a);
KERNEL gemvQ41Avx512(struct gemv *a);
KERNEL gemvQ50Avx512(struct gemv *a);
KERNEL gemvQ51Avx512(struct gemv *a);
KERNEL gemvQ80Avx512(struct gemv *a);
KERNEL gemvIQ4NLAvx512(struct gemv *a);
KERNEL gemvMXFP4Avx512(struct gemv *a);
KERNEL gemvQ4KAvx512(struct gemv *a);
KERNEL gemvQ5KAvx512(struct gemv *a);
KERNEL gemvQ6KAvx512(struct gemv *a);
KERNEL gemvIQ4XSAvx512(struct gemv *a);
KERNEL gemvBnBAvx512(struct gemv *a);
KERNEL sumAvx512(const uint8_t *p, long n, int64_t *out);

// n bytes of the rows to come. The fence also keeps what a points to in memory: there are no registers for it.
#define PREFETCH(n)                                                                                                    \
    UNROLL for (long o = 0; o < (n); o += 64) _mm_prefetch((const char *)pf + o, _MM_HINT_T1);                         \
    pf += (n);                                                                                                         \
    FENCE;

// The sum of 32 products in each lane, from start; two chains hide half of the latency.
INLINE __m512i dot(__m512i start, const __m512i w[8], const int8_t *q) {
    __m512i i = start, j = _mm512_setzero_si512();
    UNROLL for (int k = 0; k < 4; k++) {
        i = _mm512_dpbusd_epi32(i, w[k], bc(q + 4 * k));
        j = _mm512_dpbusd_epi32(j, w[k + 4], bc(q + 16 + 4 * k));
    }
    return _mm512_add_epi32(i, j);
}
// Four chunks from start.
INLINE __m512i dotHalf(__m512i start, const __m512i w[4], const int8_t *q) {
    UNROLL for (int k = 0; k < 4; k++) start = _mm512_dpbusd_epi32(start, w[k], bc(q + 4 * k));
    return start;
}
INLINE __m512 step1(__m512 f, __m512i i, __m512 s, const float *d) {
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(i), _mm512_mul_ps(s, _mm512_set1_ps(*d)), f);
}

// BIAS is 1 << (7 - SHIFT), what the bytes are too large by; none where SHIFT is -1.
#define GEMV(name, read, bytes, SHIFT, OFF)                                                                            \
    KERNEL name(struct gemv *a) {                                                                                      \
        START(a);                                                                                                      \
        do {                                                                                                           \
            struct rows r = rowsAt(a->row, a->stride);                                                                 \
            const uint8_t *pf = a->row + 16 * a->stride;                                                               \
            const int8_t *q = a->q;                                                                                    \
            __m512 f = _mm512_setzero_ps();                                                                            \
            long b = 0;                                                                                                \
            do {                                                                                                       \
                struct block v;                                                                                        \
                read(&v, &r, a->table);                                                                                \
                __m512i c = SHIFT < 0 ? _mm512_setzero_si512() : _mm512_srai_epi32(bc(a->c + b), SHIFT < 0 ? 0 : SHIFT); \
                f = step1(f, dot(c, v.w, q), v.s, a->d + b);                                                           \
                if (OFF) f = _mm512_fmadd_ps(v.m, _mm512_set1_ps(a->g[b]), f);                                         \
                PREFETCH(16 * bytes)                                                                                   \
                advance(&r, bytes);                                                                                    \
                q += 32;                                                                                               \
                b++;                                                                                                   \
            } while (b < a->nb);                                                                                       \
            _mm512_storeu_ps(a->out, f);                                                                               \
        } while (NEXT(a));                                                                                             \
    }

GEMV(gemvQ40Avx512, readQ40, 18, 4, 0)
GEMV(gemvQ41Avx512, readQ41, 20, -1, 1)
GEMV(gemvQ50Avx512, readQ50, 22, 3, 0)
GEMV(gemvQ51Avx512, readQ51, 24, -1, 1)
GEMV(gemvQ80Avx512, readQ80, 34, 0, 0)
GEMV(gemvIQ4NLAvx512, readIQ4NL, 18, 0, 0)
GEMV(gemvMXFP4Avx512, readMXFP4, 17, 0, 0)

// The formats with super-blocks of 256: the last argument does the 8 blocks of one, with v holding what all share.
#define GEMVK(name, bytes, shared, readShared, ...)                                                                    \
    KERNEL name(struct gemv *a) {                                                                                      \
        START(a);                                                                                                      \
        do {                                                                                                           \
            struct rows r = rowsAt(a->row, a->stride);                                                                 \
            const uint8_t *pf = a->row + 16 * a->stride;                                                               \
            const int8_t *q = a->q;                                                                                    \
            __m512 f = _mm512_setzero_ps();                                                                            \
            long b = 0;                                                                                                \
            do {                                                                                                       \
                shared v;                                                                                              \
                readShared(&v, &r);                                                                                    \
                __VA_ARGS__                                                                                            \
                advance(&r, bytes);                                                                                    \
                q += 256;                                                                                              \
                b += 8;                                                                                                \
            } while (b < a->nb);                                                                                       \
            _mm512_storeu_ps(a->out, f);                                                                               \
        } while (NEXT(a));                                                                                             \
    }

// Formats with offsets, a half block at a time: whole ones would spill.
#define OFFSETS(readHalf, bytes)                                                                                       \
    UNROLL for (int j = 0; j < 8; j++) {                                                                               \
        __m512i w[4], i;                                                                                               \
        readHalf(w, &r, j, 0);                                                                                         \
        i = dotHalf(_mm512_setzero_si512(), w, q + 32 * j);                                                            \
        FENCE;                                                                                                         \
        readHalf(w, &r, j, 1);                                                                                         \
        i = dotHalf(i, w, q + 32 * j + 16);                                                                            \
        f = step1(f, i, scaleOf(&v, j), a->d + b + j);                                                                 \
        f = _mm512_fnmadd_ps(minOf(&v, j), _mm512_set1_ps(a->g[b + j]), f);                                            \
        PREFETCH(bytes / 8 * 16)                                                                                       \
    }

GEMVK(gemvQ5KAvx512, 176, struct scales4, readScales4, OFFSETS(halfQ5K, 176))

// Q4_K has two blocks in the nibbles of the same 32 bytes: they are taken together.
GEMVK(gemvQ4KAvx512, 144, struct scales4, readScales4, UNROLL for (int j = 0; j < 8; j += 2) {
    __m512i t[4], i0 = _mm512_setzero_si512(), i1 = i0;
    UNROLL for (int h = 0; h < 2; h++) {
        load16(t, &r, 16 + 16 * j + 16 * h);
        UNROLL for (int k = 0; k < 4; k++) {
            i0 = _mm512_dpbusd_epi32(i0, low(t[k]), bc(q + 32 * j + 16 * h + 4 * k));
            i1 = _mm512_dpbusd_epi32(i1, high(t[k]), bc(q + 32 * j + 32 + 16 * h + 4 * k));
        }
    }
    f = step1(f, i0, scaleOf(&v, j), a->d + b + j);
    f = _mm512_fnmadd_ps(minOf(&v, j), _mm512_set1_ps(a->g[b + j]), f);
    f = step1(f, i1, scaleOf(&v, j + 1), a->d + b + j + 1);
    f = _mm512_fnmadd_ps(minOf(&v, j + 1), _mm512_set1_ps(a->g[b + j + 1]), f);
    PREFETCH(576)
})

// A block of Q6_K has two scales: they multiply the sums of its halves, as integers.
GEMVK(gemvQ6KAvx512, 210, struct q6k, sharedQ6K, UNROLL for (int j = 0; j < 8; j++) {
    __m512i w[4], i0, i1;
    halfQ6K(w, &r, j, 0);
    i0 = dotHalf(_mm512_srai_epi32(bc(a->h + 2 * (b + j)), 2), w, q + 32 * j);
    i0 = _mm512_mullo_epi32(i0, signedByteOf(v.scales[j / 2], j % 2 * 2));
    FENCE;
    halfQ6K(w, &r, j, 1);
    i1 = dotHalf(_mm512_srai_epi32(bc(a->h + 2 * (b + j) + 1), 2), w, q + 32 * j + 16);
    i1 = _mm512_mullo_epi32(i1, signedByteOf(v.scales[j / 2], j % 2 * 2 + 1));
    f = step1(f, _mm512_add_epi32(i0, i1), v.d, a->d + b + j);
    PREFETCH(420)
})

GEMVK(gemvIQ4XSAvx512, 136, struct iq4xs, sharedIQ4XS, UNROLL for (int j = 0; j < 8; j++) {
    struct block x;
    nibbles(&x, &r, 8 + 16 * j);
    lookUp(&x, a->table);
    f = step1(f, dot(bc(a->c + b + j), x.w, q + 32 * j), scaleIQ4XS(&v, j), a->d + b + j);
    PREFETCH(272)
})

// bitsandbytes: 16 bytes hold 32 columns, the even one of a pair in the high nibble; q comes with the even columns of
// each 8 before the odd ones. Two tables, v = 128·h + l, and one scale for 64 columns.
INLINE __m512i dotBnB(__m512i c, const __m512i t[4], __m512i h, __m512i l, const int8_t *q) {
    __m512i i = c, j = c;
    UNROLL for (int k = 0; k < 4; k++) {
        __m512i even = high(t[k]), odd = low(t[k]);
        i = _mm512_dpbusd_epi32(i, _mm512_shuffle_epi8(h, even), bc(q + 8 * k));
        j = _mm512_dpbusd_epi32(j, _mm512_shuffle_epi8(l, even), bc(q + 8 * k));
        i = _mm512_dpbusd_epi32(i, _mm512_shuffle_epi8(h, odd), bc(q + 8 * k + 4));
        j = _mm512_dpbusd_epi32(j, _mm512_shuffle_epi8(l, odd), bc(q + 8 * k + 4));
        __asm__ volatile("" : "+v"(i), "+v"(j)); // one chunk after the other, or it spills
    }
    return _mm512_add_epi32(_mm512_slli_epi32(i, 7), j);
}

KERNEL gemvBnBAvx512(struct gemv *a) {
    START(a);
    const __m512i h = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)a->table));
    const __m512i l = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(a->table + 16)));
    do {
        struct rows r = rowsAt(a->row, a->stride);
        const uint8_t *pf = a->row + 16 * a->stride;
        const int8_t *q = a->q;
        __m512 f = _mm512_setzero_ps();
        long b = 0;
        do {
            // The scales of 16 rows: a word of 16 different cache lines, all of which stay in the first-level cache.
            const float *sp = (const float *)(a->srow) + b / 2;
            __m512i at = _mm512_mullo_epi32(_mm512_set1_epi32((int)a->sstride),
                                            _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0));
            __m512 s = _mm512_i32gather_ps(at, sp, 1);
            __m512i t[4];
            load16(t, &r, 0);
            f = step1(f, dotBnB(bc(a->c + b), t, h, l, q), s, a->d + b);
            FENCE;
            load16(t, &r, 16);
            f = step1(f, dotBnB(bc(a->c + b + 1), t, h, l, q + 32), s, a->d + b + 1);
            PREFETCH(512)
            advance(&r, 32);
            q += 64;
            b += 2;
        } while (b < a->nb);
        _mm512_storeu_ps(a->out, f);
    } while (NEXT(a));
}

// out[0..7] += the 64-bit words of p, n bytes, a multiple of 512: what reading alone costs.
KERNEL sumAvx512(const uint8_t *p, long n, int64_t *out) {
    __m512i s[4] = {_mm512_loadu_si512(out), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
    do {
        UNROLL for (int k = 0; k < 8; k++) {
            s[k & 3] = _mm512_add_epi64(s[k & 3], _mm512_loadu_si512(p + 64 * k));
            _mm_prefetch((const char *)p + 4096 + 64 * k, _MM_HINT_T0);
        }
        p += 512;
    } while (n -= 512);
    _mm512_storeu_si512(out, _mm512_add_epi64(_mm512_add_epi64(s[0], s[1]), _mm512_add_epi64(s[2], s[3])));
}
