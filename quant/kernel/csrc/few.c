// Rows as they are stored times 1, 2, 3, 4 or 8 tokens: what a batch of a few streams, or of one with guessed tokens, multiplies.
// LANES rows are transposed in registers as for one token (gemv.c) and meet all tokens there: packing a panel first costs more
// than it saves until some thirty tokens share it.
#include "few.h"
#include "rows.h"

KERNEL NAME(fewQ40x1)(struct few *a);
KERNEL NAME(fewQ40x2)(struct few *a);
KERNEL NAME(fewQ40x3)(struct few *a);
KERNEL NAME(fewQ40x4)(struct few *a);
KERNEL NAME(fewQ80x1)(struct few *a);
KERNEL NAME(fewQ80x2)(struct few *a);
KERNEL NAME(fewQ80x3)(struct few *a);
KERNEL NAME(fewQ80x4)(struct few *a);
KERNEL NAME(fewQ4Kx1)(struct few *a);
KERNEL NAME(fewQ4Kx2)(struct few *a);
KERNEL NAME(fewQ4Kx3)(struct few *a);
KERNEL NAME(fewQ4Kx4)(struct few *a);
KERNEL NAME(fewQ6Kx1)(struct few *a);
KERNEL NAME(fewQ6Kx2)(struct few *a);
KERNEL NAME(fewQ6Kx4)(struct few *a);
#if LANES != 8 // 8 tokens want more than 16 registers
KERNEL NAME(fewQ40x8)(struct few *a);
KERNEL NAME(fewQ80x8)(struct few *a);
KERNEL NAME(fewQ4Kx8)(struct few *a);
#endif
#if LANES != 8 && !(SMALLER && LANES == 4)
KERNEL NAME(fewQ6Kx8)(struct few *a);
#endif

// LANES · n bytes of the rows to come.
#define PREFETCH(n)                                                                                                    \
    {                                                                                                                  \
        const uint8_t *pf = a->next;                                                                                   \
        UNROLL for (long o = 0; o < LANES * (n); o += 64) PREFETCH_L2(pf + o);                                         \
        a->next = pf + LANES * (n);                                                                                    \
    }                                                                                                                  \
    FENCE;

// One block or super-block: rows are read from r, q is the first token's block; d, g, c and h of token t are at a->at + t.
// The running sums stay in memory, so that registers are left for the tokens' products.
#define GROUPS(name, T, ...)                                                                                           \
    KERNEL NAME(name)(struct few *a) {                                                                                 \
        a->out = a->y;                                                                                                 \
        a->row = a->w;                                                                                                 \
        a->left = a->groups;                                                                                           \
        a->end = a->nb * a->tw;                                                                                        \
        do {                                                                                                           \
            struct rows r = rowsAt(a->row, a->stride);                                                                 \
            a->next = a->row + LANES * a->stride;                                                                      \
            const int8_t *q = a->q;                                                                                    \
            UNROLL for (int t = 0; t < T; t++) P(storeu_ps)(SUMS + LANES * t, P(set1_ps)(0));                          \
            a->at = 0;                                                                                                 \
            FENCE;                                                                                                     \
            do {                                                                                                       \
                __VA_ARGS__                                                                                            \
            } while (a->at < a->end);                                                                                  \
            float *p = a->out;                                                                                         \
            UNROLL for (int t = 0; t < T; t++, p = step(p, a->ldy)) P(storeu_ps)(p, P(loadu_ps)(SUMS + LANES * t));    \
            a->out += LANES;                                                                                           \
            a->row += LANES * a->stride;                                                                               \
            FENCE;                                                                                                     \
        } while (--a->left);                                                                                           \
    }

#if SMALLER
#define NIBBLES(T)                                                                                                     \
    A x[T];                                                                                                            \
    UNROLL for (int t = 0; t < T; t++) x[t] = smallZero();                                                             \
    UNROLL for (int k = 0; k < 8; k++) {                                                                               \
        V v = k < 4 ? low(w[k]) : high(w[k - 4]);                                                                      \
        UNROLL for (int t = 0; t < T; t++) {                                                                           \
            x[t] = smallDot(x[t], v, q + 32 * t, k);                                                                   \
            FENCE;                                                                                                     \
        }                                                                                                              \
    }                                                                                                                  \
    UNROLL for (int t = 0; t < T; t++) i[t] = smallSum(P(srai_epi32)(same(a->c + a->at + t), 4), x[t]);
