// The 16 lanes of Sum16 in 1, 2 or 4 registers, see the documentation of package kernel.
#pragma once
#include "simd.h"

#define PARTS (16 / LANES)
typedef struct {
    F v[PARTS];
} W;
#define EACH UNROLL for (int i = 0; i < PARTS; i++)

#if LANES == 16
INLINE F divF(F a, F b) { return _mm512_div_ps(a, b); }
INLINE F addF(F a, F b) { return _mm512_add_ps(a, b); }
INLINE F negF(F a) { return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f)); }
INLINE F ifLess(F x, F y, F a, F b) { return _mm512_mask_mov_ps(b, _mm512_cmp_ps_mask(x, y, _CMP_LT_OQ), a); }
INLINE F ifNaN(F x, F a, F b) { return _mm512_mask_mov_ps(b, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), a); }
INLINE V asInt(F v) { return _mm512_castps_si512(v); }
INLINE V nearest(F v) { return _mm512_cvtps_epi32(v); }
INLINE F halfF(const uint8_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
INLINE F bfloatF(const uint8_t *p) { return asFloat(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16)); }
INLINE F byteF(const uint8_t *p) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p))); }
INLINE void putHalf(uint8_t *p, F v) { _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT)); }
#elif LANES == 8
INLINE F divF(F a, F b) { return _mm256_div_ps(a, b); }
INLINE F addF(F a, F b) { return _mm256_add_ps(a, b); }
INLINE F negF(F a) { return _mm256_xor_ps(a, _mm256_set1_ps(-0.0f)); }
INLINE F ifLess(F x, F y, F a, F b) { return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, y, _CMP_LT_OQ)); }
INLINE F ifNaN(F x, F a, F b) { return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, x, _CMP_UNORD_Q)); }
INLINE V asInt(F v) { return _mm256_castps_si256(v); }
INLINE V nearest(F v) { return _mm256_cvtps_epi32(v); }
INLINE F halfF(const uint8_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
INLINE F bfloatF(const uint8_t *p) { return asFloat(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16)); }
INLINE F byteF(const uint8_t *p) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p))); }
INLINE void putHalf(uint8_t *p, F v) { _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT)); }
#else
INLINE F divF(F a, F b) { return vdivq_f32(a, b); }
INLINE F addF(F a, F b) { return vaddq_f32(a, b); }
INLINE F negF(F a) { return vnegq_f32(a); }
INLINE F ifLess(F x, F y, F a, F b) { return vbslq_f32(vcltq_f32(x, y), a, b); }
INLINE F ifNaN(F x, F a, F b) { return vbslq_f32(vceqq_f32(x, x), b, a); }
INLINE V asInt(F v) { return vreinterpretq_s32_f32(v); }
INLINE V nearest(F v) { return vcvtnq_s32_f32(v); }
INLINE F halfF(const uint8_t *p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16((const uint16_t *)p))); }
INLINE F bfloatF(const uint8_t *p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16((const uint16_t *)p), 16)); }
INLINE F byteF(const uint8_t *p) {
    int32x2_t w = vld1_dup_s32((const int32_t *)p);
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_s32(w)))));
}
INLINE void putHalf(uint8_t *p, F v) { vst1_u16((uint16_t *)p, vreinterpret_u16_f16(vcvt_f16_f32(v))); }
#endif

// The larger of x and y; y where x is NaN.
INLINE F maxF(F x, F y) {
#if LANES == 4
    return vmaxnmq_f32(x, y);
#else
    return P(max_ps)(x, y);
#endif
}
INLINE float largestF(F x) {
#if LANES == 4
    return vmaxnmvq_f32(x);
#else
#if LANES == 16
    __m256 h = _mm256_max_ps(_mm512_castps512_ps256(x), _mm256_castsi256_ps(_mm512_extracti64x4_epi64(_mm512_castps_si512(x), 1)));
#else
    __m256 h = x;
#endif
    __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(q, _mm_shuffle_ps(q, q, 1)));
#endif
}

