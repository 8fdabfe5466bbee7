package keys

import (
	"edged/core/model/arch"
)

// Mixture reads what families with a mixture of experts have in common: sizes, and for files what llama.cpp's
// converter writes of the router. HF spells a count or a width in many ways; the names here are all of them.
func (k *Keys) Mixture(d *Dims, how arch.Router) arch.MoE {
	m := arch.MoE{
		Experts: k.Int("expert_count|num_experts|num_local_experts|n_routed_experts|moe_num_experts"),
		Used:    k.Int("expert_used_count|num_experts_per_tok|moe_k"),
		Hidden:  k.IntOr("expert_feed_forward_length|moe_intermediate_size", d.FFN),
		Act:     k.ActOf("|hidden_act", arch.SiLU),
		Router:  how,
	}
	if !k.IsGGUF() {
		return m
	}
	r := &m.Router
	switch g := k.IntOr("expert_gating_func|", 0); g {
	case 0:
	case 1:
		r.Kind = arch.Softmax
	case 2:
		r.Kind = arch.Sigmoid
	case 3:
		r.Kind = arch.SoftmaxChosen
	default:
		k.Unsupported("%s %d", k.Say("expert_gating_func|"), g)
	}
	r.Normalise = k.Bool("expert_weights_norm|", r.Normalise)
	if r.Scale = float32(k.FloatOr("expert_weights_scale|", float64(r.Scale))); r.Scale == 0 {
		r.Scale = 1 // a file's 0 is none, as llama.cpp reads it
	}
	return m
}

// SharedHidden is the width of the experts that every row goes through: as the file's tensor has it, which no
// setting spells out for every family. Where a setting promises them, they must be there.
func (k *Keys) SharedHidden(layer int) int {
	const announced = "expert_shared_count|n_shared_experts|moe_num_shared_experts|shared_expert_intermediate_size"
	name := arch.LayerName(layer, "ffn_gate_shexp.weight")
	if shape := k.Shape(name); len(shape) == 2 {
		return shape[0]
	}
	if n := k.IntOr(announced, 0); n > 0 {
		_, promise, _ := k.Value(announced)
		k.Invalid("%s is %d, but tensor %s is missing or no matrix", promise, n, name)
	}
	return 0
}

// Sparse says which layers of Qwen's mixtures have experts: every decoder_sparse_step-th but those of mlp_only_layers.
func (k *Keys) Sparse() func(layer int) bool {
	if k.IsGGUF() {
		return func(int) bool { return true }
	}
	step := k.IntOr("|decoder_sparse_step", 1)
	var only map[int]bool
	if v, _, ok := k.Value("|mlp_only_layers"); ok {
		if list, isList := v.([]any); isList {
			only = make(map[int]bool, len(list))
			for _, x := range list {
				if f, isNumber := toFloat(x); isNumber {
					only[int(f)] = true
				}
			}
		}
	}
	return func(layer int) bool { return step > 0 && (layer+1)%step == 0 && !only[layer] }
}

// LeadingDense is the number of layers at the beginning that have no experts.
func (k *Keys) LeadingDense() int {
	return k.IntOr("leading_dense_block_count|first_k_dense_replace", 0)
}

// NoExperts refuses experts in a file of a family that has none.
func (k *Keys) NoExperts() {
	if n := k.IntOr("expert_count|", 0); n > 0 {
		k.Unsupported("%s with %d experts", k.arch, n)
	}
}