#else
#define NIBBLES(T)                                                                                                     \
    UNROLL for (int t = 0; t < T; t++) i[t] = P(srai_epi32)(same(a->c + a->at + t), 4);                                \
    UNROLL for (int k = 0; k < 8; k++) {                                                                               \
        V v = k < 4 ? low(w[k]) : high(w[k - 4]);                                                                      \
        UNROLL for (int t = 0; t < T; t++) i[t] = dotU(i[t], v, q + 32 * t, k);                                        \
        if (LANES < 16) FENCE;                                                                                         \
    }
#endif

#define FEWQ40(name, T)                                                                                                   \
    GROUPS(name, T, {                                                                                                  \
        V w[4], i[T];                                                                                                  \
        load16(w, &r, 2);                                                                                              \
        NIBBLES(T)                                                                                                     \
        SCALED(T, i, halves(&r, 0))                                                                                    \
        PREFETCH(18)                                                                                                   \
        advance(&r, 18);                                                                                               \
        NEXT                                                                                                           \
    })

// Chunks 4h … 4h+3 of bytes.
#define BYTES(T, h)                                                                                                    \
    load16(w, &r, 2 + 16 * h);                                                                                         \
    UNROLL for (int k = 0; k < 4; k++) {                                                                               \
        V v = XOR(w[k], bytes(BIAS));                                                                                  \
        UNROLL for (int t = 0; t < T; t++) {                                                                           \
            i[t] = dotS(i[t], v, q + 32 * t, k + 4 * h);                                                               \
            if (LANES == 8) FENCE;                                                                                     \
        }                                                                                                              \
        if (LANES < 16) FENCE;                                                                                         \
    }

#define FEWQ80(name, T)                                                                                                   \
    GROUPS(name, T, {                                                                                                  \
        V w[4], i[T];                                                                                                  \
        UNROLL for (int t = 0; t < T; t++) i[t] = BIAS ? same(a->c + a->at + t) : zero();                              \
        BYTES(T, 0)                                                                                                    \
        BYTES(T, 1)                                                                                                    \
        SCALED(T, i, halves(&r, 0))                                                                                    \
        PREFETCH(34)                                                                                                   \
        advance(&r, 34);                                                                                               \
        NEXT                                                                                                           \
    })

// Half of a block of Q4_K, at offset o: the low nibbles of 32 bytes, or the high ones.
#define HALFQ4K(T, high4, o, half)                                                                                     \
    load16(w, &r, 16 + (o) + 16 * half);                                                                               \
    UNROLL for (int k = 0; k < 4; k++) {                                                                               \
        V v = high4 ? high(w[k]) : low(w[k]);                                                                          \
        UNROLL for (int t = 0; t < T; t++) {                                                                           \
            i[t] = dotU(i[t], v, q + 32 * t, k + 4 * half);                                                            \
            if (LANES == 8) FENCE;                                                                                     \
        }                                                                                                              \
        if (LANES < 16) FENCE;                                                                                         \
    }

// A block of Q4_K with its scale and offset.
#define BLOCKQ4K(T, high4, o, s, m)                                                                                    \
    {                                                                                                                  \
        V w[4], i[T];                                                                                                  \
        UNROLL for (int t = 0; t < T; t++) i[t] = zero();                                                              \
        HALFQ4K(T, high4, o, 0)                                                                                        \
        HALFQ4K(T, high4, o, 1)                                                                                        \
        SHIFTED(T, i, P(loadu_ps)(s), P(loadu_ps)(m))                                                                  \
        FENCE;                                                                                                         \
        NEXT                                                                                                           \
    }

// Blocks 2j and 2j+1 are the nibbles of the same 32 bytes.
#if LANES == 16 // there are too few registers to walk through 16 rows in two steps
#define FEWQ4K(name, T)                                                                                                \
    GROUPS(name, T, scales4(a->buf, a->buf + 8 * LANES, &r, 0); UNROLL for (int j = 0; j < 8; j++) {                   \
        BLOCKQ4K(T, j % 2, 32 * (j / 2), a->buf + LANES * j, a->buf + LANES * (8 + j))                                 \
        PREFETCH(18)                                                                                                   \
    } advance(&r, 144);)
