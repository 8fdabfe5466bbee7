package lora_test

import (
	"encoding/binary"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edged/core/model/lora"
	"edged/core/model/safetensors"
	"edged/test/oracle"
)

// TestStateFamilies: a PEFT adapter of the linear modules of a model with scans, under the names that its folder has, opens, and changes the
// matrices that are made of them.
func TestStateFamilies(t *testing.T) {
	for family, c := range map[string]struct{ modules, want string }{
		"mamba2": {
			"backbone.layers.0.mixer.in_proj backbone.layers.1.mixer.out_proj",
			"blk.0.ssm_in.weight blk.1.ssm_out.weight",
		},
		"mamba": {
			"backbone.layers.0.mixer.in_proj backbone.layers.0.mixer.x_proj backbone.layers.0.mixer.dt_proj backbone.layers.1.mixer.out_proj",
			"blk.0.ssm_dt.weight blk.0.ssm_in.weight blk.0.ssm_x.weight blk.1.ssm_out.weight",
		},
		"granitemoehybrid": { // without experts, whose only network is called the one beside them
			"model.layers.0.mamba.in_proj model.layers.0.shared_mlp.input_linear model.layers.0.shared_mlp.output_linear model.layers.1.self_attn.q_proj",
			"blk.0.ffn_down.weight blk.0.ffn_gate.weight blk.0.ffn_up.weight blk.0.ssm_in.weight blk.1.attn_q.weight",
		},
		"falcon_h1": {
			"model.layers.0.mamba.out_proj model.layers.0.self_attn.v_proj model.layers.1.feed_forward.gate_proj",
			"blk.0.attn_v.weight blk.0.ssm_out.weight blk.1.ffn_gate.weight",
		},
		"nemotron_h": {
			"backbone.layers.0.mixer.in_proj backbone.layers.1.mixer.up_proj backbone.layers.2.mixer.o_proj backbone.layers.3.mixer.shared_experts.down_proj",
			"blk.0.ssm_in.weight blk.1.ffn_up.weight blk.2.attn_output.weight blk.3.ffn_down_shexp.weight",
		},
		"jamba": {
			"model.layers.0.mamba.x_proj model.layers.0.feed_forward.down_proj model.layers.1.self_attn.k_proj",
			"blk.0.ffn_down.weight blk.0.ssm_x.weight blk.1.attn_k.weight",
		},
	} {
		t.Run(family, func(t *testing.T) {
			folder := filepath.Join(oracle.Repo(t), "core/infer/transformer/testdata/families", family)
			f, err := safetensors.OpenFile(filepath.Join(folder, "model.safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			const rank = 2
			var tensors []safetensors.Tensor
			add := func(name string, shape ...int64) {
				data := make([]byte, 4*shape[0]*shape[1])
				for i := range len(data) / 4 {
					binary.LittleEndian.PutUint32(data[4*i:], math.Float32bits(float32(i%7)/8))
				}
				tensors = append(tensors, safetensors.Tensor{Name: name, DType: safetensors.F32, Shape: shape, Data: data})
			}
			for module := range strings.FieldsSeq(c.modules) {
				i := slices.IndexFunc(f.Tensors(), func(x safetensors.Tensor) bool { return x.Name == module+".weight" })
				if i < 0 {
					t.Fatalf("the folder has no %s", module)
				}
				shape := f.Tensors()[i].Shape
				add("base_model.model."+module+".lora_A.weight", rank, shape[1])
				add("base_model.model."+module+".lora_B.weight", shape[0], rank)
			}
			dir := t.TempDir()
			write(t, filepath.Join(dir, "adapter_config.json"), []byte(`{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": "all-linear"}`))
			if err := safetensors.WriteFile(filepath.Join(dir, "adapter_model.safetensors"), tensors, nil); err != nil {
				t.Fatal(err)
			}
			a, err := lora.Open(dir, open(t, folder))
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			if family == "falcon_h1" { // whose GGUF file has other matrices
				const want = "it was made for a folder of falcon_h1, and llama.cpp's converter multiplies factors of the configuration into the matrices of a GGUF file: serve it with a model in a folder"
				if _, err := lora.Open(dir, open(t, filepath.Join(folder, "falcon_h1.gguf"))); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("on the GGUF file: %v", err)
				}
			}
			if got := strings.Join(slices.Sorted(maps.Keys(a.Mods)), " "); got != c.want {
				t.Errorf("it changes %s, want %s", got, c.want)
			}
		})
	}
}
