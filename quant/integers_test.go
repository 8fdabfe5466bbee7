package quant_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"testing"

	"edged/quant"
)

// TestIntegersAsGGML decodes 64 blocks of pseudo-random bytes (with finite scales) and holds the values to the bits that
// ggml's dequantize_row_* gives: ggml-quants.c of llama.cpp 0.5.0-dev, as in llama-cpp-python 0.3.36, built with gcc 12
// -O3; gguf-py 0.19.0 gives the same where it knows the format.
func TestIntegersAsGGML(t *testing.T) {
	for _, c := range []struct {
		f    quant.Format
		top  int // the byte that holds the highest bit of the scale's exponent, which is cleared; -1: none
		want string
	}{
		{quant.IQ1_S, 1, "f697ffb873117e03"},
		{quant.IQ1_M, 55, "6ee10bb27ad3d6aa"},
		{quant.IQ2_XXS, 1, "05b295e9bfe27c81"},
		{quant.IQ2_XS, 1, "d18f202384128802"},
		{quant.IQ2_S, 1, "9921cff6075e5486"},
		{quant.IQ3_XXS, 1, "9a377df7105646e8"},
		{quant.IQ3_S, 1, "e8276600e9fc7cc8"},
		{quant.NVFP4, -1, "793ee3c468a2176f"},
		{quant.TQ1_0, 53, "e7101b25a8b9af05"},
		{quant.TQ2_0, 65, "3651f7415a56d65b"},
		{quant.Q1_0, 1, "ddce74ae46252c95"},
		{quant.Q2_0, 1, "d4515fa718177c16"},
		{quant.Q8_K, 3, "b8693794990ec4de"},
	} {
		b := make([]byte, 64*c.f.BlockBytes())
		x := uint32(12345)
		for i := range b {
			x = x*1664525 + 1013904223
			b[i] = byte(x >> 24)
		}
		for i := 0; c.top >= 0 && i < 64; i++ {
			b[i*c.f.BlockBytes()+c.top] &= 0xbf
		}
		y := make([]float32, 64*c.f.BlockSize())
		quant.Decode(c.f, y, b)
		h := sha256.New()
		if err := binary.Write(h, binary.LittleEndian, y); err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(h.Sum(nil)[:8]); got != c.want {
			t.Errorf("%s: the values hash to %s, want %s; the first are %v", c.f, got, c.want, y[:8])
		}
	}
}

// TestNVFP4Scale checks all 256 bytes against the definition of E4M3.
func TestNVFP4Scale(t *testing.T) {
	for i := range 256 {
		exp, frac := i>>3&15, float64(i&7)
		want := (1 + frac/8) * math.Ldexp(1, exp-7) / 2
		if exp == 0 {
			want = math.Ldexp(frac, -10)
		}
		if i == 0x7f {
			want = 0
		}
		if got := quant.NVFP4Scale(byte(i)); float64(got) != want {
			t.Errorf("%#x: %v, want %v", i, got, want)
		}
	}
}
