// Vectors, attention, activations and float weights. Lengths are multiples of 16 where nothing else is said.
#include "wide.h"

KERNEL NAME(rmsNorm)(float *y, const float *x, const float *w, long n, long eps);
KERNEL NAME(layerNorm)(float *y, const float *x, const float *w, const float *b, long n, long eps);
KERNEL NAME(rotate)(float *lo, float *hi, const float *cosine, const float *sine, long n);
KERNEL NAME(rotatePairs)(float *x, const float *cosine, const float *sine, long n);
KERNEL NAME(quantise)(int8_t *q, float *d, const float *x);
KERNEL NAME(prepare)(const struct prepare *a);
KERNEL NAME(toHalf)(uint8_t *to, const float *from, long n);
KERNEL NAME(fromHalf)(float *to, const uint8_t *from, long n);
KERNEL NAME(fromQ8)(float *to, const uint8_t *from, long n);
KERNEL NAME(weigh)(float *p, float *m, float *l, float *o, long dim, long lo, long hi);
KERNEL NAME(scores)(float *p, const float *q, const float *k, long dim, long n);
KERNEL NAME(mix)(float *o, const float *p, const float *v, long dim, long n, long stride);
KERNEL NAME(dot1F32)(struct dot *a);
KERNEL NAME(dot1F16)(struct dot *a);
KERNEL NAME(dot1BF16)(struct dot *a);
#if LANES > 4
KERNEL NAME(combine)(float *o, const float *p, long n, long x, long y);
#endif
#if LANES == 16 // 4 heads or tokens want more than the registers of the others
KERNEL NAME(scores4F32)(float *p, const float *q, const uint8_t *k, long dim, long n, long stride, const uint8_t *ahead);
KERNEL NAME(scores4F16)(float *p, const float *q, const uint8_t *k, long dim, long n, long stride, const uint8_t *ahead);
KERNEL NAME(scores4Q8)(float *p, const float *q, const uint8_t *k, long dim, long n, long stride, const uint8_t *ahead);
KERNEL NAME(mix4F32)(float *o, const float *p, const uint8_t *v, long dim, long n, long stride, const uint8_t *ahead);
KERNEL NAME(mix4F16)(float *o, const float *p, const uint8_t *v, long dim, long n, long stride, const uint8_t *ahead);
KERNEL NAME(mix4Q8)(float *o, const float *p, const uint8_t *v, long dim, long n, long stride, const uint8_t *ahead);
KERNEL NAME(weigh4)(float *p, float *m, float *l, float *o, long dim, long lo, long hi);
KERNEL NAME(dot4F32)(struct dot *a);
KERNEL NAME(dot4F16)(struct dot *a);
KERNEL NAME(dot4BF16)(struct dot *a);
#endif
KERNEL NAME(sum)(const uint8_t *p, long n, int64_t *out);

// A float32 argument comes as its bits.
INLINE float ofBits(long b) {
    union {
        int32_t i;
        float f;
    } u = {.i = (int32_t)b};
    return u.f;
}
INLINE int32_t toBits(float f) {
    union {
        float f;
        int32_t i;
    } u = {.f = f};
    return u.i;
}
INLINE float root(float x) {
#if LANES == 4
    return vget_lane_f32(vsqrt_f32(vdup_n_f32(x)), 0);
#else
    return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x)));
#endif
}

KERNEL NAME(rmsNorm)(float *y, const float *x, const float *w, long n, long eps) {
    W s = wset(0);
    for (long i = 0; i < n; i += 16) {
        W v = wload(x + i);
        s = wfma(v, v, s);
    }
    W r = wset(1.0f / root(fold(s) / (float)n + ofBits(eps)));
    for (long i = 0; i < n; i += 16) wstore(y + i, wmul(wmul(wload(x + i), r), wload(w + i)));
}

