// Arguments of the kernels that read rows as they are stored.
#pragma once
#include <stdint.h>

// groups of 16 rows, stride bytes apart, nb blocks of 32 columns each, times one token.
struct gemv {
    float *y;
    const uint8_t *w;
    const int8_t *q;
    const float *d;
    const float *g;
    const int32_t *c; // -128·Σq of a block
    const int32_t *h; // -128·Σq of its halves
    const uint8_t *table;
    const float *s; // bitsandbytes: scales of 64 columns, rows sstride bytes apart
    long sstride;
    long stride;
    long nb;
    long groups;
    // The kernel's own: there are too few registers to keep these elsewhere.
    float *out;
    const uint8_t *row;
    const uint8_t *srow;
    long left;
};

#define START(a) (a)->out = (a)->y, (a)->row = (a)->w, (a)->srow = (const uint8_t *)(a)->s, (a)->left = (a)->groups
#define NEXT(a)                                                                                                        \
    ((a)->out += 16, (a)->row += 16 * (a)->stride, (a)->srow += 16 * (a)->sstride, --(a)->left)

// nb blocks of 16 rows to a panel, see panel.h.
struct pack {
    uint8_t *w;
    float *s;
    float *m;
    const uint8_t *in; // first block of the first row
    const uint8_t *table;
    const float *scales; // as in gemv
    long sstride;
    long stride;
    long nb;
};
