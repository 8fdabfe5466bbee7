// Rows as they are stored in the file times one token: LANES rows at a time are transposed in registers, so that decoding
// needs no other copy of the weights. The next LANES rows lie behind these, and are prefetched to the second-level cache
// while these are used: memory sees one sequential stream. (Into the first level they do not fit: 12 GB/s instead of 26
// with AVX-512 where a plain sum reads 30.)
#include "rows.h"

KERNEL NAME(gemvQ41)(struct gemv *a);
KERNEL NAME(gemvQ50)(struct gemv *a);
KERNEL NAME(gemvQ51)(struct gemv *a);
KERNEL NAME(gemvMXFP4)(struct gemv *a);
KERNEL NAME(gemvQ4K)(struct gemv *a);
KERNEL NAME(gemvQ5K)(struct gemv *a);
KERNEL NAME(gemvIQ4XS)(struct gemv *a);
#if LANES > 4 // NEON has these in rows.c
KERNEL NAME(gemvQ40)(struct gemv *a);
KERNEL NAME(gemvQ80)(struct gemv *a);
KERNEL NAME(gemvIQ4NL)(struct gemv *a);
KERNEL NAME(gemvQ6K)(struct gemv *a);
KERNEL NAME(gemvBnB)(struct gemv *a);
#endif

// LANES · n bytes of the rows to come. The fence also keeps what a points to in memory: there are no registers for it.
#define PREFETCH(n)                                                                                                    \
    UNROLL for (long o = 0; o < LANES * (n); o += 64) PREFETCH_L2(pf + o);                                             \
    pf += LANES * (n);                                                                                                 \
    FENCE;

// One block: rows are read from r, q is the token's block, b its number.
#define GROUPS(name, ...)                                                                                              \
    KERNEL NAME(name)(struct gemv *a) {                                                                                \
        a->out = a->y;                                                                                                 \
        a->row = a->w;                                                                                                 \
        a->srow = a->s;                                                                                                \
        a->left = a->groups;                                                                                           \
        do {                                                                                                           \
            struct rows r = rowsAt(a->row, a->stride);                                                                 \
            const uint8_t *pf = a->row + LANES * a->stride;                                                            \
            a->next = pf;                                                                                              \
            const int8_t *q = a->q;                                                                                    \
            F f = P(set1_ps)(0);                                                                                       \
            long b = 0;                                                                                                \
            do {                                                                                                       \
                __VA_ARGS__                                                                                            \
            } while (b < a->nb);                                                                                       \
            P(storeu_ps)(a->out, f);                                                                                   \
            a->out += LANES;                                                                                           \
            a->row += LANES * a->stride;                                                                               \
        } while (--a->left);                                                                                           \
    }

// The running sums make room where 16 registers are too few.
#define PARK                                                                                                           \
    if (LANES == 8) P(storeu_ps)(a->buf + 30 * LANES, f);                                                              \
    if (LANES == 8) FENCE
#define UNPARK                                                                                                         \
    if (LANES == 8) f = P(loadu_ps)(a->buf + 30 * LANES)

// The step of one block: f = fma(i, s·d, f).
INLINE F scaled(F f, V i, F s, const float *d) { return P(fmadd_ps)(P(cvtepi32_ps)(i), P(mul_ps)(s, P(set1_ps)(*d)), f); }

// What signed weights start from.
INLINE V start(const int32_t *c) { return BIAS ? same(c) : zero(); }

// Four chunks from start.
INLINE V dotHalf(V i, const V w[4], const int8_t *q) {
    UNROLL for (int k = 0; k < 4; k++) i = dotU(i, w[k], q, k);
    return i;
}

