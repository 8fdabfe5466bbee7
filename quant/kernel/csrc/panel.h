// What makes panels (see args.h) of stored rows and of tiles.
#pragma once
#include "simd.h"

#define CHUNK (4 * LANES)      // bytes of 4 columns
#define HALF (4 * CHUNK)       // of half a block
#define BLOCK (8 * CHUNK)      // of a block of one part

// v = sc·q has 14 bits: the products in 16-bit lanes, even and odd bytes apart, then h = (v + 64) >> 7, l = v - 128·h.
INLINE V many(int c) { return LANES == 8 ? fresh(c) : P(set1_epi32)(c); }
INLINE void split(uint8_t *w, V q, V sc) {
    q = P(sub_epi8)(q, (LANES == 8 ? fresh(0x20202020) : bytes(32)));
    V e = P(mullo_epi16)(P(srai_epi16)(P(slli_epi16)(q, 8), 8), sc);
    V o = P(mullo_epi16)(P(srai_epi16)(q, 8), sc);
    V he = P(srai_epi16)(P(add_epi16)(e, many(0x00400040)), 7), ho = P(srai_epi16)(P(add_epi16)(o, many(0x00400040)), 7);
    put(w, XOR(OR(AND(he, many(0x00ff00ff)), P(slli_epi16)(ho, 8)), bytes(BIAS)));
    e = P(sub_epi16)(e, P(slli_epi16)(he, 7));
    o = P(sub_epi16)(o, P(slli_epi16)(ho, 7));
    put(w + BLOCK, XOR(OR(AND(e, many(0x00ff00ff)), P(slli_epi16)(o, 8)), bytes(BIAS)));
}

// Bytes of a and b of each 32-bit lane: a0 b0 a1 b1, and a2 b2 a3 b3.
INLINE void interleave(V p[2], V a, V b) {
#if LANES == 4
    int8x16_t x = vzip1q_s8(S8(a), S8(b)), y = vzip2q_s8(S8(a), S8(b));
    p[0] = vuzp1q_s32(OF8(x), OF8(y));
    p[1] = vuzp2q_s32(OF8(x), OF8(y));
#else
    V x = P(unpacklo_epi8)(a, b), y = P(unpackhi_epi8)(a, b); // lanes 0, 1 and 2, 3 of each four
#if LANES == 16
    p[0] = _mm512_castps_si512(_mm512_shuffle_ps(_mm512_castsi512_ps(x), _mm512_castsi512_ps(y), 0x88));
    p[1] = _mm512_castps_si512(_mm512_shuffle_ps(_mm512_castsi512_ps(x), _mm512_castsi512_ps(y), 0xdd));
#else
    p[0] = _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castsi256_ps(x), _mm256_castsi256_ps(y), 0x88));
    p[1] = _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castsi256_ps(x), _mm256_castsi256_ps(y), 0xdd));
#endif
#endif
}
