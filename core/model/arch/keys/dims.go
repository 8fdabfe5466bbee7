package keys

import (
	"edged/core/model/arch"
)

// RequiredIf is the Presence of biases that a switch of a folder announces: Required where it is true; else
// they are taken where they are there.
func (k *Keys) RequiredIf(names string) arch.Presence {
	if k.Bool(names, false) {
		return arch.Required
	}
	return arch.Optional
}

// LayerCount is n, the number of layers to describe, once it is proved: out of bounds it is an error, and 0
// is returned, as after any error before.
func (k *Keys) LayerCount(n int) int {
	if k.err != nil {
		return 0
	}
	if n < 1 || n > arch.MaxLayers {
		k.fail(arch.ErrInvalid, "the number of layers is %d: want 1 to %d", n, arch.MaxLayers)
		return 0
	}
	return n
}

// Dims are the sizes that nearly every decoder has.
type Dims struct {
	Layers, Width  int
	Heads, KVHeads int
	HeadDim        int
	FFN            int
	Context        int
	Eps            float32
}

// Decoder reads the sizes of a decoder under the names that most configurations use.
func (k *Keys) Decoder() Dims {
	d := Dims{
		Layers:  k.Int("block_count|num_hidden_layers|n_layer|n_layers|num_layers"),
		Width:   k.Int("embedding_length|hidden_size|n_embd|d_model"),
		Heads:   k.Int("attention.head_count|num_attention_heads|n_head|n_heads"),
		FFN:     k.Int("feed_forward_length|intermediate_size|n_inner|ffn_dim"),
		Context: k.Int("context_length|max_position_embeddings|n_positions|max_seq_len"),
	}
	d.KVHeads = k.IntOr("attention.head_count_kv|num_key_value_heads", d.Heads)
	d.HeadDim = k.HeadDim(d.Width, d.Heads)
	return d
}

// Attention is attention of these sizes without any switch, at the given positions (nil: it knows none).
func (d *Dims) Attention(position arch.Position) arch.Attention {
	return arch.Attention{Heads: d.Heads, KVHeads: d.KVHeads, KeyDim: d.HeadDim, ValueDim: d.HeadDim, Position: position}
}

// DecoderSpec is a Spec without layers yet: with the norm before the head, and the head tied to the embedding
// where the container has none and a folder says so, or says nothing and tied is what its class means.
func (k *Keys) DecoderSpec(d *Dims, norm arch.Norm, tied bool) arch.Spec {
	return arch.Spec{Width: d.Width, Context: d.Context, Norm: norm, Head: arch.Head{Tied: k.Tied(tied), Bias: arch.Absent}}
}

// HeadDim reads the size of a head, which is width / heads where the file does not say.
func (k *Keys) HeadDim(width, heads int) int {
	const names = "attention.key_length|head_dim"
	n := 0
	switch {
	case k.err != nil:
	case k.Has(names):
		n = k.Int(names)
	case heads < 1 || width%heads != 0:
		k.Invalid(
			"%s %d is no multiple of the %d attention heads, and %s is missing",
			k.Say("embedding_length|hidden_size"),
			width,
			heads,
			k.Say(names),
		)
	default:
		n = width / heads
	}
	if v := k.IntOr("attention.value_length|", n); v != n {
		k.Unsupported("keys of %d and values of %d dimensions", n, v)
	}
	return n
}

// RMSEps reads the epsilon of RMS norms.
func (k *Keys) RMSEps() float32 {
	return float32(k.Float("attention.layer_norm_rms_epsilon|rms_norm_eps"))
}

// LNEps reads the epsilon of LayerNorms; a folder that does not say means def.
func (k *Keys) LNEps(def float64) float32 {
	if k.IsGGUF() {
		return float32(k.Float("attention.layer_norm_epsilon|"))
	}
	return float32(k.FloatOr("|layer_norm_eps|layer_norm_epsilon|norm_epsilon|norm_eps", def))
}

// Drafts is the number of layers behind the last that guess further tokens.
func (k *Keys) Drafts() int { return k.IntOr("nextn_predict_layers|num_nextn_predict_layers", 0) }

// DraftsCounted is how many of them the number of layers includes: all in a file, none in a folder.
func (k *Keys) DraftsCounted() int {
	if k.IsGGUF() {
		return k.Drafts()
	}
	return 0
}
