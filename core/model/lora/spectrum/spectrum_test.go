package spectrum_test

import (
	"math"
	"testing"

	"edged/core/model/lora/spectrum"
)

// TestFourier holds the fast transform to the sum that defines it, for sides of all kinds of factors.
func TestFourier(t *testing.T) {
	for _, side := range [][2]int{{1, 1}, {8, 4}, {6, 10}, {7, 13}, {1, 30}, {64, 9}} {
		rows, cols := side[0], side[1]
		place, value := []int{0, rows*cols - 1, rows * cols / 2}, []float32{1, -2, 0.5}
		got := make([]float32, rows*cols)
		spectrum.Fourier(got, rows, cols, place, value, 3)
		for r := range rows {
			for c := range cols {
				want := 0.0
				for i, p := range place {
					want += float64(value[i]) * math.Cos(2*math.Pi*(float64(p/cols*r)/float64(rows)+float64(p%cols*c)/float64(cols)))
				}
				want *= 3 / float64(rows*cols)
				if d := math.Abs(float64(got[r*cols+c]) - want); !(d < 1e-6) {
					t.Fatalf("(%d, %d): value (%d, %d) is %g, want %g", rows, cols, r, c, got[r*cols+c], want)
				}
			}
		}
	}
}

// TestHaar holds one coefficient of each quarter to what PEFT 0.21.2's waverec2d makes of it.
func TestHaar(t *testing.T) {
	for i, want := range [][4]float32{{.5, .5, .5, .5}, {.5, .5, -.5, -.5}, {.5, -.5, .5, -.5}, {.5, -.5, -.5, .5}} {
		got := make([]float32, 16)
		spectrum.Haar(got, 4, 4, []int{[]int{0, 2, 8, 10}[i]}, []float32{2}, 0.5)
		if g := [4]float32{got[0], got[1], got[4], got[5]}; g != want {
			t.Errorf("quarter %d: %v, want %v", i, g, want)
		}
	}
}
