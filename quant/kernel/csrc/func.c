// Activations and gates, and what attention does with scores before they become weights. Lengths are multiples of 16.
#include "wide.h"

KERNEL NAME(adjust)(float *p, long cap, long slope, long first);
KERNEL NAME(funcSiLU)(float *x, const float *up, long n, long a, long b, long c);
KERNEL NAME(funcGELUTanh)(float *x, const float *up, long n, long a, long b, long c);
KERNEL NAME(funcGELUErf)(float *x, const float *up, long n, long a, long b, long c);
KERNEL NAME(funcQuick)(float *x, const float *up, long n, long a, long b, long c);
KERNEL NAME(funcReLU)(float *x, const float *up, long n, long a, long b, long c);
KERNEL NAME(funcReLU2)(float *x, const float *up, long n, long a, long b, long c);
KERNEL NAME(funcXIELU)(float *x, const float *up, long n, long a, long b, long c);
KERNEL NAME(funcClamped)(float *x, const float *up, long n, long a, long b, long c);
KERNEL NAME(funcSigmoid)(float *x, const float *up, long n, long a, long b, long c);
KERNEL NAME(funcTanh)(float *x, const float *up, long n, long a, long b, long c);
KERNEL NAME(funcSoftplus)(float *x, const float *up, long n, long a, long b, long c);
KERNEL NAME(funcSoftCap)(float *x, const float *up, long n, long a, long b, long c);
KERNEL NAME(funcIdentity)(float *x, const float *up, long n, long a, long b, long c);

// A float32 argument comes as its bits; made anew where it is used, so that no register holds it from one use to the next.
INLINE F number(long bits) { return asFloat(P(set1_epi32)((int32_t)bits)); }
INLINE F one(void) { return P(set1_ps)(1); }
INLINE F magnitude(F x) { return asFloat(AND(asInt(x), P(set1_epi32)(0x7fffffff))); }
INLINE F signOf(F x) { return asFloat(AND(asInt(x), P(set1_epi32)((int)0x80000000))); }
INLINE F either(F x, F y) { return asFloat(OR(asInt(x), asInt(y))); }
// 0 where x <= 0, else x, NaN too.
INLINE F relu(F x) { return ifLess(P(set1_ps)(0), x, x, ifNaN(x, x, P(set1_ps)(0))); }
INLINE F sigmoid(F x) { return divF(one(), addF(one(), expF(negF(x)))); }
INLINE F tanhF(F x) {
    F a = magnitude(x);
    F e = P(sub_ps)(one(), divF(P(set1_ps)(2), addF(expF(addF(a, a)), one())));
    F z = P(mul_ps)(a, a);
    F p = P(fmadd_ps)(P(set1_ps)(-0.00571704791932f), z, P(set1_ps)(0.020650591553f));
    p = P(fmadd_ps)(p, z, P(set1_ps)(-0.0537434997115f));
    p = P(fmadd_ps)(p, z, P(set1_ps)(0.133314913023f));
    p = P(fmadd_ps)(p, z, P(set1_ps)(-0.333332839249f));
    p = P(fmadd_ps)(P(mul_ps)(p, z), a, a);
    return either(ifLess(a, P(set1_ps)(0.625f), p, e), signOf(x));
}
INLINE F softplus(F x) {
    F y = expF(either(x, P(set1_ps)(-0.0f)));
    F s = divF(y, addF(P(set1_ps)(2), y));
    F z = P(mul_ps)(s, s);
    F p = P(fmadd_ps)(P(set1_ps)(0.140122282675f), z, P(set1_ps)(0.139995737117f));
    p = P(fmadd_ps)(p, z, P(set1_ps)(0.200108490636f));
    p = P(fmadd_ps)(p, z, P(set1_ps)(0.333332065815f));
    s = addF(s, s);
    return addF(relu(x), P(fmadd_ps)(P(mul_ps)(p, z), s, s));
}
// The normal distribution's tail beyond a.
INLINE F tail(F a) {
    F t = divF(one(), P(fmadd_ps)(P(set1_ps)(0.35f), a, one()));
    F p = P(fmadd_ps)(P(set1_ps)(-0.0291147428495f), t, P(set1_ps)(0.143817146054f));
    p = P(fmadd_ps)(p, t, P(set1_ps)(-0.255388514189f));
    p = P(fmadd_ps)(p, t, P(set1_ps)(0.158793868243f));
    p = P(fmadd_ps)(p, t, P(set1_ps)(-0.0228416890597f));
    p = P(fmadd_ps)(p, t, P(set1_ps)(0.105391465737f));
    p = P(fmadd_ps)(p, t, P(set1_ps)(0.119863246507f));
    p = P(fmadd_ps)(p, t, P(set1_ps)(0.139857542404f));
    p = P(fmadd_ps)(p, t, P(set1_ps)(0.139621661311f));
    p = P(mul_ps)(t, p);
    return P(mul_ps)(expF(P(mul_ps)(P(mul_ps)(a, a), P(set1_ps)(-0.5f))), p);
}
// A constant that is made where it is used: with 16 registers the compiler would keep it, and spill something else.
INLINE F constant(float c) {
#if LANES == 8
    union {
        float f;
        int32_t i;
    } u = {.f = c};
    return asFloat(fresh(u.i));
#else
    return P(set1_ps)(c);
#endif
}
// eˣ - 1 - x for x < 0.
INLINE F expRest(F m) {
    F p = P(fmadd_ps)(constant(1.9875691500e-4f), m, constant(1.3981999507e-3f));
    p = P(fmadd_ps)(p, m, constant(8.3334519073e-3f));
    p = P(fmadd_ps)(p, m, constant(4.1665795894e-2f));
    p = P(fmadd_ps)(p, m, constant(1.6666665459e-1f));
    p = P(fmadd_ps)(p, m, constant(5.0000001201e-1f));
    p = P(mul_ps)(p, P(mul_ps)(m, m));
    F e = P(sub_ps)(P(sub_ps)(expF(m), one()), m);
    return ifLess(m, constant(-0.34375f), e, p);
}

