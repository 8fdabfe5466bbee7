// Panel times tokens, see args.h. The 32 columns of four rows stay in eight registers while the tokens pass.
#include "neon.h"

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
#ifdef __ARM_FEATURE_DOTPROD
KERNEL NAME(gemm8Two)(const struct gemm *a);
#else
KERNEL NAME(gemm1Small)(const struct gemm *a);
KERNEL NAME(gemm2Small)(const struct gemm *a);
KERNEL NAME(gemm4Small)(const struct gemm *a);
KERNEL NAME(gemm8Small)(const struct gemm *a);
KERNEL NAME(gemm1SmallOff)(const struct gemm *a);
KERNEL NAME(gemm2SmallOff)(const struct gemm *a);
KERNEL NAME(gemm4SmallOff)(const struct gemm *a);
KERNEL NAME(gemm8SmallOff)(const struct gemm *a);
#endif

// SMALL: bytes 0 … 15, of which Q4_0's are too large by 8. ONE: any bytes. TWO: 128·h + l, first the block of h.
enum kind { SMALL, ONE, TWO };

#ifdef __ARM_FEATURE_DOTPROD

// i + the products of 32 columns with the token at q.
INLINE V dot32(V i, const B w[8], const int8_t *q) {
    B x = vld1q_s8(q), z = vld1q_s8(q + 16);
    i = vdotq_laneq_s32(i, w[0], x, 0);
    i = vdotq_laneq_s32(i, w[1], x, 1);
    i = vdotq_laneq_s32(i, w[2], x, 2);
    i = vdotq_laneq_s32(i, w[3], x, 3);
    i = vdotq_laneq_s32(i, w[4], z, 0);
    i = vdotq_laneq_s32(i, w[5], z, 1);
    i = vdotq_laneq_s32(i, w[6], z, 2);
    return vdotq_laneq_s32(i, w[7], z, 3);
}

#else

#define LO vget_low_s8
INLINE B lane(B x, int k) {
    V v = vreinterpretq_s32_s8(x);
    switch (k) {
    case 0: return vreinterpretq_s8_s32(vdupq_laneq_s32(v, 0));
    case 1: return vreinterpretq_s8_s32(vdupq_laneq_s32(v, 1));
    case 2: return vreinterpretq_s8_s32(vdupq_laneq_s32(v, 2));
    default: return vreinterpretq_s8_s32(vdupq_laneq_s32(v, 3));
    }
}
// The sum of a block of small weights: eight products of 15·127 and their neighbours fit 16 bits.
INLINE int16x8_t dotSmall(const B w[8], const int8_t *q) {
    B x = vld1q_s8(q), z = vld1q_s8(q + 16), v = lane(x, 0);
    int16x8_t l = vmull_s8(LO(w[0]), LO(v)), h = vmull_high_s8(w[0], v);
    UNROLL for (int k = 1; k < 8; k++) {
        v = lane(k < 4 ? x : z, k & 3);
        l = vmlal_s8(l, LO(w[k]), LO(v));
        h = vmlal_high_s8(h, w[k], v);
    }
    return vpaddq_s16(l, h);
}
// Of others two: 2·128·127.
INLINE V dot32(V i, const B w[8], const int8_t *q) {
    B x = vld1q_s8(q), z = vld1q_s8(q + 16);
    V l, h;
    UNROLL for (int k = 0; k < 8; k += 2) {
        B u = lane(k < 4 ? x : z, k & 3), v = lane(k < 4 ? x : z, (k + 1) & 3);
        int16x8_t a = vmlal_s8(vmull_s8(LO(w[k]), LO(u)), LO(w[k + 1]), LO(v));
        int16x8_t b = vmlal_high_s8(vmull_high_s8(w[k], u), w[k + 1], v);
        l = k ? vpadalq_s16(l, a) : vpaddlq_s16(a);
        h = k ? vpadalq_s16(h, b) : vpaddlq_s16(b);
    }
    return vaddq_s32(i, vpaddq_s32(l, h));
}

#endif

INLINE void load8(B w[8], const uint8_t *p) {
    UNROLL for (int k = 0; k < 8; k++) w[k] = vld1q_s8((const int8_t *)p + 16 * k);
}
// One row of y further, hidden from the compiler, which would hold one register for each row.
INLINE float *step(float *p, long ldy) {
    p += ldy;
    __asm__("" : "+r"(p));
    return p;
}

// A number that the compiler knows nothing of: it would make a second loop for a tile of one token.
INLINE long hidden(long v) {
    __asm__("" : "+r"(v));
    return v;
}

