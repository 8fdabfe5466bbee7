package simd

import (
	"unsafe"

	"edged/quant/kernel"
)

// convArgs is struct conv of csrc/recur.c.
type convArgs struct {
	x, y, w, b, s unsafe.Pointer
	ldx, ldy      int
	channels      int
	rows          int
	n             int
	width         int
}

// deltaArgs is struct delta of csrc/recur.c.
type deltaArgs struct {
	s, q, k, v, y              unsafe.Pointer
	e, beta                    unsafe.Pointer
	ldq, ldk, ldv, ldy, ldbeta int
	rows                       int
	keys, values               int
}

// scanArgs is struct scan of csrc/recur.c.
type scanArgs struct {
	s, x, y, b, c        unsafe.Pointer
	e, dt, d             unsafe.Pointer
	ldx, ldy, ldbc, lddt int
	rows                 int
	dim, states          int
}

// Conv computes channels [lo, hi).
func (k *Kernels) Conv(a *kernel.ConvArgs, lo, hi int) {
	n := (hi - lo) / k.Lanes * k.Lanes
	if k.Set.Conv == nil || a.Width != 3 && a.Width != 4 || a.Rows < 1 || n < 1 {
		k.Portable.Conv(a, lo, hi)
		return
	}
	end := lo + n - 1
	_, _ = a.X[(a.Rows-1)*a.LdX+end], a.Y[(a.Rows-1)*a.LdY+end]
	_, _ = a.W[(a.Width-1)*a.Channels+end], a.State[(a.Width-2)*a.Channels+end]
	s := k.free.get()
	s.conv = convArgs{
		x: ptr(a.X[lo:]), y: ptr(a.Y[lo:]), w: ptr(a.W[lo:]), s: ptr(a.State[lo:]), ldx: a.LdX, ldy: a.LdY,
		channels: a.Channels, rows: a.Rows, n: n, width: a.Width,
	}
	if a.B != nil {
		s.conv.b = ptr(a.B[lo : end+1])
	}
	k.Set.Conv(unsafe.Pointer(&s.conv))
	k.free.put(s)
	if lo+n < hi {
		k.Portable.Conv(a, lo+n, hi)
	}
}

// Scan computes heads [lo, hi).
func (k *Kernels) Scan(a *kernel.ScanArgs, lo, hi int) {
	if k.Set.Scan == nil || a.PerState || a.States%16 != 0 || a.HeadDim%4 != 0 || a.Rows < 1 {
		k.Portable.Scan(a, lo, hi)
		return
	}
	n, p, last := a.States, a.HeadDim, a.Rows-1
	s := k.free.get()
	defer k.free.put(s)
	for h := lo; h < hi; h++ {
		g := h * a.Groups / a.Heads
		state := a.State[h*p*n : (h+1)*p*n]
		_, _ = a.X[last*a.LdX+(h+1)*p-1], a.Y[last*a.LdY+(h+1)*p-1]
		_, _, _ = a.B[last*a.LdBC+(g+1)*n-1], a.C[last*a.LdBC+(g+1)*n-1], a.DT[last*a.LdDT+h]
		for t := 0; t < a.Rows; t += len(s.decay) {
			rows := min(len(s.decay), a.Rows-t)
			for i := range rows {
				s.decay[i] = kernel.Exp(float32(a.DT[(t+i)*a.LdDT+h] * a.A[h]))
			}
			s.scan = scanArgs{
				s: ptr(state), x: ptr(a.X[t*a.LdX+h*p:]), y: ptr(a.Y[t*a.LdY+h*p:]), b: ptr(a.B[t*a.LdBC+g*n:]), c: ptr(a.C[t*a.LdBC+g*n:]),
				e: ptr(s.decay[:]), dt: ptr(a.DT[t*a.LdDT+h:]), ldx: a.LdX, ldy: a.LdY, ldbc: a.LdBC, lddt: a.LdDT, rows: rows, dim: p, states: n,
			}
			if a.D != nil {
				s.scan.d = ptr(a.D[h:])
			}
			k.Set.Scan(unsafe.Pointer(&s.scan))
		}
	}
}

// Delta computes value heads [lo, hi).
func (k *Kernels) Delta(a *kernel.DeltaArgs, lo, hi int) {
	if k.Set.Delta == nil || a.PerChannel || a.Beta == nil || a.ValueDim%16 != 0 || a.Rows < 1 {
		k.Portable.Delta(a, lo, hi)
		return
	}
	kd, vd, last := a.KeyDim, a.ValueDim, a.Rows-1
	s := k.free.get()
	defer k.free.put(s)
	for h := lo; h < hi; h++ {
		kh := a.KeyHead(h)
		state := a.State[h*kd*vd : (h+1)*kd*vd]
		_, _ = a.Q[last*a.LdQ+(kh+1)*kd-1], a.K[last*a.LdK+(kh+1)*kd-1]
		_, _ = a.V[last*a.LdV+(h+1)*vd-1], a.Y[last*a.LdY+(h+1)*vd-1]
		_, _ = a.Beta[last*a.LdBeta+h], a.Decay[last*a.LdDecay+h]
		for t := 0; t < a.Rows; t += len(s.decay) {
			n := min(len(s.decay), a.Rows-t)
			for i := range n {
				s.decay[i] = kernel.Exp(a.Decay[(t+i)*a.LdDecay+h])
			}
			s.delta = deltaArgs{
				s: ptr(state), q: ptr(a.Q[t*a.LdQ+kh*kd:]), k: ptr(a.K[t*a.LdK+kh*kd:]), v: ptr(a.V[t*a.LdV+h*vd:]), y: ptr(a.Y[t*a.LdY+h*vd:]),
				e: ptr(s.decay[:]), beta: ptr(a.Beta[t*a.LdBeta+h:]), ldq: a.LdQ, ldk: a.LdK, ldv: a.LdV, ldy: a.LdY, ldbeta: a.LdBeta,
				rows: n, keys: kd, values: vd,
			}
			k.Set.Delta(unsafe.Pointer(&s.delta))
		}
	}
}
