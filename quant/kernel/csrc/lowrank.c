// The two products of a low-rank adapter with factors in float16, laid out as package kernel says (LowRank).
#include "wide.h"

KERNEL NAME(loraDown1)(float *mid, const uint8_t *a, const float *x, long n, long groups);
KERNEL NAME(loraUp)(float *y, const uint8_t *b, const float *mid, long rank, long n, long scale);
#if LANES == 16
KERNEL NAME(loraDown4)(float *mid, const uint8_t *a, const float *x, long n, long ld, long ldx);
#endif

// A float32 argument comes as its bits.
INLINE float ofBits(long b) {
    union {
        int32_t i;
        float f;
    } u = {.i = (int32_t)b};
    return u.f;
}

#if LANES == 4
#define AHEAD(p) __builtin_prefetch((p) + 1024)
#else
#define AHEAD(p) _mm_prefetch((const char *)(p) + 2048, _MM_HINT_T0)
#endif

// Four ranks at a time, one token: mid[4g + r] = Sum16. n is a multiple of 16.
KERNEL NAME(loraDown1)(float *mid, const uint8_t *a, const float *x, long n, long groups) {
    do {
        W f[4];
        UNROLL for (int r = 0; r < 4; r++) f[r] = wset(0);
        const float *p = x;
        for (long left = n; left > 0; left -= 16, p += 16, a += 128) {
            AHEAD(a);
            AHEAD(a + 64);
            UNROLL for (int r = 0; r < 4; r++) {
                if (LANES == 8) FENCE;
                W v = wload(p), u = whalf(a + 32 * r);
                EACH {
                    f[r].v[i] = P(fmadd_ps)(u.v[i], v.v[i], f[r].v[i]);
                    if (LANES < 16) PIN(f[r].v[i]);
                }
            }
        }
        foldFour(mid, f);
        mid += 4;
    } while (--groups);
}

#if LANES == 16
// Four ranks, four tokens: mid[t·ld + r].
KERNEL NAME(loraDown4)(float *mid, const uint8_t *a, const float *x, long n, long ld, long ldx) {
    W f[4][4];
    UNROLL for (int t = 0; t < 4; t++) UNROLL for (int r = 0; r < 4; r++) f[t][r] = wset(0);
    const float *x1 = x + ldx, *x2 = x1 + ldx, *x3 = x2 + ldx;
    for (; n > 0; n -= 16, a += 128, x += 16, x1 += 16, x2 += 16, x3 += 16) {
        W u[4];
        UNROLL for (int r = 0; r < 4; r++) u[r] = whalf(a + 32 * r);
        W v = wload(x);
        UNROLL for (int r = 0; r < 4; r++) f[0][r] = wfma(u[r], v, f[0][r]);
        v = wload(x1);
        UNROLL for (int r = 0; r < 4; r++) f[1][r] = wfma(u[r], v, f[1][r]);
        v = wload(x2);
        UNROLL for (int r = 0; r < 4; r++) f[2][r] = wfma(u[r], v, f[2][r]);
        v = wload(x3);
        UNROLL for (int r = 0; r < 4; r++) f[3][r] = wfma(u[r], v, f[3][r]);
    }
    UNROLL for (int t = 0; t < 4; t++) {
        foldFour(mid, f[t]);
        mid += ld;
    }
}
#endif

// y += scale · Σ mid[k]·b[k], k in order, for n outputs, a multiple of 16, in tiles of 64 and what is left of the last one.
KERNEL NAME(loraUp)(float *y, const uint8_t *b, const float *mid, long rank, long n, long scale) {
    for (; n >= 64; n -= 64, y += 64) {
        W f[4];
        UNROLL for (int j = 0; j < 4; j++) f[j] = wset(0);
        for (long k = 0; k < rank; k++, b += 128) {
            AHEAD(b);
            AHEAD(b + 64);
            F m = P(set1_ps)(mid[k]);
            UNROLL for (int j = 0; j < 4; j++) {
                W u = whalf(b + 32 * j);
                EACH {
                    f[j].v[i] = P(fmadd_ps)(u.v[i], m, f[j].v[i]);
                    if (LANES == 4) PIN(f[j].v[i]);
                }
            }
        }
        F s = P(set1_ps)(ofBits(scale));
        UNROLL for (int j = 0; j < 4; j++) {
            EACH P(storeu_ps)(y + 16 * j + LANES * i, addF(P(loadu_ps)(y + 16 * j + LANES * i), P(mul_ps)(s, f[j].v[i])));
            FENCE;
        }
    }
    for (long at = 0; at < n; at += 16) {
        W f = wset(0);
        const uint8_t *p = b + 2 * at;
        for (long k = 0; k < rank; k++, p += 2 * n) {
            F m = P(set1_ps)(mid[k]);
            W u = whalf(p);
            EACH f.v[i] = P(fmadd_ps)(u.v[i], m, f.v[i]);
        }
        wstore(y + at, wadd(wload(y + at), wmul(wset(ofBits(scale)), f)));
    }
}