KERNEL NAME(layerNorm)(float *y, const float *x, const float *w, const float *b, long n, long eps) {
    W s = wset(0);
    for (long i = 0; i < n; i += 16) s = wadd(s, wload(x + i));
    W mean = wset(fold(s) / (float)n);
    s = wset(0);
    for (long i = 0; i < n; i += 16) {
        W c = wsub(wload(x + i), mean);
        s = wfma(c, c, s);
    }
    W r = wset(1.0f / root(fold(s) / (float)n + ofBits(eps)));
    for (long i = 0; i < n; i += 16) {
        W v = wmul(wsub(wload(x + i), mean), r);
        wstore(y + i, b ? wfma(v, wload(w + i), wload(b + i)) : wmul(v, wload(w + i)));
    }
}

KERNEL NAME(rotate)(float *lo, float *hi, const float *cosine, const float *sine, long n) {
    for (long i = 0; i < n; i += 16) {
        W a = wload(lo + i), b = wload(hi + i), c = wload(cosine + i), s = wload(sine + i);
        wstore(lo + i, wfma(a, c, wneg(wmul(b, s))));
        wstore(hi + i, wfma(a, s, wmul(b, c)));
    }
}

// n is a multiple of LANES.
KERNEL NAME(rotatePairs)(float *x, const float *cosine, const float *sine, long n) {
    for (long i = 0; i < n; i += LANES, x += 2 * LANES) {
        F c = P(loadu_ps)(cosine + i), s = P(loadu_ps)(sine + i);
#if LANES == 4
        float32x4x2_t v = vld2q_f32(x), u;
        u.val[0] = vfmaq_f32(vnegq_f32(vmulq_f32(v.val[1], s)), v.val[0], c);
        u.val[1] = vfmaq_f32(vmulq_f32(v.val[1], c), v.val[0], s);
        vst2q_f32(x, u);
#else
        // Even and odd elements apart, in any order that c and s follow: that of shuffle_ps in 128-bit lanes.
#if LANES == 16
        const V at = _mm512_set_epi32(15, 14, 7, 6, 13, 12, 5, 4, 11, 10, 3, 2, 9, 8, 1, 0);
        c = _mm512_permutexvar_ps(at, c);
        s = _mm512_permutexvar_ps(at, s);
#else
        const V at = _mm256_set_epi32(7, 6, 3, 2, 5, 4, 1, 0);
        c = _mm256_permutevar8x32_ps(c, at);
        s = _mm256_permutevar8x32_ps(s, at);
#endif
        F v0 = P(loadu_ps)(x), v1 = P(loadu_ps)(x + LANES);
        F a = P(shuffle_ps)(v0, v1, 0x88), b = P(shuffle_ps)(v0, v1, 0xdd);
        F e = P(fmadd_ps)(a, c, negF(P(mul_ps)(b, s))), o = P(fmadd_ps)(a, s, P(mul_ps)(b, c));
        P(storeu_ps)(x, P(unpacklo_ps)(e, o));
        P(storeu_ps)(x + LANES, P(unpackhi_ps)(e, o));
#endif
    }
}

// 16 numbers to 8 bits, and their sum.
INLINE int32_t narrow(int8_t *to, const float *x, float r) {
#if LANES == 4
    float32x4_t m = vdupq_n_f32(r);
    int16x8_t a = vcombine_s16(vmovn_s32(nearest(vmulq_f32(vld1q_f32(x), m))), vmovn_s32(nearest(vmulq_f32(vld1q_f32(x + 4), m))));
    int16x8_t b = vcombine_s16(vmovn_s32(nearest(vmulq_f32(vld1q_f32(x + 8), m))), vmovn_s32(nearest(vmulq_f32(vld1q_f32(x + 12), m))));
    int8x16_t q = vcombine_s8(vmovn_s16(a), vmovn_s16(b));
    vst1q_s8(to, q);
    return vaddlvq_s8(q);
#else
#if LANES == 16
    __m128i q = _mm512_cvtepi32_epi8(nearest(_mm512_mul_ps(_mm512_loadu_ps(x), _mm512_set1_ps(r))));
#else
    __m256i a = nearest(_mm256_mul_ps(_mm256_loadu_ps(x), _mm256_set1_ps(r)));
    __m256i b = nearest(_mm256_mul_ps(_mm256_loadu_ps(x + 8), _mm256_set1_ps(r)));
    a = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
    __m128i q = _mm_packs_epi16(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
#endif
    _mm_storeu_si128((__m128i *)to, q);
    __m128i s = _mm_sad_epu8(_mm_xor_si128(q, _mm_set1_epi8(-128)), _mm_setzero_si128());
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_unpackhi_epi64(s, s))) - 16 * 128;
#endif
}

