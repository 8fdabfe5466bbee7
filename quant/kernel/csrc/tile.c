// Tiles times one token, and tiles to panels. A tile holds LANES rows by 64 or 256 columns: the four-byte words of the rows
// lie beside each other, a register to a word, in the order in which package tile draws them. So there is no transposition,
// and memory sees one stream.
#include "panel.h"

KERNEL NAME(tileQ40)(struct gemv *a);
KERNEL NAME(tileQ80)(struct gemv *a);
KERNEL NAME(tileIQ4NL)(struct gemv *a);
KERNEL NAME(tileQ4K)(struct gemv *a);
KERNEL NAME(tileQ6K)(struct gemv *a);
KERNEL NAME(tileBnB)(struct gemv *a);
#if LANES == 16
KERNEL NAME(multiply1Q40)(const struct gemm *a);
KERNEL NAME(multiply2Q40)(const struct gemm *a);
KERNEL NAME(multiply4Q40)(const struct gemm *a);
KERNEL NAME(multiply8Q40)(const struct gemm *a);
#else
KERNEL NAME(panelQ40)(const struct pack *a);
#endif
KERNEL NAME(panelQ80)(const struct pack *a);
KERNEL NAME(panelIQ4NL)(const struct pack *a);
KERNEL NAME(panelQ4K)(const struct pack *a);
KERNEL NAME(panelQ6K)(const struct pack *a);
KERNEL NAME(panelBnB)(const struct pack *a);

#define WORD (4 * LANES) // bytes of a word of all rows

// Nothing is prefetched: x86 prefetches one stream best by itself. Asked to as well, a Zen 4 reads Q4_0 at 20 to 24 GB/s instead of 28
// (and where tiles were read out of order, Q6_K at 10, asked or not).

// One tile of COLS columns and LANES·BYTES bytes: p is the tile, q, d, g, c and h the token's blocks.
#define TILES(name, COLS, BYTES, ...)                                                                                  \
    KERNEL NAME(name)(struct gemv *a) {                                                                                \
        const uint8_t *p = a->w;                                                                                       \
        float *out = a->y;                                                                                             \
        long left = a->groups;                                                                                         \
        do {                                                                                                           \
            const int8_t *q = a->q;                                                                                    \
            const float *d = a->d, *g = a->g;                                                                          \
            const int32_t *c = a->c, *h = a->h;                                                                        \
            long n = a->nb;                                                                                            \
            F f = P(set1_ps)(0);                                                                                       \
            do {                                                                                                       \
                __VA_ARGS__                                                                                            \
                p += LANES * (BYTES);                                                                                  \
                q += COLS;                                                                                             \
                d += COLS / 32;                                                                                        \
                g += COLS / 32;                                                                                        \
                c += COLS / 32;                                                                                        \
                h += COLS / 16;                                                                                        \
                n -= COLS / 32;                                                                                        \
                FENCE;                                                                                                 \
            } while (n > 0);                                                                                           \
            P(storeu_ps)(out, f);                                                                                      \
            out += LANES;                                                                                              \
        } while (--left);                                                                                              \
    }

INLINE F halvesAt(const uint8_t *p) {
#if LANES == 16
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
#else
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
#endif
}
INLINE F scaled(F f, V i, F s, const float *d) { return P(fmadd_ps)(P(cvtepi32_ps)(i), P(mul_ps)(s, P(set1_ps)(*d)), f); }
INLINE V start(const int32_t *c) { return BIAS ? same(c) : zero(); }

// A block of numbers 0 … 15 in the nibbles of 4 words at w, from i.
INLINE V numbers(V i, const uint8_t *w, const int8_t *q) {
#if SMALLER
    A x = smallZero();
    UNROLL for (int k = 0; k < 4; k++) {
        V v = load(w + WORD * k);
        x = smallDot(x, low(v), q, k);
        x = smallDot(x, high(v), q, k + 4);
        FENCE;
    }
    return smallSum(i, x);
#else
    V j = zero();
    UNROLL for (int k = 0; k < 4; k++) {
        V v = load(w + WORD * k);
        i = dotU(i, low(v), q, k);
        j = dotU(j, high(v), q, k + 4);
    }
    return P(add_epi32)(i, j);
#endif
}

// Q4_0: { d f16 [2]; nibbles [2][16]byte }.
TILES(tileQ40, 64, 36, {
    f = scaled(f, numbers(P(srai_epi32)(same(c), 4), p + WORD, q), halvesAt(p), d);
    f = scaled(f, numbers(P(srai_epi32)(same(c + 1), 4), p + 5 * WORD, q + 32), halvesAt(p + WORD / 2), d + 1);
})

