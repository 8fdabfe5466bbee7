// Stored rows to panels (see args.h), for more tokens than one.
#include "panel.h"
#include "rows.h"

KERNEL NAME(packQ40)(const struct pack *a);
KERNEL NAME(packQ41)(const struct pack *a);
KERNEL NAME(packQ50)(const struct pack *a);
KERNEL NAME(packQ51)(const struct pack *a);
KERNEL NAME(packQ80)(const struct pack *a);
KERNEL NAME(packIQ4NL)(const struct pack *a);
KERNEL NAME(packMXFP4)(const struct pack *a);
KERNEL NAME(packQ4K)(const struct pack *a);
KERNEL NAME(packQ5K)(const struct pack *a);
KERNEL NAME(packQ6K)(const struct pack *a);
KERNEL NAME(packIQ4XS)(const struct pack *a);
KERNEL NAME(packBnB)(const struct pack *a);
KERNEL NAME(evenOdd)(int8_t *to, const int8_t *from, long n);
KERNEL NAME(scalesBnB)(float *to, const uint8_t *code, const float *values, const float *absmax, const float *unit, long n);
KERNEL NAME(turnScales)(float *to, const float *from, long n);


#define LOOP(...)                                                                                                      \
    struct rows r = rowsAt(a->in, a->stride);                                                                          \
    uint8_t *w = a->w;                                                                                                 \
    float *s = a->s;                                                                                                   \
    long b = 0;                                                                                                        \
    do {                                                                                                               \
        __VA_ARGS__                                                                                                    \
        FENCE;                                                                                                         \
    } while (b < a->nb);

// 4-bit numbers stay 0 … 15 where gemm has kernels for them.
#define SMALLBYTES(kind) (SMALLER && kind == NUMBER)
#define PACK_(name, kind, bytes, at, fifthAt, OFF, SHIFT)                                                              \
    KERNEL NAME(name)(const struct pack *a) {                                                                          \
        LOOP({                                                                                                         \
            V t[4], h = zero();                                                                                        \
            const V add = P(set1_epi8)((char)(SMALLBYTES(kind) ? 0 : BIAS - (SHIFT < 0 ? 0 : 1 << (7 - SHIFT))));      \
            if (kind == FIFTH) h = dwords(&r, fifthAt);                                                                \
            load16(t, &r, at);                                                                                         \
            UNROLL for (int k = 0; k < 8; k++) {                                                                       \
                V v = chunk(kind, t, kind == TABLE ? table16(a->table) : h, h, k);                                     \
                put(w + CHUNK * k, kind == TABLE ? v : P(add_epi8)(v, add));                                           \
                FENCE;                                                                                                 \
            }                                                                                                          \
            if (OFF == 1) {                                                                                            \
                V x = dwords(&r, 0);                                                                                   \
                P(storeu_ps)(s, lowHalf(x));                                                                           \
                P(storeu_ps)(a->m + LANES * b, highHalf(x));                                                           \
            } else {                                                                                                   \
                P(storeu_ps)(s, OFF == 2 ? power(&r) : halves(&r, 0));                                                 \
            }                                                                                                          \
            advance(&r, bytes);                                                                                        \
            w += BLOCK;                                                                                                \
            s += LANES;                                                                                                \
            b++;                                                                                                       \
        })                                                                                                             \
    }
#define PACK(name, ...) PACK_(name, __VA_ARGS__)
PACK(packQ40, Q40)
PACK(packQ41, Q41)
PACK(packQ50, Q50)
PACK(packQ51, Q51)
PACK(packIQ4NL, IQ4NL)
PACK(packMXFP4, MXFP4)

KERNEL NAME(packQ80)(const struct pack *a) {
    LOOP({
        UNROLL for (int h = 0; h < 2; h++) {
            V t[4];
            load16(t, &r, 2 + 16 * h);
            UNROLL for (int k = 0; k < 4; k++) put(w + HALF * h + CHUNK * k, XOR(t[k], bytes(BIAS)));
        }
        P(storeu_ps)(s, halves(&r, 0));
        advance(&r, 34);
        w += BLOCK;
        s += LANES;
        b++;
    })
}

