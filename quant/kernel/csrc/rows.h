// Reading LANES stored rows at once into the lanes of registers. Layouts are documented in package quant.
#pragma once
#include "simd.h"

// Every fourth row has a register of its own; the addressing mode makes 1 and 2 strides of one more, 3 take another.
struct rows {
    const uint8_t *at[LANES / 4];
    long stride, stride3;
};

INLINE struct rows rowsAt(const uint8_t *p, long stride) {
    struct rows r;
    UNROLL for (int i = 0; i < LANES / 4; i++) r.at[i] = p + 4 * i * stride;
    r.stride = stride;
    r.stride3 = 3 * stride;
    return r;
}
INLINE void advance(struct rows *r, long n) {
    UNROLL for (int i = 0; i < LANES / 4; i++) r->at[i] += n;
}

// The same where it stands, and nowhere else: clang would hold the addresses from before and those from after at once.
INLINE void move(struct rows *r, long n) {
#if LANES == 4
    advance(r, n);
#else
    FENCE;
    UNROLL for (int i = 0; i < LANES / 4; i++) __asm__ volatile("add %1, %0" : "+r"(r->at[i]) : "er"(n) : "cc");
#endif
}

// t[j] holds bytes o+4j … o+4j+3 of row r in its 32-bit lane r: a 4 × 4 transposition in each 128-bit lane.
INLINE void load16(V t[4], const struct rows *r, long o) {
    V u0 = beside(r->at, o), u1 = beside(r->at, r->stride + o);
    V u2 = beside(r->at, 2 * r->stride + o), u3 = beside(r->at, r->stride3 + o);
    V x0 = P(unpacklo_epi32)(u0, u1), x1 = P(unpackhi_epi32)(u0, u1);
    V x2 = P(unpacklo_epi32)(u2, u3), x3 = P(unpackhi_epi32)(u2, u3);
    t[0] = P(unpacklo_epi64)(x0, x2);
    t[1] = P(unpackhi_epi64)(x0, x2);
    t[2] = P(unpacklo_epi64)(x1, x3);
    t[3] = P(unpackhi_epi64)(x1, x3);
}

// The float16 at offset o of each row.
INLINE F halves(const struct rows *r, long o) {
    long s = r->stride, s3 = r->stride3;
#define W(p) (*(const uint16_t *)(p))
#if LANES == 4
    const uint8_t *p = r->at[0] + o;
    uint16x4_t h = vld1_dup_u16((const uint16_t *)p);
    h = vld1_lane_u16((const uint16_t *)(p + s), h, 1);
    h = vld1_lane_u16((const uint16_t *)(p + 2 * s), h, 2);
    h = vld1_lane_u16((const uint16_t *)(p + s3), h, 3);
    return vcvt_f32_f16(vreinterpret_f16_u16(h));
#else
#define EIGHT(v, p, e)                                                                                                 \
    __m128i v = _mm_cvtsi32_si128(W((p)));                                                                               \
    v = _mm_insert_epi16(v, W((p) + s), 1);                                                                              \
    v = _mm_insert_epi16(v, W((p) + 2 * s), 2);                                                                          \
    v = _mm_insert_epi16(v, W((p) + s3), 3);                                                                             \
    v = _mm_insert_epi16(v, W((e)), 4);                                                                                  \
    v = _mm_insert_epi16(v, W((e) + s), 5);                                                                              \
    v = _mm_insert_epi16(v, W((e) + 2 * s), 6);                                                                          \
    v = _mm_insert_epi16(v, W((e) + s3), 7);
    EIGHT(l, r->at[0] + o, r->at[1] + o)
#if LANES == 8
    return _mm256_cvtph_ps(l);
#else
    EIGHT(h, r->at[2] + o, r->at[3] + o)
    return _mm512_cvtph_ps(_mm256_inserti128_si256(_mm256_castsi128_si256(l), h, 1));
#endif
#undef EIGHT
#endif
#undef W
}

// The formats whose 32 columns stand in the nibbles of 16 bytes, column j and j+16 in byte j: as numbers, as places in a
// table, or with a fifth bit elsewhere.
enum kind { NUMBER, TABLE, FIFTH };

// Columns 4k … 4k+3 of such a block.
INLINE V chunk(enum kind kind, const V t[4], V table, V h, int k) {
    V v = k < 4 ? low(t[k]) : high(t[k - 4]);
    if (kind == TABLE) v = P(shuffle_epi8)(table, v);
    if (kind == FIFTH) v = fifth(v, h, k);
    return v;
}

// Where a format keeps its parts, and how far its bytes are too large: 1 << (7 - SHIFT), nothing where SHIFT is -1.
//           kind    bytes  nibbles at  fifth bits at  offset  SHIFT
#define Q40   NUMBER, 18,    2,          0,             0,      4
#define Q41   NUMBER, 20,    4,          0,             1,      -1
#define Q50   FIFTH,  22,    6,          2,             0,      3
#define Q51   FIFTH,  24,    8,          4,             1,      -1
#define IQ4NL TABLE,  18,    2,          0,             0,      0
#define MXFP4 TABLE,  17,    1,          0,             2,      0

