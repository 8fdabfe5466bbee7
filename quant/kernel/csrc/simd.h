// The operations in which the kernels are written, once for each instruction set: V is a register of LANES 32-bit lanes, a
// lane belongs to one row of weights; F is the same of floats.
//
// BIAS: AVX-512 multiplies unsigned by signed bytes, so signed weights are stored as v + 128 there and the sum is
// corrected by -128·Σq; the others multiply signed bytes.
#pragma once
#include "args.h"

// SMALLER: there is no dot product of bytes, and weights of 0 … 15 have kernels that add up in 16 bits.
#if defined(__AVX512F__) || defined(__ARM_FEATURE_DOTPROD)
#define SMALLER 0
#else
#define SMALLER 1
#endif

#define UNROLL _Pragma(UNROLL_TEXT)
#define INLINE static inline __attribute__((always_inline))
// Keeps the compiler from moving loads up over it, which would spill.
#define FENCE __asm__ volatile("" ::: "memory")

#if defined(__AVX2__)
#include <immintrin.h>
#define UNROLL_TEXT "clang loop unroll(full)"
#define ONCE
// Every register but rsp and rbp may be overwritten, as in Go's ABI0: nothing needs to be saved.
#define KERNEL __attribute__((preserve_none)) void
#define PREFETCH_L2(p) _mm_prefetch((const char *)(p), _MM_HINT_T1)
#else
#include <arm_neon.h>
#define UNROLL_TEXT "GCC unroll 16"
#define ONCE _Pragma("GCC unroll 1")
#define KERNEL void
#define PREFETCH_L2(p) __builtin_prefetch(p, 0, 2)
#endif

#if defined(__AVX512F__)

#define NAME(n) n##Avx512
#define LANES 16
#define BIAS 128
#define PIN(v) __asm__ volatile("" : "+v"(v))
typedef __m512i V;
typedef __m512 F;
#define P(op) _mm512_##op
#define AND(a, b) _mm512_and_si512(a, b)
#define OR(a, b) _mm512_or_si512(a, b)
#define XOR(a, b) _mm512_xor_si512(a, b)
INLINE V load(const void *p) { return _mm512_loadu_si512(p); }
INLINE void put(void *p, V v) { _mm512_storeu_si512(p, v); }
INLINE V zero(void) { return _mm512_setzero_si512(); }
INLINE F asFloat(V v) { return _mm512_castsi512_ps(v); }
INLINE V table16(const uint8_t *p) { return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)p)); }
// 16 bytes at offset o of each of the LANES/4 pointers, beside each other.
INLINE V beside(const uint8_t *const *p, long o) {
    V v = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(p[0] + o)));
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(p[1] + o)), 1);
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(p[2] + o)), 2);
    return _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(p[3] + o)), 3);
}
// acc + the four products of each lane's bytes with the bytes 4k … 4k+3 of q. dotU: weights 0 … 63; dotS: weights with BIAS.
INLINE V dotU(V acc, V w, const int8_t *q, int k) { return _mm512_dpbusd_epi32(acc, w, _mm512_set1_epi32(*(const int32_t *)(q + 4 * k))); }
INLINE V dotS(V acc, V w, const int8_t *q, int k) { return dotU(acc, w, q, k); }
// The float16 in the low half of each lane.
INLINE F lowHalf(V v) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v)); }
// Adds 16 to the bytes of the columns whose bit is set: 4k … 4k+3 of each lane.
INLINE V fifth(V w, V h, int k) {
    V spread = _mm512_set4_epi32(0x0c0c0c0c + 0x01010101 * (k / 2), 0x08080808 + 0x01010101 * (k / 2),
                                 0x04040404 + 0x01010101 * (k / 2), 0x01010101 * (k / 2));
    V bits = _mm512_set1_epi32(k & 1 ? (int)0x80402010 : 0x08040201);
    return _mm512_mask_add_epi8(w, _mm512_test_epi8_mask(_mm512_shuffle_epi8(h, spread), bits), w, _mm512_set1_epi8(16));
}

#elif defined(__AVX2__)

