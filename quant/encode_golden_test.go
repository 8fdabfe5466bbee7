package quant_test

import (
	"crypto/sha256"
	"encoding/hex"
	"math"
	"testing"

	"edged/quant"
)

// goldenRows makes rows of weights, with zeros, outliers, blocks of one sign and all sizes among them, and importances, from a
// generator that is easily written in any language.
func goldenRows(rows, cols int) (x, importance []float32) {
	state := uint32(2024)
	next := func() float32 {
		state = state*1664525 + 1013904223
		return float32(state >> 24)
	}
	x = make([]float32, rows*cols)
	for i := range x {
		v := (next() + next() + next() + next() - 510) / 4096
		switch kind := i / 32 % 19; {
		case kind == 3:
			v = 0
		case kind == 7 && i%16 == 5:
			v *= 32
		case kind == 11:
			v = (v + 0.125) / 8
		case kind == 12:
			v = (v - 0.125) / 8
		case kind == 14 && i%4 != 0:
			v = 0
		}
		x[i] = v * float32(math.Ldexp(1, i/cols%6-3))
	}
	importance = make([]float32, cols)
	for i := range importance {
		v := next()
		importance[i] = (v*v + 16) / 1024
	}
	return x, importance
}

// TestEncodeAsLlamaQuantize holds the bytes to those of ggml's quantize_*: ggml-quants.c of llama.cpp 0.5.0-dev, as in
// llama-cpp-python 0.3.36, built with gcc 12 -O3 for x86-64, on goldenRows(12, 1024), without and with importance.
func TestEncodeAsLlamaQuantize(t *testing.T) {
	const rows, cols = 12, 1024
	x, importance := goldenRows(rows, cols)
	for _, c := range []struct {
		f     quant.Format
		plain string
		imp   string
	}{
		{quant.Q8_0, "3ef70cc01857d880", "3ef70cc01857d880"},
		{quant.Q4_0, "bef5364236f6dfa3", "9859189d356223b7"},
		{quant.Q4_1, "346c23e07dff46d5", "f227797af3c215a4"},
		{quant.Q5_0, "c3e6812397e8e09c", "ce4fffe3f0e2d00a"},
		{quant.Q5_1, "625e994fc4122615", "fccad619e1160c39"},
		{quant.Q2_K, "a552ecafe4f19750", "fec3345a8cc89b83"},
		{quant.Q3_K, "b59bd589d4c683fd", "7471ba2f28db0313"},
		{quant.Q4_K, "e343a938cd5ac359", "23e6766dc7e95453"},
		{quant.Q5_K, "e57fbb9fd5993cd2", "8e4c21bd6547e779"},
		{quant.Q6_K, "88e9497aea67d79f", "a17f0d7a39599c00"},
		{quant.IQ4_NL, "06164cc4b8dc561e", "5d7f679325f134d2"},
		{quant.IQ4_XS, "8e40429577a7f0c8", "33db2c042b0793f7"},
		{quant.MXFP4, "2ad0abe7c328c74b", "2ad0abe7c328c74b"},
		{quant.NVFP4, "27ce3bef14031dc6", "27ce3bef14031dc6"},
		{quant.TQ1_0, "386a02ae39f08dff", "386a02ae39f08dff"},
		{quant.TQ2_0, "385e32bb520dc69a", "385e32bb520dc69a"},
		{quant.Q1_0, "ac29625d33ed2bfc", "ac29625d33ed2bfc"},
		{quant.Q2_0, "8fac6e1fa4114422", "8fac6e1fa4114422"},
	} {
		for _, imp := range [][]float32{nil, importance} {
			want := c.plain
			if imp != nil {
				want = c.imp
			}
			n := c.f.RowBytes(cols)
			out := make([]byte, rows*n)
			for r := range rows {
				if err := quant.EncodeRow(c.f, out[r*n:(r+1)*n], x[r*cols:(r+1)*cols], imp); err != nil {
					t.Fatal(err)
				}
			}
			h := sha256.Sum256(out)
			if got := hex.EncodeToString(h[:8]); got != want {
				t.Errorf("%s, importance %v: bytes hash to %s, want %s", c.f, imp != nil, got, want)
			}
		}
	}
}
