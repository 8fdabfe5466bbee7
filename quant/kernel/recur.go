package kernel

// Recurrence computes what passes a fixed state from position to position. It is an ability of its own beside Kernels:
// Portable has it, and so does every implementation that embeds it.
//
// All of them go through their rows one by one, in order, and leave the state of the last: a row's bits do
// not depend on how a prompt was cut. Heads and channels do not see each other, so that ranges of them may be
// computed at once. Nothing may overlap but where it is said.
type Recurrence interface {
	// Conv computes channels [lo, hi) of a causal convolution over each channel by itself.
	Conv(a *ConvArgs, lo, hi int)
	// Scan computes heads [lo, hi) of a selective scan.
	Scan(a *ScanArgs, lo, hi int)
	// Delta computes value heads [lo, hi) of linear attention by the gated delta rule.
	Delta(a *DeltaArgs, lo, hi int)
	// WKV computes heads [lo, hi) of RWKV-7.
	WKV(a *WKVArgs, lo, hi int)
}

// ConvArgs describes a causal depthwise convolution (Mamba's, the delta net's, LFM2's short one).
//
// From acc = B[c], +0 without, acc = fma(W[j,c], x, acc) for the inputs of the Width positions that end with
// the row, the oldest first; those before the first row come from State.
type ConvArgs struct {
	Rows, Channels, Width int
	Y, X                  []float32 // (Rows, LdY), (Rows, LdX); Y may be X
	LdY, LdX              int
	W                     []float32 // (Width, Channels), W[Width-1] belongs to the row itself
	B                     []float32 // (Channels) or nil
	State                 []float32 // (Width-1, Channels) the last inputs, the oldest first
}

// Conv computes channels [lo, hi).
func (Portable) Conv(a *ConvArgs, lo, hi int) {
	n, last := a.Channels, a.Width-1
	for t := range a.Rows {
		x, y := a.X[t*a.LdX:t*a.LdX+n], a.Y[t*a.LdY:t*a.LdY+n]
		for c := lo; c < hi; c++ {
			var acc float32
			if a.B != nil {
				acc = a.B[c]
			}
			for j := range last {
				acc = fma32(a.W[j*n+c], a.State[j*n+c], acc)
			}
			v := x[c]
			acc = fma32(a.W[last*n+c], v, acc)
			for j := range last - 1 {
				a.State[j*n+c] = a.State[(j+1)*n+c]
			}
			if last > 0 {
				a.State[(last-1)*n+c] = v
			}
			y[c] = acc
		}
	}
}

// ScanArgs describes the selective scan of Mamba-2, and with HeadDim 1 and PerState that of Mamba-1.
//
// For head h at a row, with e = Exp(dt·A) (one for each state where PerState says so) and u = x[p]·dt:
// S[p,n] = fma(S[p,n], e, u·B[n]), y[p] = fma(D, x[p], Sum16(S[p], C)), the sum alone without D.
type ScanArgs struct {
	Rows    int
	Heads   int
	HeadDim int // values of a head
	States  int // N
	Groups  int // heads h·Groups/Heads share a B and a C; at least 1

	Y, X     []float32 // (Rows, LdY), (Rows, LdX): (Heads, HeadDim); Y may be X
	LdY, LdX int
	DT       []float32 // (Rows, LdDT): (Heads), after soft-plus and limits
	LdDT     int
	B, C     []float32 // (Rows, LdBC): (Groups, States)
	LdBC     int

	A        []float32 // (Heads), or (Heads, States) where PerState; negative
	PerState bool
	D        []float32 // (Heads) or nil
	State    []float32 // (Heads, HeadDim, States)
}

// Scan computes heads [lo, hi).
func (Portable) Scan(a *ScanArgs, lo, hi int) {
	n, p := a.States, a.HeadDim
	for h := lo; h < hi; h++ {
		g := h * a.Groups / a.Heads
		state := a.State[h*p*n : (h+1)*p*n]
		for t := range a.Rows {
			dt := a.DT[t*a.LdDT+h]
			b, c := a.B[t*a.LdBC+g*n:t*a.LdBC+g*n+n], a.C[t*a.LdBC+g*n:t*a.LdBC+g*n+n]
			x, y := a.X[t*a.LdX+h*p:t*a.LdX+h*p+p], a.Y[t*a.LdY+h*p:t*a.LdY+h*p+p]
			var e float32
			if !a.PerState {
				e = Exp(float32(dt * a.A[h]))
			}
			for i, v := range x {
				u := float32(v * dt)
				s := state[i*n : i*n+n]
				for j := range s {
					if a.PerState {
						e = Exp(float32(dt * a.A[h*n+j]))
					}
					s[j] = fma32(s[j], e, float32(u*b[j]))
				}
				y[i] = sum16(s, c)
				if a.D != nil {
					y[i] = fma32(a.D[h], v, y[i])
				}
			}
		}
	}
}

// DeltaArgs describes linear attention with a decay: the gated delta net (Yang et al. 2024), Kimi's with a
// decay for each key channel, and without Beta plain decaying sums (lightning attention).
//
// For value head h at a row, i over keys, j over values, e = Exp(Decay): S[i,j] = S[i,j]·e, r[j] =
// fma(S[i,j], k[i], r[j]) from +0 in order of i; d[j] = Beta·(v[j] - r[j]), v[j] itself without Beta; S[i,j]
// = fma(k[i], d[j], S[i,j]); y[j] = fma(S[i,j], q[i], y[j]) from +0 in order of i.
type DeltaArgs struct {
	Rows             int
	KeyHeads, Heads  int // of keys and queries, of values; the first divides the second
	KeyDim, ValueDim int // at most MaxHeadDim

	// Tiled: value head h takes key head h mod KeyHeads instead of h/(Heads/KeyHeads).
	Tiled bool

	Q, K, V, Y         []float32 // (Rows, Ld…): (KeyHeads, KeyDim) twice, (Heads, ValueDim) twice; Y may be V
	LdQ, LdK, LdV, LdY int
	Decay              []float32 // (Rows, LdDecay): (Heads) logarithms of the factors, or (Heads, KeyDim) where PerChannel
	LdDecay            int
	PerChannel         bool
	Beta               []float32 // (Rows, LdBeta): (Heads); nil: no correction
	LdBeta             int
	State              []float32 // (Heads, KeyDim, ValueDim)
}