// The scale of an MXFP4 block, 2^(e-128): e-1 in the exponent; the two smallest are subnormal, 2²¹ shifted by e.
INLINE F power(const struct rows *r) {
    V t[4];
    load16(t, r, 0);
    V e = AND(t[0], P(set1_epi32)(255));
    V s = P(slli_epi32)(P(sub_epi32)(e, P(set1_epi32)(1)), 23);
    V small = P(sllv_epi32)(P(set1_epi32)(0x00200000), e); // of use for 0 and 1 only
    V is = P(srai_epi32)(P(sub_epi32)(e, P(set1_epi32)(2)), 31);
    return asFloat(XOR(s, AND(is, XOR(s, small))));
}
// A dword of each row.
INLINE V dwords(const struct rows *r, long o) {
    V t[4];
    load16(t, r, o);
    return t[0];
}

// The scales d·sc of 8 blocks, and dmin·min or its negative, of Q4_K and Q5_K: { d, dmin f16; scales [12]byte }. All
// products are exact.
INLINE void scales4(float *s, float *m, const struct rows *r, int negative) {
    V t[4];
    load16(t, r, 0);
    const V six = bytes(63);
    F d = lowHalf(t[0]), dmin = highHalf(t[0]);
    V sc = AND(t[1], six), mn = AND(t[2], six);
    if (negative) dmin = P(mul_ps)(dmin, P(set1_ps)(-1));
    UNROLL for (int j = 0; j < 8; j++) {
        if (j == 4) {
            sc = OR(low(t[3]), AND(P(srli_epi32)(t[1], 2), bytes(48)));
            mn = OR(high(t[3]), AND(P(srli_epi32)(t[2], 2), bytes(48)));
        }
        P(storeu_ps)(s + LANES * j, P(mul_ps)(d, P(cvtepi32_ps)(byteOf(sc, j % 4))));
        P(storeu_ps)(m + LANES * j, P(mul_ps)(dmin, P(cvtepi32_ps)(byteOf(mn, j % 4))));
    }
    FENCE;
}

// The 32 bytes at offset o of each row, as 8 words that stay in memory: more than one block has its upper bits there.
INLINE void keep32(float *to, const struct rows *r, long o) {
    UNROLL for (int h = 0; h < 2; h++) {
        V x[4];
        load16(x, r, o + 16 * h);
        UNROLL for (int k = 0; k < 4; k++) put(to + LANES * (4 * h + k), x[k]);
        if (LANES == 8) FENCE;
    }
    FENCE;
}

// Columns 16h … 16h+15 of one of the two blocks in the nibbles of 32 bytes at offset 48; their fifth bits are bits 0 and 1 of the
// words at x, which move down for the next two.
INLINE void halfQ5K(V w[4], const struct rows *r, float *x, int odd, int h) {
    load16(w, r, 48 + 16 * h);
    UNROLL for (int k = 0; k < 4; k++) w[k] = odd ? high(w[k]) : low(w[k]);
    if (LANES == 8) FENCE;
    UNROLL for (int k = 0; k < 4; k++) {
        V u = load(x + LANES * (4 * h + k));
        if (odd) put(x + LANES * (4 * h + k), shiftRight(u, 2));
        w[k] = OR(w[k], AND(shiftLeft(u, 4 - odd), bytes(16)));
    }
}

// The 16 scales of Q6_K as numbers.
INLINE void scales6(int32_t *to, const struct rows *r) {
    V t[4];
    FENCE;
    load16(t, r, 192);
    UNROLL for (int j = 0; j < 16; j++) {
        put(to + LANES * j, signedByteOf(t[j / 4], j % 4));
        if (LANES == 8) FENCE;
    }
    FENCE;
}
// The upper bits of blocks 4n … 4n+3 of Q6_K, qh[32n…]; r stands at 64n, which is 32n = back too far.
INLINE void upper6(float *to, struct rows *r, long back) {
    move(r, -back);
    keep32(to, r, 128);
    move(r, back);
}
// Columns 16h … 16h+15 of block 4n+i, as v + 32: the low 4 bits are nibble i/2 of ql[64n+32(i%2)…], where r stands, the others bits 2i
// and 2i+1 of upper6's words at x.
INLINE void halfQ6K(V w[4], const struct rows *r, const float *x, int i, int h) {
    load16(w, r, 32 * (i % 2) + 16 * h);
    UNROLL for (int k = 0; k < 4; k++) w[k] = i < 2 ? low(w[k]) : high(w[k]);
    if (LANES == 8) FENCE;
    UNROLL for (int k = 0; k < 4; k++) {
        V u = load(x + LANES * (4 * h + k));
        w[k] = OR(w[k], AND(i < 2 ? shiftLeft(u, 4 - 2 * i) : shiftRight(u, 2 * i - 4), bytes(48)));
    }
}

// The scales d·(sc-32) of 8 blocks of IQ4_XS: { d f16; scales_h uint16; scales_l [4]byte }.
INLINE void scalesXS(float *s, const struct rows *r) {
    V t[4];
    load16(t, r, 0);
    F d = lowHalf(t[0]);
    V l = t[1], h = P(srli_epi32)(t[0], 16);
    for (int j = 0; j < 8; j++) {
        V x = OR(AND(l, dwordsOf(15)), P(slli_epi32)(AND(h, dwordsOf(3)), 4));
        P(storeu_ps)(s + LANES * j, P(mul_ps)(d, P(cvtepi32_ps)(P(sub_epi32)(x, dwordsOf(32)))));
        l = P(srli_epi32)(l, 4);
        h = P(srli_epi32)(h, 2);
    }
    FENCE;
}
