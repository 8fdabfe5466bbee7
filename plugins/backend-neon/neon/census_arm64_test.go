//go:build !purego

package neon

import (
	"testing"

	"edged/quant/kernel/kerneltest"
	"edged/quant/kernel/simd"
)

// TestCensus: every kernel is reached.
func TestCensus(t *testing.T) {
	for _, s := range []simd.Set{base(), dot(), mmla()} {
		t.Run(s.Name, func(t *testing.T) {
			for _, k := range all() {
				if k.Name() == s.Name {
					kerneltest.Census(t, s)
					return
				}
			}
			t.Skip("not on this processor")
		})
	}
}
