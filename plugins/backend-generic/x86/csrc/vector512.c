// Vectors, attention, activations and float weights with AVX-512.
#include "vector512.h"

KERNEL rmsNormAvx512(float *y, const float *x, const float *w, long n, long eps);
KERNEL layerNormAvx512(float *y, const float *x, const float *w, const float *b, long n, long eps);
KERNEL swigluAvx512(float *gate, const float *up, long n);
KERNEL geluAvx512(float *x, long n);
KERNEL rotateAvx512(float *lo, float *hi, const float *cosine, const float *sine, long n);
KERNEL rotatePairsAvx512(float *x, const float *cosine, const float *sine, long n);
KERNEL quantiseAvx512(int8_t *q, float *d, const float *x);
KERNEL prepareAvx512(const struct prepare *a);
KERNEL toHalfAvx512(uint16_t *to, const float *from, long n);
KERNEL weighAvx512(float *p, float *m, float *l, float *o, long dim, long lo, long hi);
KERNEL scoresF32Avx512(float *p, const float *q, const uint8_t *k, long dim, long n, long stride);
KERNEL scoresF16Avx512(float *p, const float *q, const uint8_t *k, long dim, long n, long stride);
KERNEL scoresQ8Avx512(float *p, const float *q, const uint8_t *k, long dim, long n, long stride);
KERNEL mixF32Avx512(float *o, const float *p, const uint8_t *v, long dim, long n, long stride);
KERNEL mixF16Avx512(float *o, const float *p, const uint8_t *v, long dim, long n, long stride);
KERNEL mixQ8Avx512(float *o, const float *p, const uint8_t *v, long dim, long n, long stride);
KERNEL dot1F32Avx512(struct dot *a);
KERNEL dot1F16Avx512(struct dot *a);
KERNEL dot1BF16Avx512(struct dot *a);
KERNEL dot4F32Avx512(struct dot *a);
KERNEL dot4F16Avx512(struct dot *a);
KERNEL dot4BF16Avx512(struct dot *a);

INLINE __m512 sumSquares(const float *x, long n, __m512 mean) {
    __m512 s = _mm512_setzero_ps();
    for (long i = 0; i < n; i += 16) {
        __mmask16 k = tail(n - i);
        __m512 c = _mm512_maskz_sub_ps(k, _mm512_maskz_loadu_ps(k, x + i), mean);
        s = _mm512_fmadd_ps(c, c, s);
    }
    return s;
}

// A float32 argument comes as its bits.
INLINE float bits(long b) { return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128((int32_t)b))); }

INLINE float rsqrt(float x) {
    return 1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x)));
}

KERNEL rmsNormAvx512(float *y, const float *x, const float *w, long n, long eps) {
    __m512 s = _mm512_setzero_ps();
    for (long i = 0; i < n; i += 16) {
        __m512 v = _mm512_maskz_loadu_ps(tail(n - i), x + i);
        s = _mm512_fmadd_ps(v, v, s);
    }
    __m512 r = _mm512_set1_ps(rsqrt(fold(s) / (float)n + bits(eps)));
    for (long i = 0; i < n; i += 16) {
        __mmask16 k = tail(n - i);
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(k, x + i), r);
        _mm512_mask_storeu_ps(y + i, k, _mm512_mul_ps(v, _mm512_maskz_loadu_ps(k, w + i)));
    }
}

KERNEL layerNormAvx512(float *y, const float *x, const float *w, const float *b, long n, long eps) {
    __m512 s = _mm512_setzero_ps();
    for (long i = 0; i < n; i += 16) s = _mm512_add_ps(s, _mm512_maskz_loadu_ps(tail(n - i), x + i));
    __m512 mean = _mm512_set1_ps(fold(s) / (float)n);
    __m512 r = _mm512_set1_ps(rsqrt(fold(sumSquares(x, n, mean)) / (float)n + bits(eps)));
    for (long i = 0; i < n; i += 16) {
        __mmask16 k = tail(n - i);
        __m512 v = _mm512_mul_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(k, x + i), mean), r);
        __m512 wv = _mm512_maskz_loadu_ps(k, w + i);
        v = b ? _mm512_fmadd_ps(v, wv, _mm512_maskz_loadu_ps(k, b + i)) : _mm512_mul_ps(v, wv);
        _mm512_mask_storeu_ps(y + i, k, v);
    }
}

