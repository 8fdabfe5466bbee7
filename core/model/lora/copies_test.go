package lora_test

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edged/core/model/lora"
	"edged/core/model/weights"
	"edged/quant"
	"edged/test/oracle"
)

// TestBaseCopies: PEFT saves embedding and output head beside their LoRA. Copies of the model's own are passed over, whatever
// type either was rounded to; trained ones are refused.
func TestBaseCopies(t *testing.T) {
	hf := tiny("llama")
	folder := open(t, hf.WriteHF(t)) // BF16
	requantised := open(t, hf.WriteHF(t))
	if err := weights.Requantize(requantised, weights.OutputHead, quant.Q4_0); err != nil {
		t.Fatal(err)
	}
	own := func(name string) []float32 {
		m := folder.Matrix(name)
		out := make([]float32, m.Rows*m.Cols)
		quant.Decode(m.Format, out, m.Data)
		return out
	}
	head, embed := own("output.weight"), own("token_embd.weight")
	for _, c := range []struct {
		name string
		base *weights.Model
		edit func(x []float32)
		want string
	}{
		{name: "unchanged", base: folder},
		{name: "of F32, before rounding", base: folder, edit: func(x []float32) { x[70] *= 1.0001 }},
		{name: "one value", base: folder, edit: func(x []float32) { x[70] *= 1.02 }, want: "differs from the model's own in row 1"},
		{name: "NaN", base: folder, edit: func(x []float32) { x[0] = float32(math.NaN()) }, want: "row 0 (NaN"},
		{name: "of a quantised one", base: requantised},
		{name: "NaN beside a quantised one", base: requantised, edit: func(x []float32) { x[0] = float32(math.NaN()) }, want: "differs from the model's own by NaN"},
		{name: "another beside a quantised one", base: requantised, edit: slices.Reverse[[]float32], want: "differs from the model's own by 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := tinyLoRA()
			a.embedding(4, tinyVocab, tinyWidth)
			a.module("lm_head", 4, tinyVocab, tinyWidth)
			a.config["target_modules"] = []string{"q_proj", "down_proj", "embed_tokens", "lm_head"}
			edited := slices.Clone(head)
			if c.edit != nil {
				c.edit(edited)
			}
			a.tensors[pre+"lm_head.base_layer.weight"] = []int64{tinyVocab, tinyWidth}
			a.values[pre+"lm_head.base_layer.weight"] = floats32(edited...)
			a.tensors[pre+"model.embed_tokens.weight"] = []int64{tinyVocab, tinyWidth}
			a.values[pre+"model.embed_tokens.weight"] = floats32(embed...)
			got, err := lora.Open(a.write(t), c.base)
			if c.want != "" {
				if !errors.Is(err, lora.ErrUnsupported) || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("%v, want %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer got.Close()
			if len(got.Mods) != 5 || got.Embed == nil || len(got.Notes) != 2 || !noted(got, "lm_head.base_layer.weight is passed over") {
				t.Errorf("%d modules, notes %q", len(got.Mods), got.Notes)
			}
		})
	}
}

// TestAdaptersAsPEFTWrites opens what PEFT wrote, and the same without what it need not have written.
func TestAdaptersAsPEFTWrites(t *testing.T) {
	for _, file := range []string{"hf", "llama-tied-F16.gguf", "llama-tied-Q8_0.gguf", "llama-tied-Q4_0.gguf", "llama-tied-Q2_K.gguf"} {
		base := open(t, filepath.Join(oracle.Dir(t), "models/llama-tied", file))
		for _, kind := range []string{"head", "embed"} {
			written, err := lora.Open(filepath.Join(oracle.Cases(t), "A1", kind+"-as-peft-writes"), base)
			if err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			defer written.Close()
			plain, err := lora.Open(filepath.Join(oracle.Cases(t), "A1", kind+"-plain"), base)
			if err != nil {
				t.Fatal(err)
			}
			defer plain.Close()
			if diff := cmp.Diff(plain.Mods, written.Mods); diff != "" || !cmp.Equal(plain.Embed, written.Embed) || len(written.Notes) != 1 {
				t.Errorf("%s: %s: notes %q, modules %s", file, kind, written.Notes, diff)
			}
		}
	}
}

// TestTargetsBeyondTheModel opens an adapter whose target_modules names what no module is called.
func TestTargetsBeyondTheModel(t *testing.T) {
	dir := t.TempDir()
	read := func(path ...string) []byte {
		data, err := os.ReadFile(filepath.Join(path...))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	write(t, filepath.Join(dir, "adapter_config.json"), read(oracle.Cases(t), "A2", "adapter_config.json"))
	write(t, filepath.Join(dir, "adapter_model.safetensors"), read(oracle.Demo(t), "adapters/pirate/adapter_model.safetensors"))
	a, err := lora.Open(dir, open(t, filepath.Join(oracle.Demo(t), "hf-nf4")))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if !noted(a, `"query_key_value"`) {
		t.Errorf("notes %q", a.Notes)
	}
}