// The bits of the largest magnitude of 32 numbers: as integers, infinities and NaN are above all others.
INLINE int32_t largest(const float *x) {
    V m = zero();
    const V magnitude = P(set1_epi32)(0x7fffffff);
    UNROLL for (int i = 0; i < 32; i += LANES) {
        V v = AND(load(x + i), magnitude);
#if LANES == 4
        m = vmaxq_s32(m, v);
#else
        m = P(max_epi32)(m, v);
#endif
    }
#if LANES == 4
    return vmaxvq_s32(m);
#else
#if LANES == 16
    __m256i h = _mm256_max_epi32(_mm512_castsi512_si256(m), _mm512_extracti64x4_epi64(m, 1));
#else
    __m256i h = m;
#endif
    __m128i q = _mm_max_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
    q = _mm_max_epi32(q, _mm_shuffle_epi32(q, 0x4e));
    q = _mm_max_epi32(q, _mm_shuffle_epi32(q, 0xb1));
    return _mm_cvtsi128_si32(q);
#endif
}

// One block of 32 to 8 bits, its scale, and the sums of its halves.
INLINE float block(int8_t *q, const float *x, int32_t *s0, int32_t *s1) {
    int32_t b = largest(x);
    float d, r = 0;
    if (b < 0x0d800000 || b >= 0x7f800000) {
        d = b < 0x0d800000 ? 0 : __builtin_nanf("");
        UNROLL for (int i = 0; i < 32; i += 8) *(int64_t *)(q + i) = 0;
        *s0 = *s1 = 0;
        return d;
    }
    float top = ofBits(b);
    r = 127.0f / top;
    d = top / 127.0f;
    *s0 = narrow(q, x, r);
    *s1 = narrow(q + 16, x + 16, r);
    return d;
}

KERNEL NAME(quantise)(int8_t *q, float *d, const float *x) {
    int32_t s0, s1;
    *d = block(q, x, &s0, &s1);
}

KERNEL NAME(prepare)(const struct prepare *a) {
    const float *x = a->x;
    int8_t *q = a->q;
    long i = 0;
    for (long nb = a->nb; nb > 0; nb--) {
        int32_t s0, s1;
        float d = block(q, x, &s0, &s1);
        a->d[i] = d;
        a->g[i] = d * (float)(s0 + s1);
        a->gh[2 * i] = d * (float)s0;
        a->gh[2 * i + a->tw] = d * (float)s1;
        a->s[i] = -128 * (s0 + s1);
        a->sh[2 * i] = -128 * s0;
        a->sh[2 * i + a->tw] = -128 * s1;
        x += 32;
        q += 32 * a->tw;
        i += a->tw;
        FENCE; // what a points to is read again: there are too few registers for all of it
    }
}

KERNEL NAME(toHalf)(uint8_t *to, const float *from, long n) {
    for (; n > 0; n -= 16, to += 32, from += 16)
        EACH putHalf(to + 2 * LANES * i, P(loadu_ps)(from + LANES * i));
}
KERNEL NAME(fromHalf)(float *to, const uint8_t *from, long n) {
    for (; n > 0; n -= 16, to += 16, from += 32) wstore(to, whalf(from));
}
// q8_0 blocks; d·q is exact.
KERNEL NAME(fromQ8)(float *to, const uint8_t *from, long n) {
    for (; n > 0; n -= 32, to += 32, from += 34) {
#if LANES == 4
        F d = vcvt_f32_f16(vreinterpret_f16_u16(vld1_dup_u16((const uint16_t *)from)));
#else
        F d = P(set1_ps)(_mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(*(const uint16_t *)from))));