// 32 scores: SoftCap·tanh(s/SoftCap), then fma(slope, first + i, s); 0 leaves a step out.
KERNEL NAME(adjust)(float *p, long cap, long slope, long first) {
    if (cap) ONCE for (long s = 0; s < 32; s += LANES) {
        F c = number(cap);
        F y = tanhF(divF(P(loadu_ps)(p + s), c));
        P(storeu_ps)(p + s, P(mul_ps)(number(cap), y));
    }
    if (slope) {
        static const int32_t steps[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
        ONCE for (long s = 0; s < 32; s += LANES) {
            F at = P(cvtepi32_ps)(P(add_epi32)(load(steps), P(set1_epi32)((int32_t)(first + s))));
            P(storeu_ps)(p + s, P(fmadd_ps)(number(slope), at, P(loadu_ps)(p + s)));
        }
    }
}

// y is the function of x; v, of up, where there is a gate.
#define FUNC(name, value)                                                                                              \
    KERNEL NAME(name)(float *x, const float *up, long n, long a, long b, long c) {                                     \
        ONCE for (long i = 0; i < n; i += LANES) {                                                                     \
            F v = P(loadu_ps)(x + i);                                                                                  \
            F y = value;                                                                                               \
            if (up) y = P(mul_ps)(y, P(loadu_ps)(up + i));                                                             \
            P(storeu_ps)(x + i, y);                                                                                    \
            FENCE;                                                                                                     \
        }                                                                                                              \
    }
INLINE F again(const float *x, F e) { return divF(P(loadu_ps)(x), addF(one(), e)); }
INLINE F geluExp(F v) {
    F z = P(fmadd_ps)(P(mul_ps)(v, v), P(set1_ps)(0.07135481627260025f), P(set1_ps)(1.5957691216057308f));
    return expF(negF(P(mul_ps)(v, z)));
}
// The argument is loaded again behind the exponential: there are too few registers to keep it.
INLINE F siluOf(const float *x, F v) {
    F e = expF(negF(v));
    FENCE;
    return again(x, e);
}
INLINE F geluTanhOf(const float *x, F v) {
    F e = geluExp(v);
    FENCE;
    return again(x, e);
}
INLINE F geluErfOf(const float *x, F v) {
    F q = tail(magnitude(v));
    FENCE;
    v = P(loadu_ps)(x);
    return P(fmadd_ps)(negF(magnitude(v)), q, relu(v));
}
INLINE F quickOf(const float *x, F v, long a) {
    F e = expF(negF(P(mul_ps)(number(a), v)));
    FENCE;
    return again(x, e);
}
INLINE F below(F x, F top) { return ifLess(top, x, top, x); }
INLINE F above(F x, F bottom) { return ifLess(x, bottom, bottom, x); }
INLINE F clampedOf(const float *x, F v, long a, long b) {
    F e = expF(negF(P(mul_ps)(number(a), below(v, number(b)))));
    FENCE;
    return divF(below(P(loadu_ps)(x), number(b)), addF(one(), e));
}
INLINE F xieluOf(const float *x, F v, long a, long b, long c) {
    F m = ifLess(v, P(set1_ps)(-1e-6f), v, P(set1_ps)(-1e-6f));
    F e = expRest(m);
    FENCE;
    v = P(loadu_ps)(x);
    m = ifLess(v, P(set1_ps)(-1e-6f), v, P(set1_ps)(-1e-6f));
    F line = P(mul_ps)(number(c), v);
    F low = P(fmadd_ps)(number(b), addF(e, P(sub_ps)(m, v)), line);
    F high = P(fmadd_ps)(P(mul_ps)(number(a), v), v, line);
    return ifLess(P(set1_ps)(0), v, high, low);
}
INLINE F softCapOf(F v, long a) {
    F y = tanhF(divF(v, number(a)));
    return P(mul_ps)(number(a), y);
}
INLINE F square(F x) { return P(mul_ps)(x, x); }
FUNC(funcSiLU, siluOf(x + i, v))
FUNC(funcGELUTanh, geluTanhOf(x + i, v))
FUNC(funcGELUErf, geluErfOf(x + i, v))
FUNC(funcQuick, quickOf(x + i, v, a))
FUNC(funcReLU, relu(v))
FUNC(funcReLU2, square(relu(v)))
FUNC(funcXIELU, xieluOf(x + i, v, a, b, c))
FUNC(funcSigmoid, sigmoid(v))
FUNC(funcTanh, tanhF(v))
FUNC(funcSoftplus, softplus(v))
FUNC(funcSoftCap, softCapOf(v, a))
FUNC(funcIdentity, v)

KERNEL NAME(funcClamped)(float *x, const float *up, long n, long a, long b, long c) {
    ONCE for (long i = 0; i < n; i += LANES) {
        F y = clampedOf(x + i, P(loadu_ps)(x + i), a, b);
        if (up) y = P(mul_ps)(y, addF(below(above(P(loadu_ps)(up + i), negF(number(b))), number(b)), one()));
        P(storeu_ps)(x + i, y);
        FENCE;
    }
}
