package lora_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edged/core/model/gguf"
	"edged/core/model/lora"
	"edged/core/model/weights"
	"edged/core/model/weights/weightstest"
	"edged/quant"
)

// embedding adds an adapter of the token embedding.
func (a *tinyAdapter) embedding(r, tokens, width int64) {
	a.tensors[pre+"model.embed_tokens.lora_embedding_A"] = []int64{r, tokens}
	a.tensors[pre+"model.embed_tokens.lora_embedding_B"] = []int64{width, r}
	a.config["target_modules"] = []string{"q_proj", "down_proj", "embed_tokens"}
}

// tied gives embedding and head one adapter, as ensure_weight_tying saves it; times is what the head's is multiplied by.
func (a *tinyAdapter) tied(times float32) {
	const r = 4
	a.embedding(r, tinyVocab, tinyWidth)
	a.module("lm_head", r, tinyVocab, tinyWidth)
	a.config["ensure_weight_tying"] = true
	turned := func(name, other string, rows, cols int) {
		x, y := make([]float32, rows*cols), make([]float32, rows*cols)
		for i := range rows {
			for j := range cols {
				v := float32(i+1) / float32(j+2)
				x[i*cols+j], y[j*rows+i] = v, v*times
			}
		}
		a.values[pre+name], a.values[pre+other] = floats32(x...), floats32(y...)
	}
	turned("model.embed_tokens.lora_embedding_A", "lm_head.lora_B.weight", r, tinyVocab)
	turned("model.embed_tokens.lora_embedding_B", "lm_head.lora_A.weight", tinyWidth, r)
}

// dora gives all modules magnitudes.
func (a *tinyAdapter) dora(suffix string) {
	a.config["use_dora"] = true
	for n := range tinyLayers {
		a.tensors[fmt.Sprintf("%smodel.layers.%d.self_attn.q_proj.lora_magnitude_vector%s", pre, n, suffix)] = []int64{tinyHeads * tinyHeadDim}
		a.tensors[fmt.Sprintf("%smodel.layers.%d.mlp.down_proj.lora_magnitude_vector%s", pre, n, suffix)] = []int64{tinyWidth}
	}
}

// prompt makes it a soft prompt.
func (a *tinyAdapter) prompt(n, width int64) {
	a.config = map[string]any{
		"peft_type": "PROMPT_TUNING", "num_virtual_tokens": n, "token_dim": width, "num_transformer_submodules": 1, "task_type": "CAUSAL_LM",
		"prompt_tuning_init": "TEXT", "base_model_name_or_path": "somebody/tiny",
	}
	a.tensors = map[string][]int64{"prompt_embeddings": {n, width}}
}

func floats32(values ...float32) []byte {
	var out []byte
	for _, v := range values {
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(v))
	}
	return out
}