#endif
        UNROLL for (int i = 0; i < 32; i += LANES) P(storeu_ps)(to + i, P(mul_ps)(d, byteF(from + 2 + i)));
    }
}

// One page's scores to weights, see kernel.Attend. Invisible positions come as -Inf, and so their weights are 0.
KERNEL NAME(weigh)(float *p, float *m, float *l, float *o, long dim, long lo, long hi) {
    float old = *m;
    for (long s = 0; s < lo; s++) p[s] = -__builtin_inff();
    for (long s = hi; s < 32; s++) p[s] = -__builtin_inff();
    F largest = P(set1_ps)(old);
    UNROLL for (long s = 0; s < 32; s += LANES) largest = maxF(P(loadu_ps)(p + s), largest);
    float top = largestF(largest) + 0; // no -0
    if (top > old) {
        F c = expF(P(set1_ps)(old - top));
        *l *= lane0(c);
        for (long i = 0; i < dim; i += LANES) P(storeu_ps)(o + i, P(mul_ps)(P(loadu_ps)(o + i), c));
        *m = top;
        FENCE;
    }
    ONCE for (long s = 0; s < 32; s += LANES) P(storeu_ps)(p + s, expF(P(sub_ps)(P(loadu_ps)(p + s), P(set1_ps)(top))));
    *l += fold(wadd(wload(p), wload(p + 16)));
}

#if LANES == 16
// weigh for four heads, p[32·h + s]: what a head waits for, the next one fills.
KERNEL NAME(weigh4)(float *p, float *m, float *l, float *o, long dim, long lo, long hi) {
    uint32_t seen = (uint32_t)((1ull << hi) - (1ull << lo));
    F v[4][2], none = _mm512_set1_ps(-__builtin_inff());
    __m128 q[4], old = _mm_loadu_ps(m);
    UNROLL for (int h = 0; h < 4; h++) {
        v[h][0] = _mm512_mask_loadu_ps(none, (__mmask16)seen, p + 32 * h);
        v[h][1] = _mm512_mask_loadu_ps(none, (__mmask16)(seen >> 16), p + 32 * h + 16);
        F x = _mm512_set1_ps(m[h]);
        x = maxF(v[h][1], maxF(v[h][0], x));
        __m256 y = _mm256_max_ps(_mm512_castps512_ps256(x), _mm256_castsi256_ps(_mm512_extracti64x4_epi64(_mm512_castps_si512(x), 1)));
        q[h] = _mm_max_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    }
    __m128 ab = _mm_max_ps(_mm_unpacklo_ps(q[0], q[1]), _mm_unpackhi_ps(q[0], q[1]));
    __m128 cd = _mm_max_ps(_mm_unpacklo_ps(q[2], q[3]), _mm_unpackhi_ps(q[2], q[3]));
    __m128 top = _mm_add_ps(_mm_max_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab)), _mm_setzero_ps()); // no -0
    int grown = _mm_movemask_ps(_mm_cmplt_ps(old, top));
    if (grown) {
        __m128 c = _mm512_castps512_ps128(expF(_mm512_castps128_ps512(_mm_sub_ps(old, top))));
        c = _mm_blendv_ps(_mm_set1_ps(1), c, _mm_cmplt_ps(old, top)); // times 1 changes no bit
        _mm_storeu_ps(m, _mm_blendv_ps(old, top, _mm_cmplt_ps(old, top)));
        _mm_storeu_ps(l, _mm_mul_ps(_mm_loadu_ps(l), c));
        for (int h = 0; h < 4; h++, o = step(o, dim)) {
            F x = _mm512_broadcastss_ps(c);
            c = _mm_shuffle_ps(c, c, 0x39);
            if (grown >> h & 1)
                for (long i = 0; i < dim; i += 16) _mm512_storeu_ps(o + i, _mm512_mul_ps(_mm512_loadu_ps(o + i), x));
        }
    }
    W e[4];
    UNROLL for (int h = 0; h < 4; h++) {
        F x = _mm512_broadcastss_ps(top);
        top = _mm_shuffle_ps(top, top, 0x39);
        F a = expF(_mm512_sub_ps(v[h][0], x)), b = expF(_mm512_sub_ps(v[h][1], x));
        _mm512_storeu_ps(p + 32 * h, a);
        _mm512_storeu_ps(p + 32 * h + 16, b);
        e[h].v[0] = _mm512_add_ps(a, b);
    }
    float *sum = p + 128;
    foldFour(sum, e);
    _mm_storeu_ps(l, _mm_add_ps(_mm_loadu_ps(l), _mm_loadu_ps(sum)));
}
#endif

