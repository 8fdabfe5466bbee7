// Rows as they are stored in the file times one token: decoding needs no other copy of the weights. A row's 16 bytes are
// multiplied as they lie, and the partial sums of four rows are folded into one register, in which a lane is a row; eight
// rows at a time share what is loaded of the token. The rows behind them are prefetched to the second-level cache
// meanwhile: memory sees one sequential stream. Layouts are documented in package quant.
#include "neon.h"

KERNEL NAME(rowsQ40)(struct gemv *a);
KERNEL NAME(rowsQ80)(struct gemv *a);
KERNEL NAME(rowsIQ4NL)(struct gemv *a);
KERNEL NAME(rowsQ6K)(struct gemv *a);
KERNEL NAME(rowsBnB)(struct gemv *a);

#define LOW4(v) vreinterpretq_s8_u8(vandq_u8(v, vdupq_n_u8(15)))
#define HIGH4(v) vreinterpretq_s8_u8(vshrq_n_u8(v, 4))

// Small and Wide are a row's partial sums: of weights 0 … 15, and of any bytes. rowSmall and rowWide begin one with 32
// columns, a with x and b with z; the folds make the sums of four rows.
#ifdef __ARM_FEATURE_DOTPROD
typedef V Small;
typedef V Wide;
// In one piece: from three pieces the compiler makes copies of s.
INLINE Small rowSmall(B a, B b, B x, B z, const int32_t *from) {
    Small s;
    __asm__ volatile("ldr %s0, %5\n"
                     "sdot %0.4s, %1.16b, %3.16b\n"
                     "sdot %0.4s, %2.16b, %4.16b"
                     : "=&w"(s)
                     : "w"(a), "w"(b), "w"(x), "w"(z), "m"(*from));
    return s;
}
INLINE Wide rowWide(B a, B b, B x, B z, const int32_t *from) { return rowSmall(a, b, x, z, from); }
INLINE V fold(V a, V b, V c, V d) { return vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)); }
INLINE V foldSmall(const Small s[4]) { return fold(s[0], s[1], s[2], s[3]); }
INLINE V foldWide(const Wide s[4]) { return fold(s[0], s[1], s[2], s[3]); }
// What a sum began from has the bits of a float.
INLINE F toFloat(V v) { return vsubq_f32(vreinterpretq_f32_s32(v), vdupq_n_f32(MAGICF)); }
#else
#define LO vget_low_s8
typedef int16x8_t Small;
typedef V Wide;
INLINE Small rowSmall(B a, B b, B x, B z, const int32_t *from) {
    Small s; // in one piece: from four pieces the compiler makes copies of s
    __asm__("smull %0.8h, %1.8b, %3.8b\n"
            "smlal2 %0.8h, %1.16b, %3.16b\n"
            "smlal %0.8h, %2.8b, %4.8b\n"
            "smlal2 %0.8h, %2.16b, %4.16b"
            : "=&w"(s)
            : "w"(a), "w"(b), "w"(x), "w"(z));
    return s;
}
// Two products of 128·127 fit 16 bits.
INLINE Wide rowWide(B a, B b, B x, B z, const int32_t *from) {
    Wide s;
    int16x8_t t;
    __asm__("smull %0.8h, %2.8b, %4.8b\n"
            "smull %1.8h, %3.8b, %5.8b\n"
            "smlal2 %0.8h, %2.16b, %4.16b\n"
            "smlal2 %1.8h, %3.16b, %5.16b\n"
            "saddlp %0.4s, %0.8h\n"
            "sadalp %0.4s, %1.8h"
            : "=&w"(s), "=&w"(t)
            : "w"(a), "w"(b), "w"(x), "w"(z));
    return s;
}
// 16 products of 15·127 do.
INLINE int16x8_t fold16(const Small s[4]) { return vpaddq_s16(vpaddq_s16(s[0], s[1]), vpaddq_s16(s[2], s[3])); }
INLINE V foldWide(const Wide s[4]) { return vpaddq_s32(vpaddq_s32(s[0], s[1]), vpaddq_s32(s[2], s[3])); }
INLINE F toFloat(V v) { return vcvtq_f32_s32(v); }
#endif

