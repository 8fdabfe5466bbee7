package weights_test

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"edged/core/model/safetensors"
	"edged/core/model/weights"
)

const (
	latentHeads, latentKV, latentNope, latentRope, latentValue = 3, 64, 16, 8, 24
	latentExperts, latentShared, latentHidden                  = 4, 64, 32
)

// tinyLatent is a small DeepSeek-V2: a dense layer and one of experts, as a folder only.
func tinyLatent() *tinyModel {
	m := &tinyModel{
		DType: safetensors.BF16,
		Config: map[string]any{
			"model_type": "deepseek_v2", "hidden_size": tinyWidth, "num_hidden_layers": tinyLayers, "num_attention_heads": latentHeads,
			"kv_lora_rank": latentKV, "qk_nope_head_dim": latentNope, "qk_rope_head_dim": latentRope, "v_head_dim": latentValue, "q_lora_rank": nil,
			"intermediate_size": tinyFFN, "vocab_size": tinyVocab, "max_position_embeddings": tinyContext, "rms_norm_eps": 1e-5,
			"n_routed_experts": latentExperts, "num_experts_per_tok": 2, "moe_intermediate_size": latentHidden, "n_shared_experts": 2,
			"first_k_dense_replace": 1, "topk_method": "greedy", "n_group": nil, "topk_group": nil,
		},
		Tensors: map[string][]int64{
			"model.embed_tokens.weight": {tinyVocab, tinyWidth}, "model.norm.weight": {tinyWidth}, "lm_head.weight": {tinyVocab, tinyWidth},
		},
	}
	for n := range tinyLayers {
		add := func(name string, shape ...int64) {
			m.Tensors["model.layers."+strconv.Itoa(n)+"."+name+".weight"] = shape
		}
		network := func(name string, hidden int64) {
			add("mlp."+name+"gate_proj", hidden, tinyWidth)
			add("mlp."+name+"up_proj", hidden, tinyWidth)
			add("mlp."+name+"down_proj", tinyWidth, hidden)
		}
		add("input_layernorm", tinyWidth)
		add("post_attention_layernorm", tinyWidth)
		add("self_attn.q_proj", latentHeads*(latentNope+latentRope), tinyWidth)
		add("self_attn.kv_a_proj_with_mqa", latentKV+latentRope, tinyWidth)
		add("self_attn.kv_a_layernorm", latentKV)
		add("self_attn.kv_b_proj", latentHeads*(latentNope+latentValue), latentKV)
		add("self_attn.o_proj", tinyWidth, latentHeads*latentValue)
		if n == 0 {
			network("", tinyFFN)
			continue
		}
		add("mlp.gate", latentExperts, tinyWidth)
		network("shared_experts.", latentShared)
		for e := range latentExperts {
			network("experts."+strconv.Itoa(e)+".", latentHidden)
		}
	}
	return m
}

// TestLatentBnB: the matrix that makes keys and values of compressed rows is cut into heads also where it is quantised, the width of
// the shared experts is that of their matrices and not of the bytes that are stored, and a plan by headers counts the same.
func TestLatentBnB(t *testing.T) {
	const kvB, shared = "model.layers.1.self_attn.kv_b_proj.weight", "model.layers.1.mlp.shared_experts.gate_proj.weight"
	const rows = latentHeads * (latentNope + latentValue)
	for _, nested := range []bool{false, true} {
		dir := tinyLatent().WriteHF(t)
		tensors, want := bnbTensors(rand.New(rand.NewPCG(1, 1)), kvB, "nf4", rows, latentKV, nested)
		replaceTensors(t, dir, kvB, tensors)
		tensors, gate := bnbTensors(rand.New(rand.NewPCG(2, 1)), shared, "nf4", latentShared, tinyWidth, nested)
		replaceTensors(t, dir, shared, tensors)
		m := open(t, dir)
		if !equal(decode(m.Matrix("blk.1.ffn_gate_shexp.weight")), gate) {
			t.Errorf("nested %v: the shared experts differ", nested)
		}
		for h := range latentHeads {
			head := want[h*(latentNope+latentValue)*latentKV:]
			if got := decode(m.Matrix("blk.1.attn_v_b." + strconv.Itoa(h) + ".weight")); !equal(got, head[latentNope*latentKV:][:latentValue*latentKV]) {
				t.Errorf("nested %v: values of head %d differ", nested, h)
			}
			var turned []float32
			for c := range latentKV {
				for r := range latentNope {
					turned = append(turned, head[r*latentKV+c])
				}
			}
			if got := decode(m.Matrix("blk.1.attn_k_b." + strconv.Itoa(h) + ".weight")); !slices.Equal(got, turned) {
				t.Errorf("nested %v: keys of head %d differ", nested, h)
			}
		}
		headers, err := weights.OpenHeaders(dir)
		if err != nil {
			t.Fatal(err)
		}
		if a, b := m.Figures(), headers.Figures(); a != b {
			t.Errorf("nested %v: figures %+v, by headers %+v", nested, a, b)
		}
		if err := headers.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestLatentRefuses: parts that the configuration promises are missed by name.
func TestLatentRefuses(t *testing.T) {
	for want, change := range map[string]func(m *tinyModel){
		"n_shared_experts is 2, but tensor blk.1.ffn_gate_shexp.weight is missing": func(m *tinyModel) {
			for name := range m.Tensors {
				if strings.Contains(name, "shared_experts") {
					delete(m.Tensors, name)
				}
			}
		},
		"has 120 rows, but the hyper-parameters ask for 2 heads of 16 and 24": func(m *tinyModel) {
			m.Config["num_attention_heads"] = 2
		},
	} {
		m := tinyLatent()
		change(m)
		x, err := weights.Open(m.WriteHF(t))
		if err == nil {
			t.Errorf("%s: it was opened", want)
			_ = x.Close()
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want one that says %q", err, want)
		}
	}
}