#if LANES > 4
// o = fma(o, x, p·y), see kernel.Combine; x and y come as their bits.
KERNEL NAME(combine)(float *o, const float *p, long n, long x, long y) {
    W a = wset(ofBits(x)), b = wset(ofBits(y));
    for (long i = 0; i < n; i += 16) wstore(o + i, wfma(wload(o + i), a, wmul(wload(p + i), b)));
}
#endif

// p[s] = q · k[s] for n positions, four at a time.
KERNEL NAME(scores)(float *p, const float *q, const float *k, long dim, long n) {
    for (; n >= 4; n -= 4) {
        W f[4];
        UNROLL for (int s = 0; s < 4; s++) f[s] = wset(0);
        const float *x = q;
        for (long i = dim; i > 0; i -= 16, x += 16, k += 16) {
            W v = wload(x);
            UNROLL for (int s = 0; s < 4; s++) f[s] = wfma(v, wload(k + s * dim), f[s]);
        }
        foldFour(p, f);
        p += 4;
        k += 3 * dim;
    }
    for (; n > 0; n--) {
        W f = wset(0);
        for (long i = 0; i < dim; i += 16) f = wfma(wload(q + i), wload(k + i), f);
        *p++ = fold(f);
        k += dim;
    }
}

// o = fma(p[s], v[s], o) for n positions in order, stride numbers apart, N lanes of 16 at a time.
#define MIXCOLS(N)                                                                                                     \
    for (; left >= 16 * N; left -= 16 * N, o += 16 * N, v += 16 * N) {                                                 \
        W f[N];                                                                                                        \
        UNROLL for (int j = 0; j < N; j++) f[j] = wload(o + 16 * j);                                                   \
        const float *row = v;                                                                                          \
        for (long s = 0; s < n; s++, row += stride) {                                                                  \
            W x = wset(p[s]);                                                                                          \
            UNROLL for (int j = 0; j < N; j++) f[j] = wfma(x, wload(row + 16 * j), f[j]);                              \
        }                                                                                                              \
        UNROLL for (int j = 0; j < N; j++) wstore(o + 16 * j, f[j]);                                                   \
    }
KERNEL NAME(mix)(float *o, const float *p, const float *v, long dim, long n, long stride) {
    long left = dim;
#if LANES == 16
    MIXCOLS(8)
#endif
    MIXCOLS(4)
    MIXCOLS(1)
}