// The sum of a block in nibbles; two chains hide half of the latency.
INLINE V dotNibbles(enum kind kind, V i, const V t[4], V table, V h, const int8_t *q) {
    V j = zero();
    UNROLL for (int k = 0; k < 4; k++) {
        V a = chunk(kind, t, table, h, k), b = chunk(kind, t, table, h, k + 4);
        i = kind == TABLE ? dotS(i, a, q, k) : dotU(i, a, q, k);
        j = kind == TABLE ? dotS(j, b, q, k + 4) : dotU(j, b, q, k + 4);
        PIN(i); // one chunk after the other, or it spills
        PIN(j);
    }
    return P(add_epi32)(i, j);
}

#if LANES == 4
// NEON adds horizontally at little cost: rows are multiplied as they are, without transposing them, and the four sums of
// four rows folded into one register: 3.1 against 5.2 cycles for 32 weights on a Cortex-A76 (llvm-mca).
#ifdef __ARM_FEATURE_DOTPROD
typedef int32x4_t S;
INLINE S rowNumbers(int8x16_t a, int8x16_t b, int8x16_t x, int8x16_t z) { return vdotq_s32(vdotq_s32(vdupq_n_s32(0), a, x), b, z); }
INLINE S rowBytes(int8x16_t a, int8x16_t b, int8x16_t x, int8x16_t z) { return rowNumbers(a, b, x, z); }
INLINE V foldNumbers(const S s[4]) { return vpaddq_s32(vpaddq_s32(s[0], s[1]), vpaddq_s32(s[2], s[3])); }
INLINE V foldBytes(const S s[4]) { return foldNumbers(s); }
typedef S T;
#else
// 16 products of 15·127 fit 16 bits.
typedef int16x8_t S;
INLINE S rowNumbers(int8x16_t a, int8x16_t b, int8x16_t x, int8x16_t z) {
    S s = vmull_s8(vget_low_s8(a), vget_low_s8(x));
    s = vmlal_high_s8(s, a, x);
    s = vmlal_s8(s, vget_low_s8(b), vget_low_s8(z));
    return vmlal_high_s8(s, b, z);
}
INLINE V foldNumbers(const S s[4]) { return vpaddlq_s16(vpaddq_s16(vpaddq_s16(s[0], s[1]), vpaddq_s16(s[2], s[3]))); }
// 2 products of 128·127 do.
typedef int32x4_t T;
INLINE T rowBytes(int8x16_t a, int8x16_t b, int8x16_t x, int8x16_t z) {
    int16x8_t s = vmlal_high_s8(vmull_s8(vget_low_s8(a), vget_low_s8(x)), a, x);
    int16x8_t t = vmlal_high_s8(vmull_s8(vget_low_s8(b), vget_low_s8(z)), b, z);
    return vpadalq_s16(vpaddlq_s16(s), t);
}
INLINE V foldBytes(const T s[4]) { return vpaddq_s32(vpaddq_s32(s[0], s[1]), vpaddq_s32(s[2], s[3])); }
#endif
#define ROWAT(i) (r->at[0] + ((i) == 0 ? 0 : (i) == 1 ? r->stride : (i) == 2 ? 2 * r->stride : r->stride3))
#define LOW4(v) vreinterpretq_s8_u8(vandq_u8(v, vdupq_n_u8(15)))
#define HIGH4(v) vreinterpretq_s8_u8(vshrq_n_u8(v, 4))

