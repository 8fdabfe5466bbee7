package x86_test

import (
	"testing"

	"edged/plugins/backend-generic/x86"
	"edged/quant/kernel"
	"edged/quant/kernel/kerneltest"
)

// TestConformance runs every implementation that this processor has.
func TestConformance(t *testing.T) {
	for _, k := range x86.All() {
		if k.Name() != (kernel.Portable{}).Name() { // that one has its test in quant/kernel
			t.Run(k.Name(), func(t *testing.T) { kerneltest.Run(t, k) })
		}
	}
}

func BenchmarkKernels(b *testing.B) {
	for _, k := range x86.All() {
		b.Run(k.Name(), func(b *testing.B) { kerneltest.Bench(b, k) })
	}
}
