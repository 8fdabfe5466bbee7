// Stored rows to panels (see panel.h), for more tokens than one, with AVX-512.
#include "rows512.h"
#include "kquant512.h"

KERNEL packQ40Avx512(const struct pack *a);
KERNEL packQ41Avx512(const struct pack *a);
KERNEL packQ50Avx512(const struct pack *a);
KERNEL packQ51Avx512(const struct pack *a);
KERNEL packQ80Avx512(const struct pack *a);
KERNEL packIQ4NLAvx512(const struct pack *a);
KERNEL packMXFP4Avx512(const struct pack *a);
KERNEL packQ4KAvx512(const struct pack *a);
KERNEL packQ5KAvx512(const struct pack *a);
KERNEL packQ6KAvx512(const struct pack *a);
KERNEL packIQ4XSAvx512(const struct pack *a);
KERNEL packBnBAvx512(const struct pack *a);
KERNEL evenOddAvx512(int8_t *to, const int8_t *from, long n);
KERNEL scalesBnBAvx512(float *to, const uint8_t *code, const float *values, const float *absmax, const float *unit, long n);

// What a format's bytes are too small by is added: a panel has v + 128.
INLINE void store(uint8_t *w, const __m512i *v, int n, int add) {
    UNROLL for (int k = 0; k < n; k++) _mm512_storeu_si512(w + 64 * k, _mm512_add_epi8(v[k], _mm512_set1_epi8((char)add)));
}

#define PACK(name, read, bytes, add, OFF)                                                                              \
    KERNEL name(const struct pack *a) {                                                                                \
        struct rows r = rowsAt(a->in, a->stride);                                                                      \
        uint8_t *w = a->w;                                                                                             \
        float *s = a->s, *m = a->m;                                                                                    \
        long nb = a->nb;                                                                                               \
        do {                                                                                                           \
            struct block v;                                                                                            \
            read(&v, &r, a->table);                                                                                    \
            store(w, v.w, 8, add);                                                                                     \
            _mm512_storeu_ps(s, v.s);                                                                                  \
            if (OFF) _mm512_storeu_ps(m, v.m);                                                                         \
            advance(&r, bytes);                                                                                        \
            w += 512;                                                                                                  \
            s += ROWS;                                                                                                 \
            m += ROWS;                                                                                                 \
            FENCE;                                                                                                     \
        } while (--nb);                                                                                                \
    }

PACK(packQ40Avx512, readQ40, 18, 120, 0)
PACK(packQ41Avx512, readQ41, 20, 128, 1)
PACK(packQ50Avx512, readQ50, 22, 112, 0)
PACK(packQ51Avx512, readQ51, 24, 128, 1)
PACK(packQ80Avx512, readQ80, 34, 0, 0)
PACK(packIQ4NLAvx512, readIQ4NL, 18, 0, 0)
PACK(packMXFP4Avx512, readMXFP4, 17, 0, 0)

// Super-blocks: the last argument does block j.
#define PACKK(name, bytes, size, shared, readShared, ...)                                                              \
    KERNEL name(const struct pack *a) {                                                                                \
        struct rows r = rowsAt(a->in, a->stride);                                                                      \
        uint8_t *w = a->w;                                                                                             \
        float *s = a->s, *m = a->m;                                                                                    \
        long nb = a->nb;                                                                                               \
        do {                                                                                                           \
            shared v;                                                                                                  \
            readShared(&v, &r);                                                                                        \
            UNROLL for (int j = 0; j < 8; j++) {                                                                       \
                __VA_ARGS__                                                                                            \
                w += size;                                                                                             \
                s += ROWS;                                                                                             \
                m += ROWS;                                                                                             \
                FENCE;                                                                                                 \
            }                                                                                                          \
            advance(&r, bytes);                                                                                        \
        } while (nb -= 8);                                                                                             \
    }

INLINE void scalesAndMins(float *s, float *m, const struct scales4 *v, int j) {
    _mm512_storeu_ps(s, scaleOf(v, j));
    _mm512_storeu_ps(m, _mm512_sub_ps(_mm512_set1_ps(-0.0f), minOf(v, j))); // -min, also for 0
}

PACKK(packQ4KAvx512, 144, 512, struct scales4, readScales4, {
    __m512i t[4];
    UNROLL for (int h = 0; h < 2; h++) {
        load16(t, &r, 16 + 32 * (j / 2) + 16 * h);
        UNROLL for (int k = 0; k < 4; k++) t[k] = j % 2 ? high(t[k]) : low(t[k]);
        store(w + 256 * h, t, 4, 128);
    }
    scalesAndMins(s, m, &v, j);
})

PACKK(packQ5KAvx512, 176, 512, struct scales4, readScales4, {
    __m512i t[4];
    UNROLL for (int h = 0; h < 2; h++) {
        halfQ5K(t, &r, j, h);
        store(w + 256 * h, t, 4, 128);
        FENCE;
    }
    scalesAndMins(s, m, &v, j);
})

PACKK(packIQ4XSAvx512, 136, 512, struct iq4xs, sharedIQ4XS, {
    struct block x;
    nibbles(&x, &r, 8 + 16 * j);
    lookUp(&x, a->table);
    store(w, x.w, 8, 0);
    _mm512_storeu_ps(s, scaleIQ4XS(&v, j));
})