// The integer sum of token t as float32.
#ifdef __ARM_FEATURE_DOTPROD
#define SUM(kind, OFF, t) vsubq_f32(vreinterpretq_f32_s32(dot32(fresh(magic), w, q + 32 * t)), vdupq_n_f32(MAGICF))
#define ZERO vdupq_n_s32(0)
#else
#define SUM(kind, OFF, t)                                                                                              \
    vcvtq_f32_s32(kind == ONE ? dot32(vdupq_n_s32(0), w, q + 32 * t)                                                   \
                  : OFF       ? vpaddlq_s16(dotSmall(w, q + 32 * t))                                                   \
                              : vpadalq_s16(vshrq_n_s32(vld1q_dup_s32(c + t), 4), dotSmall(w, q + 32 * t)))
#endif

#define GEMM(name, T, kind, OFF)                                                                                       \
    KERNEL NAME(name)(const struct gemm *a) {                                                                          \
        static const int32_t magics[4] = {MAGIC, MAGIC, MAGIC, MAGIC};                                                 \
        const int32_t *magic = magics;                                                                                 \
        (void)magic;                                                                                                   \
        const uint8_t *p = a->w;                                                                                       \
        const float *s = a->s, *m = a->m, *d = a->d, *g = a->g;                                                        \
        const int8_t *q = a->q;                                                                                        \
        const int32_t *c = a->c;                                                                                       \
        long nb = a->nb, tw4 = hidden(4 * a->tw), tw32 = hidden(32 * a->tw);                                           \
        F f[T];                                                                                                        \
        float *y = (float *)a->x;                                                                                      \
        UNROLL for (int t = 0; t < T; t++, y = step(y, a->ldx)) f[t] = vld1q_f32(y);                                   \
        do {                                                                                                           \
            B w[8];                                                                                                    \
            load8(w, p);                                                                                               \
            p += 128;                                                                                                  \
            F sv = vld1q_f32(s);                                                                                       \
            if (kind == TWO) {                                                                                         \
                V i[T];                                                                                                \
                UNROLL for (int t = 0; t < T; t++) {                                                                   \
                    i[t] = vshlq_n_s32(dot32(vdupq_n_s32(0), w, q + 32 * t), 7);                                       \
                    FENCE;                                                                                             \
                }                                                                                                      \
                FENCE;                                                                                                 \
                load8(w, p);                                                                                           \
                p += 128;                                                                                              \
                UNROLL for (int t = 0; t < T; t++) {                                                                   \
                    f[t] = vfmaq_f32(f[t], vcvtq_f32_s32(dot32(i[t], w, q + 32 * t)), vmulq_n_f32(sv, d[t]));          \
                    FENCE;                                                                                             \
                }                                                                                                      \
            } else {                                                                                                   \
                F mv;                                                                                                  \
                if (OFF) mv = vld1q_f32(m);                                                                            \
                UNROLL for (int t = 0; t < T; t++) {                                                                   \
                    f[t] = vfmaq_f32(f[t], SUM(kind, OFF, t), vmulq_n_f32(sv, d[t]));                                  \
                    if (OFF) f[t] = vfmaq_n_f32(f[t], mv, g[t]);                                                       \
                    FENCE;                                                                                             \
                }                                                                                                      \
                m += OFF ? 4 : 0;                                                                                      \
                if (OFF) g = (const float *)((const char *)g + tw4);                                                   \
            }                                                                                                          \
            s += 4;                                                                                                    \
            q += tw32;                                                                                                 \
            d = (const float *)((const char *)d + tw4);                                                                \
            c = (const int32_t *)((const char *)c + tw4);                                                              \
        } while (--nb);                                                                                                \
        y = a->y;                                                                                                      \
        UNROLL for (int t = 0; t < T; t++, y = step(y, a->ldy)) vst1q_f32(y, f[t]);                                    \
    }
#define FEW(suffix, kind, OFF)                                                                                         \
    GEMM(gemm1##suffix, 1, kind, OFF)                                                                                  \
    GEMM(gemm2##suffix, 2, kind, OFF)                                                                                  \
    GEMM(gemm4##suffix, 4, kind, OFF)
#define ALL(suffix, kind, OFF)                                                                                         \
    FEW(suffix, kind, OFF)                                                                                             \
    GEMM(gemm8##suffix, 8, kind, OFF)
ALL(, ONE, 0)
ALL(Off, ONE, 1)
#ifdef __ARM_FEATURE_DOTPROD
ALL(Two, TWO, 0)
#else
FEW(Two, TWO, 0) // 8 tokens spill
ALL(Small, SMALL, 0)
ALL(SmallOff, SMALL, 1)
#endif
