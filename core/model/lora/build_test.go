package lora_test

import (
	"encoding/json"
	"os"
	"testing"

	"edged/core/model/weights"
	"edged/core/model/weights/weightstest"
	"edged/quant"
)

const (
	tinyWidth, tinyFFN, tinyVocab, tinyLayers   = weightstest.Width, weightstest.FFN, weightstest.Vocab, weightstest.Layers
	tinyHeads, tinyKV, tinyHeadDim, tinyContext = weightstest.Heads, weightstest.KV, weightstest.HeadDim, weightstest.Context
)

func tiny(arch string) *weightstest.Model { return weightstest.Tiny(arch) }

func tinyGPT2() *weightstest.Model { return weightstest.TinyGPT2() }

func open(tb testing.TB, path string) *weights.Model {
	tb.Helper()
	m, err := weights.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := m.Close(); err != nil {
			tb.Error(err)
		}
		if err := m.Close(); err != nil {
			tb.Error("second close:", err)
		}
	})
	return m
}

func write(tb testing.TB, path string, data []byte) {
	tb.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		tb.Fatal(err)
	}
}

func read(tb testing.TB, path string) []byte {
	tb.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

func decode(m *quant.Matrix) []float32 {
	out := make([]float32, m.Rows*m.Cols)
	for r := range m.Rows {
		quant.Row(out[r*m.Cols:], m, r)
	}
	return out
}

func equal(a, b []float32) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
