// What the units share: the layout of a packed panel and the arguments of the kernels.
//
// A panel holds 16 rows of weights, block by block of 32 columns: 8 chunks of 64 bytes, in a chunk row r owns bytes
// 4r…4r+3, the columns 4c…4c+3 of chunk c. A byte is v + 128, or in a two-part panel first the 512 bytes of h + 128 and
// then those of l + 128 with v = 128·h + l. One 512-bit register is a chunk of 16 rows: there is no horizontal addition.
// Scales are float[16] a block, offsets too.
#pragma once
#include <immintrin.h>
#include <stdint.h>

#define ROWS 16
#define UNROLL _Pragma("clang loop unroll(full)")
// Every register but rsp and rbp may be overwritten, as in Go's ABI0: nothing needs to be saved.
#define KERNEL __attribute__((preserve_none)) void
#define INLINE static inline __attribute__((always_inline))
// Keeps the compiler from moving loads up over it, which would spill.
#define FENCE __asm__ volatile("" ::: "memory")

// One tile of tokens times one panel: y[t·ldy + r] is read, goes on block by block, and is stored.
struct gemm {
    float *y;
    long ldy;
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

// One row of y further, hidden from the compiler, which would hold one register for each row.
INLINE float *step(float *p, long ldy) {
    p += ldy;
    __asm__("" : "+r"(p));
    return p;
}

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