#define NAME(n) n##Avx2
#define LANES 8
#define BIAS 0
#define PIN(v) __asm__ volatile("" : "+x"(v))
typedef __m256i V;
typedef __m256 F;
#define P(op) _mm256_##op
#define AND(a, b) _mm256_and_si256(a, b)
#define OR(a, b) _mm256_or_si256(a, b)
#define XOR(a, b) _mm256_xor_si256(a, b)
INLINE V load(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
INLINE void put(void *p, V v) { _mm256_storeu_si256((__m256i *)p, v); }
INLINE V zero(void) { return _mm256_setzero_si256(); }
INLINE F asFloat(V v) { return _mm256_castsi256_ps(v); }
INLINE V table16(const uint8_t *p) { return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p)); }
INLINE V beside(const uint8_t *const *p, long o) {
    V v = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(p[0] + o)));
    return _mm256_inserti128_si256(v, _mm_loadu_si128((const __m128i *)(p[1] + o)), 1);
}
// Two products of at most 63·127 fit 16 bits, and so do two of 128·127.
INLINE V dotU(V acc, V w, const int8_t *q, int k) {
    V p = _mm256_maddubs_epi16(w, _mm256_set1_epi32(*(const int32_t *)(q + 4 * k)));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(p, _mm256_set1_epi16(1)));
}
INLINE V dotS(V acc, V w, const int8_t *q, int k) {
    V p = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(_mm256_set1_epi32(*(const int32_t *)(q + 4 * k)), w));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(p, _mm256_set1_epi16(1)));
}
// Weights 0 … 15 of a whole block: 8 pairs of products fit 16 bits (8·2·15·127 = 30480).
typedef __m256i A;
INLINE A smallZero(void) { return _mm256_setzero_si256(); }
INLINE A smallDot(A acc, V w, const int8_t *q, int k) {
    return _mm256_add_epi16(acc, _mm256_maddubs_epi16(w, _mm256_set1_epi32(*(const int32_t *)(q + 4 * k))));
}
INLINE V smallSum(V init, A acc) { return _mm256_add_epi32(init, _mm256_madd_epi16(acc, _mm256_set1_epi16(1))); }
INLINE F lowHalf(V v) {
    v = _mm256_and_si256(v, _mm256_set1_epi32(0xffff));
    v = _mm256_permute4x64_epi64(_mm256_packus_epi32(v, v), 0x08);
    return _mm256_cvtph_ps(_mm256_castsi256_si128(v));
}
INLINE V fifth(V w, V h, int k) {
    V spread = _mm256_set_epi32(0x0c0c0c0c + 0x01010101 * (k / 2), 0x08080808 + 0x01010101 * (k / 2),
                                0x04040404 + 0x01010101 * (k / 2), 0x01010101 * (k / 2), 0x0c0c0c0c + 0x01010101 * (k / 2),
                                0x08080808 + 0x01010101 * (k / 2), 0x04040404 + 0x01010101 * (k / 2), 0x01010101 * (k / 2));
    V bits = _mm256_set1_epi32(k & 1 ? (int)0x80402010 : 0x08040201);
    V set = _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(h, spread), bits), bits);
    return _mm256_or_si256(w, _mm256_and_si256(set, _mm256_set1_epi8(16)));
}

#else

