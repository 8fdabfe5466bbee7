package kernel

import "math"

// FuncKind names a function of one value.
type FuncKind uint8

// The functions, by what their papers call them. A, B and C are Func's.
const (
	SiLU        FuncKind = iota // x·σ(x)
	GELUTanh                    // x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2
	GELUErf                     // x·Φ(x), Φ the normal distribution
	QuickGELU                   // x·σ(A·x); published models have A = 1.702
	ReLU                        // max(x, 0)
	ReLU2                       // max(x, 0)²
	XIELU                       // A·x² + C·x where x > 0, B·(eˣ - 1 - x) + C·x elsewhere
	ClampedSiLU                 // g·σ(A·g), g = min(x, B); as a gate: · (min(max(up, -B), B) + 1)
	Sigmoid                     // σ(x) = 1/(1 + e⁻ˣ)
	TanhFunc                    // tanh x
	Softplus                    // ln(1 + eˣ)
	SoftCap                     // A·tanh(x/A)
	Identity                    // x: as a gate a plain product
	FuncKinds
)

// Func is a function with its parameters. The zero value is SiLU.
type Func struct {
	Kind    FuncKind
	A, B, C float32
}

// Constants of the functions. The polynomials of Tanh, Log1p and normalTail were fitted by the algorithm of
// Remez; their errors are 4e-9, 5e-9 and 3e-8.
const (
	geluC0 = 1.5957691216057308 // 2·√(2/π)
	geluC1 = 0.07135481627260025

	tanhC0 = -0.333332839249
	tanhC1 = 0.133314913023
	tanhC2 = -0.0537434997115
	tanhC3 = 0.020650591553
	tanhC4 = -0.00571704791932
	tanhLo = 0.625

	logC0 = 0.333332065815
	logC1 = 0.200108490636
	logC2 = 0.139995737117
	logC3 = 0.140122282675

	tailA  = 0.35
	tailC0 = 0.139621661311
	tailC1 = 0.139857542404
	tailC2 = 0.119863246507
	tailC3 = 0.105391465737
	tailC4 = -0.0228416890597
	tailC5 = 0.158793868243
	tailC6 = -0.255388514189
	tailC7 = 0.143817146054
	tailC8 = -0.0291147428495

	xieluTop = -1e-6
	expSmall = -0.34375 // above it expTail serves without Exp's reduction
)

// Tanh is, with a = |x|, z = a·a: fma(P(z)·z, a, a) below 0.625, P of degree 4 by Horner's rule with fma, and
// 1 - 2/(Exp(a + a) + 1) above; with the sign of x.
func Tanh(x float32) float32 {
	a := math.Float32frombits(math.Float32bits(x) &^ (1 << 31))
	var t float32
	if a < tanhLo {
		z := float32(a * a)
		p := fma32(tanhC4, z, tanhC3)
		p = fma32(p, z, tanhC2)
		p = fma32(p, z, tanhC1)
		p = fma32(p, z, tanhC0)
		t = fma32(float32(p*z), a, a)
	} else {
		t = 1 - 2/(Exp(a+a)+1)
	}
	return math.Float32frombits(math.Float32bits(t) | math.Float32bits(x)&(1<<31))
}

// sigmoid is 1/(1 + Exp(-x)).
func sigmoid(x float32) float32 { return 1 / (1 + Exp(-x)) }

// softplus is max(x, 0) + ln(1 + y), y = Exp(-|x|): with s = y/(2 + y) and z = s·s the logarithm is
// fma(P(z)·z, s + s, s + s), P of degree 3.
func softplus(x float32) float32 {
	a := math.Float32frombits(math.Float32bits(x) &^ (1 << 31))
	y := Exp(-a)
	s := y / (2 + y)
	z := float32(s * s)
	p := fma32(logC3, z, logC2)
	p = fma32(p, z, logC1)
	p = fma32(p, z, logC0)
	s += s
	return relu(x) + fma32(float32(p*z), s, s)
}

// relu is max(x, 0); NaN stays NaN, and +0 comes of -0.
func relu(x float32) float32 {
	if x <= 0 {
		return 0
	}
	return x
}

