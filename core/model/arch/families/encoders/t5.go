package encoders

import (
	"math"
	"strings"

	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// t5 is T5 (Raffel et al. 2020) and what is made of it (Flan-T5, MADLAD-400): an encoder and a decoder with
// an RMSNorm before each part, scores that are not scaled and know distances by learned buckets, a plain ReLU
// network (1.0) or a gated one (1.1). A GGUF file of this name may hold any of the three families here. The
// encoder alone (sentence-t5) is served for embeddings.
func t5() family.Family { return t5Family("relu", true, "t5", "t5encoder") }

// mt5 is mT5 (Xue et al. 2021): gated networks, and logits that are never scaled.
func mt5() family.Family { return t5Family("gated-gelu", false, "mt5") }

// umt5 is UMT5 (Chung et al. 2023): every layer has a table of distances of its own.
func umt5() family.Family { return t5Family("gated-gelu", true, "umt5") }

// t5Family is one of them: with the network that a folder means which names none, and whether its logits may be scaled.
func t5Family(network string, scaled bool, names ...string) family.Family {
	return family.Family{
		Names:   names,
		GGUF:    "t5",
		Modules: t5Modules(),
		Renamed: map[string]string{"attn_o": "attn_output", "cross_attn_o": "cross_attn_output"},
		Ignored: []string{
			"encoder.embed_tokens.weight", "decoder.embed_tokens.weight", // the embedding once more
			"EncDecAttention.relative_attention_bias.weight", "cross_attn_rel_b.weight", // of 1.0's files, which nothing reads
		},
		Spec: func(k *keys.Keys) arch.Spec {
			s := stacks(k, "num_layers", "num_decoder_layers")
			d := t5Sizes(k, &s, network)
			if k.Err() != nil {
				return s
			}
			if !k.HasTensor("dec.blk.0.attn_q.weight") {
				e := s.Encoder
				t5Stack(k, e, d)
				e.Pool, e.Dense = k.Pool(), k.Denses()
				return *e
			}
			t5Stack(k, s.Encoder, d)
			t5Stack(k, &s, d)
			s.Head = arch.Head{Tied: !k.HasHead(), Bias: arch.Absent} // whatever tie_word_embeddings says
			switch {                                                  // the states, and so the logits, times 1/√width
			case k.IsGGUF() && k.HasHead(), !scaled:
			case k.IsGGUF(), k.Bool("|scale_decoder_outputs|tie_word_embeddings", true):
				s.Head.Scale = float32(1 / math.Sqrt(float64(s.Width)))
			}
			return s
		},
	}
}

// t5Modules are the names of T5's modules, in both stacks.
func t5Modules() family.Modules {
	m := family.ModulesOf("shared", "token_embd", "lm_head", "output")
	for _, side := range [][2]string{{"encoder", "enc"}, {"decoder", "dec"}} {
		hf, own := side[0]+".block.N.layer.", side[1]+".blk.N."
		m = append(m, family.ModulesOf(
			side[0]+".final_layer_norm", side[1]+".output_norm",
			hf+"0.layer_norm", own+"attn_norm",
			hf+"0.SelfAttention.q", own+"attn_q",
			hf+"0.SelfAttention.k", own+"attn_k",
			hf+"0.SelfAttention.v", own+"attn_v",
			hf+"0.SelfAttention.o", own+"attn_output",
			hf+"0.SelfAttention.relative_attention_bias", own+"attn_rel_b",
		)...)
		network := hf + "1."
		if side[0] == "decoder" {
			m = append(m, family.ModulesOf(
				hf+"1.layer_norm", own+"cross_attn_norm",
				hf+"1.EncDecAttention.q", own+"cross_attn_q",
				hf+"1.EncDecAttention.k", own+"cross_attn_k",
				hf+"1.EncDecAttention.v", own+"cross_attn_v",
				hf+"1.EncDecAttention.o", own+"cross_attn_output",
			)...)
			network = hf + "2."
		}
		m = append(m, family.ModulesOf(
			network+"layer_norm", own+"ffn_norm",
			network+"DenseReluDense.wi", own+"ffn_up",
			network+"DenseReluDense.wi_0", own+"ffn_gate",
			network+"DenseReluDense.wi_1", own+"ffn_up",
			network+"DenseReluDense.wo", own+"ffn_down",
		)...)
	}
	return m
}

// t5Dims are the sizes that both stacks have.
type t5Dims struct {
	heads, headDim, hidden int
	eps                    float32
	buckets, far           int
	gated                  bool
	act                    arch.Act
}

// t5Sizes reads them, and the sizes of the two stacks.
func t5Sizes(k *keys.Keys, s *arch.Spec, network string) t5Dims {
	k.Defaults(map[string]any{"d_kv": int64(64), "layer_norm_epsilon": 1e-6, "relative_attention_num_buckets": int64(32)})
	d := t5Dims{
		heads: k.Int("attention.head_count|num_heads"), headDim: k.Int("attention.key_length|d_kv"),
		hidden:  k.Int("feed_forward_length|d_ff"),
		eps:     float32(k.Float("attention.layer_norm_rms_epsilon|layer_norm_epsilon")),
		buckets: k.Int("attention.relative_buckets_count|relative_attention_num_buckets"),
		far:     k.IntOr("|relative_attention_max_distance", 128), // of a file llama.cpp means it
	}
	if v := k.IntOr("attention.value_length|", d.headDim); v != d.headDim {
		k.Unsupported("keys of %d and values of %d dimensions", d.headDim, v)
	}
	if k.IsGGUF() { // the file does not say it: llama.cpp goes by the gate
		if d.gated, d.act = k.HasTensor("enc.blk.0.ffn_gate.weight"), (arch.Act{Kind: arch.ReLU}); d.gated {
			d.act.Kind = arch.GELUTanh
		}
	} else {
		if v := k.String("|feed_forward_proj"); v != "" {
			network = v
		}
		var name string
		if name, d.gated = strings.CutPrefix(network, "gated-"); d.gated && name == "gelu" {
			name = "gelu_new"
		}
		a, ok := keys.Acts()[name]
		if d.act = a; !ok {
			k.Unsupported("feed_forward_proj %q is not an activation that is served", network)
		}
	}
	// Distances have no end: what the file says is the length that it was trained with.
	context := k.IntOr("context_length|n_positions", 512)
	s.Width, s.Context = k.Int("embedding_length|d_model"), context
	s.Encoder.Width, s.Encoder.Context = s.Width, context
	return d
}

// t5Stack adds a stack's layers, of which there are as many as were counted.
func t5Stack(k *keys.Keys, s *arch.Spec, d t5Dims) {
	s.Norm = arch.RMS("output_norm", d.eps)
	for i := range s.Layers {
		a := arch.Attention{
			Heads: d.heads, KVHeads: d.heads, KeyDim: d.headDim, ValueDim: d.headDim, Scale: 1, Both: s.Kind == arch.Encoder,
			Position: arch.Distances{Buckets: d.buckets, Far: d.far, Own: i == 0 || k.HasTensor(s.LayerName(i, arch.DistancesName))},
			QKVBias:  arch.Absent, OutBias: arch.Absent,
		}
		l := arch.Layer{{Pre: arch.RMS("attn_norm", d.eps), Op: a}}
		if s.Kind == arch.EncoderDecoder {
			l = append(
				l,
				arch.Sub{
					Pre: arch.RMS("cross_attn_norm", d.eps),
					Op:  arch.Cross{Heads: d.heads, HeadDim: d.headDim, Scale: 1, Bias: arch.Absent},
				},
			)
		}
		net := arch.Sub{Pre: arch.RMS("ffn_norm", d.eps), Op: arch.MLP{Hidden: d.hidden, Act: d.act, Bias: arch.Absent}}
		if d.gated {
			net.Op = arch.GLU{Hidden: d.hidden, Act: d.act, Bias: arch.Absent}
		}
		s.Layers[i] = append(l, net)
	}
}
