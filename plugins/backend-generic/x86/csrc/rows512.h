// Reading 16 stored rows at once into the lanes of 512-bit registers.
#pragma once
#include "panel.h"
#include "gemv.h"

// Four groups of four rows; 2·stride comes from the addressing mode.
struct rows {
    const uint8_t *a, *b, *c, *d;
    long stride, stride3;
};

INLINE struct rows rowsAt(const uint8_t *p, long stride) {
    struct rows r = {p, p + 4 * stride, p + 8 * stride, p + 12 * stride, stride, 3 * stride};
    return r;
}

INLINE void advance(struct rows *r, long n) {
    r->a += n;
    r->b += n;
    r->c += n;
    r->d += n;
}

INLINE __m512i quarter(const uint8_t *a, const uint8_t *b, const uint8_t *c, const uint8_t *d) {
    __m512i v = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)a));
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)b), 1);
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)c), 2);
    return _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)d), 3);
}

// t[j] holds bytes o+4j … o+4j+3 of row r in its 32-bit lane r: a 4 × 4 transposition in each 128-bit lane.
INLINE void load16(__m512i t[4], const struct rows *r, long o) {
    long s = r->stride, s3 = r->stride3;
    __m512i u0 = quarter(r->a + o, r->b + o, r->c + o, r->d + o);
    __m512i u1 = quarter(r->a + s + o, r->b + s + o, r->c + s + o, r->d + s + o);
    __m512i u2 = quarter(r->a + 2 * s + o, r->b + 2 * s + o, r->c + 2 * s + o, r->d + 2 * s + o);
    __m512i u3 = quarter(r->a + s3 + o, r->b + s3 + o, r->c + s3 + o, r->d + s3 + o);
    __m512i x0 = _mm512_unpacklo_epi32(u0, u1), x1 = _mm512_unpackhi_epi32(u0, u1);
    __m512i x2 = _mm512_unpacklo_epi32(u2, u3), x3 = _mm512_unpackhi_epi32(u2, u3);
    t[0] = _mm512_unpacklo_epi64(x0, x2);
    t[1] = _mm512_unpackhi_epi64(x0, x2);
    t[2] = _mm512_unpacklo_epi64(x1, x3);
    t[3] = _mm512_unpackhi_epi64(x1, x3);
}

// The 16-bit words at offset o of each row.
INLINE __m256i words(const struct rows *r, long o) {
    long s = r->stride, s3 = r->stride3;
#define W(p) (*(const uint16_t *)(p))
    __m128i l = _mm_cvtsi32_si128(W(r->a + o)), h = _mm_cvtsi32_si128(W(r->c + o));
    l = _mm_insert_epi16(l, W(r->a + s + o), 1);
    h = _mm_insert_epi16(h, W(r->c + s + o), 1);
    l = _mm_insert_epi16(l, W(r->a + 2 * s + o), 2);
    h = _mm_insert_epi16(h, W(r->c + 2 * s + o), 2);
    l = _mm_insert_epi16(l, W(r->a + s3 + o), 3);
    h = _mm_insert_epi16(h, W(r->c + s3 + o), 3);
    l = _mm_insert_epi16(l, W(r->b + o), 4);
    h = _mm_insert_epi16(h, W(r->d + o), 4);
    l = _mm_insert_epi16(l, W(r->b + s + o), 5);
    h = _mm_insert_epi16(h, W(r->d + s + o), 5);
    l = _mm_insert_epi16(l, W(r->b + 2 * s + o), 6);
    h = _mm_insert_epi16(h, W(r->d + 2 * s + o), 6);
    l = _mm_insert_epi16(l, W(r->b + s3 + o), 7);
    h = _mm_insert_epi16(h, W(r->d + s3 + o), 7);
#undef W
    return _mm256_inserti128_si256(_mm256_castsi128_si256(l), h, 1);
}

INLINE __m512 halves(const struct rows *r, long o) { return _mm512_cvtph_ps(words(r, o)); }

