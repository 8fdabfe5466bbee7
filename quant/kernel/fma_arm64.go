package kernel

// fma32 is a·b + c rounded once. The compiler fuses this expression on arm64 (FMADDS); TestFMA fails if it ever stops
// doing so, since nothing but the language's permission makes it.
func fma32(a, b, c float32) float32 { return a*b + c }

// dotLanes adds w·x to 16 lanes; both have the same length, a multiple of 16.
func dotLanes(l *[16]float32, w, x []float32) {
	for len(w) >= 16 && len(x) >= 16 {
		a, b := (*[16]float32)(w), (*[16]float32)(x)
		l[0] = fma32(a[0], b[0], l[0])
		l[1] = fma32(a[1], b[1], l[1])
		l[2] = fma32(a[2], b[2], l[2])
		l[3] = fma32(a[3], b[3], l[3])
		l[4] = fma32(a[4], b[4], l[4])
		l[5] = fma32(a[5], b[5], l[5])
		l[6] = fma32(a[6], b[6], l[6])
		l[7] = fma32(a[7], b[7], l[7])
		l[8] = fma32(a[8], b[8], l[8])
		l[9] = fma32(a[9], b[9], l[9])
		l[10] = fma32(a[10], b[10], l[10])
		l[11] = fma32(a[11], b[11], l[11])
		l[12] = fma32(a[12], b[12], l[12])
		l[13] = fma32(a[13], b[13], l[13])
		l[14] = fma32(a[14], b[14], l[14])
		l[15] = fma32(a[15], b[15], l[15])
		w, x = w[16:], x[16:]
	}
}

// axpy sets y = fma(a, x, y).
func axpy(y []float32, a float32, x []float32) {
	x = x[:len(y)]
	for i := range y {
		y[i] = fma32(a, x[i], y[i])
	}
}
