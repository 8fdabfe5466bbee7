// Reading super-blocks of 256 columns of 16 rows. A dword that 16 rows have at the same offset becomes one register, so
// that scales are unpacked for 16 rows at once. Layouts are documented in package quant.
#pragma once
#include "rows512.h"

// Scales and minima of Q4_K and Q5_K: byte j%4 of sc[j/4] and m[j/4].
struct scales4 {
    __m512i sc[2], m[2];
    __m512 d, dmin;
};
INLINE void readScales4(struct scales4 *k, const struct rows *r) {
    __m512i t[4];
    load16(t, r, 0); // d and dmin, 12 bytes of scales
    const __m512i six = _mm512_set1_epi8(63), two = _mm512_set1_epi8(48);
    k->d = lowHalf(t[0]);
    k->dmin = highHalf(t[0]);
    k->sc[0] = _mm512_and_si512(t[1], six);
    k->m[0] = _mm512_and_si512(t[2], six);
    k->sc[1] = _mm512_or_si512(low(t[3]), _mm512_and_si512(_mm512_srli_epi32(t[1], 2), two));
    k->m[1] = _mm512_or_si512(high(t[3]), _mm512_and_si512(_mm512_srli_epi32(t[2], 2), two));
}
// d·sc and dmin·min of block j: both products are exact.
INLINE __m512 scaleOf(const struct scales4 *k, int j) {
    return _mm512_mul_ps(k->d, _mm512_cvtepi32_ps(byteOf(k->sc[j / 4], j % 4)));
}
INLINE __m512 minOf(const struct scales4 *k, int j) {
    return _mm512_mul_ps(k->dmin, _mm512_cvtepi32_ps(byteOf(k->m[j / 4], j % 4)));
}

// Columns 16h…16h+15 of block j, whose low 4 bits are the low or high nibbles of 32 bytes and whose fifth is bit j of qh.
INLINE void halfQ5K(__m512i w[4], const struct rows *r, int j, int h) {
    __m512i x[4];
    load16(w, r, 48 + 32 * (j / 2) + 16 * h);
    load16(x, r, 16 + 16 * h);
    UNROLL for (int k = 0; k < 4; k++) {
        __m512i b = j < 4 ? _mm512_slli_epi32(x[k], j < 4 ? 4 - j : 0) : _mm512_srli_epi32(x[k], j < 4 ? 0 : j - 4);
        w[k] = _mm512_or_si512(j % 2 ? high(w[k]) : low(w[k]), _mm512_and_si512(b, _mm512_set1_epi8(16)));
    }
}

struct q6k {
    __m512i scales[4]; // bytes 2j%4 and 2j%4+1 of scales[j/2] are block j's
    __m512 d;
};
INLINE void sharedQ6K(struct q6k *v, const struct rows *r) {
    load16(v->scales, r, 192);
    v->d = halves(r, 208);
}
// Columns 16h…16h+15 of block j = 4n+i, as v + 32: the low 4 bits are nibble i/2 of ql[64n+32(i%2)…], the others bits 2i
// and 2i+1 of qh[32n…].
INLINE void halfQ6K(__m512i w[4], const struct rows *r, int j, int h) {
    int n = j / 4, i = j % 4;
    __m512i x[4];
    load16(w, r, 64 * n + 32 * (i % 2) + 16 * h);
    load16(x, r, 128 + 32 * n + 16 * h);
    UNROLL for (int k = 0; k < 4; k++) {
        __m512i b = i < 2 ? _mm512_slli_epi32(x[k], i < 2 ? 4 - 2 * i : 0) : _mm512_srli_epi32(x[k], i < 2 ? 0 : 2 * i - 4);
        w[k] = _mm512_or_si512(i < 2 ? low(w[k]) : high(w[k]), _mm512_and_si512(b, _mm512_set1_epi8(48)));
    }
}

struct iq4xs {
    __m512i h, l; // 16 bits and 4 bytes of scales
    __m512 d;
};
INLINE void sharedIQ4XS(struct iq4xs *v, const struct rows *r) {
    __m512i t[4];
    load16(t, r, 0);
    v->d = lowHalf(t[0]);
    v->h = _mm512_srli_epi32(t[0], 16);
    v->l = t[1];
}
INLINE __m512 scaleIQ4XS(const struct iq4xs *v, int j) {
    __m512i s = _mm512_and_si512(_mm512_srli_epi32(v->l, 4 * j), _mm512_set1_epi32(15));
    __m512i h = _mm512_and_si512(_mm512_srli_epi32(v->h, 2 * j), _mm512_set1_epi32(3));
    s = _mm512_sub_epi32(_mm512_or_si512(s, _mm512_slli_epi32(h, 4)), _mm512_set1_epi32(32));
    return _mm512_mul_ps(v->d, _mm512_cvtepi32_ps(s));
}
