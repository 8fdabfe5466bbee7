package parts

// Accumulate adds d to x.
func Accumulate(x, d []float32) {
	d = d[:len(x)]
	for i := range x {
		x[i] += d[i]
	}
}

// AccumulateScaled adds f·d to x; the product is rounded first, so that no architecture fuses it.
func AccumulateScaled(x, d []float32, f float32) {
	d = d[:len(x)]
	for i := range x {
		x[i] += float32(f * d[i])
	}
}

// Scale multiplies x by f.
func Scale(x []float32, f float32) {
	if f == 1 {
		return
	}
	for i := range x {
		x[i] *= f
	}
}

// AccumulateDifference adds f·(a - b) to x.
func AccumulateDifference(x, a, b []float32, f float32) {
	for i := range x {
		x[i] += float32(f * (a[i] - b[i]))
	}
}

// Factor is a factor of a Spec, where 0 stands for 1.
func Factor(f float32) float32 {
	if f == 0 {
		return 1
	}
	return f
}
