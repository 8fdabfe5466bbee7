package exactmath

import (
	"math"
	"testing"
)

func TestElementaryFunctions(t *testing.T) {
	rel := func(got, want float64) float64 { return math.Abs(got-want) / max(math.Abs(want), 1e-300) }
	for i := range 200000 {
		x := float64(i)*0.731 - 30000
		if i%3 == 0 {
			x *= 40
		}
		s, c := Sincos(x)
		ws, wc := math.Sincos(x)
		if math.Abs(s-ws) > 3e-16 || math.Abs(c-wc) > 3e-16 {
			t.Fatalf("sincos(%v) = %v, %v; want %v, %v", x, s, c, ws, wc)
		}
		if y := float64(i)*0.007 - 700; rel(Exp(y), math.Exp(y)) > 2e-15 {
			t.Fatalf("exp(%v) = %v, want %v", y, Exp(y), math.Exp(y))
		}
		if y := math.Exp(float64(i)*0.007 - 700); math.Abs(Ln(y)-math.Log(y)) > 4e-16*max(1, math.Abs(math.Log(y))) {
			t.Fatalf("ln(%v) = %v, want %v", y, Ln(y), math.Log(y))
		}
	}
	for _, x := range []float64{math.Inf(1), 710} {
		if Exp(x) != math.Inf(1) {
			t.Errorf("exp(%v) = %v", x, Exp(x))
		}
	}
	if Exp(math.Inf(-1)) != 0 || Exp(-1000) != 0 || !math.IsNaN(Exp(math.NaN())) || Ln(1) != 0 || Exp(0) != 1 {
		t.Error("special values")
	}
}