INLINE V places(V i, const uint8_t *w, V table, const int8_t *q) {
    V j = zero();
    UNROLL for (int k = 0; k < 4; k++) {
        V v = load(w + WORD * k);
        i = dotS(i, P(shuffle_epi8)(table, low(v)), q, k);
        if (LANES == 8) PIN(i); // one after the other, or it spills
        j = dotS(j, P(shuffle_epi8)(table, high(v)), q, k + 4);
        if (LANES == 8) PIN(j);
        if (LANES < 16) FENCE;
    }
    return P(add_epi32)(i, j);
}
TILES(tileIQ4NL, 64, 36, {
    f = scaled(f, places(start(c), p + WORD, table16(a->table), q), halvesAt(p), d);
    f = scaled(f, places(start(c + 1), p + 5 * WORD, table16(a->table), q + 32), halvesAt(p + WORD / 2), d + 1);
})

// Q8_0: { d f16 [2]; [2][32]int8 }.
INLINE V signedBytes(V i, const uint8_t *w, const int8_t *q) {
    V j = zero();
    UNROLL for (int k = 0; k < 8; k += 2) {
        i = dotS(i, XOR(load(w + WORD * k), bytes(BIAS)), q, k);
        if (LANES == 8) PIN(i);
        j = dotS(j, XOR(load(w + WORD * k + WORD), bytes(BIAS)), q, k + 1);
        if (LANES == 8) PIN(j);
        if (LANES < 16) FENCE;
    }
    return P(add_epi32)(i, j);
}
TILES(tileQ80, 64, 68, {
    f = scaled(f, signedBytes(start(c), p + WORD, q), halvesAt(p), d);
    f = scaled(f, signedBytes(start(c + 1), p + 9 * WORD, q + 32), halvesAt(p + WORD / 2), d + 1);
})

// bitsandbytes: { scale f32; [32]byte }, the even column of a pair in the high nibble; q comes with the even columns of
// each 8 before the odd ones.
INLINE V pairs(V c, const uint8_t *w, V h, V l, const int8_t *q) {
    V i = c, j = c;
    UNROLL for (int k = 0; k < 4; k++) {
        V v = load(w + WORD * k);
        V even = high(v), odd = low(v);
        i = dotS(i, P(shuffle_epi8)(h, even), q, 2 * k);
        j = dotS(j, P(shuffle_epi8)(l, even), q, 2 * k);
        if (LANES == 8) PIN(i);
        if (LANES == 8) PIN(j);
        i = dotS(i, P(shuffle_epi8)(h, odd), q, 2 * k + 1);
        j = dotS(j, P(shuffle_epi8)(l, odd), q, 2 * k + 1);
        if (LANES == 8) PIN(i);
        if (LANES == 8) PIN(j);
        if (LANES < 16) FENCE;
    }
    return P(add_epi32)(P(slli_epi32)(i, 7), j);
}
TILES(tileBnB, 64, 36, {
    f = scaled(f, pairs(start(c), p + WORD, table16(a->table), table16(a->table + 16), q), P(loadu_ps)((const float *)p), d);
    if (LANES < 16) FENCE;
    f = scaled(f, pairs(start(c + 1), p + 5 * WORD, table16(a->table), table16(a->table + 16), q + 32), P(loadu_ps)((const float *)p), d + 1);
})

// Q4_K: the words of a super-block as they lie in a row.
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
// Blocks 2j and 2j+1 are the nibbles of the same 8 words.
TILES(tileQ4K, 256, 144, {
    scales4(a->buf, a->buf + 8 * LANES, p, 0);
    UNROLL for (int j = 0; j < 4; j++) {
        const uint8_t *w = p + WORD * (4 + 8 * j);
#if SMALLER
        A x = smallZero(), y = smallZero();
        UNROLL for (int k = 0; k < 8; k++) {
            V v = load(w + WORD * k);
            x = smallDot(x, low(v), q + 64 * j, k);
            y = smallDot(y, high(v), q + 64 * j + 32, k);
            FENCE;
        }
        V i0 = smallSum(zero(), x), i1 = smallSum(zero(), y);
#else
        V i0 = zero(), i1 = zero();
        UNROLL for (int k = 0; k < 8; k++) {
            V v = load(w + WORD * k);
            i0 = dotU(i0, low(v), q + 64 * j, k);
            i1 = dotU(i1, high(v), q + 64 * j + 32, k);
        }
#endif
        const float *s = a->buf + 2 * LANES * j, *m = s + 8 * LANES;
        f = scaled(f, i0, P(loadu_ps)(s), d + 2 * j);
        f = P(fnmadd_ps)(P(loadu_ps)(m), P(set1_ps)(g[2 * j]), f);
        f = scaled(f, i1, P(loadu_ps)(s + LANES), d + 2 * j + 1);
        f = P(fnmadd_ps)(P(loadu_ps)(m + LANES), P(set1_ps)(g[2 * j + 1]), f);
        FENCE;
    }
})