INLINE __m512i bc(const void *p) { return _mm512_set1_epi32(*(const int32_t *)p); }
INLINE __m512i low(__m512i v) { return _mm512_and_si512(v, _mm512_set1_epi8(15)); }
INLINE __m512i high(__m512i v) { return _mm512_and_si512(_mm512_srli_epi32(v, 4), _mm512_set1_epi8(15)); }
// The float16 in the low or high half of each lane.
INLINE __m512 lowHalf(__m512i v) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v)); }
INLINE __m512 highHalf(__m512i v) { return lowHalf(_mm512_srli_epi32(v, 16)); }
// Byte k of each lane, as a number.
INLINE __m512i byteOf(__m512i v, int k) { return _mm512_and_si512(_mm512_srli_epi32(v, 8 * k), _mm512_set1_epi32(255)); }
INLINE __m512i signedByteOf(__m512i v, int k) { return _mm512_srai_epi32(_mm512_slli_epi32(v, 24 - 8 * k), 24); }

// One block of 32 columns of 16 rows: bytes v + bias in chunks of 4 columns, scale, offset.
struct block {
    __m512i w[8];
    __m512 s, m;
};

// Columns j and j+16 in the nibbles of byte j, as in all formats with blocks of 32.
INLINE void nibbles(struct block *b, const struct rows *r, long o) {
    __m512i t[4];
    load16(t, r, o);
    UNROLL for (int k = 0; k < 4; k++) {
        b->w[k] = low(t[k]);
        b->w[k + 4] = high(t[k]);
    }
}

// Adds 16 where bit i of a lane's h is set to the byte of column i.
INLINE void fifthBits(struct block *b, __m512i h) {
    UNROLL for (int k = 0; k < 8; k++) {
        const __m512i spread = _mm512_set4_epi32(0x0c0c0c0c + 0x01010101 * (k / 2), 0x08080808 + 0x01010101 * (k / 2),
                                                 0x04040404 + 0x01010101 * (k / 2), 0x01010101 * (k / 2));
        const __m512i bits = _mm512_set1_epi32(k & 1 ? 0x80402010 : 0x08040201);
        __mmask64 set = _mm512_test_epi8_mask(_mm512_shuffle_epi8(h, spread), bits);
        b->w[k] = _mm512_mask_add_epi8(b->w[k], set, b->w[k], _mm512_set1_epi8(16));
    }
}

INLINE void lookUp(struct block *b, const uint8_t *table) {
    __m512i t = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)table));
    UNROLL for (int k = 0; k < 8; k++) b->w[k] = _mm512_shuffle_epi8(t, b->w[k]);
}

// The formats with blocks of 32. Their layouts are documented in package quant.
INLINE void readQ40(struct block *b, const struct rows *r, const uint8_t *table) {
    nibbles(b, r, 2);
    b->s = halves(r, 0);
}
INLINE void readQ41(struct block *b, const struct rows *r, const uint8_t *table) {
    __m512i t[4];
    load16(t, r, 0);
    b->s = lowHalf(t[0]);
    b->m = highHalf(t[0]);
    nibbles(b, r, 4);
}
INLINE void readQ50(struct block *b, const struct rows *r, const uint8_t *table) {
    __m512i t[4];
    load16(t, r, 2);
    b->s = halves(r, 0);
    nibbles(b, r, 6);
    fifthBits(b, t[0]);
}
INLINE void readQ51(struct block *b, const struct rows *r, const uint8_t *table) {
    __m512i t[4];
    load16(t, r, 0);
    b->s = lowHalf(t[0]);
    b->m = highHalf(t[0]);
    nibbles(b, r, 8);
    fifthBits(b, t[1]);
}
INLINE void readQ80(struct block *b, const struct rows *r, const uint8_t *table) {
    load16(b->w, r, 2);
    load16(b->w + 4, r, 18);
    UNROLL for (int k = 0; k < 8; k++) b->w[k] = _mm512_xor_si512(b->w[k], _mm512_set1_epi8(-128));
    b->s = halves(r, 0);
}
INLINE void readIQ4NL(struct block *b, const struct rows *r, const uint8_t *table) {
    readQ40(b, r, table);
    lookUp(b, table);
}
// The scale is 2^(e-128): e-1 in the exponent, or one of the two largest subnormals.
INLINE void readMXFP4(struct block *b, const struct rows *r, const uint8_t *table) {
    nibbles(b, r, 1);
    lookUp(b, table);
    __m512i e = _mm512_and_si512(_mm512_cvtepu16_epi32(words(r, 0)), _mm512_set1_epi32(255));
    __m512i s = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
    __m512i small = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);
    b->s = _mm512_castsi512_ps(_mm512_mask_mov_epi32(s, _mm512_cmplt_epi32_mask(e, _mm512_set1_epi32(2)), small));
}
