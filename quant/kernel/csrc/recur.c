// What passes a state from row to row, as package kernel says (Recurrence). Columns of a state do not see each other, so that a tile
// of them goes through all rows while it lies in the first-level cache.
#include "wide.h"

// n channels, a multiple of LANES, of a causal convolution over each by itself; w and s have rows of channels floats.
struct conv {
    const float *x;
    float *y;
    const float *w, *b; // b may be null
    float *s;
    long ldx, ldy;
    long channels;
    long rows;
    long n;
    long width; // 3 or 4
};

// rows of one value head of the delta rule with a decay for each row; values is a multiple of 16. y may be v.
struct delta {
    float *s; // (keys, values)
    const float *q, *k, *v;
    float *y;
    const float *e; // factors, side by side
    const float *beta;
    long ldq, ldk, ldv, ldy, ldbeta;
    long rows;
    long keys, values;
};

// rows of one head of the selective scan with one decay for each row; states is a multiple of 16, dim of 4. y may be x.
struct scan {
    float *s; // (dim, states)
    const float *x;
    float *y;
    const float *b, *c;
    const float *e; // factors, side by side
    const float *dt;
    const float *d; // of the head; null: none
    long ldx, ldy, ldbc, lddt;
    long rows;
    long dim, states;
};

KERNEL NAME(conv)(const struct conv *a);
KERNEL NAME(scan)(const struct scan *a);
KERNEL NAME(delta)(const struct delta *a);

// LANES channels of a convolution over width positions, 3 or 4.
INLINE void convTile(const struct conv *a, long at, int width) {
    const float *x = a->x + at, *p = a->w + at;
    float *y = a->y + at, *s = a->s + at;
    F w[4], old[3], b = P(setzero_ps)();
    UNROLL for (int j = 0; j < width; j++) w[j] = P(loadu_ps)(p + j * a->channels);
    UNROLL for (int j = 0; j < width - 1; j++) old[j] = P(loadu_ps)(s + j * a->channels);
    if (a->b) b = P(loadu_ps)(a->b + at);
    for (long left = a->rows; left > 0; left--, x += a->ldx, y += a->ldy) {
        F v = P(loadu_ps)(x), sum = b;
        UNROLL for (int j = 0; j < width - 1; j++) sum = P(fmadd_ps)(w[j], old[j], sum);
        sum = P(fmadd_ps)(w[width - 1], v, sum);
        UNROLL for (int j = 0; j < width - 2; j++) old[j] = old[j + 1];
        old[width - 2] = v;
        P(storeu_ps)(y, sum);
    }
    UNROLL for (int j = 0; j < width - 1; j++) P(storeu_ps)(s + j * a->channels, old[j]);
}

KERNEL NAME(conv)(const struct conv *a) {
    if (a->width == 4) {
        for (long at = 0; at < a->n; at += LANES) convTile(a, at, 4);
    } else {
        for (long at = 0; at < a->n; at += LANES) convTile(a, at, 3);
    }
}

// n registers of columns of the state of one value head, from column at on. The state is multiplied by the decay twice, which stores
// half as much as keeping it.
INLINE void deltaTile(const struct delta *a, long at, int n) {
    const float *q = a->q, *k = a->k, *v = a->v + at, *e = a->e, *beta = a->beta;
    float *y = a->y + at;
    for (long left = a->rows; left > 0; left--) {
        FENCE; // what a says is read anew for each row, which leaves registers to the loops
        F r[4], d[4], f = P(set1_ps)(*e);
        float *s = a->s + at;
        UNROLL for (int j = 0; j < n; j++) r[j] = P(setzero_ps)();
        ONCE for (long i = 0; i < a->keys; i++, s += a->values) {
            F x = P(set1_ps)(k[i]);
            UNROLL for (int j = 0; j < n; j++) r[j] = P(fmadd_ps)(x, P(mul_ps)(P(loadu_ps)(s + LANES * j), f), r[j]);
        }
        F b = P(set1_ps)(*beta);
        UNROLL for (int j = 0; j < n; j++) {
            d[j] = P(mul_ps)(b, P(sub_ps)(P(loadu_ps)(v + LANES * j), r[j]));
            r[j] = P(setzero_ps)();
        }
        FENCE;
        s = a->s + at;
        ONCE for (long i = 0; i < a->keys; i++, s += a->values) {
            F x = P(set1_ps)(k[i]), z = P(set1_ps)(q[i]);
            UNROLL for (int j = 0; j < n; j++) {
                F t = P(fmadd_ps)(x, d[j], P(mul_ps)(P(loadu_ps)(s + LANES * j), f));
                P(storeu_ps)(s + LANES * j, t);
                r[j] = P(fmadd_ps)(z, t, r[j]);
            }
        }
        UNROLL for (int j = 0; j < n; j++) P(storeu_ps)(y + LANES * j, r[j]);
        q += a->ldq;
        k += a->ldk;
        v += a->ldv;
        y += a->ldy;
        e++;
        beta += a->ldbeta;
    }
}

KERNEL NAME(delta)(const struct delta *a) {
    long at = 0;
    for (; at + 4 * LANES <= a->values; at += 4 * LANES) deltaTile(a, at, 4);
    for (; at < a->values; at += 16) deltaTile(a, at, PARTS);
}

INLINE float fmaOne(float a, float b, float c) {
#if LANES == 4
    return vget_lane_f32(vfma_f32(vdup_n_f32(c), vdup_n_f32(a), vdup_n_f32(b)), 0);
#else
    return _mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(a), _mm_set_ss(b), _mm_set_ss(c)));
#endif
}

// So many rows of a state at a time as there are registers for their sums.
#define SCANNED (LANES == 8 ? 2 : 4)

KERNEL NAME(scan)(const struct scan *a) {
    const float *x = a->x, *b = a->b, *c = a->c, *e = a->e, *dt = a->dt;
    float *y = a->y;
    for (long left = a->rows; left > 0; left--) {
        FENCE; // as above
        F f = P(set1_ps)(*e);
        float *s = a->s;
        ONCE for (long i = 0; i < a->dim; i += SCANNED) {
            F u[SCANNED];
            W sum[SCANNED];
            UNROLL for (int r = 0; r < SCANNED; r++) {
                u[r] = P(set1_ps)(x[i + r] * *dt);
                sum[r] = wset(0);
            }
            ONCE for (long j = 0; j < a->states; j += 16) {
                UNROLL for (int k = 0; k < PARTS; k++) {
                    F p = P(loadu_ps)(b + j + LANES * k), q = P(loadu_ps)(c + j + LANES * k);
                    float *row = s + j + LANES * k;
                    UNROLL for (int r = 0; r < SCANNED; r++, row += a->states) {
                        F t = P(fmadd_ps)(P(loadu_ps)(row), f, P(mul_ps)(u[r], p));
                        P(storeu_ps)(row, t);
                        sum[r].v[k] = P(fmadd_ps)(t, q, sum[r].v[k]);
                    }
                }
            }
            UNROLL for (int r = 0; r < SCANNED; r++) {
                float v = x[i + r], o = fold(sum[r]);
                y[i + r] = a->d ? fmaOne(*a->d, v, o) : o;
            }
            s += SCANNED * a->states;
        }
        x += a->ldx;
        y += a->ldy;
        b += a->ldbc;
        c += a->ldbc;
        dt += a->lddt;
        e++;
    }
}