#if LANES == 16
// Four heads that share their keys and values, which are decoded in registers: p[32·h + s] = q[h] · k[s].
INLINE F at4F32(const uint8_t *p, long i) { return _mm512_loadu_ps((const float *)p + i); }
INLINE F at4F16(const uint8_t *p, long i) { return halfF(p + 2 * i); }
INLINE F at4Q8(const uint8_t *p, long i) {
    p += i / 32 * 34;
    return _mm512_mul_ps(_mm512_cvtph_ps(_mm256_set1_epi16(*(const int16_t *)p)), byteF(p + 2 + i % 32));
}
#define SCORES4(name, at, COLS, BYTES)                                                                                 \
    KERNEL NAME(name)(float *p, const float *q, const uint8_t *k, long dim, long n, long stride, const uint8_t *ahead) {\
        for (; n >= 4; n -= 4) {                                                                                       \
            W f[4][4];                                                                                                 \
            UNROLL for (int h = 0; h < 4; h++) UNROLL for (int s = 0; s < 4; s++) f[h][s] = wset(0);                   \
            const uint8_t *row = k;                                                                                    \
            const float *x = q;                                                                                        \
            for (long i = dim; i > 0; i -= COLS, row += BYTES) {                                                       \
                UNROLL for (int c = 0; c < COLS; c += 16, x += 16) {                                                   \
                    F v[4];                                                                                            \
                    UNROLL for (int s = 0; s < 4; s++) v[s] = at(row + s * stride, c);                                 \
                    UNROLL for (int h = 0; h < 4; h++) {                                                               \
                        F y = _mm512_loadu_ps(x + h * dim);                                                            \
                        UNROLL for (int s = 0; s < 4; s++) f[h][s].v[0] = _mm512_fmadd_ps(y, v[s], f[h][s].v[0]);      \
                    }                                                                                                  \
                }                                                                                                      \
            }                                                                                                          \
            for (long i = 4 * stride; COLS == 16 && i > 0; i -= 64, ahead += 64) _mm_prefetch((const char *)ahead, _MM_HINT_T0);\
            UNROLL for (int h = 0; h < 4; h++) foldFour(p + 32 * h, f[h]);                                             \
            p += 4;                                                                                                    \
            k += 4 * stride;                                                                                           \
        }                                                                                                              \
        for (; n > 0; n--, p++, k += stride) {                                                                         \
            W f[4];                                                                                                    \
            UNROLL for (int h = 0; h < 4; h++) f[h] = wset(0);                                                         \
            const uint8_t *row = k;                                                                                    \
            const float *x = q;                                                                                        \
            for (long i = dim; i > 0; i -= COLS, row += BYTES) {                                                       \
                UNROLL for (int c = 0; c < COLS; c += 16, x += 16) {                                                   \
                    F v = at(row, c);                                                                                  \
                    UNROLL for (int h = 0; h < 4; h++) f[h].v[0] = _mm512_fmadd_ps(_mm512_loadu_ps(x + h * dim), v, f[h].v[0]); \
                }                                                                                                      \
            }                                                                                                          \
            UNROLL for (int h = 0; h < 4; h++) p[32 * h] = fold(f[h]);                                                 \
        }                                                                                                              \
    }
SCORES4(scores4F32, at4F32, 16, 64)
SCORES4(scores4F16, at4F16, 16, 32)
SCORES4(scores4Q8, at4Q8, 32, 34)

// o[h] = fma(p[32·h + s], v[s], o[h]) for n positions in order.
#define MIX4COLS(N, at, BYTES)                                                                                         \
    for (; left >= 16 * N; left -= 16 * N, o += 16 * N, v += BYTES * N / 2) {                                          \
        F f[4][N];                                                                                                     \
        float *x = o;                                                                                                  \
        UNROLL for (int h = 0; h < 4; h++, x = step(x, dim)) UNROLL for (int j = 0; j < N; j++) f[h][j] = _mm512_loadu_ps(x + 16 * j); \
        const uint8_t *row = v;                                                                                        \
        for (long s = 0; s < n; s++, row += stride) {                                                                  \
            _mm_prefetch((const char *)ahead, _MM_HINT_T0);                                                            \
            ahead += 16 * N * BYTES / 32;                                                                              \
            UNROLL for (int j = 0; j < N; j++) {                                                                       \
                F y = at(row, 16 * j);                                                                                 \
                UNROLL for (int h = 0; h < 4; h++) f[h][j] = _mm512_fmadd_ps(_mm512_set1_ps(p[32 * h + s]), y, f[h][j]); \
            }                                                                                                          \
        }                                                                                                              \
        x = o;                                                                                                         \
        UNROLL for (int h = 0; h < 4; h++, x = step(x, dim)) UNROLL for (int j = 0; j < N; j++) _mm512_storeu_ps(x + 16 * j, f[h][j]); \
    }
#define MIX4(name, at, BYTES)                                                                                          \
    KERNEL NAME(name)(float *o, const float *p, const uint8_t *v, long dim, long n, long stride, const uint8_t *ahead) {\
        long left = dim;                                                                                               \
        MIX4COLS(4, at, BYTES)                                                                                         \
        MIX4COLS(2, at, BYTES)                                                                                         \
        MIX4COLS(1, at, BYTES)                                                                                         \
    }