// Made anew each time: the instruction that adds to it would copy it instead.
INLINE V once(V v) {
    __asm__ volatile("" : "+w"(v));
    return v;
}

// The float16 at offset o of four rows, put together beside the vector pipes, which are the busier ones.
INLINE F halves(const uint8_t *const *p, long o) {
#define HALF(i) (uint64_t)(*(const uint16_t *)(p[i] + o))
    return vcvt_f32_f16(vreinterpret_f16_u64(vcreate_u64((HALF(0) | HALF(1) << 16) | (HALF(2) | HALF(3) << 16) << 32)));
#undef HALF
}

// a times lane i of d. (The compiler would make a register full of that lane first.)
#define TIMES(a, d, i)                                                                                                 \
    ({                                                                                                                 \
        F product;                                                                                                     \
        __asm__("fmul %0.4s, %1.4s, %2.s[" #i "]" : "=w"(product) : "w"(a), "w"(d));                                   \
        product;                                                                                                       \
    })
INLINE F times(F a, F d, const int i) {
    switch (i) {
    case 0: return TIMES(a, d, 0);
    case 1: return TIMES(a, d, 1);
    case 2: return TIMES(a, d, 2);
    default: return TIMES(a, d, 3);
    }
}

// What the rows of a call share of the token's blocks is computed once and stands in a->buf, behind SLOTS floats: what the
// integer sums begin from, and with dot product d·2¹¹².
//
// FCVTL takes one of the two pipes of a Cortex-A76 for two cycles, of 12 for a block of four rows. Instead, the bits of
// float16 are moved beside the pipes to where float32 has sign, exponent and mantissa, which makes 2⁻¹¹² of them: 2.75 cycles
// for 32 weights instead of 3.00. That is exact but for infinity and NaN, whose exponent is all ones, and d·2¹¹² is where
// d < 2¹⁵. Rows are done with FCVTL where d is larger anywhere, or all bits of the exponent were seen, be it not in one scale.
// (On a Cortex-A72 it would not help: that is bound by its three operations a cycle.)
#define SLOTS 32
#ifdef __ARM_FEATURE_DOTPROD
struct block {
    int32_t from;
    float d;
};
INLINE int prepared(const struct gemv *a, const int shift) {
    struct block *to = (struct block *)(a->buf + SLOTS);
    int all = 1;
    for (long b = 0; b < a->nb; b++) {
        to[b].from = MAGIC + (shift ? a->c[b] >> shift : 0);
        to[b].d = a->d[b] * 0x1p112f;
        all &= !(a->d[b] >= 0x1p15f);
    }
    FENCE;
    return all;
}
// The float16 at offset o of four rows times 2⁻¹¹²; the bits go to seen.
INLINE F shifted(const uint8_t *const *p, long o, float *slots, const int slot, uint64_t *seen) {
    const uint64_t keep = 0x8fffe0008fffe000;
    uint64_t x, y, z, w;
    F v;
#define HALF(i) "m"(*(const int16_t *)(p[i] + o))
    __asm__("ldrsh %w0, %6\n" // sign-extended, that the sign gets to bit 31 too
            "ldrsh %w1, %7\n"
            "ldrsh %w2, %8\n"
            "ldrsh %w3, %9\n"
            "orr %0, %0, %1, lsl #32\n"
            "orr %2, %2, %3, lsl #32\n"
            "and %0, %10, %0, lsl #13\n"
            "and %2, %10, %2, lsl #13\n"
            "orr %5, %5, %0\n"
            "stp %0, %2, [%11, %12]\n"
            "orr %5, %5, %2\n"
            "ldr %q4, [%11, %12]"
            : "=&r"(x), "=&r"(y), "=&r"(z), "=&r"(w), "=w"(v), "+r"(*seen)
            : HALF(0), HALF(1), HALF(2), HALF(3), "r"(keep), "r"(slots), "i"(16 * slot));
#undef HALF
    return v;
}
INLINE int special(uint64_t seen) { return (seen & 0x0f800000) == 0x0f800000 || (seen >> 32 & 0x0f800000) == 0x0f800000; }
#define DOT 1
typedef struct block From;
#define FROM(b) (&(b)->from)
#else
typedef V From;
INLINE int prepared(const struct gemv *a, const int shift) {
    V *to = (V *)(a->buf + SLOTS);
    for (long b = 0; b < a->nb; b++) to[b] = vdupq_n_s32(shift ? a->c[b] >> shift : 0);
    FENCE;
    return 1;
}
#define DOT 0
INLINE F shifted(const uint8_t *const *p, long o, float *slots, const int slot, uint64_t *seen) { return vdupq_n_f32(0); }
INLINE int special(uint64_t seen) { return 0; }
#define FROM(b) ((const int32_t *)(b))
#endif

// Keeps blocks apart where they would spill; where they do not, mixing them saves 0.3 cycles for 32 weights (Cortex-A72).
#ifdef __ARM_FEATURE_DOTPROD
#define APART FENCE
#else
#define APART
#endif

// A pointer that the compiler knows nothing of: it would keep its value at the end of a loop beside it.
INLINE const uint8_t *hidden(const uint8_t *p) {
    __asm__("" : "+r"(p));
    return p;
}

// U blocks of R rows, BYTES each; STEP does block u, which begins o bytes behind p[i].
#define BLOCKS(R, U, BYTES, STEP)                                                                                      \
    {                                                                                                                  \
        F dd;                                                                                                          \
        if (!FAST) dd = U == 4 ? vld1q_f32(d) : vld1q_dup_f32(d);                                                      \
        UNROLL for (int u = 0; u < U; u++) {                                                                           \
            const long o = BYTES * u;                                                                                  \
            B x = vld1q_s8(q + 32 * u), z = vld1q_s8(q + 32 * u + 16);                                                 \
            if (FAST && u % 2 == 0) dd = vld1q_f32((const float *)(from + u));                                         \
            STEP                                                                                                       \
            APART;                                                                                                     \
        }                                                                                                              \
        UNROLL for (int l = 0; l < R * U * BYTES; l += 64) __builtin_prefetch(pf + l, 0, 2);                           \
        pf += R * U * BYTES;                                                                                           \
        UNROLL for (int i = 0; i < R; i++) p[i] = hidden(p[i] + U * BYTES);                                            \
        q += 32 * U;                                                                                                   \
        d += U;                                                                                                        \
        from += U;                                                                                                     \
    }
// Eight rows at a time, four blocks in one step, as long as there are and scales may be shifted (a->left), or four. Sums begin
// at -128·Σq >> SHIFT, or 0.
#define ROWS(name, BYTES, SHIFT, SHIFTED, STEP)                                                                        \
    INLINE int name##Rows(const struct gemv *a, const int R, const int FAST) {                                         \
        const uint8_t *p[8], *pf = a->row;                                                                             \
        F f[2];                                                                                                        \
        UNROLL for (int i = 0; i < R; i++, pf += a->stride) p[i] = pf;                                                 \
        UNROLL for (int g = 0; g < R / 4; g++) f[g] = vdupq_n_f32(0);                                                  \
        const int8_t *q = a->q;                                                                                        \
        const float *d = a->d;                                                                                         \
        const From *from = (const From *)(a->buf + SLOTS);                                                             \
        uint64_t seen = 0;                                                                                             \
        long n = a->nb;                                                                                                \
        if (R == 8) {                                                                                                  \
            for (n = a->nb / 4; n; n--) BLOCKS(R, 4, BYTES, STEP)                                                      \
            n = a->nb % 4;                                                                                             \
        }                                                                                                              \
        for (; n; n--) BLOCKS(R, 1, BYTES, STEP)                                                                       \
        UNROLL for (int g = 0; g < R / 4; g++) vst1q_f32(a->out + 4 * g, f[g]);                                        \
        return !FAST || !special(seen);                                                                                \
    }                                                                                                                  \
    KERNEL NAME(name)(struct gemv *a) {                                                                                \
        a->row = a->w;                                                                                                 \
        a->out = a->y;                                                                                                 \
        a->left = prepared(a, SHIFT) || !SHIFTED;                                                                      \
        do {                                                                                                           \
            long done = 1;                                                                                             \
            if (a->groups > 1 && a->left && (a->left = name##Rows(a, 8, SHIFTED)))                                     \
                done = 2;                                                                                              \
            else                                                                                                       \
                name##Rows(a, 4, 0);                                                                                   \
            a->row += 4 * done * a->stride;                                                                            \
            a->out += 4 * done;                                                                                        \
            a->groups -= done;                                                                                         \
            FENCE;                                                                                                     \
        } while (a->groups);                                                                                           \
    }

// The block of rows p[4g] … p[4g+3]: ROW makes the partial sum of row r.
#define EACHFOUR(TYPE, ROW, FOLD)                                                                                      \
    UNROLL for (int g = 0; g < R / 4; g++) {                                                                           \
        TYPE s[4];                                                                                                     \
        UNROLL for (int i = 0; i < 4; i++) {                                                                           \
            const uint8_t *r = p[4 * g + i] + o;                                                                       \
            s[i] = ROW;                                                                                                \
        }                                                                                                              \
        F sv = FAST ? times(shifted(p + 4 * g, o, a->buf, 2 * u + g, &seen), dd, 1 + 2 * (u % 2))                      \
                    : times(halves(p + 4 * g, o), dd, u);                                                              \
        f[g] = vfmaq_f32(f[g], toFloat(FOLD), sv);                                                                     \
    }

// Q4_0: { d f16; nibbles [16]byte }, v - 8: c/16 = -8·Σq.
#ifdef __ARM_FEATURE_DOTPROD
#define CORRECTED(s) foldSmall(s)
#else
#define CORRECTED(s) vpadalq_s16(fresh(FROM(from + u)), fold16(s))
#endif
INLINE Small row40(const uint8_t *r, B x, B z, const int32_t *from) {
    uint8x16_t v = vld1q_u8(r + 2);
    return rowSmall(LOW4(v), HIGH4(v), x, z, from);
}
ROWS(rowsQ40, 18, 4, DOT, EACHFOUR(Small, row40(r, x, z, FROM(from + u)), CORRECTED(s)))

// Q8_0: { d f16; [32]int8 }. It is bound by its loads, of which shifted needs more: 2.9 cycles for 32 weights.
INLINE Wide row80(const uint8_t *r, B x, B z, const int32_t *from) {
    return rowWide(vld1q_s8((const int8_t *)r + 2), vld1q_s8((const int8_t *)r + 18), x, z, from);
}
ROWS(rowsQ80, 34, 0, 0, EACHFOUR(Wide, row80(r, x, z, FROM(from + u)), foldWide(s)))

// IQ4_NL: as Q4_0, but the nibbles are places in a table.
INLINE Wide rowNL(const uint8_t *r, B t, B x, B z, const int32_t *from) {
    uint8x16_t v = vld1q_u8(r + 2);
    return rowWide(vqtbl1q_s8(t, vreinterpretq_u8_s8(LOW4(v))), vqtbl1q_s8(t, vreinterpretq_u8_s8(HIGH4(v))), x, z, from);
}
ROWS(rowsIQ4NL, 18, 0, DOT, B t = vld1q_s8((const int8_t *)a->table); EACHFOUR(Wide, rowNL(r, t, x, z, FROM(from + u)), foldWide(s)))

// bitsandbytes: 16 bytes hold 32 columns, the even one of a pair in the high nibble; q comes with the even columns of
// each 8 before the odd ones. Two tables, v = 128·h + l, and one scale for 64 columns: a->s holds those of four rows,
// group by group.
INLINE void bnbRows(struct gemv *a, const int R) {
    const uint8_t *p[8], *pf = a->row + R * a->stride;
    const float *scales = a->srow;
    F f[2];
    UNROLL for (int i = 0; i < R; i++) p[i] = a->row + i * a->stride;
    UNROLL for (int g = 0; g < R / 4; g++) f[g] = vdupq_n_f32(0);
    const B high = vld1q_s8((const int8_t *)a->table), low = vld1q_s8((const int8_t *)a->table + 16);
    const int8_t *q = a->q;
    const float *d = a->d;
    int32_t *zero = (int32_t *)a->buf;
    zero[0] = 0;
    long n = a->nb / 2;
    do {
        UNROLL for (int u = 0; u < 2; u++) {
            V q0 = vreinterpretq_s32_s8(vld1q_s8(q + 32 * u)), q1 = vreinterpretq_s32_s8(vld1q_s8(q + 32 * u + 16));
            B x = vreinterpretq_s8_s32(vuzp1q_s32(q0, q1)), z = vreinterpretq_s8_s32(vuzp2q_s32(q0, q1));
            UNROLL for (int g = 0; g < R / 4; g++) {
                Wide h[4], l[4];
                UNROLL for (int i = 0; i < 4; i++) {
                    uint8x16_t v = vld1q_u8(p[4 * g + i] + 16 * u);
                    uint8x16_t e = vreinterpretq_u8_s8(HIGH4(v)), o = vreinterpretq_u8_s8(LOW4(v));
                    h[i] = rowWide(vqtbl1q_s8(high, e), vqtbl1q_s8(high, o), x, z, zero);
                    l[i] = rowWide(vqtbl1q_s8(low, e), vqtbl1q_s8(low, o), x, z, zero);
                }
                V sum = vaddq_s32(vshlq_n_s32(foldWide(h), 7), foldWide(l));
                f[g] = vfmaq_f32(f[g], vcvtq_f32_s32(sum), vmulq_n_f32(vld1q_f32(scales + g * 2 * a->nb), d[u]));
                FENCE;
            }
        }
        UNROLL for (int l = 0; l < R * 32; l += 64) __builtin_prefetch(pf + l, 0, 2);
        pf += R * 32;
        UNROLL for (int i = 0; i < R; i++) p[i] += 32;
        scales += 4;
        q += 64;
        d += 2;
    } while (--n);
    UNROLL for (int g = 0; g < R / 4; g++) vst1q_f32(a->out + 4 * g, f[g]);
    a->row += R * a->stride;
    a->out += R;
    a->srow += R / 2 * a->nb;
    a->left -= R / 4;
}
KERNEL NAME(rowsBnB)(struct gemv *a) {
    a->row = a->w;
    a->out = a->y;
    a->srow = a->s;
    a->left = a->groups;
    while (a->left >= 2) bnbRows(a, 8);
    if (a->left) bnbRows(a, 4);
}

// Q6_K: { ql [128]byte; qh [64]byte; scales [16]int8; d f16 }, 256 columns in 8 blocks, a scale for each half of one.

// to[4j + i] is scale j of row i.
INLINE void scales6(int32_t *to, const uint8_t *const *p) {
    B a = vld1q_s8((const int8_t *)p[0] + 192), b = vld1q_s8((const int8_t *)p[1] + 192);
    B c = vld1q_s8((const int8_t *)p[2] + 192), d = vld1q_s8((const int8_t *)p[3] + 192);
#define PAIRS(z) vreinterpretq_s16_s8(z(a, b)), vreinterpretq_s16_s8(z(c, d))
    int16x8_t t[4] = {vzip1q_s16(PAIRS(vzip1q_s8)), vzip2q_s16(PAIRS(vzip1q_s8)), vzip1q_s16(PAIRS(vzip2q_s8)), vzip2q_s16(PAIRS(vzip2q_s8))};
#undef PAIRS
    UNROLL for (int k = 0; k < 4; k++, to += 16) {
        B v = vreinterpretq_s8_s16(t[k]);
        int16x8_t l = vmovl_s8(vget_low_s8(v)), h = vmovl_high_s8(v);
        vst1q_s32(to, vmovl_s16(vget_low_s16(l)));
        vst1q_s32(to + 4, vmovl_high_s16(l));
        vst1q_s32(to + 8, vmovl_s16(vget_low_s16(h)));
        vst1q_s32(to + 12, vmovl_high_s16(h));
    }
}
// The sum of 16 columns of four rows, half h of block j, whose low 4 bits are nibbles of ql and whose others are 2 bits of
// qh; it begins at from[0], -32·Σq.
INLINE V half6(const uint8_t *const *p, int j, int h, B x, const int32_t *from) {
    const int n = j / 4, i = j % 4;
    const uint8x16_t bits = vdupq_n_u8(48);
#ifdef __ARM_FEATURE_DOTPROD
    V s[4];
#else
    int16x8_t s[4]; // two products of 63·127, and with their neighbours
#endif
    UNROLL for (int r = 0; r < 4; r++) {
        uint8x16_t l = vld1q_u8(p[r] + 64 * n + 32 * (i % 2) + 16 * h), u = vld1q_u8(p[r] + 128 + 32 * n + 16 * h);
        if (i == 0) u = vshlq_n_u8(u, 4);
        if (i == 1) u = vshlq_n_u8(u, 2);
        if (i == 3) u = vshrq_n_u8(u, 2);
        l = i < 2 ? vandq_u8(l, vdupq_n_u8(15)) : vshrq_n_u8(l, 4);
        B v = vreinterpretq_s8_u8(vorrq_u8(l, vandq_u8(u, bits)));
#ifdef __ARM_FEATURE_DOTPROD
        s[r] = vdotq_s32(freshOne(from), v, x);
#else
        s[r] = vmlal_high_s8(vmull_s8(LO(v), LO(x)), v, x);
#endif
    }
#ifdef __ARM_FEATURE_DOTPROD
    return fold(s[0], s[1], s[2], s[3]);
#else
    V sum = vpaddq_s32(vpaddlq_s16(vpaddq_s16(s[0], s[1])), vpaddlq_s16(vpaddq_s16(s[2], s[3])));
    return vaddq_s32(sum, vld1q_dup_s32(from));
#endif
}
KERNEL NAME(rowsQ6K)(struct gemv *a) {
    a->row = a->w;
    a->out = a->y;
    a->left = a->groups;
    do {
        const uint8_t *p[4], *pf = a->row + 4 * a->stride;
        UNROLL for (int i = 0; i < 4; i++) p[i] = a->row + i * a->stride;
        int32_t *scale = (int32_t *)a->buf;
        long b = 0;
        F f = vdupq_n_f32(0);
        do {
            const int8_t *q = a->q + 32 * b;
            const float *d = a->d + b;
            const int32_t *half = a->h + 2 * b;
            __asm__("" : "+r"(scale)); // or 16 registers would hold addresses
            int32_t *from = scale + 64;
            scales6(scale, p);
            F dw = halves(p, 208);
            UNROLL for (int k = 0; k < 16; k += 4) vst1q_s32(from + k, vshrq_n_s32(vld1q_s32(half + k), 2));
            UNROLL for (int j = 0; j < 8; j++) {
                V s = vmulq_s32(half6(p, j, 0, vld1q_s8(q + 32 * j), from + 2 * j), vld1q_s32(scale + 8 * j));
                s = vmlaq_s32(s, half6(p, j, 1, vld1q_s8(q + 32 * j + 16), from + 2 * j + 1), vld1q_s32(scale + 8 * j + 4));
                f = vfmaq_f32(f, vcvtq_f32_s32(s), vmulq_n_f32(dw, d[j]));
                FENCE;
            }
            UNROLL for (int l = 0; l < 4 * 210; l += 64) __builtin_prefetch(pf + l, 0, 2);
            pf += 4 * 210;
            UNROLL for (int i = 0; i < 4; i++) p[i] += 210;
            b += 8;
        } while (b < a->nb);
        vst1q_f32(a->out, f);
        a->out += 4;
        a->row += 4 * a->stride;
    } while (--a->left);
}
