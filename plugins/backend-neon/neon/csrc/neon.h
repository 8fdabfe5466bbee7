// What the kernels written for NEON share. Those that are the same for all instruction sets are in quant/kernel/csrc.
#pragma once
#include "args.h"
#include <arm_neon.h>

#if defined(__ARM_FEATURE_MATMUL_INT8)
#define NAME(n) n##Mmla
#elif defined(__ARM_FEATURE_DOTPROD)
#define NAME(n) n##Dot
#else
#define NAME(n) n##Neon
#endif
#define KERNEL void
#define UNROLL _Pragma("GCC unroll 16")
#define INLINE static inline __attribute__((always_inline))
// Keeps the compiler from moving loads up over it, which would spill.
#define FENCE __asm__ volatile("" ::: "memory")

typedef int32x4_t V; // a lane is a row of weights
typedef float32x4_t F;
typedef int8x16_t B;

// Integers below 2²² become float32 by adding 1.5·2²³ as an integer, which leaves them in the mantissa, and subtracting
// it as a number: one operation on either pipe instead of two on one (SCVTF on a Cortex-A76), and the addition is free
// where it is what a sum starts from.
#define MAGIC 0x4b400000
#define MAGICF 12582912.0f

// A register from memory: loads have pipes of their own, where the compiler would copy another register.
INLINE V fresh(const int32_t *p) {
    V v;
    __asm__ volatile("ldr %q0, %1" : "=w"(v) : "m"(*(const V *)p));
    return v;
}
// The same of one number; the other lanes are 0.
INLINE V freshOne(const int32_t *p) {
    V v;
    __asm__ volatile("ldr %s0, %1" : "=w"(v) : "m"(*p));
    return v;
}