// TestKinds opens what is no plain LoRA, and refuses what does not fit.
func TestKinds(t *testing.T) {
	base := open(t, tiny("llama").WriteHF(t))
	tied := tiny("llama")
	tied.Config["tie_word_embeddings"] = true
	delete(tied.Tensors, "lm_head.weight")
	tiedBase := open(t, tied.WriteHF(t))
	const q0 = pre + "model.layers.0.self_attn.q_proj"
	nan := float32(math.NaN())
	for _, c := range []struct {
		name  string
		base  *weights.Model
		edit  func(a *tinyAdapter)
		want  string
		kind  error
		check func(a *lora.Adapter) bool
	}{
		{name: "embedding", edit: func(a *tinyAdapter) { a.embedding(4, tinyVocab, tinyWidth) }, check: func(a *lora.Adapter) bool {
			return a.Kind == lora.KindLoRA && a.Embed.A.Rows == tinyVocab && a.Embed.A.Cols == 4 && a.Embed.B.Rows == tinyWidth && a.Embed.Scale == 2 &&
				cmp.Equal(a.Targets, []string{"down_proj", "embed_tokens", "q_proj"}) && a.Mods["token_embd.weight"] == nil
		}},
		{name: "embedding of rank 2", edit: func(a *tinyAdapter) {
			a.embedding(2, tinyVocab, tinyWidth)
			a.config["rank_pattern"], a.config["alpha_pattern"] = map[string]int{"embed_tokens": 2}, map[string]int{"model.embed_tokens": 3}
		}, check: func(a *lora.Adapter) bool { return a.Embed.Scale == 1.5 && a.Rank == 4 }},
		{name: "embedding and head of a tied model", base: tiedBase, edit: func(a *tinyAdapter) {
			a.embedding(4, tinyVocab, tinyWidth)
			a.module("lm_head", 4, tinyVocab, tinyWidth)
			a.config["target_modules"] = []string{"q_proj", "down_proj", "embed_tokens", "lm_head"}
		}, check: func(a *lora.Adapter) bool { return a.Embed != nil && a.Mods["output.weight"].B.Rows == tinyVocab }},
		{name: "embedding with adapter name", edit: func(a *tinyAdapter) {
			a.embedding(4, tinyVocab, tinyWidth)
			for _, half := range []string{"A", "B"} {
				name := pre + "model.embed_tokens.lora_embedding_" + half
				a.tensors[name+".default"] = a.tensors[name]
				delete(a.tensors, name)
			}
		}, check: func(a *lora.Adapter) bool { return a.Embed != nil }},
		{
			name: "other vocabulary", edit: func(a *tinyAdapter) { a.embedding(4, 50, tinyWidth) },
			want: "module model.embed_tokens: A is (4, 50) and B is (64, 4), but the model's token_embd.weight is (40, 64)", kind: lora.ErrMismatch,
		},
		{name: "half an embedding", edit: func(a *tinyAdapter) {
			a.embedding(4, tinyVocab, tinyWidth)
			delete(a.tensors, pre+"model.embed_tokens.lora_embedding_B")
		}, want: "lora_embedding_A has no B beside it", kind: lora.ErrInvalid},
		{name: "an embedding that is none", edit: func(a *tinyAdapter) {
			a.tensors[pre+"model.layers.0.self_attn.v_proj.lora_embedding_A"] = []int64{4, 64}
			a.tensors[pre+"model.layers.0.self_attn.v_proj.lora_embedding_B"] = []int64{32, 4}
			a.config["target_modules"] = "all-linear"
		}, want: "are not those of blk.0.attn_v.weight", kind: lora.ErrMismatch},
		{name: "both forms", edit: func(a *tinyAdapter) {
			a.embedding(4, tinyVocab, tinyWidth)
			a.tensors[pre+"model.embed_tokens.lora_A.weight"] = []int64{4, 64}
		}, want: "of an embedding and of a linear layer", kind: lora.ErrInvalid},
		{name: "NaN in an embedding", edit: func(a *tinyAdapter) {
			a.embedding(4, tinyVocab, tinyWidth)
			b := make([]byte, 4*4*tinyVocab)
			copy(b[4*41:], floats32(nan))
			a.values[pre+"model.embed_tokens.lora_embedding_A"] = b
		}, want: "lora_embedding_A: value (1, 1) is NaN", kind: lora.ErrInvalid},
		{name: "one adapter for both", base: tiedBase, edit: func(a *tinyAdapter) {
			a.embedding(4, tinyVocab, tinyWidth)
			a.config["ensure_weight_tying"] = true
		}, want: "ensure_weight_tying gives embedding and head one adapter, but the file has LoRA of one of them alone", kind: lora.ErrUnsupported},
		{name: "one adapter for both, in the file twice", base: tiedBase, edit: func(a *tinyAdapter) { a.tied(1) }, check: func(a *lora.Adapter) bool {
			return a.Embed != nil && a.Mods["output.weight"] != nil && a.Mods["output.weight"].B.Rows == tinyVocab
		}},
		{
			name: "one adapter for both, in the file twice and not alike", base: tiedBase, edit: func(a *tinyAdapter) { a.tied(2) },
			want: "their factors differ in the file", kind: lora.ErrUnsupported,
		},

		{name: "DoRA", edit: func(a *tinyAdapter) { a.dora("") }, check: func(a *lora.Adapter) bool {
			return a.Kind == lora.KindDoRA && len(a.Mods["blk.1.attn_q.weight"].Magnitude) == 64 && len(a.Mods["blk.0.ffn_down.weight"].Magnitude) == 64
		}},
		{name: "DoRA as a layer", edit: func(a *tinyAdapter) { a.dora(".default.weight") }, check: func(a *lora.Adapter) bool { return a.Kind == lora.KindDoRA }},
		{name: "DoRA without magnitudes", edit: func(a *tinyAdapter) { a.config["use_dora"] = true }, want: "has no lora_magnitude_vector, but use_dora", kind: lora.ErrInvalid},
		{name: "magnitudes without DoRA", edit: func(a *tinyAdapter) { a.dora(""); a.config["use_dora"] = false }, check: func(a *lora.Adapter) bool {
			return a.Kind == lora.KindLoRA && a.Mods["blk.0.attn_q.weight"].Magnitude == nil && noted(a, "q_proj.lora_magnitude_vector is passed over")
		}},
		{
			name: "short magnitudes", edit: func(a *tinyAdapter) { a.dora(""); a.tensors[q0+".lora_magnitude_vector"] = []int64{60} },
			want: "lora_magnitude_vector has 60 magnitudes, but base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight is (64, 4)", kind: lora.ErrInvalid,
		},
		{
			name: "magnitudes as a matrix", edit: func(a *tinyAdapter) { a.dora(""); a.tensors[q0+".lora_magnitude_vector"] = []int64{4, 16} },
			want: "has shape [4 16]: want a vector", kind: lora.ErrInvalid,
		},
		{name: "magnitudes alone", edit: func(a *tinyAdapter) {
			a.dora("")
			delete(a.tensors, q0+".lora_A.weight")
			delete(a.tensors, q0+".lora_B.weight")
		}, want: "has no A and B beside it", kind: lora.ErrInvalid},
		{name: "infinite magnitude", edit: func(a *tinyAdapter) {
			a.dora("")
			b := make([]byte, 4*64)
			copy(b[4*7:], floats32(float32(math.Inf(1))))
			a.values[q0+".lora_magnitude_vector"] = b
		}, want: "lora_magnitude_vector: value (7, 0) is +Inf", kind: lora.ErrInvalid},
		{name: "DoRA on an embedding", edit: func(a *tinyAdapter) {
			a.dora("")
			a.embedding(4, tinyVocab, tinyWidth)
			a.tensors[pre+"model.embed_tokens.lora_magnitude_vector"] = []int64{tinyWidth}
			a.config["target_modules"] = []string{"q_proj", "down_proj", "embed_tokens"}
		}, check: func(a *lora.Adapter) bool { return a.Embed != nil && len(a.Embed.Magnitude) == tinyWidth }},
		{name: "norms", edit: func(a *tinyAdapter) {
			a.config["modules_to_save"] = []string{"norm"}
			for _, name := range []string{"model.norm", "model.layers.1.input_layernorm", "model.layers.1.post_attention_layernorm"} {
				if !strings.HasSuffix(name, "norm") {
					continue
				}
				a.tensors[pre+name+".weight"] = []int64{tinyWidth}
			}
		}, check: func(a *lora.Adapter) bool {
			return len(a.Norms) == 3 && len(a.Norms["output_norm"].Weight) == tinyWidth && a.Norms["blk.1.ffn_norm"].Bias == nil
		}},
		{name: "norm of another width", edit: func(a *tinyAdapter) {
			a.config["modules_to_save"] = []string{"norm"}
			a.tensors[pre+"model.norm.weight"] = []int64{tinyWidth + 1}
		}, want: "has 65 values, but the model's output_norm.weight has 64", kind: lora.ErrMismatch},
		{name: "whole linear layer", edit: func(a *tinyAdapter) {
			a.config["modules_to_save"] = []string{"layers.1.mlp.up_proj"}
			a.tensors[pre+"model.layers.1.mlp.up_proj.weight"] = []int64{tinyFFN, tinyWidth}
		}, check: func(a *lora.Adapter) bool {
			m := a.Mods["blk.1.ffn_up.weight"]
			return m != nil && m.A == nil && m.B.Rows == tinyFFN
		}},
		{name: "whole linear layer of another shape", edit: func(a *tinyAdapter) {
			a.config["modules_to_save"] = []string{"up_proj"}
			a.tensors[pre+"model.layers.1.mlp.up_proj.weight"] = []int64{tinyFFN, tinyWidth + 1}
		}, want: "but the model's blk.1.ffn_up.weight is (96, 64)", kind: lora.ErrMismatch},
		{name: "LN tuning", edit: func(a *tinyAdapter) {
			a.config["peft_type"] = "LN_TUNING"
			a.tensors = map[string][]int64{pre + "model.norm.ln_tuning_layers.weight": {tinyWidth}}
		}, check: func(a *lora.Adapter) bool {
			return a.Kind == "ln_tuning" && len(a.Norms) == 1 && a.Targets[0] == "norm"
		}},
		{name: "activated", edit: func(a *tinyAdapter) { a.config["alora_invocation_tokens"] = []int{1, 2} }, check: func(a *lora.Adapter) bool {
			return slices.Equal(a.Invocation, []int32{1, 2})
		}},
		{name: "adaption prompt", edit: func(a *tinyAdapter) {
			a.config["peft_type"] = "ADAPTION_PROMPT"
			a.tensors = map[string][]int64{pre + "model.layers.1.self_attn.adaption_gate": {1}, pre + "model.layers.1.self_attn.adaption_prompt": {1, 3, tinyWidth}}
		}, check: func(a *lora.Adapter) bool { return a.Prompts["blk.1.attn_output.weight"].Rows.Rows == 3 }},
		{name: "adaption prompt without a gate", edit: func(a *tinyAdapter) {
			a.config["peft_type"] = "ADAPTION_PROMPT"
			a.tensors = map[string][]int64{pre + "model.layers.1.self_attn.adaption_prompt": {1, 3, tinyWidth}}
		}, want: "has no adaption_gate", kind: lora.ErrInvalid},
		{name: "RoAd", edit: func(a *tinyAdapter) {
			a.config["peft_type"], a.config["group_size"] = "ROAD", 32
			a.tensors = map[string][]int64{pre + "model.layers.1.self_attn.q_proj.road_theta": {32}, pre + "model.layers.1.self_attn.q_proj.road_alpha": {32}}
		}, check: func(a *lora.Adapter) bool { return a.Mods["blk.1.attn_q.weight"].B.Cols == tinyWidth }},
		{name: "RoAd of another size", edit: func(a *tinyAdapter) {
			a.config["peft_type"], a.config["group_size"] = "ROAD", 32
			a.tensors = map[string][]int64{pre + "model.layers.1.self_attn.q_proj.road_theta": {31}, pre + "model.layers.1.self_attn.q_proj.road_alpha": {31}}
		}, want: "do not fit the model's blk.1.attn_q.weight", kind: lora.ErrMismatch},

		{name: "soft prompt", edit: func(a *tinyAdapter) { a.prompt(7, tinyWidth) }, check: func(a *lora.Adapter) bool {
			return a.Kind == lora.KindPrompt && a.Prompt.Rows == 7 && a.Prompt.Cols == tinyWidth && len(a.Mods) == 0 && a.Rank == 0 && len(a.Targets) == 0 &&
				a.Bytes == 4*7*tinyWidth && a.Base == "somebody/tiny" && len(a.SHA256) == 64
		}},
		{name: "p-tuning", edit: func(a *tinyAdapter) { a.prompt(3, tinyWidth); a.config["peft_type"] = "P_TUNING" }, check: func(a *lora.Adapter) bool { return a.Prompt.Rows == 3 }},
		{name: "prefix tuning", edit: func(a *tinyAdapter) { a.prompt(3, tinyWidth); a.config["peft_type"] = "PREFIX_TUNING" }, want: "is (3, 64), but the model's keys and values take 128 values in 2 layers", kind: lora.ErrMismatch},
		{name: "prefix", edit: func(a *tinyAdapter) { a.prompt(3, 2*2*2*tinyKV*tinyHeadDim/2); a.config["peft_type"] = "PREFIX_TUNING" }, check: func(a *lora.Adapter) bool {
			return len(a.Prefix) == 2 && a.Virtual() == 3 && a.Prefix[1].V.Cols == tinyKV*tinyHeadDim && a.Kind == "prefix_tuning"
		}},
		{
			name: "other width", edit: func(a *tinyAdapter) { a.prompt(7, 96) },
			want: "tensor prompt_embeddings is (7, 96), but the model's token_embd.weight is (40, 64)", kind: lora.ErrMismatch,
		},
		{name: "other number", edit: func(a *tinyAdapter) { a.prompt(7, tinyWidth); a.config["num_virtual_tokens"] = 8 }, want: "is (7, 64), but num_virtual_tokens of adapter_config.json is 8", kind: lora.ErrInvalid},
		{name: "other token_dim", edit: func(a *tinyAdapter) { a.prompt(7, tinyWidth); a.config["token_dim"] = 8 }, want: "token_dim of adapter_config.json is 8", kind: lora.ErrInvalid},
		{name: "encoder and decoder", edit: func(a *tinyAdapter) { a.prompt(7, tinyWidth); a.config["num_transformer_submodules"] = 2 }, want: "num_transformer_submodules 2", kind: lora.ErrUnsupported},
		{name: "long soft prompt", edit: func(a *tinyAdapter) { a.prompt(5000, tinyWidth) }, want: "more than the 4096 virtual tokens", kind: lora.ErrInvalid},
		{name: "no prompt_embeddings", edit: func(a *tinyAdapter) { a.prompt(7, tinyWidth); a.tensors = nil }, want: "no tensor prompt_embeddings", kind: lora.ErrInvalid},
		{name: "more than prompt_embeddings", edit: func(a *tinyAdapter) { a.prompt(7, tinyWidth); a.tensors["x"] = []int64{1} }, want: "tensor x [1]: of a soft prompt only", kind: lora.ErrUnsupported},
		{name: "NaN in a soft prompt", edit: func(a *tinyAdapter) {
			a.prompt(2, tinyWidth)
			b := make([]byte, 4*2*tinyWidth)
			copy(b[4*65:], floats32(nan))
			a.values["prompt_embeddings"] = b
		}, want: "prompt_embeddings: value (1, 1) is NaN", kind: lora.ErrInvalid},
		{name: "huge rank", edit: func(a *tinyAdapter) {
			a.module("model.layers.0.self_attn.q_proj", 1025, 64, 64)
			a.config["rank_pattern"] = map[string]int{"model.layers.0.self_attn.q_proj": 1024}
		}, want: "has rank 1025, more than the 1024 allowed", kind: lora.ErrInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, m := tinyLoRA(), base
			c.edit(a)
			if c.base != nil {
				m = c.base
			}
			dir := a.write(t)
			got, err := lora.Open(dir, m)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) || !errors.Is(err, c.kind) || strings.Contains(err.Error(), "\n") {
					t.Fatalf("%v, want %q (%v)", err, c.want, c.kind)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer got.Close()
			if !c.check(got) {
				t.Errorf("%+v", got)
			}
			head, err := lora.ReadHeader(dir)
			if err != nil || head.Kind != got.Kind || head.Bytes != got.Bytes || head.Base != "somebody/tiny" || got.Prompt != nil && head.Virtual != got.Prompt.Rows {
				t.Errorf("%+v, %v", head, err)
			}
		})
	}
}

