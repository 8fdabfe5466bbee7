// Stored rows to panels (see panel.h), for more tokens than one, with AVX-512.
#include "rows512.h"

struct pack {
    uint8_t *w;
    float *s;
    float *m;
    const uint8_t *in; // first block of the first of 16 rows
    long stride;
    long nb; // blocks of 32 columns
    const uint8_t *table;
};

KERNEL packQ40Avx512(const struct pack *a);
KERNEL packQ80Avx512(const struct pack *a);

KERNEL packQ40Avx512(const struct pack *a) {
    struct rows r = rowsAt(a->in, a->stride);
    uint8_t *w = a->w;
    float *s = a->s;
    long nb = a->nb;
    const __m512i bias = _mm512_set1_epi8(120); // nibble - 8 + 128
    do {
        __m512i t[4];
        load16(t, &r, 2);
        UNROLL for (int k = 0; k < 4; k++) {
            _mm512_storeu_si512(w + 64 * k, _mm512_add_epi8(low(t[k]), bias));
            _mm512_storeu_si512(w + 256 + 64 * k, _mm512_add_epi8(high(t[k]), bias));
        }
        _mm512_storeu_ps(s, halves(&r, 0));
        advance(&r, 18);
        w += 512;
        s += ROWS;
    } while (--nb);
}

KERNEL packQ80Avx512(const struct pack *a) {
    struct rows r = rowsAt(a->in, a->stride);
    uint8_t *w = a->w;
    float *s = a->s;
    long nb = a->nb;
    const __m512i flip = _mm512_set1_epi8(-128);
    do {
        __m512i t[4];
        load16(t, &r, 2);
        UNROLL for (int k = 0; k < 4; k++) _mm512_storeu_si512(w + 64 * k, _mm512_xor_si512(t[k], flip));
        load16(t, &r, 18);
        UNROLL for (int k = 0; k < 4; k++) _mm512_storeu_si512(w + 256 + 64 * k, _mm512_xor_si512(t[k], flip));
        _mm512_storeu_ps(s, halves(&r, 0));
        advance(&r, 34);
        w += 512;
        s += ROWS;
    } while (--nb);
}
