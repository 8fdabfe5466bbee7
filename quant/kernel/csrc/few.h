// What the products of a few tokens have in common, with rows (few.c) and with tiles (fewtile.c).
#pragma once
#include "simd.h"

// groups of LANES rows as they are stored times a few tokens of a tile that is tw wide. y is overwritten.
struct few {
    float *y;
    long ldy;
    const uint8_t *w;
    const int8_t *q;
    const float *d;
    const float *g;
    const int32_t *c; // -128·Σq of a block
    const int32_t *h; // -128·Σq of its halves
    long stride;
    long tw;
    long nb;
    long groups;
    float *buf; // 40 · LANES floats: scales of a super-block, from 16 · LANES on the running sums, then upper bits
    // The kernel's own.
    float *out;
    const uint8_t *row, *next;
    const float *scale;
    long left, at, end, back;
};

#define SUMS (a->buf + 16 * LANES)

// The step of one block: sum = fma(i, s·d, sum).
#define SCALED(T, i, s)                                                                                                \
    {                                                                                                                  \
        const float *d = a->d + a->at;                                                                                 \
        F sv = s;                                                                                                      \
        UNROLL for (int t = 0; t < T; t++)                                                                             \
            P(storeu_ps)(SUMS + LANES * t, P(fmadd_ps)(P(cvtepi32_ps)(i[t]), P(mul_ps)(sv, P(set1_ps)(d[t])), P(loadu_ps)(SUMS + LANES * t))); \
        FENCE;                                                                                                         \
    }

// The same of a block with an offset: sum = sum - m·g then, in one pass through the sums.
#define SHIFTED(T, i, s, m)                                                                                            \
    {                                                                                                                  \
        const float *d = a->d + a->at, *g = a->g + a->at;                                                              \
        F sv = s, mv = m;                                                                                              \
        UNROLL for (int t = 0; t < T; t++) {                                                                           \
            F sum = P(fmadd_ps)(P(cvtepi32_ps)(i[t]), P(mul_ps)(sv, P(set1_ps)(d[t])), P(loadu_ps)(SUMS + LANES * t)); \
            P(storeu_ps)(SUMS + LANES * t, P(fnmadd_ps)(mv, P(set1_ps)(g[t]), sum));                                   \
        }                                                                                                              \
    }

// To the next block.
#define NEXT                                                                                                           \
    q += 32 * a->tw;                                                                                                   \
    a->at += a->tw;                                                                                                    \
    FENCE;