INLINE W wset(float c) { W r; EACH r.v[i] = P(set1_ps)(c); return r; }
INLINE W wload(const float *p) { W r; EACH r.v[i] = P(loadu_ps)(p + LANES * i); return r; }
INLINE void wstore(float *p, W a) { EACH P(storeu_ps)(p + LANES * i, a.v[i]); }
INLINE W wadd(W a, W b) { EACH a.v[i] = addF(a.v[i], b.v[i]); return a; }
INLINE W wsub(W a, W b) { EACH a.v[i] = P(sub_ps)(a.v[i], b.v[i]); return a; }
INLINE W wmul(W a, W b) { EACH a.v[i] = P(mul_ps)(a.v[i], b.v[i]); return a; }
INLINE W wdiv(W a, W b) { EACH a.v[i] = divF(a.v[i], b.v[i]); return a; }
INLINE W wfma(W a, W b, W c) { EACH a.v[i] = P(fmadd_ps)(a.v[i], b.v[i], c.v[i]); return a; }
INLINE W wneg(W a) { EACH a.v[i] = negF(a.v[i]); return a; }
INLINE W whalf(const uint8_t *p) { W r; EACH r.v[i] = halfF(p + 2 * LANES * i); return r; }
INLINE W wbfloat(const uint8_t *p) { W r; EACH r.v[i] = bfloatF(p + 2 * LANES * i); return r; }
INLINE W wbyte(const uint8_t *p) { W r; EACH r.v[i] = byteF(p + LANES * i); return r; }

// The fold of 16 lanes down to 4: i + 8, then i + 4.
#if LANES == 4
typedef float32x4_t Q;
INLINE Q fold4(W a) { return vaddq_f32(vaddq_f32(a.v[0], a.v[2]), vaddq_f32(a.v[1], a.v[3])); }
INLINE float fold(W a) {
    Q q = fold4(a);
    float32x2_t h = vadd_f32(vget_low_f32(q), vget_high_f32(q));
    return vget_lane_f32(h, 0) + vget_lane_f32(h, 1);
}
INLINE void foldFour(float *p, const W f[4]) {
    Q a = fold4(f[0]), b = fold4(f[1]), c = fold4(f[2]), d = fold4(f[3]);
    Q ab = vaddq_f32(vcombine_f32(vget_low_f32(a), vget_low_f32(b)), vcombine_f32(vget_high_f32(a), vget_high_f32(b)));
    Q cd = vaddq_f32(vcombine_f32(vget_low_f32(c), vget_low_f32(d)), vcombine_f32(vget_high_f32(c), vget_high_f32(d)));
    vst1q_f32(p, vpaddq_f32(ab, cd));
}
#else
typedef __m128 Q;
INLINE Q fold4(W a) {
#if LANES == 16
    __m256 x = _mm256_add_ps(_mm512_castps512_ps256(a.v[0]), _mm256_castsi256_ps(_mm512_extracti64x4_epi64(_mm512_castps_si512(a.v[0]), 1)));
#else
    __m256 x = _mm256_add_ps(a.v[0], a.v[1]);
#endif
    return _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
}
INLINE float fold(W a) {
    Q q = fold4(a);
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
}
INLINE void foldFour(float *p, const W f[4]) {
    Q a = fold4(f[0]), b = fold4(f[1]), c = fold4(f[2]), d = fold4(f[3]);
    Q ab = _mm_add_ps(_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b)); // a0+a2, b0+b2, a1+a3, b1+b3
    Q cd = _mm_add_ps(_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
    _mm_storeu_ps(p, _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab)));
}
#endif

INLINE void wpin(W *a) { EACH PIN(a->v[i]); }
// Lane 0.
INLINE float lane0(F a) {
#if LANES == 4
    return vgetq_lane_f32(a, 0);
#elif LANES == 8
    return _mm_cvtss_f32(_mm256_castps256_ps128(a));
#else
    return _mm_cvtss_f32(_mm512_castps512_ps128(a));
#endif
}

INLINE F expF(F x) {
    const F round = P(set1_ps)(12582912.0f);
    F z = P(fmadd_ps)(x, P(set1_ps)(1.44269504088896341f), round);
    F n = P(sub_ps)(z, round);
    F r = P(fmadd_ps)(n, P(set1_ps)(-0.693359375f), x);
    r = P(fmadd_ps)(n, P(set1_ps)(2.12194440e-4f), r);
    F p = P(fmadd_ps)(P(set1_ps)(1.9875691500e-4f), r, P(set1_ps)(1.3981999507e-3f));
    p = P(fmadd_ps)(p, r, P(set1_ps)(8.3334519073e-3f));
    p = P(fmadd_ps)(p, r, P(set1_ps)(4.1665795894e-2f));
    p = P(fmadd_ps)(p, r, P(set1_ps)(1.6666665459e-1f));
    p = P(fmadd_ps)(p, r, P(set1_ps)(5.0000001201e-1f));
    p = addF(P(fmadd_ps)(p, P(mul_ps)(r, r), r), P(set1_ps)(1));
    p = asFloat(P(add_epi32)(asInt(p), P(slli_epi32)(asInt(z), 23)));
    p = ifLess(x, P(set1_ps)(-87), P(set1_ps)(0), p);
    p = ifLess(P(set1_ps)(88), x, P(set1_ps)(__builtin_inff()), p);
    return ifNaN(x, x, p);
}