// Four rows of a block whose 32 numbers stand in 16 bytes at offset at.
INLINE V rowsNibbles(enum kind kind, const struct rows *r, long at, const int8_t *q, V table) {
    int8x16_t x = vld1q_s8(q), z = vld1q_s8(q + 16);
    S s[4];
    T t[4];
    UNROLL for (int i = 0; i < 4; i++) {
        uint8x16_t v = vld1q_u8(ROWAT(i) + at);
        int8x16_t a = LOW4(v), b = HIGH4(v);
        if (kind == TABLE)
            t[i] = rowBytes(vqtbl1q_s8(S8(table), vreinterpretq_u8_s8(a)), vqtbl1q_s8(S8(table), vreinterpretq_u8_s8(b)), x, z);
        else
            s[i] = rowNumbers(a, b, x, z);
    }
    return kind == TABLE ? foldBytes(t) : foldNumbers(s);
}
// Four rows of two blocks, in the low and the high nibbles of 32 bytes.
INLINE void rowsPair(V *low, V *high, const struct rows *r, long at, const int8_t *q) {
    S s[4], t[4];
    int8x16_t x = vld1q_s8(q), z = vld1q_s8(q + 16), x1 = vld1q_s8(q + 32), z1 = vld1q_s8(q + 48);
    UNROLL for (int i = 0; i < 4; i++) {
        uint8x16_t v = vld1q_u8(ROWAT(i) + at), w = vld1q_u8(ROWAT(i) + at + 16);
        s[i] = rowNumbers(LOW4(v), LOW4(w), x, z);
        t[i] = rowNumbers(HIGH4(v), HIGH4(w), x1, z1);
    }
    *low = foldNumbers(s);
    *high = foldNumbers(t);
}
#endif

INLINE V startOf(enum kind kind, int shift, const int32_t *c) {
    if (kind == TABLE) return start(c);
    return shift < 0 ? zero() : P(srai_epi32)(same(c), shift);
}
#if LANES == 4
#define ROWSNIBBLES(kind, r, at, q, table) rowsNibbles(kind, r, at, q, kind == TABLE ? table : zero())
#else
#define ROWSNIBBLES(kind, r, at, q, table) zero()
#endif
#define SMALL_(name, kind, bytes, at, fifthAt, OFF, SHIFT)                                                             \
    GROUPS(name, {                                                                                                     \
        V t[4], h = zero();                                                                                            \
        F s, m;                                                                                                        \
        PARK;                                                                                                          \
        if (kind == FIFTH) h = dwords(&r, fifthAt);                                                                    \
        V i = startOf(kind, SHIFT, a->c + b);                                                                          \
        if (LANES == 4 && kind != FIFTH) {                                                                             \
            i = P(add_epi32)(i, ROWSNIBBLES(kind, &r, at, q, table16(a->table)));                                      \
        } else {                                                                                                       \
            load16(t, &r, at);                                                                                         \
            i = dotNibbles(kind, i, t, kind == TABLE ? table16(a->table) : h, h, q);                                   \
        }                                                                                                              \
        UNPARK;                                                                                                        \
        if (OFF == 1) {                                                                                                \
            V x = dwords(&r, 0);                                                                                       \
            s = lowHalf(x);                                                                                            \
            m = highHalf(x);                                                                                           \
        } else {                                                                                                       \
            s = OFF == 2 ? power(&r) : halves(&r, 0);                                                                  \
        }                                                                                                              \
        f = scaled(f, i, s, a->d + b);                                                                                 \
        if (OFF == 1) f = P(fmadd_ps)(m, P(set1_ps)(a->g[b]), f);                                                      \
        PREFETCH(bytes)                                                                                                \
        advance(&r, bytes);                                                                                            \
        q += 32;                                                                                                       \
        b++;                                                                                                           \
    })
#define SMALL(name, ...) SMALL_(name, __VA_ARGS__)
SMALL(gemvQ41, Q41)
SMALL(gemvQ50, Q50)
SMALL(gemvQ51, Q51)
SMALL(gemvMXFP4, MXFP4)

#if LANES > 4
SMALL(gemvQ40, Q40)
SMALL(gemvIQ4NL, IQ4NL)

GROUPS(gemvQ80, {
    V t[4];
    V i = start(a->c + b);
    load16(t, &r, 2);
    UNROLL for (int k = 0; k < 4; k++) i = dotS(i, XOR(t[k], bytes(BIAS)), q, k);
    V j = zero();
    load16(t, &r, 18);
    UNROLL for (int k = 0; k < 4; k++) j = dotS(j, XOR(t[k], bytes(BIAS)), q, k + 4);
    f = scaled(f, P(add_epi32)(i, j), halves(&r, 0), a->d + b);
    PREFETCH(34)
    advance(&r, 34);
    q += 32;
    b++;
})
#endif

