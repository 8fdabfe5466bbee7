// Tiles (tile.c) times 1, 2, 4 or 8 tokens, as few.c does it with rows.
#include "few.h"

KERNEL NAME(tilesQ40x1)(struct few *a);
KERNEL NAME(tilesQ40x2)(struct few *a);
KERNEL NAME(tilesQ40x4)(struct few *a);
KERNEL NAME(tilesQ80x1)(struct few *a);
KERNEL NAME(tilesQ80x2)(struct few *a);
KERNEL NAME(tilesQ80x4)(struct few *a);
KERNEL NAME(tilesQ4Kx1)(struct few *a);
KERNEL NAME(tilesQ4Kx2)(struct few *a);
KERNEL NAME(tilesQ4Kx4)(struct few *a);
KERNEL NAME(tilesQ6Kx1)(struct few *a);
KERNEL NAME(tilesQ6Kx2)(struct few *a);
#if LANES != 8 // 8 tokens want more than 16 registers
KERNEL NAME(tilesQ6Kx4)(struct few *a);
KERNEL NAME(tilesQ40x8)(struct few *a);
KERNEL NAME(tilesQ80x8)(struct few *a);
KERNEL NAME(tilesQ4Kx8)(struct few *a);
KERNEL NAME(tilesQ6Kx8)(struct few *a);
#endif

#define WORD (4 * LANES) // bytes of a word of all rows

// What is read so many bytes further on is asked for: with several tokens the processor itself asks too late, and waits for
// memory as long as it computes.
#define AHEAD 4096
#define PREFETCH(n) UNROLL for (long o = 0; o < (n); o += 64) PREFETCH_L2(p + AHEAD + o);

// One tile of COLS columns and LANES·BYTES bytes: p is the tile, q the first token's block; d, g, c and h of token t are at
// a->at + t. The running sums stay in memory, so that registers are left for the tokens' products.
#define TILES(name, T, BYTES, ...)                                                                                     \
    KERNEL NAME(name)(struct few *a) {                                                                                 \
        const uint8_t *p = a->w;                                                                                       \
        a->out = a->y;                                                                                                 \
        a->left = a->groups;                                                                                           \
        a->end = a->nb * a->tw;                                                                                        \
        do {                                                                                                           \
            const int8_t *q = a->q;                                                                                    \
            UNROLL for (int t = 0; t < T; t++) P(storeu_ps)(SUMS + LANES * t, P(set1_ps)(0));                          \
            a->at = 0;                                                                                                 \
            FENCE;                                                                                                     \
            do {                                                                                                       \
                PREFETCH(LANES * (BYTES))                                                                              \
                __VA_ARGS__                                                                                            \
                p += LANES * (BYTES);                                                                                  \
            } while (a->at < a->end);                                                                                  \
            float *y = a->out;                                                                                         \
            UNROLL for (int t = 0; t < T; t++, y = step(y, a->ldy)) P(storeu_ps)(y, P(loadu_ps)(SUMS + LANES * t));    \
            a->out += LANES;                                                                                           \
            FENCE;                                                                                                     \
        } while (--a->left);                                                                                           \
    }

// One chunk of numbers with all tokens.
#define DOTS(T, DOT, i, v, k)                                                                                          \
    UNROLL for (int t = 0; t < T; t++) {                                                                               \
        i[t] = DOT(i[t], v, q + 32 * t, k);                                                                            \
        if (LANES == 8) FENCE;                                                                                         \
    }                                                                                                                  \
    if (LANES < 16) FENCE;

INLINE F halvesAt(const uint8_t *p) {
#if LANES == 16
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
#else
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
#endif
}

// A block of numbers 0 … 15 in the nibbles of 4 words.
#if SMALLER
#define NIBBLES(T, from)                                                                                               \
    A x[T];                                                                                                            \
    UNROLL for (int t = 0; t < T; t++) x[t] = smallZero();                                                             \
    UNROLL for (int k = 0; k < 4; k++) {                                                                               \
        V v = load((from) + WORD * k), l = low(v);                                                                     \
        DOTS(T, smallDot, x, l, k)                                                                                     \
        l = high(v);                                                                                                   \
        DOTS(T, smallDot, x, l, k + 4)                                                                                 \
    }                                                                                                                  \
    UNROLL for (int t = 0; t < T; t++) i[t] = smallSum(P(srai_epi32)(same(a->c + a->at + t), 4), x[t]);