// Q6_K: { d f32; scales [16][LANES]int8; then for each half of the super-block 8 words of qh, each before one of the first 8
// words of ql, and the other 8 words of ql }: first touches come in order, and a load widens the scales of all rows.
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
INLINE V sixteen(V v, const uint8_t *p, int j, int h, const int8_t *q) {
    UNROLL for (int k = 0; k < 4; k++) {
        v = dotU(v, word6(p, j, h, k), q, k);
        if (LANES < 16) FENCE;
    }
    return v;
}
// The two halves stand one after the other: in a loop they take 5 % longer with AVX2 from the cache, and with AVX-512 they read memory at
// 0.68 to 0.79 of the speed, though from the cache they are as fast.
TILES(tileQ6K, 256, 212, {
    const uint8_t *sc = p + WORD;
    const uint8_t *w = p + 5 * WORD;
    UNROLL for (long half = 0; half < 2; half++) {
        UNROLL for (int j = 0; j < 4; j++) {
            V i0 = sixteen(P(srai_epi32)(same(h + 2 * j), 2), w, j, 0, q + 32 * j);
            V i1 = sixteen(P(srai_epi32)(same(h + 2 * j + 1), 2), w, j, 1, q + 32 * j + 16);
            V i = P(add_epi32)(P(mullo_epi32)(i0, widened(sc + 2 * LANES * j)), P(mullo_epi32)(i1, widened(sc + 2 * LANES * j + LANES)));
            f = scaled(f, i, P(loadu_ps)((const float *)p), d + j);
            FENCE;
        }
        sc += 8 * LANES;
        w += 24 * WORD;
        q += 128;
        h += 8;
        d += 4;
    }
    q -= 256;
    h -= 16;
    d -= 8;
})

// Tiles to panels, for more tokens than one.
#define PANELS(name, COLS, BYTES, ...)                                                                                 \
    KERNEL NAME(name)(const struct pack *a) {                                                                          \
        const uint8_t *p = a->in;                                                                                      \
        uint8_t *w = a->w;                                                                                             \
        float *s = a->s, *m = a->m;                                                                                    \
        long n = a->nb;                                                                                                \
        do {                                                                                                           \
            __VA_ARGS__                                                                                                \
            p += LANES * (BYTES);                                                                                      \
            s += LANES * (COLS / 32);                                                                                  \
            m += LANES * (COLS / 32);                                                                                  \
            n -= COLS / 32;                                                                                            \
            FENCE;                                                                                                     \
        } while (n > 0);                                                                                               \
    }
#define EACHBLOCK UNROLL for (int b = 0; b < 2; b++)