// Super-blocks: the last argument does the next STEP blocks, number j/UNIT of 8 the first, SKIP bytes of each row further than the ones before; s
// goes AFTER on behind them.
#define PACKSUPER(name, bytes, STEP, UNIT, SKIP, AFTER, before, ...)                                                         \
    KERNEL NAME(name)(const struct pack *a) {                                                                          \
        LOOP({                                                                                                         \
            before;                                                                                                    \
            long j = 0;                                                                                                \
            do {                                                                                                       \
                __VA_ARGS__                                                                                            \
                move(&r, SKIP);                                                                                        \
                FENCE;                                                                                                 \
                j += STEP * UNIT;                                                                                      \
                __asm__("" : "+r"(j)); /* or gcc writes two rounds out */                                              \
            } while (j < 8 * UNIT);                                                                                    \
            move(&r, bytes - 8 / STEP * SKIP);                                                                         \
            s += AFTER;                                                                                                \
            b += 8;                                                                                                    \
        })                                                                                                             \
    }

PACKSUPER(packQ4K, 144, 2, 1, 32, 8 * LANES, scales4(s, a->m + LANES * b, &r, 1), {
    UNROLL for (int h = 0; h < 2; h++) {
        V t[4];
        load16(t, &r, 16 + 16 * h);
        UNROLL for (int k = 0; k < 4; k++) {
            put(w + HALF * h + CHUNK * k, P(add_epi8)(low(t[k]), bytes(BIAS))); // BIAS or 0: small
            put(w + BLOCK + HALF * h + CHUNK * k, P(add_epi8)(high(t[k]), bytes(BIAS)));
        }
        FENCE;
    }
    w += 2 * BLOCK;
})

PACKSUPER(packQ5K, 176, 2, 1, 32, 8 * LANES, scales4(s, a->m + LANES * b, &r, 1); keep32(a->buf, &r, 16), {
    UNROLL for (int odd = 0; odd < 2; odd++) {
        UNROLL for (int h = 0; h < 2; h++) {
            V t[4];
            halfQ5K(t, &r, a->buf, odd, h);
            UNROLL for (int k = 0; k < 4; k++) put(w + HALF * h + CHUNK * k, P(add_epi8)(t[k], bytes(BIAS)));
            FENCE;
        }
        w += BLOCK;
    }
})

PACKSUPER(packIQ4XS, 136, 1, 1, 16, 8 * LANES, scalesXS(s, &r), {
    V t[4];
    load16(t, &r, 8);
    UNROLL for (int k = 0; k < 8; k++) {
        put(w + CHUNK * k, chunk(TABLE, t, table16(a->table), t[0], k));
        FENCE;
    }
    w += BLOCK;
})

PACKSUPER(packQ6K, 210, 4, 8, 64, 0, scales6((int32_t *)a->buf, &r); P(storeu_ps)(a->buf + 24 * LANES, halves(&r, 208)), {
    upper6(a->buf + 16 * LANES, &r, j);
    UNROLL for (int i = 0; i < 4; i++) {
        UNROLL for (int h = 0; h < 2; h++) {
            V t[4];
            halfQ6K(t, &r, a->buf + 16 * LANES, i, h);
            // The scale in both 16-bit halves of a lane.
            V sc = load(a->buf + LANES / 4 * j + LANES * (2 * i + h));
            sc = P(mullo_epi32)(AND(sc, many(0xffff)), many(0x00010001));
            if (LANES == 8) PIN(sc);
            UNROLL for (int k = 0; k < 4; k++) {
                split(w + HALF * h + CHUNK * k, t[k], sc);
                FENCE;
            }
        }
        P(storeu_ps)(s, P(loadu_ps)(a->buf + 24 * LANES));
        s += LANES;
        w += 2 * BLOCK;
    }
})

