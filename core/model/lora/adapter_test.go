package lora_test

import (
	"path/filepath"
	"testing"

	"edged/core/model/digest"
	"edged/core/model/lora"
	"edged/core/model/weights"
	"edged/test/oracle"
)

// TestAdapterOracles opens each adapter in both containers on both kinds of base. All four must give the same numbers in
// the order of their base's rows.
func TestAdapterOracles(t *testing.T) {
	dir := oracle.Dir(t)
	for _, c := range []struct {
		base, adapter string
		mods          int
	}{
		{"llama-tied", "loraA", 14},
		{"llama-tied", "loraB-rs", 14},
		{"qwen2", "loraA", 14},
		{"qwen2", "loraB-attn", 4},
	} {
		t.Run(c.base+"/"+c.adapter, func(t *testing.T) {
			for _, base := range []string{"hf", c.base + "-Q4_0.gguf"} {
				m, err := weights.Open(filepath.Join(dir, "models", c.base, base))
				if err != nil {
					t.Fatal(err)
				}
				defer m.Close()
				peft, err := lora.Open(filepath.Join(dir, "lora", c.base, c.adapter), m)
				if err != nil {
					t.Fatal(err)
				}
				defer peft.Close()
				gg, err := lora.Open(filepath.Join(dir, "lora", c.base, c.adapter+".gguf"), m)
				if err != nil {
					t.Fatal(err)
				}
				defer gg.Close()
				if len(peft.Mods) != c.mods || len(gg.Mods) != c.mods || peft.Rank != gg.Rank || peft.Bytes != gg.Bytes {
					t.Errorf("%s: %d and %d modules, rank %d and %d, %d and %d bytes", base, len(peft.Mods), len(gg.Mods), peft.Rank, gg.Rank, peft.Bytes, gg.Bytes)
				}
				if a, b := mustJSON(t, peft.Targets), mustJSON(t, gg.Targets); a != b {
					t.Errorf("%s: targets %s and %s", base, a, b)
				}
				for name, x := range peft.Mods {
					y := gg.Mods[name]
					if y == nil {
						t.Fatalf("%s: %s is only in the PEFT folder", base, name)
					}
					if x.Scale != y.Scale {
						t.Errorf("%s: %s: scales %v and %v", base, name, x.Scale, y.Scale)
					}
					if !equal(decode(x.A), decode(y.A)) || !equal(decode(x.B), decode(y.B)) {
						t.Errorf("%s: %s: values differ", base, name)
					}
				}
				head, err := lora.ReadHeader(peft.Path)
				if err != nil {
					t.Fatal(err)
				}
				if head.Rank != peft.Rank || head.Bytes != peft.Bytes || head.Modules != c.mods || head.Base == "" {
					t.Errorf("%s: header %+v", base, head)
				}
				for _, a := range []*lora.Adapter{peft, gg} {
					files, err := lora.Files(a.Path)
					if err != nil {
						t.Fatal(err)
					}
					if sum, err := digest.Files(files); err != nil || sum != a.SHA256 || len(sum) != 64 {
						t.Errorf("%s: hash %s, adapter has %s: %v", a.Path, sum, a.SHA256, err)
					}
				}
			}
		})
	}
}