KERNEL swigluAvx512(float *gate, const float *up, long n) {
    for (long i = 0; i < n; i += 16) {
        __mmask16 k = tail(n - i);
        __m512 x = _mm512_maskz_loadu_ps(k, gate + i);
        __m512 s = _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1), expo(negate(x))));
        _mm512_mask_storeu_ps(gate + i, k, _mm512_mul_ps(s, _mm512_maskz_loadu_ps(k, up + i)));
    }
}

KERNEL geluAvx512(float *x, long n) {
    for (long i = 0; i < n; i += 16) {
        __mmask16 k = tail(n - i);
        __m512 v = _mm512_maskz_loadu_ps(k, x + i);
        __m512 z = _mm512_fmadd_ps(_mm512_mul_ps(v, v), _mm512_set1_ps(0.07135481627260025f), _mm512_set1_ps(1.5957691216057308f));
        z = expo(negate(_mm512_mul_ps(v, z)));
        _mm512_mask_storeu_ps(x + i, k, _mm512_div_ps(v, _mm512_add_ps(_mm512_set1_ps(1), z)));
    }
}

KERNEL rotateAvx512(float *lo, float *hi, const float *cosine, const float *sine, long n) {
    for (long i = 0; i < n; i += 16) {
        __mmask16 k = tail(n - i);
        __m512 a = _mm512_maskz_loadu_ps(k, lo + i), b = _mm512_maskz_loadu_ps(k, hi + i);
        __m512 c = _mm512_maskz_loadu_ps(k, cosine + i), s = _mm512_maskz_loadu_ps(k, sine + i);
        _mm512_mask_storeu_ps(lo + i, k, _mm512_fmadd_ps(a, c, negate(_mm512_mul_ps(b, s))));
        _mm512_mask_storeu_ps(hi + i, k, _mm512_fmadd_ps(a, s, _mm512_mul_ps(b, c)));
    }
}

KERNEL rotatePairsAvx512(float *x, const float *cosine, const float *sine, long n) {
    const __m512i twice = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
    for (long i = 0; i < n; i += 8) {
        __mmask16 k = tail(2 * (n - i));
        __mmask16 h = tail(n - i) & 0xff;
        __m512 v = _mm512_maskz_loadu_ps(k, x + 2 * i), u = _mm512_permute_ps(v, 0xb1);
        __m512 c = _mm512_permutexvar_ps(twice, _mm512_maskz_loadu_ps(h, cosine + i));
        __m512 s = _mm512_permutexvar_ps(twice, _mm512_maskz_loadu_ps(h, sine + i));
        __m512 even = _mm512_fmadd_ps(v, c, negate(_mm512_mul_ps(u, s)));
        __m512 odd = _mm512_fmadd_ps(u, s, _mm512_mul_ps(v, c));
        _mm512_mask_storeu_ps(x + 2 * i, k, _mm512_mask_blend_ps(0xaaaa, even, odd));
    }
}

// One block of 32 to 8 bits; returns its scale.
INLINE float quantise(__m128i q[2], const float *x) {
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512 lo = _mm512_loadu_ps(x), hi = _mm512_loadu_ps(x + 16);
    __m512i top = _mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(lo), magnitude), _mm512_and_si512(_mm512_castps_si512(hi), magnitude));
    int32_t b = _mm512_reduce_max_epi32(top);
    q[0] = q[1] = _mm_setzero_si128();
    if (b < 0x0d800000) return 0;
    if (b >= 0x7f800000) return __builtin_nanf("");
    float amax = bits(b);
    __m512 r = _mm512_set1_ps(127.0f / amax);
    q[0] = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(lo, r)));
    q[1] = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(hi, r)));
    return amax / 127.0f;
}

KERNEL quantiseAvx512(int8_t *q, float *d, const float *x) {
    __m128i v[2];
    *d = quantise(v, x);
    _mm_storeu_si128((__m128i *)q, v[0]);
    _mm_storeu_si128((__m128i *)(q + 16), v[1]);
}

INLINE int32_t sum(__m128i q) {
    __m128i s = _mm_sad_epu8(_mm_xor_si128(q, _mm_set1_epi8(-128)), _mm_setzero_si128());
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_unpackhi_epi64(s, s))) - 16 * 128;
}

