package quant

import "math"

// The searches by which llama.cpp's quantiser finds scales. They are followed operation by operation, each
// product and sum rounded to float32 in the order in which an x86-64 build rounds them, so that the same
// weights give the same bytes here, there and on every processor: a search that stops at another candidate
// after a last bit of difference gives other bytes.

// tinyBlock is a threshold (GROUP_MAX_EPS): a block whose largest magnitude is below it is encoded as zeros.
const tinyBlock = 1e-15

// nearest rounds to the nearest even integer; |x| is below 2²². (A float32 near 3·2²² has integers for its
// last places.)
func nearest(x float32) int32 {
	// The conversion keeps arm64 from adding unrounded products.
	return int32(math.Float32bits(float32(x)+roundMagic)&0x007fffff) - 0x00400000
}

const roundMagic = 12582912

// rounded is nearest within [low, high], as a float. (Branches that hardly ever go one way are cheaper here
// than min and max, which must think of NaN, and there is no conversion from integers.)
func rounded(x, low, high float32) float32 {
	l := float32(x) + roundMagic - roundMagic
	if l < low {
		return low
	}
	if l > high {
		return high
	}
	return l
}

// largest returns the value of the largest magnitude, the first of several, and that magnitude.
func largest(x []float32) (value, magnitude float32) {
	for _, v := range x {
		if a := float32(math.Abs(float64(v))); a > magnitude {
			magnitude, value = a, v
		}
	}
	return value, magnitude
}

// fitSymmetric finds a scale for x[i] ≈ scale·(q[i]-n), q in [0, 2n), that makes the error weighted by w
// small (nil: by x²): 19 scales about the one that puts the largest value at the end of the range, and for
// each the least-squares scale of the codes that it gives.
func fitSymmetric(q []uint8, x, w []float32, n int32) float32 {
	top, magnitude := largest(x)
	if magnitude < tinyBlock {
		clear(q)
		return 0
	}
	if w != nil {
		w = w[:len(x)]
	}
	low, high := -float32(n), float32(n-1)
	var scale, best float32
	for try := range int32(19) {
		step := try // 0, -9 … -1, 1 … 9
		switch {
		case try == 0:
		case try <= 9:
			step = try - 10
		default:
			step = try - 9
		}
		inv := -(float32(n) + float32(0.1*float32(step))) / top
		if try == 0 {
			inv = -float32(n) / top
		}
		var xl, ll float32
		for i, v := range x {
			l := rounded(inv*v, low, high)
			weight := float32(v * v)
			if w != nil {
				weight = w[i]
			}
			xl += float32(float32(weight*v) * l)
			ll += float32(float32(weight*l) * l)
		}
		switch {
		case try == 0:
			if ll != 0 {
				scale = xl / ll
			}
			best = scale * xl
		case ll > 0 && float32(xl*xl) > float32(best*ll):
			scale = xl / ll
			best = scale * xl
		default:
			continue
		}
		for i, v := range x {
			q[i] = uint8(n + max(-n, min(n-1, nearest(inv*v))))
		}
	}
	return scale
}

// fitSymmetricStepwise is fitSymmetric with weights x², by another search: from the plain codes on, each code
// is moved to where the others' least-squares scale would put it, five times over or until nothing moves.
func fitSymmetricStepwise(q []uint8, x []float32, n int32) float32 {
	top, magnitude := largest(x)
	if magnitude < tinyBlock {
		clear(q)
		return 0
	}
	var l [16]int32
	inv := -float32(n) / top
	var xl, ll float32
	for i, v := range x {
		l[i] = max(-n, min(n-1, nearest(inv*v)))
		w := float32(v * v)
		xl += float32(float32(w*v) * float32(l[i]))
		ll += float32(float32(w*float32(l[i])) * float32(l[i]))
	}
	for range 5 {
		moved := false
		for i, v := range x {
			w := float32(v * v)
			old := float32(l[i])
			sx := xl - float32(float32(w*v)*old)
			if !(sx > 0) {
				continue
			}
			sl := ll - float32(float32(w*old)*old)
			to := max(-n, min(n-1, nearest(float32(v*sl)/sx)))
			if to == l[i] {
				continue
			}
			sx += float32(float32(w*v) * float32(to))
			sl += float32(float32(w*float32(to)) * float32(to))
			if sl > 0 && float32(float32(sx*sx)*ll) > float32(float32(xl*xl)*sl) {
				l[i], xl, ll, moved = to, sx, sl, true
			}
		}
		if !moved {
			break
		}
	}
	for i := range x {
		q[i] = uint8(l[i] + n)
	}
	if ll > 0 {
		return xl / ll
	}
	return 0
}

// An offsetSearch says which scales fitOffset tries: those that spread the range over n + from + k·step
// codes, k = 0 … steps.
type offsetSearch struct {
	n          int32
	from, step float32
	steps      int32
	absolute   bool // the error is Σ w·|Δ|, not Σ w·Δ²
}

