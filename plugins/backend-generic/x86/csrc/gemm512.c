// Panel times tokens with AVX-512 VNNI.
#include "rows512.h"

KERNEL gemm8Avx512(const struct gemm *a);
KERNEL gemm4Avx512(const struct gemm *a);
KERNEL gemm2Avx512(const struct gemm *a);
KERNEL gemm1Avx512(const struct gemm *a);
KERNEL gemm8OffAvx512(const struct gemm *a);
KERNEL gemm4OffAvx512(const struct gemm *a);
KERNEL gemm2OffAvx512(const struct gemm *a);
KERNEL gemm1OffAvx512(const struct gemm *a);
KERNEL gemm8TwoAvx512(const struct gemm *a);
KERNEL gemm4TwoAvx512(const struct gemm *a);
KERNEL gemm2TwoAvx512(const struct gemm *a);
KERNEL gemm1TwoAvx512(const struct gemm *a);

// T tokens, PARTS int8 parts of a weight, OFF offsets. Per block and token: 8 (or 16) dot products, one conversion, one
// product of scales, one FMA, and one FMA more for an offset.
#define GEMM(name, T, PARTS, OFF)                                                                                      \
    KERNEL name(const struct gemm *a) {                                                                                  \
        float *p = a->y;                                                                                               \
        const uint8_t *w = a->w;                                                                                       \
        const float *s = a->s, *m = a->m, *d = a->d, *g = a->g;                                                        \
        const int8_t *q = a->q;                                                                                        \
        const int32_t *c = a->c;                                                                                       \
        long tw = a->tw, nb = a->nb;                                                                                   \
        __m512 f[T];                                                                                                   \
        UNROLL for (int t = 0; t < T; t++, p = step(p, a->ldy)) f[t] = _mm512_loadu_ps(p);                             \
        do {                                                                                                           \
            __m512i i[T];                                                                                              \
            UNROLL for (int t = 0; t < T; t++) i[t] = bc(c + t);                                                       \
            UNROLL for (int k = 0; k < 8; k++) {                                                                       \
                __m512i v = _mm512_loadu_si512(w + 64 * k);                                                            \
                UNROLL for (int t = 0; t < T; t++) i[t] = _mm512_dpbusd_epi32(i[t], v, bc(q + 32 * t + 4 * k));        \
            }                                                                                                          \
            if (PARTS == 2) {                                                                                          \
                FENCE;                                                                                                 \
                UNROLL for (int t = 0; t < T; t++) i[t] = _mm512_add_epi32(_mm512_slli_epi32(i[t], 7), bc(c + t));     \
                UNROLL for (int k = 0; k < 8; k++) {                                                                   \
                    __m512i v = _mm512_loadu_si512(w + 512 + 64 * k);                                                  \
                    UNROLL for (int t = 0; t < T; t++) i[t] = _mm512_dpbusd_epi32(i[t], v, bc(q + 32 * t + 4 * k));    \
                }                                                                                                      \
            }                                                                                                          \
            __m512 sv = _mm512_loadu_ps(s);                                                                            \
            UNROLL for (int t = 0; t < T; t++)                                                                         \
                f[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(i[t]), _mm512_mul_ps(sv, _mm512_set1_ps(d[t])), f[t]);       \
            if (OFF) {                                                                                                 \
                __m512 mv = _mm512_loadu_ps(m);                                                                        \
                UNROLL for (int t = 0; t < T; t++) f[t] = _mm512_fmadd_ps(mv, _mm512_set1_ps(g[t]), f[t]);             \
                m += ROWS;                                                                                             \
                g += tw;                                                                                               \
            }                                                                                                          \
            w += 512 * PARTS;                                                                                          \
            s += ROWS;                                                                                                 \
            q += 32 * tw;                                                                                              \
            d += tw;                                                                                                   \
            c += tw;                                                                                                   \
        } while (--nb);                                                                                                \
        p = a->y;                                                                                                      \
        UNROLL for (int t = 0; t < T; t++, p = step(p, a->ldy)) _mm512_storeu_ps(p, f[t]);                             \
    }

GEMM(gemm8Avx512, 8, 1, 0)
GEMM(gemm4Avx512, 4, 1, 0)
GEMM(gemm2Avx512, 2, 1, 0)
GEMM(gemm1Avx512, 1, 1, 0)
GEMM(gemm8OffAvx512, 8, 1, 1)
GEMM(gemm4OffAvx512, 4, 1, 1)
GEMM(gemm2OffAvx512, 2, 1, 1)
GEMM(gemm1OffAvx512, 1, 1, 1)
GEMM(gemm8TwoAvx512, 8, 2, 0)
GEMM(gemm4TwoAvx512, 4, 2, 0)
GEMM(gemm2TwoAvx512, 2, 2, 0)
GEMM(gemm1TwoAvx512, 1, 2, 0)