#else
#define NIBBLES(T, from)                                                                                               \
    UNROLL for (int t = 0; t < T; t++) i[t] = P(srai_epi32)(same(a->c + a->at + t), 4);                                \
    UNROLL for (int k = 0; k < 4; k++) {                                                                               \
        V v = load((from) + WORD * k), l = low(v);                                                                     \
        DOTS(T, dotU, i, l, k)                                                                                         \
        l = high(v);                                                                                                   \
        DOTS(T, dotU, i, l, k + 4)                                                                                     \
    }
#endif
#define T40(name, T)                                                                                                   \
    TILES(name, T, 36, UNROLL for (int b = 0; b < 2; b++) {                                                            \
        V i[T];                                                                                                        \
        NIBBLES(T, p + WORD * (1 + 4 * b))                                                                             \
        SCALED(T, i, halvesAt(p + WORD / 2 * b))                                                                       \
        NEXT                                                                                                           \
    })

#define T80(name, T)                                                                                                   \
    TILES(name, T, 68, UNROLL for (int b = 0; b < 2; b++) {                                                            \
        V i[T];                                                                                                        \
        UNROLL for (int t = 0; t < T; t++) i[t] = BIAS ? same(a->c + a->at + t) : zero();                              \
        UNROLL for (int k = 0; k < 8; k++) {                                                                           \
            V v = XOR(load(p + WORD * (1 + 8 * b + k)), bytes(BIAS));                                                  \
            DOTS(T, dotS, i, v, k)                                                                                     \
        }                                                                                                              \
        SCALED(T, i, halvesAt(p + WORD / 2 * b))                                                                       \
        NEXT                                                                                                           \
    })

INLINE void scales4(float *s, float *m, const uint8_t *p, int negative) {
    V t0 = load(p), t1 = load(p + WORD), t2 = load(p + 2 * WORD), t3 = load(p + 3 * WORD);
    const V six = bytes(63);
    F d = lowHalf(t0), dmin = highHalf(t0);
    V sc = AND(t1, six), mn = AND(t2, six);
    if (negative) dmin = P(mul_ps)(dmin, P(set1_ps)(-1));
    UNROLL for (int j = 0; j < 8; j++) {
        if (j == 4) {
            sc = OR(low(t3), AND(P(srli_epi32)(t1, 2), bytes(48)));
            mn = OR(high(t3), AND(P(srli_epi32)(t2, 2), bytes(48)));
        }
        P(storeu_ps)(s + LANES * j, P(mul_ps)(d, P(cvtepi32_ps)(byteOf(sc, j % 4))));
        P(storeu_ps)(m + LANES * j, P(mul_ps)(dmin, P(cvtepi32_ps)(byteOf(mn, j % 4))));
        if (LANES == 8) FENCE;
    }
    FENCE;
}
// A block of Q4_K: the low nibbles of 8 words, or the high ones, with the scale and offset that are next.
#define BLOCKQ4K(T, NIBBLE)                                                                                            \
    {                                                                                                                  \
        V i[T];                                                                                                        \
        UNROLL for (int t = 0; t < T; t++) i[t] = zero();                                                              \
        UNROLL for (int k = 0; k < 8; k++) {                                                                           \
            V v = NIBBLE(load(p + WORD * k));                                                                          \
            DOTS(T, dotU, i, v, k)                                                                                     \
        }                                                                                                              \
        SHIFTED(T, i, P(loadu_ps)(a->scale), P(loadu_ps)(a->scale + 8 * LANES))                                        \
        a->scale += LANES;                                                                                             \
        FENCE;                                                                                                         \
        NEXT                                                                                                           \
    }
// Blocks 2j and 2j+1 are the nibbles of the same 8 words.
#define T4K(name, T)                                                                                                   \
    TILES(name, T, 0, PREFETCH(4 * WORD) scales4(a->buf, a->buf + 8 * LANES, p, 0); a->scale = a->buf; p += 4 * WORD; FENCE; do {         \
        PREFETCH(8 * WORD)                                                                                             \
        BLOCKQ4K(T, low)                                                                                               \
        BLOCKQ4K(T, high)                                                                                              \
        p += 8 * WORD;                                                                                                 \
        FENCE;                                                                                                         \
    } while (a->scale != a->buf + 8 * LANES);)