// fitOffset finds scale and minimum for x[i] ≈ scale·q[i] - minimum, q in [0, n], minimum ≥ 0, that make the
// error weighted by w small: for each of the scales of s, the least-squares scale and offset of the codes
// that it gives.
func fitOffset(q []uint8, x, w []float32, s offsetSearch) (scale, minimum float32) {
	low, high := x[0], x[0]
	sumW := w[0]
	sumX := float32(sumW * x[0])
	for i := 1; i < len(x); i++ {
		v := x[i]
		low, high = min(low, v), max(high, v)
		sumW += w[i]
		sumX += float32(w[i] * v)
	}
	low = min(low, 0)
	if high == low {
		clear(q)
		return 0, -low
	}
	inv := float32(s.n) / (high - low)
	scale = 1 / inv
	var best float32
	for i, v := range x {
		l := max(0, min(s.n, nearest(inv*(v-low))))
		q[i] = uint8(l)
		best += float32(w[i] * s.distance(float32(scale*float32(l))+low-v))
	}
	var codes [32]float32
	try, n := codes[:len(x)], float32(s.n)
	w = w[:len(x)]
	for k := int32(0); k <= s.steps; k++ {
		// From the minimum that is the best so far.
		inv := (s.from + float32(s.step*float32(k)) + n) / (high - low)
		var sumL, sumLL, sumXL float32
		for i, v := range x {
			l := rounded(inv*(v-low), 0, n)
			try[i] = l
			wl := float32(w[i] * l)
			sumL += wl
			sumLL += float32(wl * l)
			sumXL += float32(wl * v)
		}
		d := float32(sumW*sumLL) - float32(sumL*sumL)
		if !(d > 0) {
			continue
		}
		newScale := (float32(sumW*sumXL) - float32(sumX*sumL)) / d
		newLow := (float32(sumLL*sumX) - float32(sumL*sumXL)) / d
		if newLow > 0 {
			newLow = 0
			newScale = sumXL / sumLL
		}
		var e float32
		if s.absolute {
			for i, v := range x {
				e += float32(w[i] * abs(float32(newScale*try[i])+newLow-v))
			}
		} else {
			for i, v := range x {
				d := float32(newScale*try[i]) + newLow - v
				e += float32(w[i] * float32(d*d))
			}
		}
		if e < best {
			for i, l := range try {
				q[i] = uint8(l)
			}
			best, scale, low = e, newScale, newLow
		}
	}
	return scale, -low
}

// distance is the error of one value.
func (s *offsetSearch) distance(d float32) float32 {
	if s.absolute {
		return float32(math.Abs(float64(d)))
	}
	return float32(d * d)
}

// fitPositive finds a scale for x[i] ≈ scale·q[i], x ≥ 0, q in [0, n], that makes the squared error weighted
// by w small: nine scales, and then the steps of fitSymmetricStepwise.
func fitPositive(q []uint8, x, w []float32, n int32) float32 {
	var top float32
	for _, v := range x {
		top = max(top, v)
	}
	if top < tinyBlock {
		clear(q)
		return 0
	}
	inv := float32(n) / top
	scale := 1 / inv
	var best float32
	for i, v := range x {
		d := v - float32(scale*float32(uint8(nearest(inv*v))))
		best += float32(float32(w[i]*d) * d)
	}
	for step := int32(-4); step <= 4; step++ {
		if step == 0 {
			continue
		}
		tryInv := (float32(0.1*float32(step)) + float32(n)) / top
		tryScale := 1 / tryInv
		var e float32
		for i, v := range x {
			d := v - float32(tryScale*float32(min(n, nearest(tryInv*v))))
			e += float32(float32(w[i]*d) * d)
		}
		if e < best {
			best, inv = e, tryInv
		}
	}
	var xl, ll float32
	for i, v := range x {
		l := min(n, nearest(inv*v))
		q[i] = uint8(l)
		xl += float32(float32(w[i]*v) * float32(l))
		ll += float32(float32(w[i]*float32(l)) * float32(l))
	}
	for range 5 {
		moved := false
		for i, v := range x {
			old := float32(q[i])
			sx := xl - float32(float32(w[i]*v)*old)
			sl := ll - float32(float32(w[i]*old)*old)
			if !(sx > 0 && sl > 0) {
				continue
			}
			to := min(n, nearest(float32(v*sl)/sx))
			if to == int32(q[i]) {
				continue
			}
			sx += float32(float32(w[i]*v) * float32(to))
			sl += float32(float32(w[i]*float32(to)) * float32(to))
			if float32(float32(sx*sx)*ll) > float32(float32(xl*xl)*sl) {
				q[i], xl, ll, moved = uint8(to), sx, sl, true
			}
		}
		if !moved {
			break
		}
	}
	if ll > 0 {
		return xl / ll
	}
	return 0
}

// spread weighs x by its importance and its size among its neighbours': imp·√(sigma2 + x²).
func spread(w, x, importance []float32, sigma2 float32) {
	for i, v := range x {
		w[i] = float32(importance[i] * root(sigma2+float32(v*v)))
	}
}

func root(x float32) float32 { return float32(math.Sqrt(float64(x))) }

// squares is Σ x², added up one by one.
func squares(x []float32) float32 {
	var s float32
	for _, v := range x {
		s += float32(v * v)
	}
	return s
}

func sum(x []float32) float32 {
	var s float32
	for _, v := range x {
		s += v
	}
	return s
}
