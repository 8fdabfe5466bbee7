// Panel times tokens. Per block and token: 8 (or 16) dot products, one conversion, one product of scales, one FMA, and one
// FMA more for an offset.
#include "simd.h"

KERNEL NAME(gemm1)(const struct gemm *a);
KERNEL NAME(gemm2)(const struct gemm *a);
KERNEL NAME(gemm4)(const struct gemm *a);
KERNEL NAME(gemm1Off)(const struct gemm *a);
KERNEL NAME(gemm2Off)(const struct gemm *a);
KERNEL NAME(gemm4Off)(const struct gemm *a);
KERNEL NAME(gemm1Two)(const struct gemm *a);
KERNEL NAME(gemm2Two)(const struct gemm *a);
KERNEL NAME(gemm4Two)(const struct gemm *a);
#if SMALLER
KERNEL NAME(gemm1Small)(const struct gemm *a);
KERNEL NAME(gemm2Small)(const struct gemm *a);
KERNEL NAME(gemm4Small)(const struct gemm *a);
KERNEL NAME(gemm1SmallOff)(const struct gemm *a);
KERNEL NAME(gemm2SmallOff)(const struct gemm *a);
KERNEL NAME(gemm4SmallOff)(const struct gemm *a);
#endif
#if SMALLER && LANES == 4
KERNEL NAME(gemm8Small)(const struct gemm *a);
KERNEL NAME(gemm8SmallOff)(const struct gemm *a);
#endif
#if LANES != 8
KERNEL NAME(gemm8)(const struct gemm *a);
KERNEL NAME(gemm8Off)(const struct gemm *a);
KERNEL NAME(gemm8Two)(const struct gemm *a);
#endif

// 8 chunks of weights with T tokens.
#define CHUNKS(T)                                                                                                      \
    UNROLL for (int k = 0; k < 8; k++) {                                                                               \
        V v = load(w + 4 * LANES * k);                                                                                 \
        UNROLL for (int t = 0; t < T; t++) i[t] = dotS(i[t], v, q + 32 * t, k);                                       \
        if (LANES < 16) FENCE;                                                                                         \
    }                                                                                                                  \
    w += 32 * LANES;

// What a tile of products starts from.
INLINE V startOf(int parts, int off, const int32_t *c) {
    if (parts > 0) return BIAS ? same(c) : zero();
    return off ? zero() : P(srai_epi32)(same(c), 4); // Q4_0: bytes are v + 8
}

// The same for weights 0 … 15, which add up in 16 bits where there is no dot product of bytes.
#define SMALLCHUNKS(T, OFF)                                                                                                 \
    {                                                                                                                  \
        A x[T];                                                                                                        \
        UNROLL for (int t = 0; t < T; t++) x[t] = smallZero();                                                         \
        UNROLL for (int k = 0; k < 8; k++) {                                                                           \
            V v = load(w + 4 * LANES * k);                                                                             \
            UNROLL for (int t = 0; t < T; t++) {                                                                       \
                x[t] = smallDot(x[t], v, q + 32 * t, k);                                                               \
                FENCE;                                                                                                 \
            }                                                                                                          \
        }                                                                                                              \
        UNROLL for (int t = 0; t < T; t++) i[t] = smallSum(startOf(0, OFF, c + t), x[t]);                              \
    }                                                                                                                  \
    w += 32 * LANES;

#if SMALLER
#define SMALL(T, OFF) SMALLCHUNKS(T, OFF)
#else
#define SMALL(T, OFF)
#endif

#define GEMM(name, T, PARTS, OFF)                                                                                      \
    KERNEL NAME(name)(const struct gemm *a) {                                                                          \
        const uint8_t *w = a->w;                                                                                       \
        const float *s = a->s, *m = a->m, *d = a->d, *g = a->g;                                                        \
        const int8_t *q = a->q;                                                                                        \
        const int32_t *c = a->c;                                                                                       \
        long tw = a->tw, nb = a->nb;                                                                                   \
        F f[T];                                                                                                        \
        float *p = (float *)a->x;                                                                                      \
        const uint8_t *ahead = a->ahead;                                                                               \
        UNROLL for (int t = 0; t < T; t++, p = step(p, a->ldx)) f[t] = P(loadu_ps)(p);                                 \
        do {                                                                                                           \
            PREFETCH_L2(ahead);                                                                                        \
            ahead += 64;                                                                                               \
            V i[T];                                                                                                    \
            if (PARTS > 0) UNROLL for (int t = 0; t < T; t++) i[t] = startOf(PARTS, OFF, c + t);                       \
            if (PARTS > 0) {                                                                                           \
                CHUNKS(T)                                                                                              \
            } else {                                                                                                   \
                SMALL(T, OFF)                                                                                               \
            }                                                                                                  \
            if (PARTS == 2) {                                                                                          \
                FENCE;                                                                                                 \
                UNROLL for (int t = 0; t < T; t++) {                                                                   \
                    i[t] = P(slli_epi32)(i[t], 7);                                                                     \
                    if (BIAS) i[t] = P(add_epi32)(i[t], same(c + t));                                                  \
                }                                                                                                      \
                CHUNKS(T)                                                                                              \
            }                                                                                                          \
            F sv = P(loadu_ps)(s);                                                                                     \
            UNROLL for (int t = 0; t < T; t++)                                                                         \
                f[t] = P(fmadd_ps)(P(cvtepi32_ps)(i[t]), P(mul_ps)(sv, P(set1_ps)(d[t])), f[t]);                       \
            if (OFF) {                                                                                                 \
                F mv = P(loadu_ps)(m);                                                                                 \
                UNROLL for (int t = 0; t < T; t++) f[t] = P(fmadd_ps)(mv, P(set1_ps)(g[t]), f[t]);                     \
                m += LANES;                                                                                            \
                g += tw;                                                                                               \
            }                                                                                                          \
            s += LANES;                                                                                                \
            q += 32 * tw;                                                                                              \
            d += tw;                                                                                                   \
            c += tw;                                                                                                   \
        } while (--nb);                                                                                                \
        p = a->y;                                                                                                      \
        UNROLL for (int t = 0; t < T; t++, p = step(p, a->ldy)) P(storeu_ps)(p, f[t]);                                 \
    }

GEMM(gemm1, 1, 1, 0)
GEMM(gemm2, 2, 1, 0)
GEMM(gemm4, 4, 1, 0)
GEMM(gemm1Off, 1, 1, 1)
GEMM(gemm2Off, 2, 1, 1)
GEMM(gemm4Off, 4, 1, 1)
GEMM(gemm1Two, 1, 2, 0)
GEMM(gemm2Two, 2, 2, 0)
GEMM(gemm4Two, 4, 2, 0)
#if SMALLER
GEMM(gemm1Small, 1, 0, 0)
GEMM(gemm2Small, 2, 0, 0)
GEMM(gemm4Small, 4, 0, 0)
GEMM(gemm1SmallOff, 1, 0, 1)
GEMM(gemm2SmallOff, 2, 0, 1)
GEMM(gemm4SmallOff, 4, 0, 1)
#endif
#if SMALLER && LANES == 4
GEMM(gemm8Small, 8, 0, 0)
GEMM(gemm8SmallOff, 8, 0, 1)
#endif
#if LANES != 8 // 8 tokens want more than the 16 registers of AVX2
GEMM(gemm8, 8, 1, 0)
GEMM(gemm8Off, 8, 1, 1)
GEMM(gemm8Two, 8, 2, 0)
#endif