// geluErf is fma(-a, Q, max(x, 0)) with a = |x| and Q, the normal distribution's tail beyond a, as
// Exp(-(a·a)/2)·(t·P(t)), t = 1/fma(0.35, a, 1) and P of degree 8.
func geluErf(x float32) float32 {
	a := math.Float32frombits(math.Float32bits(x) &^ (1 << 31))
	t := 1 / fma32(tailA, a, 1)
	p := fma32(tailC8, t, tailC7)
	p = fma32(p, t, tailC6)
	p = fma32(p, t, tailC5)
	p = fma32(p, t, tailC4)
	p = fma32(p, t, tailC3)
	p = fma32(p, t, tailC2)
	p = fma32(p, t, tailC1)
	p = fma32(p, t, tailC0)
	q := float32(Exp(float32(a*a)*-0.5) * float32(t*p))
	return fma32(-a, q, relu(x))
}

// geluTanh is x / (1 + Exp(-z)), z = x · fma(x·x, 2√(2/π)·0.044715, 2√(2/π)): the tanh form, since
// (1 + tanh u)/2 = 1/(1 + e⁻²ᵘ).
func geluTanh(x float32) float32 {
	z := x * fma32(float32(x*x), geluC1, geluC0)
	return x / (1 + Exp(-z))
}

// xielu is fma(A·x, x, C·x) where x > 0. Elsewhere it is fma(B, e + (m - x), C·x) with m = min(x, -1e-6),
// which is the reference's, and e = eᵐ - 1 - m: P(m)·(m·m) with Exp's polynomial above -0.34375, (Exp(m) - 1)
// - m below.
func (f *Func) xielu(x float32) float32 {
	c := float32(f.C * x)
	if x > 0 {
		return fma32(float32(f.A*x), x, c)
	}
	m := float32(xieluTop)
	if x < m {
		m = x
	}
	e := float32(expTail(m) * float32(m*m))
	if m < expSmall {
		e = (Exp(m) - 1) - m
	}
	return fma32(f.B, e+(m-x), c)
}

// Of is f of one value, to the bits that Activate gives.
//
//	SiLU         x / (1 + Exp(-x))
//	QuickGELU    x / (1 + Exp(-(A·x)))
//	ReLU2        r·r, r = max(x, 0)
//	ClampedSiLU  QuickGELU of min(x, B)
//	Sigmoid      1 / (1 + Exp(-x))
//	SoftCap      A·Tanh(x/A)
//
// and the others as their functions say.
func (f *Func) Of(x float32) float32 {
	switch f.Kind {
	case GELUTanh:
		return geluTanh(x)
	case GELUErf:
		return geluErf(x)
	case QuickGELU:
		return x / (1 + Exp(-float32(f.A*x)))
	case ReLU:
		return relu(x)
	case ReLU2:
		r := relu(x)
		return r * r
	case XIELU:
		return f.xielu(x)
	case ClampedSiLU:
		if x > f.B {
			x = f.B
		}
		return x / (1 + Exp(-float32(f.A*x)))
	case Sigmoid:
		return sigmoid(x)
	case TanhFunc:
		return Tanh(x)
	case Softplus:
		return softplus(x)
	case SoftCap:
		return f.A * Tanh(x/f.A)
	case Identity:
		return x
	default:
		return x / (1 + Exp(-x))
	}
}

// Activate applies f in place.
func (Portable) Activate(x []float32, f Func) {
	for i, v := range x {
		x[i] = f.Of(v)
	}
}

// Gate sets gate = f(gate) · up; with ClampedSiLU f(gate) · (u + 1), u = min(max(up, -B), B).
func (Portable) Gate(gate, up []float32, f Func) {
	up = up[:len(gate)]
	if f.Kind == ClampedSiLU {
		for i, x := range gate {
			u := up[i]
			if u < -f.B {
				u = -f.B
			}
			if u > f.B {
				u = f.B
			}
			gate[i] = float32(f.Of(x)) * (u + 1)
		}
		return
	}
	for i, x := range gate {
		gate[i] = float32(f.Of(x)) * up[i]
	}
}

// SwiGLU sets gate = (gate / (1 + Exp(-gate))) · up.
func (k Portable) SwiGLU(gate, up []float32) { k.Gate(gate, up, Func{}) }

// GELU sets x to its tanh form.
func (k Portable) GELU(x []float32) { k.Activate(x, Func{Kind: GELUTanh}) }
