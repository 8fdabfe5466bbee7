package neon_test

import (
	"testing"

	"edged/plugins/backend-neon/neon"
	"edged/quant/kernel/kerneltest"
)

// TestConformance runs every implementation that this processor has.
func TestConformance(t *testing.T) {
	for _, k := range neon.All() {
		t.Run(k.Name(), func(t *testing.T) { kerneltest.Run(t, k) })
	}
}

func BenchmarkKernels(b *testing.B) {
	for _, k := range neon.All() {
		b.Run(k.Name(), func(b *testing.B) { kerneltest.Bench(b, k) })
	}
}