#else
#define FEWQ4K(name, T)                                                                                                \
    GROUPS(name, T, scales4(a->buf, a->buf + 8 * LANES, &r, 0); a->scale = a->buf; FENCE; do {                         \
        BLOCKQ4K(T, 0, 0, a->scale, a->scale + 8 * LANES)                                                              \
        BLOCKQ4K(T, 1, 0, a->scale + LANES, a->scale + 9 * LANES)                                                      \
        PREFETCH(36)                                                                                                   \
        a->scale += 2 * LANES;                                                                                         \
        advance(&r, 32);                                                                                               \
    } while (a->scale != a->buf + 8 * LANES); advance(&r, 16);)
#endif

// A half of block 4n+j of Q6_K: its scale multiplies the sum as an integer.
#define HALFQ6K(T, j, half, to)                                                                                        \
    halfQ6K(w, &r, a->buf + 24 * LANES, j, half);                                                                      \
    {                                                                                                                  \
        const int32_t *h = a->h + 2 * a->at + half * a->tw;                                                            \
        UNROLL for (int t = 0; t < T; t++) to[t] = P(srai_epi32)(same(h + t), 2);                                      \
    }                                                                                                                  \
    UNROLL for (int k = 0; k < 4; k++) {                                                                               \
        UNROLL for (int t = 0; t < T; t++) {                                                                           \
            to[t] = dotU(to[t], w[k], q + 32 * t, k + 4 * half);                                                       \
            if (LANES == 8) FENCE;                                                                                     \
        }                                                                                                              \
        if (LANES < 16) FENCE;                                                                                         \
    }                                                                                                                  \
    {                                                                                                                  \
        V s = load(a->scale + 2 * LANES * j + half * LANES);                                                           \
        UNROLL for (int t = 0; t < T; t++) to[t] = P(mullo_epi32)(to[t], s);                                           \
    }                                                                                                                  \
    FENCE;

#define FEWQ6K(name, T)                                                                                                \
    GROUPS(name, T, scales6((int32_t *)a->buf, &r); P(storeu_ps)(a->buf + 32 * LANES, halves(&r, 208)); a->scale = a->buf; a->back = 0; FENCE; do { \
        upper6(a->buf + 24 * LANES, &r, a->back);                                                                      \
        UNROLL for (int j = 0; j < 4; j++) {                                                                           \
            V w[4], i[T], x[T];                                                                                        \
            HALFQ6K(T, j, 0, i)                                                                                        \
            HALFQ6K(T, j, 1, x)                                                                                        \
            UNROLL for (int t = 0; t < T; t++) i[t] = P(add_epi32)(i[t], x[t]);                                        \
            SCALED(T, i, P(loadu_ps)(a->buf + 32 * LANES))                                                             \
            PREFETCH(26)                                                                                               \
            NEXT                                                                                                       \
        }                                                                                                              \
        move(&r, 64);                                                                                                  \
        a->scale += 8 * LANES;                                                                                         \
        a->back += 32;                                                                                                 \
        FENCE;                                                                                                         \
    } while (a->back != 64); move(&r, 82);)

#define EACH(KIND, name)                                                                                               \
    KIND(name##x1, 1)                                                                                                  \
    KIND(name##x2, 2)                                                                                                  \
    KIND(name##x3, 3)                                                                                                  \
    KIND(name##x4, 4)
EACH(FEWQ40, fewQ40)
EACH(FEWQ80, fewQ80)
EACH(FEWQ4K, fewQ4K)
FEWQ6K(fewQ6Kx1, 1)
FEWQ6K(fewQ6Kx2, 2)
FEWQ6K(fewQ6Kx4, 4)
#if LANES != 8
FEWQ40(fewQ40x8, 8)
FEWQ80(fewQ80x8, 8)
FEWQ4K(fewQ4Kx8, 8)
#endif
#if LANES != 8 && !(SMALLER && LANES == 4)
FEWQ6K(fewQ6Kx8, 8)
#endif
