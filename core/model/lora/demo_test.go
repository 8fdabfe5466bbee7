package lora_test

import (
	"path/filepath"
	"testing"

	"edged/core/model/lora"
	"edged/test/oracle"
)

// TestDemo opens every shipped adapter on the shipped model in both containers.
func TestDemo(t *testing.T) {
	demo := filepath.Join(oracle.Repo(t), "demo")
	adapters, err := filepath.Glob(filepath.Join(demo, "adapters", "*"))
	if err != nil || len(adapters) == 0 {
		t.Fatal(err, len(adapters))
	}
	for _, path := range []string{"hf-nf4", "gguf/hearth-4m-q4_0.gguf"} {
		m := open(t, filepath.Join(demo, path))
		for _, a := range adapters {
			got, err := lora.Open(a, m)
			if err != nil {
				t.Error(err)
				continue
			}
			if len(got.Mods) != 42 || got.Rank != 8 || got.Mods["blk.0.attn_q.weight"].Scale != 2 {
				t.Errorf("%s: %d modules of rank %d", a, len(got.Mods), got.Rank)
			}
			if err := got.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