MIX4(mix4F32, at4F32, 128)
MIX4(mix4F16, at4F16, 64)
MIX4(mix4Q8, at4Q8, 34)
#endif

// Float weights: Sum16 of 4 rows with T tokens; n is a multiple of 4, and a tail is padded with zeros. One token reads each row
// once, and the next 4 rows are prefetched meanwhile: 16-bit weights at 19 to 21 GB/s instead of 15 (Zen 4, one thread).
INLINE W wF32(const uint8_t *p) { return wload((const float *)p); }
// n numbers, 4, 8 or 12, in the places of 16.
#if LANES == 4
#define TAIL(name, one, size)                                                                                          \
    INLINE W name(const uint8_t *p, long n) {                                                                          \
        W r = wset(0);                                                                                                 \
        r.v[0] = one(p);                                                                                               \
        if (n > 4) r.v[1] = one(p + 4 * size);                                                                         \
        if (n > 8) r.v[2] = one(p + 8 * size);                                                                         \
        return r;                                                                                                      \
    }
INLINE F floatF(const uint8_t *p) { return vld1q_f32((const float *)p); }
TAIL(tailF32, floatF, 4)
TAIL(tailF16, halfF, 2)
TAIL(tailBF16, bfloatF, 2)
#else
INLINE __m256i few16(const uint8_t *p, long n) {
    __m128i a = _mm_loadl_epi64((const __m128i *)p), b = _mm_setzero_si128();
    if (n > 4) a = _mm_insert_epi64(a, *(const int64_t *)(p + 8), 1);
    if (n > 8) b = _mm_loadl_epi64((const __m128i *)(p + 16));
    return _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
}
INLINE W tailF32(const uint8_t *p, long n) {
#if LANES == 16
    return (W){{_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p)}};
#else
    W r = wset(0);
    r.v[0] = _mm256_castps128_ps256(_mm_loadu_ps((const float *)p));
    r.v[0] = _mm256_insertf128_ps(r.v[0], n > 4 ? _mm_loadu_ps((const float *)p + 4) : _mm_setzero_ps(), 1);
    if (n > 8) r.v[1] = _mm256_insertf128_ps(r.v[1], _mm_loadu_ps((const float *)p + 8), 0);
    return r;
#endif
}
INLINE W tailF16(const uint8_t *p, long n) {
    __m256i h = few16(p, n);
#if LANES == 16
    return (W){{_mm512_cvtph_ps(h)}};
#else
    return (W){{_mm256_cvtph_ps(_mm256_castsi256_si128(h)), _mm256_cvtph_ps(_mm256_extracti128_si256(h, 1))}};
#endif
}
INLINE W tailBF16(const uint8_t *p, long n) {
    __m256i h = few16(p, n);
#if LANES == 16
    return (W){{asFloat(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16))}};
#else
    return (W){{asFloat(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm256_castsi256_si128(h)), 16)),
                asFloat(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm256_extracti128_si256(h, 1)), 16))}};
#endif
}
#endif