// KeyHead is the key head of value head h.
func (a *DeltaArgs) KeyHead(h int) int {
	if a.Tiled {
		return h % a.KeyHeads
	}
	return h / (a.Heads / a.KeyHeads)
}

// Delta computes value heads [lo, hi).
func (Portable) Delta(a *DeltaArgs, lo, hi int) {
	var read, change [MaxHeadDim]float32
	kd, vd := a.KeyDim, a.ValueDim
	r, d := read[:vd], change[:vd]
	for h := lo; h < hi; h++ {
		kh := a.KeyHead(h)
		state := a.State[h*kd*vd : (h+1)*kd*vd]
		for t := range a.Rows {
			q, k := a.Q[t*a.LdQ+kh*kd:t*a.LdQ+kh*kd+kd], a.K[t*a.LdK+kh*kd:t*a.LdK+kh*kd+kd]
			v, y := a.V[t*a.LdV+h*vd:t*a.LdV+h*vd+vd], a.Y[t*a.LdY+h*vd:t*a.LdY+h*vd+vd]
			var e float32
			if !a.PerChannel {
				e = Exp(a.Decay[t*a.LdDecay+h])
			}
			clear(r)
			for i, x := range k {
				if a.PerChannel {
					e = Exp(a.Decay[t*a.LdDecay+h*kd+i])
				}
				s := state[i*vd : i*vd+vd]
				for j := range s {
					s[j] *= e
				}
				axpy(r, x, s)
			}
			copy(d, v)
			if a.Beta != nil {
				beta := a.Beta[t*a.LdBeta+h]
				for j := range d {
					d[j] = beta * (v[j] - r[j])
				}
			}
			clear(y)
			for i, x := range k {
				s := state[i*vd : i*vd+vd]
				axpy(s, x, d)
				axpy(y, q[i], s)
			}
		}
	}
}

// WKVArgs describes the state of RWKV-7 (Peng et al. 2025).
//
// For a head at a row, i over keys, j over values: r[j] = fma(S[i,j], a[i], r[j]) from +0 in order of i;
// S[i,j] = fma(k[i], v[j], fma(b[i], r[j], S[i,j]·w[i])); y[j] = fma(S[i,j], q[i], y[j]) from +0 in order of i.
type WKVArgs struct {
	Rows, Heads, Dim int
	// (Rows, Ld): (Heads, Dim). Q is the receptance, W the decay's factor, A and B what is taken away and
	// where. Y may be V.
	Q, K, V, W, A, B, Y []float32
	Ld                  int
	State               []float32 // (Heads, Dim, Dim): keys, values
}

// WKV computes heads [lo, hi).
func (Portable) WKV(a *WKVArgs, lo, hi int) {
	var read, value [MaxHeadDim]float32
	n := a.Dim
	r, v := read[:n], value[:n]
	for h := lo; h < hi; h++ {
		state := a.State[h*n*n : (h+1)*n*n]
		for t := range a.Rows {
			at := t*a.Ld + h*n
			y := a.Y[at : at+n]
			copy(v, a.V[at:])
			clear(r)
			for i := range n {
				axpy(r, a.A[at+i], state[i*n:i*n+n])
			}
			clear(y)
			for i := range n {
				s := state[i*n : i*n+n]
				for j := range s {
					s[j] *= a.W[at+i]
				}
				axpy(s, a.B[at+i], r)
				axpy(s, a.K[at+i], v)
				axpy(y, a.Q[at+i], s)
			}
		}
	}
}

// RGLRU is one row of the real-gated linear recurrent unit (De et al. 2024): with l = c·σ(r), σ(r) = 1/(1 +
// Exp(-r)), h = fma(Exp(l), h, m·(x·σ(g))), m = √(1 - Exp(l + l)), at the first position of a text 1. c is
// -8·soft-plus of the layer's parameter, r and g are the gates before their sigmoids. y becomes h; it may be
// x.
func RGLRU(y, h, x, r, g, c []float32, first bool) {
	y, x, r, g, c = y[:len(h)], x[:len(h)], r[:len(h)], g[:len(h)], c[:len(h)]
	for i := range h {
		l := float32(c[i] * sigmoid(r[i]))
		u := float32(x[i] * sigmoid(g[i]))
		if !first {
			u = float32(sqrt32(1-Exp(l+l)) * u)
		}
		h[i] = fma32(Exp(l), h[i], u)
		y[i] = h[i]
	}
}

// CutBelow sets x = max(x - cut, 0) with cut = fma(deviation, z, mean), both of x, by the lanes of LayerNorm:
// what is left of a row by the Gaussian top-k of Gemma 3n.
func CutBelow(x []float32, z float32) {
	var l [16]float32
	for i, v := range x {
		l[i&15] += v
	}
	n := float32(len(x))
	mean := fold(&l) / n
	l = [16]float32{}
	for i, v := range x {
		c := v - mean
		l[i&15] = fma32(c, c, l[i&15])
	}
	cut := fma32(sqrt32(fold(&l)/n), z, mean)
	for i, v := range x {
		x[i] = relu(v - cut)
	}
}