KERNEL prepareAvx512(const struct prepare *a) {
    const float *x = a->x;
    int8_t *q = a->q;
    long i = 0;
    for (long nb = a->nb; nb > 0; nb--) {
        __m128i v[2];
        float d = quantise(v, x);
        int32_t s0 = sum(v[0]), s1 = sum(v[1]);
        _mm_storeu_si128((__m128i *)q, v[0]);
        _mm_storeu_si128((__m128i *)(q + 16), v[1]);
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

KERNEL toHalfAvx512(uint16_t *to, const float *from, long n) {
    for (long i = 0; i < n; i += 16) {
        __mmask16 k = tail(n - i);
        __m256i h = _mm512_cvtps_ph(_mm512_maskz_loadu_ps(k, from + i), _MM_FROUND_TO_NEAREST_INT);
        _mm256_mask_storeu_epi16(to + i, k, h);
    }
}

// One page's scores to weights, see kernel.Attend.
KERNEL weighAvx512(float *p, float *m, float *l, float *o, long dim, long lo, long hi) {
    uint32_t seen = (uint32_t)((((uint64_t)1 << hi) - 1) & ~(((uint64_t)1 << lo) - 1));
    __mmask16 ka = (__mmask16)seen, kb = (__mmask16)(seen >> 16);
    __m512 old = _mm512_set1_ps(*m);
    __m512 a = _mm512_mask_loadu_ps(old, ka, p), b = _mm512_mask_loadu_ps(old, kb, p + 16);
    // max(x, y) is y where x is NaN.
    float top = _mm512_reduce_max_ps(_mm512_max_ps(b, _mm512_max_ps(a, old)));
    if (top > *m) {
        __m512 c = expo(_mm512_sub_ps(old, _mm512_set1_ps(top)));
        *l *= _mm512_cvtss_f32(c);
        for (long i = 0; i < dim; i += 16) {
            __mmask16 k = tail(dim - i);
            _mm512_mask_storeu_ps(o + i, k, _mm512_mul_ps(_mm512_maskz_loadu_ps(k, o + i), c));
        }
        *m = top;
    } else {
        top = *m;
    }
    a = _mm512_maskz_mov_ps(ka, expo(_mm512_sub_ps(a, _mm512_set1_ps(top))));
    b = _mm512_maskz_mov_ps(kb, expo(_mm512_sub_ps(b, _mm512_set1_ps(top))));
    _mm512_storeu_ps(p, a);
    _mm512_storeu_ps(p + 16, b);
    *l += fold(_mm512_add_ps(a, b));
}

// Columns i…i+15, i constant, of a position.
INLINE __m512 atF32(const uint8_t *p, long i) { return _mm512_loadu_ps((const float *)p + i); }
INLINE __m512 atF16(const uint8_t *p, long i) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p + 2 * i))); }
// d·q is exact.
INLINE __m512 atQ8(const uint8_t *p, long i) {
    p += i / 32 * 34;
    __m512 d = _mm512_cvtph_ps(_mm256_set1_epi16(*(const int16_t *)p));
    __m512i q = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(p + 2 + i % 32)));
    return _mm512_mul_ps(d, _mm512_cvtepi32_ps(q));
}

// p[s] = q · k[s] for n positions, four at a time; COLS columns take BYTES bytes.
#define SCORES(name, at, COLS, BYTES)                                                                                  \
    KERNEL name(float *p, const float *q, const uint8_t *k, long dim, long n, long stride) {                           \
        for (; n >= 4; n -= 4) {                                                                                       \
            __m512 f[4];                                                                                               \
            UNROLL for (int s = 0; s < 4; s++) f[s] = _mm512_setzero_ps();                                             \
            const uint8_t *row = k;                                                                                    \
            for (long i = 0; i < dim; i += COLS, row += BYTES) {                                                       \
                UNROLL for (int h = 0; h < COLS; h += 16) {                                                            \
                    __m512 x = _mm512_loadu_ps(q + i + h);                                                             \
                    UNROLL for (int s = 0; s < 4; s++) f[s] = _mm512_fmadd_ps(x, at(row + s * stride, h), f[s]);       \
                }                                                                                                      \
            }                                                                                                          \
            _mm_storeu_ps(p, foldFour(f[0], f[1], f[2], f[3]));                                                        \
            p += 4;                                                                                                    \
            k += 4 * stride;                                                                                           \
        }                                                                                                              \
        for (; n > 0; n--) {                                                                                           \
            __m512 f = _mm512_setzero_ps();                                                                            \
            const uint8_t *row = k;                                                                                    \
            for (long i = 0; i < dim; i += COLS, row += BYTES)                                                         \
                UNROLL for (int h = 0; h < COLS; h += 16) f = _mm512_fmadd_ps(_mm512_loadu_ps(q + i + h), at(row, h), f); \
            *p++ = fold(f);                                                                                            \
            k += stride;                                                                                               \
        }                                                                                                              \
    }