// Super-blocks of 256: the last argument does the next STEP blocks, whose scales a->scale points to, SKIP bytes of each row further than
// the ones before. Scales go to memory first, there are too few registers for them.
#define SUPER(name, bytes, STEP, SKIP, before, ...)                                                                    \
    GROUPS(name, before; a->scale = a->buf; a->back = 8; FENCE; do {                          \
        __VA_ARGS__                                                                                                    \
        AHEAD(bytes / 8 * STEP)                                                                                        \
        move(&r, SKIP);                                                                                                \
        q += 32 * STEP;                                                                                                \
        b += STEP;                                                                                                     \
        if (STEP == 8) break;                                                                                          \
        FENCE;                                                                                                         \
    } while (a->back -= STEP); move(&r, bytes - 8 / STEP * SKIP);)
// PREFETCH with the address in memory.
#define AHEAD(n)                                                                                                       \
    {                                                                                                                  \
        const uint8_t *next = a->next;                                                                                 \
        UNROLL for (long o = 0; o < LANES * (n); o += 64) PREFETCH_L2(next + o);                                       \
        a->next = next + LANES * (n);                                                                                  \
    }                                                                                                                  \
    FENCE;
#define SCALE(j) P(loadu_ps)(a->scale + LANES * (j))
#define OFFSET(j) P(loadu_ps)(a->scale + 8 * LANES + LANES * (j))
#define UPPER (a->buf + 16 * LANES)

SUPER(gemvQ5K, 176, 2, 32, scales4(a->buf, a->buf + 8 * LANES, &r, 0); keep32(UPPER, &r, 16), {
    UNROLL for (int j = 0; j < 2; j++) {
        V w[4];
        V i = zero();
        halfQ5K(w, &r, UPPER, j, 0);
        i = dotHalf(i, w, q + 32 * j);
        FENCE;
        halfQ5K(w, &r, UPPER, j, 1);
        i = dotHalf(i, w, q + 32 * j + 16);
        f = scaled(f, i, SCALE(j), a->d + b + j);
        f = P(fnmadd_ps)(OFFSET(j), P(set1_ps)(a->g[b + j]), f);
        FENCE;
    }
    a->scale += 2 * LANES;
})

// Q4_K has two blocks in the nibbles of the same 32 bytes: they are taken together. NEON, whose blocks take few instructions, does
// all eight in one step, and so of IQ4_XS: counting steps would cost it 3 %.
#if LANES == 4
#define STEP4K 8
#define STEPXS 8
#define ROWSPAIR(p) rowsPair(&i0, &i1, &r, 16 + 32 * p, q + 64 * p);
#else
#define STEP4K 2
#define STEPXS 1
#define ROWSPAIR(p)
#endif
SUPER(gemvQ4K, 144, STEP4K, 16 * STEP4K, scales4(a->buf, a->buf + 8 * LANES, &r, 0), {
    UNROLL for (int p = 0; p < STEP4K / 2; p++) {
        V i0 = zero(), i1 = zero();
        ROWSPAIR(p)
        UNROLL for (int h = 0; h < 2 && LANES > 4; h++) {
            V t[4];
            load16(t, &r, 16 + 16 * h);
            UNROLL for (int k = 0; k < 4; k++) {
                i0 = dotU(i0, low(t[k]), q, 4 * h + k);
                i1 = dotU(i1, high(t[k]), q + 32, 4 * h + k);
                if (LANES < 16) PIN(i0);
                if (LANES < 16) PIN(i1);
            }
            if (LANES < 16) FENCE;
        }
        f = scaled(f, i0, SCALE(2 * p), a->d + b + 2 * p);
        f = P(fnmadd_ps)(OFFSET(2 * p), P(set1_ps)(a->g[b + 2 * p]), f);
        f = scaled(f, i1, SCALE(2 * p + 1), a->d + b + 2 * p + 1);
        f = P(fnmadd_ps)(OFFSET(2 * p + 1), P(set1_ps)(a->g[b + 2 * p + 1]), f);
        if (LANES == 4) FENCE;
    }
    a->scale += STEP4K * LANES;
})