// bitsandbytes, 64 columns at a time: columns 2j and 2j+1 are the high and the low nibble of byte j.
KERNEL NAME(packBnB)(const struct pack *a) {
    struct rows r = rowsAt(a->in, a->stride);
    const float *from = a->scales;
    uint8_t *w = a->w;
    float *s = a->s;
    long nb = a->nb;
    do {
        const V h = table16(a->table), l = table16(a->table + 16);
        UNROLL for (int b = 0; b < 2; b++) {
            V t[4];
            load16(t, &r, 16 * b);
            UNROLL for (int k = 0; k < 4; k++) {
                V p[2];
                interleave(p, high(t[k]), low(t[k]));
                UNROLL for (int i = 0; i < 2; i++) {
                    put(w + CHUNK * (2 * k + i), P(shuffle_epi8)(h, p[i]));
                    put(w + BLOCK + CHUNK * (2 * k + i), P(shuffle_epi8)(l, p[i]));
                }
            }
            w += 2 * BLOCK;
            FENCE;
        }
        F sv = P(loadu_ps)(from);
        P(storeu_ps)(s, sv);
        P(storeu_ps)(s + LANES, sv);
        advance(&r, 32);
        from += LANES;
        s += 2 * LANES;
    } while (nb -= 2);
}

// Each 8 bytes in the order 0 2 4 6 1 3 5 7; n is a multiple of 32.
KERNEL NAME(evenOdd)(int8_t *to, const int8_t *from, long n) {
    do {
#if LANES == 4
        int8x16_t a = vld1q_s8(from), b = vld1q_s8(from + 16);
        int32x4_t e = vreinterpretq_s32_s8(vuzp1q_s8(a, b)), o = vreinterpretq_s32_s8(vuzp2q_s8(a, b));
        vst1q_s32((int32_t *)to, vzip1q_s32(e, o));
        vst1q_s32((int32_t *)(to + 16), vzip2q_s32(e, o));
#else
        const __m128i half = _mm_set_epi8(15, 13, 11, 9, 14, 12, 10, 8, 7, 5, 3, 1, 6, 4, 2, 0);
        const __m256i order = _mm256_broadcastsi128_si256(half);
        _mm256_storeu_si256((__m256i *)to, _mm256_shuffle_epi8(_mm256_loadu_si256((const __m256i *)from), order));
#endif
        to += 32;
        from += 32;
    } while (n -= 32);
}

// n scales of one nested block: (values[code]·absmax + offset)·unit; unit is {unit, offset}.
KERNEL NAME(scalesBnB)(float *to, const uint8_t *code, const float *values, const float *absmax, const float *unit, long n) {
#if LANES > 4
    const __m256 x = _mm256_set1_ps(*absmax), u = _mm256_set1_ps(unit[0]), o = _mm256_set1_ps(unit[1]);
    for (; n >= 8; n -= 8) {
        __m256i c = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)code));
        __m256 s = _mm256_i32gather_ps(values, c, 4);
        _mm256_storeu_ps(to, _mm256_mul_ps(_mm256_add_ps(_mm256_mul_ps(s, x), o), u));
        to += 8;
        code += 8;
    }
#endif
    for (; n > 0; n--) *to++ = (values[*code++] * *absmax + unit[1]) * unit[0];
}

// (LANES, n) to (n, LANES).
KERNEL NAME(turnScales)(float *to, const float *from, long n) {
    struct rows r = rowsAt((const uint8_t *)from, 4 * n);
    long i = 0;
    for (; i + 4 <= n; i += 4) {
        V t[4];
        load16(t, &r, 0);
        UNROLL for (int k = 0; k < 4; k++) put(to + LANES * k, t[k]);
        to += 4 * LANES;
        advance(&r, 16);
    }
    for (; i < n; i++)
        for (long k = 0; k < LANES; k++) *to++ = from[k * n + i];
}