#define COLUMNS(R, T, AT, XAT)                                                                                         \
    {                                                                                                                  \
        W v[R];                                                                                                        \
        if (T > 1) UNROLL for (int r = 0; r < R; r++) v[r] = AT(w + r * stride);                                       \
        UNROLL for (int t = 0; t < T; t++) {                                                                           \
            W xv = XAT((const uint8_t *)(x + t * ldx));                                                                \
            UNROLL for (int r = 0; r < R; r++) {                                                                       \
                if (LANES == 8) FENCE;                                                                                 \
                if (LANES == 8) xv = XAT((const uint8_t *)(x + t * ldx));                                              \
                W u = T == 1 ? AT(w + r * stride) : v[r];                                                              \
                EACH {                                                                                                 \
                    f[t][r].v[i] = P(fmadd_ps)(u.v[i], xv.v[i], f[t][r].v[i]);                                         \
                    if (LANES < 16) PIN(f[t][r].v[i]);                                                                 \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }
// With 16 registers the tail of 16-bit weights would spill: the caller knows.
#define HASTAIL(size) (LANES != 8 || size == 4)
#define DOT(name, at, tailAt, size, T)                                                                                 \
    KERNEL NAME(name)(struct dot *a) {                                                                                 \
        a->out = a->y;                                                                                                 \
        a->row = a->w;                                                                                                 \
        for (a->left = a->rows; a->left >= 4; a->left -= 4) {                                                          \
            W f[T][4];                                                                                                 \
            UNROLL for (int t = 0; t < T; t++) UNROLL for (int r = 0; r < 4; r++) f[t][r] = wset(0);                   \
            const uint8_t *w = a->row;                                                                                 \
            const float *x = a->x;                                                                                     \
            long ldx = a->ldx, n = a->n, stride = a->stride;                                                           \
            const uint8_t *ahead = w + 4 * stride;                                                                     \
            for (; n >= 16; n -= 16, w += 16 * size, x += 16) {                                                        \
                COLUMNS(4, T, at, whole)                                                                               \
                if (T == 1 && LANES > 4) UNROLL for (int i = 0; i < 64 * size; i += 64) PREFETCH_L2(ahead + i);        \
                ahead += 64 * size;                                                                                    \
            }                                                                                                          \
            if (n > 0 && HASTAIL(size)) COLUMNS(4, T, few_##tailAt, few_tailF32)                                                        \
            float *o = a->out;                                                                                         \
            UNROLL for (int t = 0; t < T; t++, o = step(o, a->ldy)) foldFour(o, f[t]);                                 \
            a->out += 4;                                                                                               \
            a->row += 4 * a->stride;                                                                                   \
        }                                                                                                              \
    }
#define whole(p) wF32(p)
#define few_tailF32(p) tailF32(p, n)
#define few_tailF16(p) tailF16(p, n)
#define few_tailBF16(p) tailBF16(p, n)
DOT(dot1F32, wF32, tailF32, 4, 1)
DOT(dot1F16, whalf, tailF16, 2, 1)
DOT(dot1BF16, wbfloat, tailBF16, 2, 1)
#if LANES == 16
DOT(dot4F32, wF32, tailF32, 4, 4)
DOT(dot4F16, whalf, tailF16, 2, 4)
DOT(dot4BF16, wbfloat, tailBF16, 2, 4)
#endif

// out[0] += the 64-bit words of p, n bytes, a multiple of 256: what reading alone costs.
KERNEL NAME(sum)(const uint8_t *p, long n, int64_t *out) {
#if LANES == 4
    int64x2_t s[4];
    UNROLL for (int k = 0; k < 4; k++) s[k] = vdupq_n_s64(0);
    do {
        UNROLL for (int k = 0; k < 16; k++) s[k & 3] = vaddq_s64(s[k & 3], vld1q_s64((const int64_t *)(p + 16 * k)));
        UNROLL for (int k = 0; k < 4; k++) __builtin_prefetch(p + 2048 + 64 * k);
        p += 256;
    } while (n -= 256);
    *out += vaddvq_s64(vaddq_s64(vaddq_s64(s[0], s[1]), vaddq_s64(s[2], s[3])));
#else
    V s[4];
    UNROLL for (int k = 0; k < 4; k++) s[k] = zero();
    do {
        UNROLL for (int k = 0; k < 64 / LANES; k++) s[k & 3] = P(add_epi64)(s[k & 3], load(p + 4 * LANES * k));
        UNROLL for (int k = 0; k < 4; k++) _mm_prefetch((const char *)p + 4096 + 64 * k, _MM_HINT_T0);
        p += 256;
    } while (n -= 256);
    V t = P(add_epi64)(P(add_epi64)(s[0], s[1]), P(add_epi64)(s[2], s[3]));
#if LANES == 16
    __m256i h = _mm256_add_epi64(_mm512_castsi512_si256(t), _mm512_extracti64x4_epi64(t, 1));
#else
    __m256i h = t;
#endif
    __m128i q = _mm_add_epi64(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
    *out += _mm_cvtsi128_si64(_mm_add_epi64(q, _mm_unpackhi_epi64(q, q)));
#endif
}
