package transformer

import (
	"testing"

	"edged/quant"
)

// Memory is a model of random weights, for tests outside the package.
type Memory struct{ s *memory }

// NewMemory makes one of the given architecture, its matrices stored in format f.
func NewMemory(tb testing.TB, arch string, f quant.Format, change func(h *Hyper)) Memory {
	tb.Helper()
	h := tiny(arch)
	if change != nil {
		change(&h)
	}
	s := newMemory(arch, h)
	if f != quant.F32 {
		s.encode(tb, f)
	}
	return Memory{s}
}

// Open makes a Model of it.
func (m Memory) Open(tb testing.TB, o Options) *Model {
	tb.Helper()
	return m.s.open(tb, o)
}

// Shapes are those of all linear layers.
func (m Memory) Shapes() map[string][2]int {
	shapes := map[string][2]int{}
	for name, w := range m.s.m {
		if name != "token_embd.weight" && name != "position_embd.weight" {
			shapes[name] = [2]int{w.Rows, w.Cols}
		}
	}
	return shapes
}