#if LANES > 4
// A block of Q6_K has two scales: they multiply the sums of its halves, as integers.
SUPER(gemvQ6K, 210, 4, 64, scales6((int32_t *)a->buf, &r); P(storeu_ps)(a->buf + 24 * LANES, halves(&r, 208)), {
    upper6(UPPER, &r, 32 * (2 - a->back / 4));
    UNROLL for (int j = 0; j < 4; j++) {
        V w[4];
        halfQ6K(w, &r, UPPER, j, 0);
        V i0 = dotHalf(P(srai_epi32)(same(a->h + 2 * (b + j)), 2), w, q + 32 * j);
        i0 = P(mullo_epi32)(i0, load(a->scale + 2 * LANES * j));
        FENCE;
        halfQ6K(w, &r, UPPER, j, 1);
        V i1 = dotHalf(P(srai_epi32)(same(a->h + 2 * (b + j) + 1), 2), w, q + 32 * j + 16);
        i1 = P(mullo_epi32)(i1, load(a->scale + 2 * LANES * j + LANES));
        f = scaled(f, P(add_epi32)(i0, i1), P(loadu_ps)(a->buf + 24 * LANES), a->d + b + j);
        FENCE;
    }
    a->scale += 8 * LANES;
})
#endif

SUPER(gemvIQ4XS, 136, STEPXS, 16 * STEPXS, scalesXS(a->buf, &r), {
    UNROLL for (int j = 0; j < STEPXS; j++) {
        V t[4];
        load16(t, &r, 8 + 16 * j);
        V i = dotNibbles(TABLE, start(a->c + b + j), t, table16(a->table), t[0], q + 32 * j);
        f = scaled(f, i, SCALE(j), a->d + b + j);
    }
    a->scale += STEPXS * LANES;
})

#if LANES > 4
// bitsandbytes: 16 bytes hold 32 columns, the even one of a pair in the high nibble; q comes with the even columns of
// each 8 before the odd ones. Two tables, v = 128·h + l, and one scale for 64 columns.
INLINE V dotBnB(V c, const V t[4], V h, V l, const int8_t *q) {
    V i = c, j = c;
    UNROLL for (int k = 0; k < 4; k++) {
        V even = high(t[k]), odd = low(t[k]);
        i = dotS(i, P(shuffle_epi8)(h, even), q, 2 * k);
        j = dotS(j, P(shuffle_epi8)(l, even), q, 2 * k);
        if (LANES == 8) PIN(i);
        if (LANES == 8) PIN(j);
        i = dotS(i, P(shuffle_epi8)(h, odd), q, 2 * k + 1);
        j = dotS(j, P(shuffle_epi8)(l, odd), q, 2 * k + 1);
        PIN(i); // one chunk after the other, or it spills
        PIN(j);
    }
    return P(add_epi32)(P(slli_epi32)(i, 7), j);
}

GROUPS(gemvBnB, {
    V t[4];
    PARK;
    load16(t, &r, 0);
    V i = dotBnB(start(a->c + b), t, table16(a->table), table16(a->table + 16), q);
    UNPARK;
    f = scaled(f, i, P(loadu_ps)(a->srow), a->d + b);
    PARK;
    FENCE;
    load16(t, &r, 16);
    i = dotBnB(start(a->c + b + 1), t, table16(a->table), table16(a->table + 16), q + 32);
    UNPARK;
    f = scaled(f, i, P(loadu_ps)(a->srow), a->d + b + 1);
    a->srow += LANES;
    PREFETCH(32)
    advance(&r, 32);
    q += 64;
    b += 2;
})
#endif