#if LANES == 8 // AVX-512 multiplies these tiles as they are
// 4-bit numbers stay 0 … 15 where gemm has kernels for them.
PANELS(panelQ40, 64, 36, {
    EACHBLOCK {
        UNROLL for (int k = 0; k < 4; k++) {
            V v = load(p + WORD * (1 + 4 * b + k));
            put(w + CHUNK * k, SMALLER ? low(v) : P(add_epi8)(low(v), bytes(BIAS - 8)));
            put(w + CHUNK * (k + 4), SMALLER ? high(v) : P(add_epi8)(high(v), bytes(BIAS - 8)));
        }
        P(storeu_ps)(s + LANES * b, halvesAt(p + WORD / 2 * b));
        w += BLOCK;
    }
})
#endif
PANELS(panelIQ4NL, 64, 36, {
    const V table = table16(a->table);
    EACHBLOCK {
        UNROLL for (int k = 0; k < 4; k++) {
            V v = load(p + WORD * (1 + 4 * b + k));
            put(w + CHUNK * k, P(shuffle_epi8)(table, low(v)));
            put(w + CHUNK * (k + 4), P(shuffle_epi8)(table, high(v)));
        }
        P(storeu_ps)(s + LANES * b, halvesAt(p + WORD / 2 * b));
        w += BLOCK;
    }
})
PANELS(panelQ80, 64, 68, {
    EACHBLOCK {
        UNROLL for (int k = 0; k < 8; k++) put(w + CHUNK * k, XOR(load(p + WORD * (1 + 8 * b + k)), bytes(BIAS)));
        P(storeu_ps)(s + LANES * b, halvesAt(p + WORD / 2 * b));
        w += BLOCK;
    }
})
PANELS(panelBnB, 64, 36, {
    const V h = table16(a->table), l = table16(a->table + 16);
    EACHBLOCK {
        UNROLL for (int k = 0; k < 4; k++) {
            V t[2], v = load(p + WORD * (1 + 4 * b + k));
            interleave(t, high(v), low(v));
            UNROLL for (int i = 0; i < 2; i++) {
                put(w + CHUNK * (2 * k + i), P(shuffle_epi8)(h, t[i]));
                put(w + BLOCK + CHUNK * (2 * k + i), P(shuffle_epi8)(l, t[i]));
            }
        }
        P(storeu_ps)(s + LANES * b, P(loadu_ps)((const float *)p));
        w += 2 * BLOCK;
        FENCE;
    }
})
PANELS(panelQ4K, 256, 144, {
    scales4(s, m, p, 1);
    UNROLL for (int j = 0; j < 4; j++) {
        UNROLL for (int k = 0; k < 8; k++) {
            V v = load(p + WORD * (4 + 8 * j + k));
            put(w + CHUNK * k, BIAS ? P(add_epi8)(low(v), bytes(BIAS)) : low(v));
            put(w + BLOCK + CHUNK * k, BIAS ? P(add_epi8)(high(v), bytes(BIAS)) : high(v));
        }
        w += 2 * BLOCK;
        FENCE;
    }
})
PANELS(panelQ6K, 256, 212, {
    const uint8_t *sc = p + WORD;
    const uint8_t *in = p + 5 * WORD;
    ONCE for (long half = 0; half < 2; half++) {
        UNROLL for (int j = 0; j < 4; j++) {
            UNROLL for (int h = 0; h < 2; h++) {
                // The scale in both 16-bit halves of a lane.
                V x = P(mullo_epi32)(AND(widened(sc), many(0xffff)), many(0x00010001));
                sc += LANES;
                UNROLL for (int k = 0; k < 4; k++) {
                    split(w + HALF * h + CHUNK * k, word6(in, j, h, k), x);
                    FENCE;
                }
            }
            P(storeu_ps)(s + LANES * (4 * half + j), P(loadu_ps)((const float *)p));
            w += 2 * BLOCK;
            FENCE;
        }
        in += 24 * WORD;
    }
})

#if LANES == 16
// Tiles of Q4_0 times T tokens as gemm multiplies panels: unpacking takes 12 operations a block beside 88 for 8 tokens, less than
// a panel costs that does not fit the first-level cache.
#define MULTIPLY(name, T)                                                                                              \
    KERNEL NAME(name)(const struct gemm *a) {                                                                          \
        const uint8_t *w = a->w, *ahead = a->ahead;                                                                    \
        const float *d = a->d;                                                                                         \
        const int8_t *q = a->q;                                                                                        \
        const int32_t *c = a->c;                                                                                       \
        long tw = a->tw, nb = a->nb;                                                                                   \
        F f[T];                                                                                                        \
        float *p = (float *)a->x;                                                                                      \
        UNROLL for (int t = 0; t < T; t++, p = step(p, a->ldx)) f[t] = P(loadu_ps)(p);                                 \
        do {                                                                                                           \
            UNROLL for (int b = 0; b < 2; b++) {                                                                       \
                PREFETCH_L2(ahead + 64 * b);                                                                           \
                V i[T];                                                                                                \
                UNROLL for (int t = 0; t < T; t++) i[t] = P(srai_epi32)(same(c + t), 4);                               \
                UNROLL for (int k = 0; k < 4; k++) {                                                                   \
                    V v = load(w + WORD * (1 + 4 * b + k)), l = low(v), h = high(v);                                   \
                    UNROLL for (int t = 0; t < T; t++) i[t] = dotU(i[t], l, q + 32 * t, k);                            \
                    UNROLL for (int t = 0; t < T; t++) i[t] = dotU(i[t], h, q + 32 * t, k + 4);                        \
                }                                                                                                      \
                F sv = halvesAt(w + WORD / 2 * b);                                                                     \
                UNROLL for (int t = 0; t < T; t++)                                                                     \
                    f[t] = P(fmadd_ps)(P(cvtepi32_ps)(i[t]), P(mul_ps)(sv, P(set1_ps)(d[t])), f[t]);                   \
                q += 32 * tw;                                                                                          \
                d += tw;                                                                                               \
                c += tw;                                                                                               \
                FENCE;                                                                                                 \
            }                                                                                                          \
            w += 9 * WORD;                                                                                             \
            ahead += 128;                                                                                              \
        } while (nb -= 2);                                                                                             \
        p = a->y;                                                                                                      \
        UNROLL for (int t = 0; t < T; t++, p = step(p, a->ldy)) P(storeu_ps)(p, f[t]);                                 \
    }
MULTIPLY(multiply1Q40, 1)
MULTIPLY(multiply2Q40, 2)
MULTIPLY(multiply4Q40, 4)
MULTIPLY(multiply8Q40, 8)
#endif
