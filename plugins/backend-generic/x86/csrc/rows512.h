// Reading 16 stored rows at once into the lanes of 512-bit registers.
#include "panel.h"

// Four groups of four rows; 2·stride comes from the addressing mode.
struct rows {
    const uint8_t *a, *b, *c, *d;
    long stride, stride3;
};

INLINE struct rows rowsAt(const uint8_t *p, long stride) {
    struct rows r = {p, p + 4 * stride, p + 8 * stride, p + 12 * stride, stride, 3 * stride};
    return r;
}

INLINE void advance(struct rows *r, long n) {
    r->a += n;
    r->b += n;
    r->c += n;
    r->d += n;
}

INLINE __m512i quarter(const uint8_t *a, const uint8_t *b, const uint8_t *c, const uint8_t *d) {
    __m512i v = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)a));
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)b), 1);
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)c), 2);
    return _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)d), 3);
}

// t[j] holds bytes o+4j … o+4j+3 of row r in its 32-bit lane r: a 4 × 4 transposition in each 128-bit lane.
INLINE void load16(__m512i t[4], const struct rows *r, long o) {
    long s = r->stride, s3 = r->stride3;
    __m512i u0 = quarter(r->a + o, r->b + o, r->c + o, r->d + o);
    __m512i u1 = quarter(r->a + s + o, r->b + s + o, r->c + s + o, r->d + s + o);
    __m512i u2 = quarter(r->a + 2 * s + o, r->b + 2 * s + o, r->c + 2 * s + o, r->d + 2 * s + o);
    __m512i u3 = quarter(r->a + s3 + o, r->b + s3 + o, r->c + s3 + o, r->d + s3 + o);
    __m512i x0 = _mm512_unpacklo_epi32(u0, u1), x1 = _mm512_unpackhi_epi32(u0, u1);
    __m512i x2 = _mm512_unpacklo_epi32(u2, u3), x3 = _mm512_unpackhi_epi32(u2, u3);
    t[0] = _mm512_unpacklo_epi64(x0, x2);
    t[1] = _mm512_unpackhi_epi64(x0, x2);
    t[2] = _mm512_unpacklo_epi64(x1, x3);
    t[3] = _mm512_unpackhi_epi64(x1, x3);
}

// The 16-bit words at offset o of each row.
INLINE __m256i words(const struct rows *r, long o) {
    long s = r->stride, s3 = r->stride3;
#define W(p) (*(const uint16_t *)(p))
    __m128i l = _mm_cvtsi32_si128(W(r->a + o)), h = _mm_cvtsi32_si128(W(r->c + o));
    l = _mm_insert_epi16(l, W(r->a + s + o), 1);
    h = _mm_insert_epi16(h, W(r->c + s + o), 1);
    l = _mm_insert_epi16(l, W(r->a + 2 * s + o), 2);
    h = _mm_insert_epi16(h, W(r->c + 2 * s + o), 2);
    l = _mm_insert_epi16(l, W(r->a + s3 + o), 3);
    h = _mm_insert_epi16(h, W(r->c + s3 + o), 3);
    l = _mm_insert_epi16(l, W(r->b + o), 4);
    h = _mm_insert_epi16(h, W(r->d + o), 4);
    l = _mm_insert_epi16(l, W(r->b + s + o), 5);
    h = _mm_insert_epi16(h, W(r->d + s + o), 5);
    l = _mm_insert_epi16(l, W(r->b + 2 * s + o), 6);
    h = _mm_insert_epi16(h, W(r->d + 2 * s + o), 6);
    l = _mm_insert_epi16(l, W(r->b + s3 + o), 7);
    h = _mm_insert_epi16(h, W(r->d + s3 + o), 7);
#undef W
    return _mm256_inserti128_si256(_mm256_castsi128_si256(l), h, 1);
}

INLINE __m512 halves(const struct rows *r, long o) { return _mm512_cvtph_ps(words(r, o)); }

INLINE __m512i bc(const void *p) { return _mm512_set1_epi32(*(const int32_t *)p); }
INLINE __m512i low(__m512i v) { return _mm512_and_si512(v, _mm512_set1_epi8(15)); }
INLINE __m512i high(__m512i v) { return _mm512_and_si512(_mm512_srli_epi32(v, 4), _mm512_set1_epi8(15)); }
