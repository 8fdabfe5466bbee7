package family

import (
	"slices"
	"strings"

	"edged/core/model/arch"
)

// Module is a module's name in a Hugging Face folder and in GGUF, without .weight or .bias; N stands for the
// layer and E for the expert. Sources: transformers' modeling files; llama.cpp's
// gguf-py/gguf/tensor_mapping.py for the correspondence.
type Module struct{ HF, GGUF string }

// Modules are those of a family. The first that fits counts.
type Modules []Module

// ModulesOf makes modules of pairs of a Hugging Face name and a GGUF name.
func ModulesOf(pairs ...string) Modules {
	m := make(Modules, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		m = append(m, Module{pairs[i], pairs[i+1]})
	}
	return m
}

// With returns the modules with others put before them: pairs of a Hugging Face name and a GGUF name. Names
// that begin with a dot are those of a layer.
func (m Modules) With(pairs ...string) Modules {
	own := make(Modules, 0, len(pairs)/2+len(m))
	for i := 0; i+1 < len(pairs); i += 2 {
		hf, gguf := pairs[i], pairs[i+1]
		if strings.HasPrefix(hf, ".") {
			hf, gguf = "model.layers.N"+hf, "blk.N."+gguf
		}
		own = append(own, Module{hf, gguf})
	}
	return append(own, m...)
}

// DecoderModules are the names that most families since Llama use.
func DecoderModules() Modules {
	return Modules{
		{"model.embed_tokens", "token_embd"},
		{"model.norm", "output_norm"},
		{"lm_head", "output"},
		{"model.layers.N.input_layernorm", "blk.N.attn_norm"},
		{"model.layers.N.self_attn.q_proj", "blk.N.attn_q"},
		{"model.layers.N.self_attn.k_proj", "blk.N.attn_k"},
		{"model.layers.N.self_attn.v_proj", "blk.N.attn_v"},
		{"model.layers.N.self_attn.o_proj", "blk.N.attn_output"},
		{"model.layers.N.self_attn.q_norm", "blk.N.attn_q_norm"},
		{"model.layers.N.self_attn.k_norm", "blk.N.attn_k_norm"},
		{"model.layers.N.post_attention_layernorm", "blk.N.ffn_norm"},
		{"model.layers.N.mlp.gate_proj", "blk.N.ffn_gate"},
		{"model.layers.N.mlp.up_proj", "blk.N.ffn_up"},
		{"model.layers.N.mlp.down_proj", "blk.N.ffn_down"},
	}
}

// candidates are the names under which a module of this pattern may stand in Modules: a model that was saved
// without its head lacks the first part of its names, and the text part of one that also sees or hears has a
// part more.
func (f *Family) candidates(pattern string) []string {
	base := f.Base
	if base == "" {
		base = "model."
	}
	out := []string{pattern, base + pattern}
	for _, outer := range []string{"model.language_model.", "language_model."} {
		if rest, ok := strings.CutPrefix(pattern, outer); ok {
			out = append(out, rest, base+rest)
		}
	}
	return out
}

// Tower is the part of a model that sees or hears which a Hugging Face tensor belongs to: "vision_tower"; ""
// for a tensor of the text part. A folder that holds such parts has a text_config.
func Tower(name string) string {
	name = strings.TrimPrefix(name, "model.")
	for _, t := range []string{
		"vision_tower", "vision_model", "vision_embed_tokens", "visual", "multi_modal_projector", "mm_projector", "audio_tower", "audio_model", "audio_projector",
		"embed_vision", "embed_audio", "vision_projection", "image_newline", "patch_merger",
	} {
		if name == t || strings.HasPrefix(name, t+".") {
			return t
		}
	}
	return ""
}

// ToGGUF translates the name of a Hugging Face module; ok is false where the family has none of that name.
func (f *Family) ToGGUF(module string) (name string, ok bool) {
	pattern, numbers := arch.SplitNumbers(module)
	if name, ok = f.toGGUF(pattern, numbers); ok || len(numbers) < 2 {
		return name, ok
	}
	// The second number may be a part's place in its layer and no expert's.
	return f.toGGUF(arch.JoinNumbers(pattern, []string{"N", numbers[1]}), numbers[:1])
}

func (f *Family) toGGUF(pattern string, numbers []string) (name string, ok bool) {
	for _, p := range f.candidates(pattern) {
		for _, m := range f.Modules {
			if m.HF == p {
				return arch.JoinNumbers(m.GGUF, numbers), true
			}
		}
	}
	return "", false
}

func fixesOf(s *arch.Spec) []arch.Fix {
	if s == nil {
		return nil
	}
	return s.Fixes
}

// ToHF translates a GGUF module name back, for messages; parts of a fused matrix have its name, where s is
// not nil. An unknown name stays as it is.
func (f *Family) ToHF(s *arch.Spec, module string) string {
	pattern, numbers := arch.SplitNumbers(module)
	for _, x := range fixesOf(s) {
		if x, ok := x.(arch.Split); ok && slices.Contains(x.Into, pattern) &&
			!slices.ContainsFunc(f.Modules, func(m Module) bool { return m.GGUF == pattern }) {
			pattern = x.Of
		}
	}
	for _, m := range f.Modules {
		if m.GGUF == pattern {
			return arch.JoinNumbers(m.HF, numbers)
		}
	}
	return module
}

// ExpertModules are the names of experts that most families use.
func ExpertModules() []string {
	return []string{
		".mlp.gate", "ffn_gate_inp",
		".mlp.experts.E.gate_proj", "ffn_gate.E",
		".mlp.experts.E.up_proj", "ffn_up.E",
		".mlp.experts.E.down_proj", "ffn_down.E",
	}
}

// SharedExpertModules are those of DeepSeek's line: the same with shared experts and a correction.
func SharedExpertModules() []string {
	return append(ExpertModules(),
		".mlp.gate.e_score_correction_bias", "exp_probs_b.bias",
		".mlp.shared_experts.gate_proj", "ffn_gate_shexp",
		".mlp.shared_experts.up_proj", "ffn_up_shexp",
		".mlp.shared_experts.down_proj", "ffn_down_shexp",
	)
}

// LatentModules are the names of latent attention in a folder, for Modules.With.
func LatentModules() []string {
	return []string{
		".self_attn.q_a_proj", "attn_q_a",
		".self_attn.q_a_layernorm", "attn_q_a_norm",
		".self_attn.q_b_proj", "attn_q_b",
		".self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa",
		".self_attn.kv_a_layernorm", "attn_kv_a_norm",
		".self_attn.kv_b_proj", "attn_kv_b",
	}
}