#ifdef __ARM_FEATURE_DOTPROD
#define NAME(n) n##Dot
#else
#define NAME(n) n##Neon
#endif
#define LANES 4
#define BIAS 0
#define PIN(v) __asm__ volatile("" : "+w"(v))
typedef int32x4_t V;
typedef float32x4_t F;
#define S8(v) vreinterpretq_s8_s32(v)
#define U8(v) vreinterpretq_u8_s32(v)
#define S16(v) vreinterpretq_s16_s32(v)
#define U32(v) vreinterpretq_u32_s32(v)
#define OF8(v) vreinterpretq_s32_s8(v)
#define OFU8(v) vreinterpretq_s32_u8(v)
#define OF16(v) vreinterpretq_s32_s16(v)
#define OFU32(v) vreinterpretq_s32_u32(v)
#define AND(a, b) vandq_s32(a, b)
#define OR(a, b) vorrq_s32(a, b)
#define XOR(a, b) veorq_s32(a, b)
// The names of x86 for what both have.
#define P(op) neon_##op
INLINE V neon_set1_epi8(int c) { return OF8(vdupq_n_s8((int8_t)c)); }
INLINE V neon_set1_epi16(int c) { return OF16(vdupq_n_s16((int16_t)c)); }
INLINE V neon_set1_epi32(int c) { return vdupq_n_s32(c); }
INLINE F neon_set1_ps(float c) { return vdupq_n_f32(c); }
INLINE F neon_setzero_ps(void) { return vdupq_n_f32(0); }
INLINE V neon_add_epi8(V a, V b) { return OF8(vaddq_s8(S8(a), S8(b))); }
INLINE V neon_sub_epi8(V a, V b) { return OF8(vsubq_s8(S8(a), S8(b))); }
INLINE V neon_add_epi16(V a, V b) { return OF16(vaddq_s16(S16(a), S16(b))); }
INLINE V neon_sub_epi16(V a, V b) { return OF16(vsubq_s16(S16(a), S16(b))); }
INLINE V neon_mullo_epi16(V a, V b) { return OF16(vmulq_s16(S16(a), S16(b))); }
INLINE V neon_add_epi32(V a, V b) { return vaddq_s32(a, b); }
INLINE V neon_sub_epi32(V a, V b) { return vsubq_s32(a, b); }
INLINE V neon_mullo_epi32(V a, V b) { return vmulq_s32(a, b); }
INLINE V neon_sllv_epi32(V a, V b) { return vshlq_s32(a, b); }
#define neon_slli_epi32(a, n) vshlq_n_s32(a, n)
#define neon_srli_epi32(a, n) OFU32(vshrq_n_u32(U32(a), n))
#define neon_srai_epi32(a, n) vshlq_s32(a, vdupq_n_s32(-(n)))
#define neon_slli_epi16(a, n) OF16(vshlq_n_s16(S16(a), n))
#define neon_srai_epi16(a, n) OF16(vshrq_n_s16(S16(a), n))
INLINE V neon_unpacklo_epi32(V a, V b) { return vzip1q_s32(a, b); }
INLINE V neon_unpackhi_epi32(V a, V b) { return vzip2q_s32(a, b); }
#define S64(v) vreinterpretq_s64_s32(v)
INLINE V neon_unpacklo_epi64(V a, V b) { return vreinterpretq_s32_s64(vzip1q_s64(S64(a), S64(b))); }
INLINE V neon_unpackhi_epi64(V a, V b) { return vreinterpretq_s32_s64(vzip2q_s64(S64(a), S64(b))); }
INLINE V neon_shuffle_epi8(V t, V i) { return OFU8(vqtbl1q_u8(U8(t), U8(i))); }
INLINE F neon_mul_ps(F a, F b) { return vmulq_f32(a, b); }
INLINE F neon_sub_ps(F a, F b) { return vsubq_f32(a, b); }
INLINE F neon_fmadd_ps(F a, F b, F c) { return vfmaq_f32(c, a, b); }
INLINE F neon_fnmadd_ps(F a, F b, F c) { return vfmsq_f32(c, a, b); }
INLINE F neon_cvtepi32_ps(V a) { return vcvtq_f32_s32(a); }
INLINE F neon_loadu_ps(const float *p) { return vld1q_f32(p); }
INLINE void neon_storeu_ps(float *p, F v) { vst1q_f32(p, v); }
INLINE V load(const void *p) { return vld1q_s32((const int32_t *)p); }
INLINE void put(void *p, V v) { vst1q_s32((int32_t *)p, v); }
INLINE V zero(void) { return vdupq_n_s32(0); }
INLINE F asFloat(V v) { return vreinterpretq_f32_s32(v); }
INLINE V table16(const uint8_t *p) { return OFU8(vld1q_u8(p)); }
INLINE V beside(const uint8_t *const *p, long o) { return OFU8(vld1q_u8(p[0] + o)); }
#ifdef __ARM_FEATURE_DOTPROD
INLINE V dotS(V acc, V w, const int8_t *q, int k) {
    int8x16_t x = vld1q_s8(q + 16 * (k / 4));
    switch (k % 4) {
    case 0: return vdotq_laneq_s32(acc, S8(w), x, 0);
    case 1: return vdotq_laneq_s32(acc, S8(w), x, 1);
    case 2: return vdotq_laneq_s32(acc, S8(w), x, 2);
    default: return vdotq_laneq_s32(acc, S8(w), x, 3);
    }
}
#else
// Bytes 4k … 4k+3 in every lane.
INLINE int8x16_t four(const int8_t *q, int k) { return vreinterpretq_s8_s32(vld1q_dup_s32((const int32_t *)(q + 4 * k))); }
// Two products of at most 128·127 fit 16 bits.
INLINE V dotS(V acc, V w, const int8_t *q, int k) {
    int8x16_t x = four(q, k);
    int16x8_t a = vmull_s8(vget_low_s8(S8(w)), vget_low_s8(x)), b = vmull_high_s8(S8(w), x);
    return vpadalq_s16(acc, vpaddq_s16(a, b));
}
// Weights 0 … 15 of a whole block: 16 products, added in pairs, fit 16 bits (16·15·127 = 30480).
typedef struct {
    int16x8_t a, b;
} A;
INLINE A smallZero(void) { return (A){vdupq_n_s16(0), vdupq_n_s16(0)}; }
INLINE A smallDot(A acc, V w, const int8_t *q, int k) {
    int8x16_t x = four(q, k);
    acc.a = vmlal_s8(acc.a, vget_low_s8(S8(w)), vget_low_s8(x));
    acc.b = vmlal_high_s8(acc.b, S8(w), x);
    return acc;
}
INLINE V smallSum(V init, A acc) { return vpadalq_s16(init, vpaddq_s16(acc.a, acc.b)); }
#endif
INLINE V dotU(V acc, V w, const int8_t *q, int k) { return dotS(acc, w, q, k); }
INLINE F lowHalf(V v) { return vcvt_f32_f16(vreinterpret_f16_s16(vmovn_s32(v))); }
INLINE V fifth(V w, V h, int k) {
    uint8x16_t spread = vaddq_u8(vreinterpretq_u8_u64(vcombine_u64(vcreate_u64(0x0404040400000000), vcreate_u64(0x0c0c0c0c08080808))),
                                 vdupq_n_u8((uint8_t)(k / 2)));
    uint8x16_t bits = vreinterpretq_u8_u32(vdupq_n_u32(k & 1 ? 0x80402010 : 0x08040201));
    uint8x16_t set = vtstq_u8(vqtbl1q_u8(U8(h), spread), bits);
    return OFU8(vorrq_u8(U8(w), vandq_u8(set, vdupq_n_u8(16))));
}