INLINE V widened(const uint8_t *p) {
#if LANES == 16
    return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p));
#else
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p));
#endif
}
// Word 4h + k of block 4n + i, as v + 32; w is where half n begins.
INLINE V word6(const uint8_t *w, int i, int h, int k) {
    int at = 4 * h + k;
    V u = load(w + WORD * 2 * at), l = load(w + WORD * (i % 2 ? 16 + at : 2 * at + 1));
    l = i < 2 ? low(l) : high(l);
    u = i < 2 ? shiftLeft(u, 4 - 2 * i) : shiftRight(u, 2 * i - 4);
    return OR(l, AND(u, bytes(48)));
}
// A half of a block of Q6_K: its scale multiplies the sum as an integer.
#define HALFQ6K(T, j, half, to)                                                                                        \
    {                                                                                                                  \
        const int32_t *h = a->h + 2 * a->at + half * a->tw;                                                            \
        UNROLL for (int t = 0; t < T; t++) to[t] = P(srai_epi32)(same(h + t), 2);                                      \
    }                                                                                                                  \
    UNROLL for (int k = 0; k < 4; k++) {                                                                               \
        V v = word6(p + 5 * WORD, j, half, k);                                                                                    \
        DOTS(T, dotU, to, v, k + 4 * half)                                                                             \
    }                                                                                                                  \
    {                                                                                                                  \
        V s = widened(sc + LANES * (2 * j + half));                                                              \
        UNROLL for (int t = 0; t < T; t++) to[t] = P(mullo_epi32)(to[t], s);                                           \
    }                                                                                                                  \
    FENCE;
// Four blocks, those of a half of the tile, with the scales at sc and that of all at one.
#define FOUR6(T, one)                                                                                                  \
    UNROLL for (int j = 0; j < 4; j++) {                                                                               \
        V i[T], x[T];                                                                                                  \
        HALFQ6K(T, j, 0, i)                                                                                            \
        HALFQ6K(T, j, 1, x)                                                                                            \
        UNROLL for (int t = 0; t < T; t++) i[t] = P(add_epi32)(i[t], x[t]);                                            \
        SCALED(T, i, P(loadu_ps)((const float *)(one)))                                                                \
        NEXT                                                                                                           \
    }
// One half after the other: in a loop it is 3 to 5 % slower where there are few tokens, as fast with 4 or 8.
#define T6K(name, T)                                                                                                   \
    TILES(name, T, 212, UNROLL for (int n = 0; n < 2; n++) {                                                           \
        const uint8_t *sc = p + WORD + 8 * LANES * n - 24 * WORD * n;                                                  \
        FOUR6(T, p - 24 * WORD * n)                                                                                    \
        p += 24 * WORD;                                                                                                \
    } p -= 48 * WORD;)
#define T6KLOOP(name, T)                                                                                               \
    TILES(name, T, 212, const uint8_t *sc = p + WORD; P(storeu_ps)(a->buf + 32 * LANES, P(loadu_ps)((const float *)p)); a->back = 2; FENCE; do { \
        FOUR6(T, a->buf + 32 * LANES)                                                                                  \
        sc += 8 * LANES;                                                                                               \
        p += 24 * WORD;                                                                                                \
        FENCE;                                                                                                         \
    } while (--a->back); p -= 48 * WORD;)

#define EACH(KIND, name)                                                                                               \
    KIND(name##x1, 1)                                                                                                  \
    KIND(name##x2, 2)                                                                                                  \
    KIND(name##x4, 4)
EACH(T40, tilesQ40)
EACH(T80, tilesQ80)
EACH(T4K, tilesQ4K)
T6K(tilesQ6Kx1, 1)
T6K(tilesQ6Kx2, 2)
#if LANES != 8
T40(tilesQ40x8, 8)
T80(tilesQ80x8, 8)
T4K(tilesQ4Kx8, 8)
T6KLOOP(tilesQ6Kx4, 4)
T6KLOOP(tilesQ6Kx8, 8)
#endif
