// Panel times tokens, see args.h, with the matrix multiplication instruction: SMMLA takes 8 columns of two rows and of two
// tokens to the four sums, 32 multiply-adds where SDOT does 16. Two rows by two tokens are one register of sums, r0t0 r0t1
// r1t0 r1t1, all the way. Panels and tokens are turned to that once, and used many times.
#include "neon.h"

KERNEL NAME(turnPanel)(int32_t *w, long pairs);
KERNEL NAME(turnTokens)(int64_t *to, const int64_t *from, long nb, long tw);
KERNEL NAME(gemm1)(const struct gemm *a);
KERNEL NAME(gemm2)(const struct gemm *a);
KERNEL NAME(gemm4)(const struct gemm *a);
KERNEL NAME(gemm8)(const struct gemm *a);
KERNEL NAME(gemm1Off)(const struct gemm *a);
KERNEL NAME(gemm2Off)(const struct gemm *a);
KERNEL NAME(gemm4Off)(const struct gemm *a);
KERNEL NAME(gemm8Off)(const struct gemm *a);
KERNEL NAME(gemm1Two)(const struct gemm *a);
KERNEL NAME(gemm2Two)(const struct gemm *a);
KERNEL NAME(gemm4Two)(const struct gemm *a);
KERNEL NAME(gemm8Two)(const struct gemm *a);

// As in gemm.c.
enum kind { ONE, TWO };

// Pairs of chunks of a panel: of each row, its four columns of both beside each other.
KERNEL NAME(turnPanel)(int32_t *w, long pairs) {
    do {
        V l = vld1q_s32(w), h = vld1q_s32(w + 4);
        vst1q_s32(w, vzip1q_s32(l, h));
        vst1q_s32(w + 4, vzip2q_s32(l, h));
        w += 8;
    } while (--pairs);
}

// nb blocks of tw tokens: of each two tokens, 8 columns of both beside each other. A last one is left out.
KERNEL NAME(turnTokens)(int64_t *to, const int64_t *from, long nb, long tw) {
    do {
        long t = tw;
        for (; t > 1; t -= 2, from += 8, to += 8) {
            int64x2_t a = vld1q_s64(from), b = vld1q_s64(from + 2), c = vld1q_s64(from + 4), d = vld1q_s64(from + 6);
            vst1q_s64(to, vzip1q_s64(a, c));
            vst1q_s64(to + 2, vzip2q_s64(a, c));
            vst1q_s64(to + 4, vzip1q_s64(b, d));
            vst1q_s64(to + 6, vzip2q_s64(b, d));
        }
        from += 4 * t;
        to += 4 * t;
    } while (--nb);
}

// Of a block, w[2k] is columns 8k … 8k+7 of rows 0 and 1, w[2k+1] of rows 2 and 3.
INLINE void load8(B w[8], const uint8_t *p) {
    UNROLL for (int k = 0; k < 8; k++) w[k] = vld1q_s8((const int8_t *)p + 16 * k);
}

// i + the products of 32 columns with the two tokens at q, or with one, as it was before, twice.
INLINE void dot32(V i[2], const B w[8], const int8_t *q, const int one) {
    UNROLL for (int k = 0; k < 4; k++) {
        B x = one ? vreinterpretq_s8_s64(vld1q_dup_s64((const int64_t *)q + k)) : vld1q_s8(q + 16 * k);
        i[0] = vmmlaq_s32(i[0], w[2 * k], x);
        i[1] = vmmlaq_s32(i[1], w[2 * k + 1], x);
    }
}

// The numbers of two tokens beside each other, twice, or of one.
INLINE F pair(const float *d, const int one) {
    return one ? vld1q_dup_f32(d) : vreinterpretq_f32_f64(vld1q_dup_f64((const double *)d));
}

// One row of y further, and a number, both hidden from the compiler, as in gemm.c.
INLINE float *step(float *p, long ldy) {
    p += ldy;
    __asm__("" : "+r"(p));
    return p;
}
INLINE long hidden(long v) {
    __asm__("" : "+r"(v));
    return v;
}