#endif

INLINE F highHalf(V v) { return lowHalf(P(srli_epi32)(v, 16)); }
// A constant. With 16 registers it is loaded where it is used: the compiler would keep it, and spill something else.
INLINE V bytes(int c) {
    V v = P(set1_epi8)((char)c);
    if (LANES == 8) PIN(v);
    return v;
}
INLINE V dwordsOf(int c) {
    V v = P(set1_epi32)(c);
    if (LANES == 8) PIN(v);
    return v;
}
// The same made from a scalar: no register holds a copy from one use to the next.
INLINE V fresh(int c) {
    __asm__ volatile("" : "+r"(c));
    return P(set1_epi32)(c);
}
INLINE V low(V v) { return AND(v, bytes(15)); }
INLINE V high(V v) {
#if LANES == 4
    return OFU8(vshrq_n_u8(U8(v), 4));
#else
    v = P(srli_epi32)(v, 4);
    if (LANES == 8) PIN(v);
    return AND(v, bytes(15));
#endif
}
INLINE V same(const int32_t *p) { return P(set1_epi32)(*p); }
// Byte k of each lane, as a number.
#define byteOf(v, k) AND(shiftRight(v, 8 * (k)), dwordsOf(255))
#define signedByteOf(v, k) P(srai_epi32)(shiftLeft(v, 24 - 8 * (k)), 24)
// Shifts by constants, of which 0 is one: NEON's have none by 0 to the right.
INLINE V shiftRight(V v, int n) {
    switch (n) {
#define CASE(i) case i: return P(srli_epi32)(v, i);
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(10) CASE(12) CASE(14) CASE(16) CASE(20) CASE(24) CASE(28)
#undef CASE
    }
    return v;
}
INLINE V shiftLeft(V v, int n) {
    switch (n) {
#define CASE(i) case i: return P(slli_epi32)(v, i);
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(8) CASE(16) CASE(24)
#undef CASE
    }
    return v;
}

// One row of y further, hidden from the compiler, which would hold one register for each row.
INLINE float *step(float *p, long ldy) {
    p += ldy;
    __asm__("" : "+r"(p));
    return p;
}
