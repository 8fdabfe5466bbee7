package weights

import (
	"strconv"
	"strings"
)

// A pair is a module's name in a Hugging Face model and in GGUF, without .weight or .bias; N stands for the layer and E for
// the expert.
type pair struct{ hf, gguf string }

// moduleNames returns the names of an architecture's modules. Sources: transformers' modeling files; llama.cpp's
// gguf-py/gguf/tensor_mapping.py for the correspondence.
func moduleNames(arch string) []pair {
	if arch == "gpt2" {
		return []pair{
			{"transformer.wte", "token_embd"},
			{"transformer.wpe", "position_embd"},
			{"transformer.ln_f", "output_norm"},
			{"lm_head", "output"},
			{"transformer.h.N.ln_1", "blk.N.attn_norm"},
			{"transformer.h.N.attn.c_attn", "blk.N.attn_qkv"},
			{"transformer.h.N.attn.c_proj", "blk.N.attn_output"},
			{"transformer.h.N.ln_2", "blk.N.ffn_norm"},
			{"transformer.h.N.mlp.c_fc", "blk.N.ffn_up"},
			{"transformer.h.N.mlp.c_proj", "blk.N.ffn_down"},
		}
	}
	return []pair{
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
		{"model.layers.N.block_sparse_moe.gate", "blk.N.ffn_gate_inp"},
		{"model.layers.N.block_sparse_moe.experts.E.w1", "blk.N.ffn_gate.E"},
		{"model.layers.N.block_sparse_moe.experts.E.w2", "blk.N.ffn_down.E"},
		{"model.layers.N.block_sparse_moe.experts.E.w3", "blk.N.ffn_up.E"},
	}
}

// basePrefix is what the names of the bare model, saved without its head, lack.
func basePrefix(arch string) string {
	if arch == "gpt2" {
		return "transformer."
	}
	return "model."
}

// splitNumbers replaces the parts of a dotted name that are numbers by N and E, in this order.
func splitNumbers(name string) (pattern string, numbers []string) {
	parts := strings.Split(name, ".")
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 31)
		if err != nil || strconv.FormatUint(n, 10) != p || len(numbers) == 2 {
			continue
		}
		parts[i] = [...]string{"N", "E"}[len(numbers)]
		numbers = append(numbers, p)
	}
	return strings.Join(parts, "."), numbers
}

// joinNumbers puts numbers back into a pattern of splitNumbers.
func joinNumbers(pattern string, numbers []string) string {
	parts := strings.Split(pattern, ".")
	for i, p := range parts {
		switch {
		case p == "N" && len(numbers) > 0:
			parts[i] = numbers[0]
		case p == "E" && len(numbers) > 1:
			parts[i] = numbers[1]
		}
	}
	return strings.Join(parts, ".")
}

// toGGUF translates the name of a Hugging Face module; ok is false where the architecture has none of that name.
func toGGUF(arch, module string) (name string, ok bool) {
	pattern, numbers := splitNumbers(module)
	for _, p := range moduleNames(arch) {
		if p.hf == pattern || p.hf == basePrefix(arch)+pattern {
			return joinNumbers(p.gguf, numbers), true
		}
	}
	return "", false
}

// toHF translates a GGUF tensor name, with its .weight or .bias, back; for messages. An unknown name stays as it is.
func toHF(arch, name string) string {
	module, suffix := name, ""
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		module, suffix = name[:i], name[i:]
	}
	pattern, numbers := splitNumbers(module)
	if arch == "gpt2" && strings.HasPrefix(pattern, "blk.N.attn_") {
		switch pattern[len("blk.N."):] {
		case "attn_q", "attn_k", "attn_v":
			pattern = "blk.N.attn_qkv"
		}
	}
	for _, p := range moduleNames(arch) {
		if p.gguf == pattern {
			return joinNumbers(p.hf, numbers) + suffix
		}
	}
	return name
}
