package encoders

import (
	"math"

	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// bart is BART (Lewis et al. 2020): learned positions that begin at row 2, a LayerNorm behind each part and
// one over the embedding. Folders only, as all of this file.
func bart() family.Family {
	return bartFamily("bart", bartKind{act: arch.GELUErf, context: 1024, offset: 2, embedNorm: true})
}

// mbart is mBART (Liu et al. 2020): BART with the norms before each part and one at the end of each stack.
func mbart() family.Family {
	return bartFamily("mbart", bartKind{act: arch.GELUErf, context: 1024, offset: 2, embedNorm: true, pre: true})
}

// marian is Marian NMT's Transformer as OPUS-MT publishes it (Junczys-Dowmunt et al. 2018; Tiedemann and
// Thottingal 2020): BART's layers on sinusoidal positions.
func marian() family.Family {
	return bartFamily("marian", bartKind{act: arch.GELUErf, context: 1024})
}

// pegasus is PEGASUS (Zhang et al. 2020): mBART's layers on sinusoidal positions.
func pegasus() family.Family {
	return bartFamily("pegasus", bartKind{act: arch.GELUErf, context: 1024, pre: true})
}

// m2m100 is M2M-100 and NLLB-200 (Fan et al. 2021; NLLB Team 2022): mBART's layers on sinusoids of a slightly
// different length, which begin behind the padding token's number.
func m2m100() family.Family {
	return bartFamily("m2m_100", bartKind{act: arch.ReLU, context: 1024, pre: true, scaled: true, last: true})
}

// bartKind is how one of them differs.
type bartKind struct {
	act       arch.ActKind // of a folder that names none
	context   int          // likewise
	offset    int          // row of position 0 of positions that are learned; 0: they are sinusoids
	last      bool         // see Waves; positions begin behind pad_token_id then
	embedNorm bool         // a norm over the embedding
	pre       bool         // norms before each part, and one at the end of a stack; else behind each part
	scaled    bool         // scale_embedding of a folder that does not say
}

func bartFamily(name string, kind bartKind) family.Family {
	return family.Family{
		Names:   []string{name},
		Modules: bartModules(),
		Ignored: []string{"encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "embed_positions.weights"},
		Spec: func(k *keys.Keys) arch.Spec {
			s := stacks(k, "encoder_layers", "decoder_layers")
			if k.Err() != nil {
				return s
			}
			s.Width = k.Int("|d_model")
			s.Encoder.Width = s.Width
			if !k.Bool("|share_encoder_decoder_embeddings", true) {
				k.Unsupported("share_encoder_decoder_embeddings false: an embedding for each stack")
			}
			if v := k.IntOr("|decoder_vocab_size", k.Vocab()); v != k.Vocab() {
				k.Unsupported("decoder_vocab_size %d with an embedding of %d tokens", v, k.Vocab())
			}
			bartStack(k, s.Encoder, "encoder", &kind)
			bartStack(k, &s, "decoder", &kind)
			s.Context = min(s.Context, s.Encoder.Context)
			s.Encoder.Context = s.Context
			s.Head = arch.Head{Tied: k.Tied(true)} // final_logits_bias is optional
			return s
		},
	}
}

// bartStack reads a stack's layers, of which there are as many as were counted.
func bartStack(k *keys.Keys, s *arch.Spec, side string, kind *bartKind) {
	const eps = 1e-5
	heads, hidden := k.Int("|"+side+"_attention_heads"), k.Int("|"+side+"_ffn_dim")
	act := k.Act("|activation_function", kind.act)
	if heads < 1 || s.Width%heads != 0 {
		k.Invalid("d_model %d is no multiple of the %d %s_attention_heads", s.Width, heads, side)
		return
	}
	if k.Bool("|scale_embedding", kind.scaled) {
		s.Embed.Scale = float32(math.Sqrt(float64(s.Width)))
	}
	if kind.embedNorm {
		s.Embed.Norm = arch.LN("token_embd_norm", eps, arch.Required)
	}
	bartPositions(k, s, kind)
	norm := func(name string) (pre, after arch.Norm) {
		n := arch.LN(name, eps, arch.Required)
		if kind.pre {
			return n, arch.Norm{}
		}
		return arch.Norm{}, n
	}
	if kind.pre {
		s.Norm = arch.LN("output_norm", eps, arch.Required)
	}
	a := arch.Attention{
		Heads: heads, KVHeads: heads, KeyDim: s.Width / heads, ValueDim: s.Width / heads, Both: s.Kind == arch.Encoder,
		QKVBias: arch.Required, OutBias: arch.Required,
	}
	for i := range s.Layers {
		attn, cross, net := arch.Sub{
			Op: a,
		}, arch.Sub{
			Op: arch.Cross{Heads: heads, HeadDim: a.KeyDim, Bias: arch.Required},
		}, arch.Sub{
			Op: arch.MLP{Hidden: hidden, Act: act, Bias: arch.Required},
		}
		attn.Pre, attn.After = norm("attn_norm")
		cross.Pre, cross.After = norm("cross_attn_norm")
		net.Pre, net.After = norm("ffn_norm")
		if s.Layers[i] = (arch.Layer{attn, net}); s.Kind == arch.EncoderDecoder {
			s.Layers[i] = arch.Layer{attn, cross, net}
		}
	}
}

// bartPositions reads what is added for a position: rows of the file, also of sinusoids where it holds them.
func bartPositions(k *keys.Keys, s *arch.Spec, kind *bartKind) {
	s.Context = k.IntOr("|max_position_embeddings", kind.context)
	rows := 0
	if shape := k.Shape(s.Prefix + arch.PositionName); len(shape) > 0 {
		rows = shape[0]
	}
	switch {
	case kind.offset > 0:
		s.Embed.Positions, s.Embed.Offset = s.Context+kind.offset, kind.offset
	case kind.last:
		s.Embed.Offset = k.IntOr("|pad_token_id", 1) + 1
		s.Embed.Waves = arch.Waves{Rows: min(s.Context, arch.MaxContext) + s.Embed.Offset, Last: true}
	case rows > 0:
		s.Embed.Positions = rows
		s.Context = min(s.Context, rows)
	default:
		s.Embed.Waves = arch.Waves{Rows: s.Context}
	}
}

// bartModules are the names of BART's modules, in both stacks.
func bartModules() family.Modules {
	m := family.ModulesOf("model.shared", "token_embd", "lm_head", "output", "final_logits_bias", "output.bias")
	for _, side := range [][2]string{{"encoder", "enc."}, {"decoder", "dec."}} {
		hf, own := "model."+side[0]+".", side[1]
		layer, blk := hf+"layers.N.", own+"blk.N."
		m = append(m, family.ModulesOf(
			hf+"embed_positions", own+"position_embd",
			hf+"layernorm_embedding", own+"token_embd_norm",
			hf+"layer_norm", own+"output_norm",
			layer+"self_attn.q_proj", blk+"attn_q",
			layer+"self_attn.k_proj", blk+"attn_k",
			layer+"self_attn.v_proj", blk+"attn_v",
			layer+"self_attn.out_proj", blk+"attn_output",
			layer+"self_attn_layer_norm", blk+"attn_norm",
			layer+"encoder_attn.q_proj", blk+"cross_attn_q",
			layer+"encoder_attn.k_proj", blk+"cross_attn_k",
			layer+"encoder_attn.v_proj", blk+"cross_attn_v",
			layer+"encoder_attn.out_proj", blk+"cross_attn_output",
			layer+"encoder_attn_layer_norm", blk+"cross_attn_norm",
			layer+"fc1", blk+"ffn_up",
			layer+"fc2", blk+"ffn_down",
			layer+"final_layer_norm", blk+"ffn_norm",
		)...)
	}
	return m
}

// stacks begins the Spec of an encoder-decoder and that of its encoder, with room for their layers, which the
// two names of a folder count; without the second both have as many.
func stacks(k *keys.Keys, layers, decoderLayers string) arch.Spec {
	n := k.LayerCount(k.Int("block_count|" + layers))
	m := k.LayerCount(k.IntOr("decoder_block_count|"+decoderLayers, n))
	return arch.Spec{
		Kind: arch.EncoderDecoder, Prefix: "dec.", Layers: make([]arch.Layer, m),
		Encoder: &arch.Spec{Kind: arch.Encoder, Prefix: "enc.", Layers: make([]arch.Layer, n), Pool: arch.Pool{Kind: arch.PoolMean}},
	}
}
