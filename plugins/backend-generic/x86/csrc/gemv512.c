// Rows as they are stored in the file times one token, with AVX-512 VNNI: 16 rows at a time are transposed in registers,
// so that decoding needs no other copy of the weights. The next 16 rows lie behind these, and are prefetched while these
// are used: memory sees one sequential stream.
#include "rows512.h"
#include "gemv.h"

KERNEL gemvQ40Avx512(struct gemv *a);
KERNEL gemvQ80Avx512(struct gemv *a);

KERNEL sumAvx512(const uint8_t *p, long n, int64_t *out);

// n bytes of the rows to come.
#define PREFETCH(n)                                                                                                    \
    UNROLL for (long o = 0; o < (n); o += 64) _mm_prefetch((const char *)pf + o, _MM_HINT_T0);                         \
    pf += (n);

KERNEL gemvQ40Avx512(struct gemv *a) {
    START(a);
    do {
        struct rows r = rowsAt(a->row, a->stride);
        const uint8_t *pf = a->row + 16 * a->stride;
        const int8_t *q = a->q;
        const float *d = a->d;
        const int32_t *c = a->c;
        long nb = a->nb;
        __m512 f = _mm512_setzero_ps();
        do {
            __m512i t[4];
            load16(t, &r, 2);
            // The nibbles are v + 8, and c is -128·Σq.
            __m512i i = _mm512_srai_epi32(bc(c), 4), j = _mm512_setzero_si512();
            UNROLL for (int k = 0; k < 4; k++) {
                i = _mm512_dpbusd_epi32(i, low(t[k]), bc(q + 4 * k));
                j = _mm512_dpbusd_epi32(j, high(t[k]), bc(q + 16 + 4 * k));
            }
            f = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(i, j)), _mm512_mul_ps(halves(&r, 0), _mm512_set1_ps(*d)), f);
            PREFETCH(288)
            advance(&r, 18);
            q += 32;
            d++;
            c++;
        } while (--nb);
        _mm512_storeu_ps(a->out, f);
    } while (NEXT(a));
}

KERNEL gemvQ80Avx512(struct gemv *a) {
    const __m512i flip = _mm512_set1_epi8(-128);
    START(a);
    do {
        struct rows r = rowsAt(a->row, a->stride);
        const uint8_t *pf = a->row + 16 * a->stride;
        const int8_t *q = a->q;
        const float *d = a->d;
        const int32_t *c = a->c;
        long nb = a->nb;
        __m512 f = _mm512_setzero_ps();
        do {
            __m512i t[4], i = bc(c), j = _mm512_setzero_si512();
            load16(t, &r, 2);
            UNROLL for (int k = 0; k < 4; k++) i = _mm512_dpbusd_epi32(i, _mm512_xor_si512(t[k], flip), bc(q + 4 * k));
            load16(t, &r, 18);
            UNROLL for (int k = 0; k < 4; k++) j = _mm512_dpbusd_epi32(j, _mm512_xor_si512(t[k], flip), bc(q + 16 + 4 * k));
            f = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(i, j)), _mm512_mul_ps(halves(&r, 0), _mm512_set1_ps(*d)), f);
            PREFETCH(544)
            advance(&r, 34);
            q += 32;
            d++;
            c++;
        } while (--nb);
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