#define GEMM(name, T, kind, OFF)                                                                                       \
    KERNEL NAME(name)(const struct gemm *a) {                                                                          \
        static const int32_t magics[4] = {MAGIC, MAGIC, MAGIC, MAGIC};                                                 \
        const int32_t *magic = magics;                                                                                 \
        (void)magic;                                                                                                   \
        const uint8_t *p = a->w;                                                                                       \
        const float *s = a->s, *m = a->m, *d = a->d, *g = a->g;                                                        \
        const int8_t *q = a->q;                                                                                        \
        long nb = a->nb, tw4 = hidden(4 * a->tw), tw32 = hidden(32 * a->tw);                                           \
        F f[T + T % 2]; /* rows 0 and 1 by tokens t and t+1, then rows 2 and 3 */                                      \
        float *y = (float *)a->x;                                                                                      \
        UNROLL for (int t = 0; t < T; t += 2) {                                                                        \
            F l = vld1q_f32(y);                                                                                        \
            y = step(y, a->ldx);                                                                                       \
            F h = T == 1 ? l : vld1q_f32(y);                                                                           \
            y = step(y, a->ldx);                                                                                       \
            f[t] = vzip1q_f32(l, h);                                                                                   \
            f[t + 1] = vzip2q_f32(l, h);                                                                               \
        }                                                                                                              \
        do {                                                                                                           \
            B w[8];                                                                                                    \
            V i[T + T % 2];                                                                                            \
            if (kind == TWO) {                                                                                         \
                load8(w, p);                                                                                           \
                p += 128;                                                                                              \
                UNROLL for (int t = 0; t < T; t += 2) {                                                                \
                    i[t] = i[t + 1] = vdupq_n_s32(0);                                                                  \
                    dot32(i + t, w, q + 32 * t, T == 1);                                                               \
                    i[t] = vshlq_n_s32(i[t], 7);                                                                       \
                    i[t + 1] = vshlq_n_s32(i[t + 1], 7);                                                               \
                    FENCE;                                                                                             \
                }                                                                                                      \
            }                                                                                                          \
            load8(w, p);                                                                                               \
            p += 128;                                                                                                  \
            F sv = vld1q_f32(s), mv = OFF ? vld1q_f32(m) : sv;                                                         \
            F s2[2] = {vzip1q_f32(sv, sv), vzip2q_f32(sv, sv)}, m2[2] = {vzip1q_f32(mv, mv), vzip2q_f32(mv, mv)};      \
            UNROLL for (int t = 0; t < T; t += 2) {                                                                    \
                if (kind == ONE) {                                                                                     \
                    i[t] = fresh(magic);                                                                               \
                    i[t + 1] = fresh(magic);                                                                           \
                }                                                                                                      \
                dot32(i + t, w, q + 32 * t, T == 1);                                                                   \
                F dv = pair(d + t, T == 1);                                                                            \
                UNROLL for (int r = 0; r < 2; r++) {                                                                   \
                    F sum = kind == TWO ? vcvtq_f32_s32(i[t + r])                                                      \
                                        : vsubq_f32(vreinterpretq_f32_s32(i[t + r]), vdupq_n_f32(MAGICF));             \
                    f[t + r] = vfmaq_f32(f[t + r], sum, vmulq_f32(s2[r], dv));                                         \
                    if (OFF) f[t + r] = vfmaq_f32(f[t + r], m2[r], pair(g + t, T == 1));                               \
                }                                                                                                      \
                FENCE;                                                                                                 \
            }                                                                                                          \
            m += OFF ? 4 : 0;                                                                                          \
            if (OFF) g = (const float *)((const char *)g + tw4);                                                       \
            s += 4;                                                                                                    \
            q += tw32;                                                                                                 \
            d = (const float *)((const char *)d + tw4);                                                                \
        } while (--nb);                                                                                                \
        y = a->y;                                                                                                      \
        UNROLL for (int t = 0; t < T; t += 2) {                                                                        \
            vst1q_f32(y, vuzp1q_f32(f[t], f[t + 1]));                                                                  \
            y = step(y, a->ldy);                                                                                       \
            if (T > 1) vst1q_f32(y, vuzp2q_f32(f[t], f[t + 1]));                                                       \
            y = step(y, a->ldy);                                                                                       \
        }                                                                                                              \
    }
GEMM(gemm1, 1, ONE, 0)
GEMM(gemm2, 2, ONE, 0)
GEMM(gemm4, 4, ONE, 0)
GEMM(gemm8, 8, ONE, 0)
GEMM(gemm1Off, 1, ONE, 1)
GEMM(gemm2Off, 2, ONE, 1)
GEMM(gemm4Off, 4, ONE, 1)
GEMM(gemm8Off, 8, ONE, 1)
GEMM(gemm1Two, 1, TWO, 0)
GEMM(gemm2Two, 2, TWO, 0)
GEMM(gemm4Two, 4, TWO, 0)
GEMM(gemm8Two, 8, TWO, 0)
