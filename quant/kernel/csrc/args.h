// Arguments of the kernels; package simd has their twins in Go.
#pragma once
#include <stdint.h>

// One tile of tokens times one panel: x[t·ldx + r] is read, goes on block by block, and is stored at y[t·ldy + r]. ahead is
// prefetched, 64 bytes a block.
//
// A panel holds LANES rows of weights, block by block of 32 columns: 8 chunks, in a chunk row r owns bytes 4r…4r+3, the
// columns 4c…4c+3 of chunk c: one register is a chunk of all rows, and there is no horizontal addition. A byte is v + BIAS,
// or in a two-part panel first the bytes of h + BIAS and then those of l + BIAS with v = 128·h + l. Scales are
// float[LANES] a block, offsets too.
struct gemm {
    float *y;
    long ldy;
    const float *x;
    long ldx;
    const uint8_t *ahead;
    const uint8_t *w;
    const float *s;
    const float *m;   // offsets, may be null where the kernel takes none
    const int8_t *q;  // blocks of tw tokens
    const float *d;
    const float *g;
    const int32_t *c; // -128·Σq
    long tw;          // width of the token tile in q, d, g and c
    long nb;
};

// groups of LANES rows as they are stored, stride bytes apart, nb blocks of 32 columns each, times one token.
struct gemv {
    float *y;
    const uint8_t *w;
    const int8_t *q;
    const float *d;
    const float *g;
    const int32_t *c; // -128·Σq of a block
    const int32_t *h; // -128·Σq of its halves
    const uint8_t *table;
    const float *s; // bitsandbytes: scales of 64 columns, LANES a time
    long stride;
    long nb;
    long groups;
    float *buf; // 40 · LANES floats: scales of a super-block, the upper bits of its numbers, f
    // The kernel's own: there are too few registers to keep these elsewhere.
    float *out;
    const uint8_t *row;
    const float *srow;
    long left;
    float *scale;
    long back;
    const uint8_t *next;
};

// nb blocks of LANES rows to a panel.
struct pack {
    uint8_t *w;
    float *s;
    float *m;
    const uint8_t *in; // first block of the first row
    const uint8_t *table;
    const float *scales; // as in gemv
    long stride;
    long nb;
    float *buf;
};

// One row of activations to quantised blocks, in a tile of tw tokens.
struct prepare {
    const float *x;
    int8_t *q;
    float *d, *g, *gh;
    int32_t *s, *sh;
    long tw;
    long nb;
};

// rows of float weights, a multiple of 4 and stride bytes apart, n columns, times 1 or 4 tokens ldx floats apart.
struct dot {
    float *y;
    long ldy;
    const uint8_t *w;
    const float *x;
    long ldx;
    long n;
    long stride;
    long rows;
    // The kernel's own.
    float *out;
    const uint8_t *row;
    long left;
};