// TestKindsValues: the rows of A of an embedding are those of its tokens in both containers, and the magnitudes follow the
// rows of a projection whose order the container changes.
func TestKindsValues(t *testing.T) {
	a := tinyLoRA()
	a.dora("")
	a.config["use_dora"] = true
	var sizes []float32
	for i := range 64 {
		sizes = append(sizes, float32(i+1))
	}
	a.values[pre+"model.layers.0.self_attn.q_proj.lora_magnitude_vector"] = floats32(sizes...)
	dir := a.write(t)
	for _, c := range []struct {
		path string
		want []float32 // of the first head
	}{
		{tiny("llama").WriteHF(t), []float32{1, 2, 3, 4}},
		{tiny("llama").WriteGGUF(t), []float32{1, 9, 2, 10}}, // pairs side by side: row 2i+s was row s·8+i
	} {
		got, err := lora.Open(dir, open(t, c.path))
		if err != nil {
			t.Fatal(err)
		}
		defer got.Close()
		if d := cmp.Diff(c.want, got.Mods["blk.0.attn_q.weight"].Magnitude[:4]); d != "" {
			t.Errorf("%s: %s", c.path, d)
		}
	}

	e := tinyLoRA()
	e.embedding(4, tinyVocab, tinyWidth)
	var values []float32
	for r := range 4 {
		for tok := range tinyVocab {
			values = append(values, float32(100*tok+r))
		}
	}
	e.values[pre+"model.embed_tokens.lora_embedding_A"] = floats32(values...)
	peft, err := lora.Open(e.write(t), open(t, tiny("llama").WriteHF(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer peft.Close()
	row := make([]float32, 4)
	if quant.Row(row, peft.Embed.A, 7); !cmp.Equal(row, []float32{700, 701, 702, 703}) {
		t.Errorf("token 7 has %v", row)
	}
	var w gguf.Writer
	for k, v := range map[string]any{"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": float32(8)} {
		w.Put(k, v)
	}
	turned := make([]float32, 0, 4*tinyVocab)
	for tok := range tinyVocab {
		for r := range 4 {
			turned = append(turned, float32(100*tok+r))
		}
	}
	w.Add("token_embd.weight.lora_a", quant.F32, []int64{4, tinyVocab}, floats32(turned...))
	w.Add("token_embd.weight.lora_b", quant.F32, []int64{4, tinyWidth}, weightstest.Noise(rand.New(rand.NewPCG(1, 1)), 4*tinyWidth, quant.F32))
	path := filepath.Join(t.TempDir(), "a.gguf")
	if err := w.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	gg, err := lora.Open(path, open(t, tiny("llama").WriteGGUF(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer gg.Close()
	if quant.Row(row, gg.Embed.A, 7); !cmp.Equal(row, []float32{700, 701, 702, 703}) || gg.Embed.Scale != 2 || !cmp.Equal(gg.Targets, []string{"embed_tokens"}) {
		t.Errorf("token 7 has %v, scale %v, targets %v", row, gg.Embed.Scale, gg.Targets)
	}
}

// FuzzAdapterTensors opens adapters of which the tensor file is anything: no panic, no more memory than the file explains.
func FuzzAdapterTensors(f *testing.F) {
	kinds := []func(a *tinyAdapter){
		func(*tinyAdapter) {},
		func(a *tinyAdapter) { a.dora("") },
		func(a *tinyAdapter) { a.embedding(4, tinyVocab, tinyWidth) },
		func(a *tinyAdapter) { a.prompt(3, tinyWidth) },
	}
	var dirs []string
	for i, edit := range kinds {
		a := tinyLoRA()
		edit(a)
		dirs = append(dirs, a.write(f))
		f.Add(uint8(i), read(f, filepath.Join(dirs[i], "adapter_model.safetensors")))
	}
	base := open(f, tiny("llama").WriteHF(f))
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		dir := dirs[int(kind)%len(dirs)]
		write(t, filepath.Join(dir, "adapter_model.safetensors"), data)
		a, err := lora.Open(dir, base)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("not one sentence: %v", err)
			}
			return
		}
		if a.Bytes > int64(len(data)) {
			t.Errorf("%d bytes of tensors in a file of %d", a.Bytes, len(data))
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
}