// v = sc·q has 14 bits: the products in 16-bit lanes, even and odd bytes apart, then h = (v + 64) >> 7, l = v - 128·h.
INLINE void split(uint8_t *w, __m512i q, __m512i sc) {
    const __m512i bias = _mm512_set1_epi16(64), bytes = _mm512_set1_epi16(255), flip = _mm512_set1_epi8(-128);
    q = _mm512_sub_epi8(q, _mm512_set1_epi8(32));
    __m512i e = _mm512_mullo_epi16(_mm512_srai_epi16(_mm512_slli_epi16(q, 8), 8), sc);
    __m512i o = _mm512_mullo_epi16(_mm512_srai_epi16(q, 8), sc);
    __m512i he = _mm512_srai_epi16(_mm512_add_epi16(e, bias), 7), ho = _mm512_srai_epi16(_mm512_add_epi16(o, bias), 7);
    __m512i le = _mm512_sub_epi16(e, _mm512_slli_epi16(he, 7)), lo = _mm512_sub_epi16(o, _mm512_slli_epi16(ho, 7));
    __m512i h = _mm512_or_si512(_mm512_and_si512(he, bytes), _mm512_slli_epi16(ho, 8));
    __m512i l = _mm512_or_si512(_mm512_and_si512(le, bytes), _mm512_slli_epi16(lo, 8));
    _mm512_storeu_si512(w, _mm512_xor_si512(h, flip));
    _mm512_storeu_si512(w + 512, _mm512_xor_si512(l, flip));
}

PACKK(packQ6KAvx512, 210, 1024, struct q6k, sharedQ6K, {
    __m512i t[4];
    UNROLL for (int h = 0; h < 2; h++) {
        halfQ6K(t, &r, j, h);
        __m512i sc = signedByteOf(v.scales[j / 2], j % 2 * 2 + h);
        sc = _mm512_mask_blend_epi16(0xaaaaaaaa, sc, _mm512_slli_epi32(sc, 16));
        UNROLL for (int k = 0; k < 4; k++) split(w + 256 * h + 64 * k, t[k], sc);
        FENCE;
    }
    _mm512_storeu_ps(s, v.d);
})

// bitsandbytes, 64 columns at a time: columns 2j and 2j+1 are the high and the low nibble of byte j.
KERNEL packBnBAvx512(const struct pack *a) {
    struct rows r = rowsAt(a->in, a->stride);
    struct rows sr = rowsAt((const uint8_t *)a->scales, a->sstride);
    uint8_t *w = a->w;
    float *s = a->s;
    long nb = a->nb;
    do {
        const __m512i ht = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)a->table));
        const __m512i lt = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(a->table + 16)));
        UNROLL for (int b = 0; b < 2; b++) {
            __m512i t[4];
            load16(t, &r, 16 * b);
            UNROLL for (int k = 0; k < 4; k++) {
                __m512i e = high(t[k]), o = low(t[k]);
                __m512i x = _mm512_unpacklo_epi8(e, o), y = _mm512_unpackhi_epi8(e, o); // rows 0, 1 and 2, 3 of a quarter
                __m512i p[2] = {_mm512_castps_si512(_mm512_shuffle_ps(_mm512_castsi512_ps(x), _mm512_castsi512_ps(y), 0x88)),
                                _mm512_castps_si512(_mm512_shuffle_ps(_mm512_castsi512_ps(x), _mm512_castsi512_ps(y), 0xdd))};
                UNROLL for (int i = 0; i < 2; i++) {
                    _mm512_storeu_si512(w + 64 * (2 * k + i), _mm512_shuffle_epi8(ht, p[i]));
                    _mm512_storeu_si512(w + 512 + 64 * (2 * k + i), _mm512_shuffle_epi8(lt, p[i]));
                }
            }
            w += 1024;
            FENCE;
        }
        __m512i at = _mm512_mullo_epi32(_mm512_set1_epi32((int)a->sstride), _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0));
        __m512 sv = _mm512_i32gather_ps(at, (const float *)sr.a, 1);
        _mm512_storeu_ps(s, sv);
        _mm512_storeu_ps(s + ROWS, sv);
        advance(&r, 32);
        sr.a += 4;
        s += 2 * ROWS;
    } while (nb -= 2);
}

// Each 8 bytes in the order 0 2 4 6 1 3 5 7; n is a multiple of 32.
KERNEL evenOddAvx512(int8_t *to, const int8_t *from, long n) {
    const __m256i order = _mm256_set_epi8(15, 13, 11, 9, 14, 12, 10, 8, 7, 5, 3, 1, 6, 4, 2, 0, 15, 13, 11, 9, 14, 12, 10, 8, 7, 5, 3, 1, 6, 4, 2, 0);
    do {
        _mm256_storeu_si256((__m256i *)to, _mm256_shuffle_epi8(_mm256_loadu_si256((const __m256i *)from), order));
        to += 32;
        from += 32;
    } while (n -= 32);
}

// n scales of one nested block: (values[code]·absmax + offset)·unit; unit is {unit, offset}.
KERNEL scalesBnBAvx512(float *to, const uint8_t *code, const float *values, const float *absmax, const float *unit, long n) {
    const __m512 x = _mm512_set1_ps(*absmax), u = _mm512_set1_ps(unit[0]), o = _mm512_set1_ps(unit[1]);
    for (; n > 0; n -= 16) {
        __mmask16 k = n < 16 ? (__mmask16)((1u << n) - 1) : 0xffff;
        __m512i c = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(k, code));
        __m512 s = _mm512_i32gather_ps(c, values, 4);
        s = _mm512_mul_ps(_mm512_add_ps(_mm512_mul_ps(s, x), o), u);
        _mm512_mask_storeu_ps(to, k, s);
        to += 16;
        code += 16;
    }
}
