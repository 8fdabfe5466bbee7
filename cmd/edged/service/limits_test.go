package service

import (
	"strings"
	"testing"

	"edged/core/protocol/backend"
)

func TestSystemdLimits(t *testing.T) {
	p := backend.MemoryPlan{Weights: 700 << 20, KV: 250 << 20, Scratch: 20 << 20, Adapters: 40 << 20, Total: 1010 << 20}
	want := "[Service]\nMemoryLow=1024M\nMemoryMax=1344M\nMemorySwapMax=0\n"
	if got := systemdLimits("/srv/models/m.gguf", p); !strings.HasSuffix(got, want) || !strings.Contains(got, "# For m.gguf: weights 700.0 MiB") {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