SCORES(scoresF32Avx512, atF32, 16, 64)
SCORES(scoresF16Avx512, atF16, 16, 32)
SCORES(scoresQ8Avx512, atQ8, 32, 34)

// o = fma(p[s], v[s], o) for n positions in order, N registers of o at a time.
#define MIXCOLS(N, at, BYTES)                                                                                          \
    for (; dim >= 16 * N; dim -= 16 * N) {                                                                             \
        __m512 f[N];                                                                                                   \
        UNROLL for (int j = 0; j < N; j++) f[j] = _mm512_loadu_ps(o + 16 * j);                                         \
        const uint8_t *row = v;                                                                                        \
        for (long s = 0; s < n; s++, row += stride) {                                                                  \
            __m512 x = _mm512_set1_ps(p[s]);                                                                           \
            UNROLL for (int j = 0; j < N; j++) f[j] = _mm512_fmadd_ps(x, at(row, 16 * j), f[j]);                       \
        }                                                                                                              \
        UNROLL for (int j = 0; j < N; j++) _mm512_storeu_ps(o + 16 * j, f[j]);                                         \
        o += 16 * N;                                                                                                   \
        v += BYTES * N / 2;                                                                                            \
    }
#define MIX(name, at, BYTES)                                                                                           \
    KERNEL name(float *o, const float *p, const uint8_t *v, long dim, long n, long stride) {                           \
        MIXCOLS(8, at, BYTES)                                                                                          \
        MIXCOLS(4, at, BYTES)                                                                                          \
        MIXCOLS(2, at, BYTES)                                                                                          \
        MIXCOLS(1, at, BYTES)                                                                                          \
    }
MIX(mixF32Avx512, atF32, 128)
MIX(mixF16Avx512, atF16, 64)
MIX(mixQ8Avx512, atQ8, 34)

// Float weights: Sum16 of 4 rows with T tokens.
INLINE __m512 wF32(const uint8_t *p, __mmask16 k) { return _mm512_maskz_loadu_ps(k, p); }
INLINE __m512 wF16(const uint8_t *p, __mmask16 k) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(k, p)); }
INLINE __m512 wBF16(const uint8_t *p, __mmask16 k) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(k, p)), 16));
}
#define COLUMNS(at, T, k)                                                                                              \
    {                                                                                                                  \
        __m512 v[4];                                                                                                   \
        UNROLL for (int r = 0; r < 4; r++) v[r] = at(w + r * stride, k);                                               \
        UNROLL for (int t = 0; t < T; t++) {                                                                           \
            __m512 xv = _mm512_maskz_loadu_ps(k, x + t * ldx);                                                         \
            UNROLL for (int r = 0; r < 4; r++) f[r][t] = _mm512_fmadd_ps(v[r], xv, f[r][t]);                           \
        }                                                                                                              \
    }
#define DOT(name, at, size, T)                                                                                         \
    KERNEL name(struct dot *a) {                                                                                       \
        a->out = a->y;                                                                                                 \
        a->row = a->w;                                                                                                 \
        for (a->left = a->rows; a->left >= 4; a->left -= 4) {                                                          \
            __m512 f[4][T];                                                                                            \
            UNROLL for (int r = 0; r < 4; r++) UNROLL for (int t = 0; t < T; t++) f[r][t] = _mm512_setzero_ps();       \
            const uint8_t *w = a->row;                                                                                 \
            const float *x = a->x;                                                                                     \
            long ldx = a->ldx, n = a->n, stride = a->stride;                                                           \
            for (; n >= 16; n -= 16, w += 16 * size, x += 16) COLUMNS(at, T, 0xffff)                                   \
            if (n > 0) COLUMNS(at, T, tail(n))                                                                         \
            float *o = a->out;                                                                                         \
            UNROLL for (int t = 0; t < T; t++, o = step(o, a->ldy))                                                    \
                _mm_storeu_ps(o, foldFour(f[0][t], f[1][t], f[2][t], f[3][t]));                                        \
            a->out += 4;                                                                                               \
            a->row += 4 * a->stride;                                                                                   \
        }                                                                                                              \
    }
DOT(dot1F32Avx512, wF32, 4, 1)
DOT(dot1F16Avx512, wF16, 2, 1)
DOT(dot1BF16Avx512, wBF16, 2, 1)
DOT(dot4F32Avx512, wF32, 4, 4)
DOT(dot4F16Avx512, wF16, 2, 4)
DOT(dot4BF16Avx512, wBF16, 2, 4)
