package decoders

import (
	"encoding/json"
	"math"

	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/core/model/arch/keys"
)

// gemma3n is Gemma 3n, its text part (Google DeepMind 2025): gemma3 with four streams instead of one, of
// which each layer computes one and corrects the others (AltUp), a low-rank branch beside attention (Laurel),
// networks of which the first cut most of their gate off, rows of a table for every layer, and last layers
// that read the keys and values of the last layer before that is of their own kind. Norms are stored as they
// are, with their 1.
func gemma3n() family.Family {
	return family.Family{
		Names: []string{"gemma3n", "gemma3n_text"},
		GGUF:  "gemma3n",
		Modules: append(family.ModulesOf(
			"model.altup_projections.N", "altup_proj.N",
			"model.altup_unembed_projections.N", "altup_unembd_proj.N",
		), perLayerModules().With(
			".altup.correct_output_scale", "altup_correct_scale",
			".altup.correction_coefs", "altup_correct_coef",
			".altup.prediction_coefs", "altup_predict_coef",
			".altup.modality_router", "altup_router",
			".altup.router_norm", "altup_router_norm",
			".laurel.linear_left", "laurel_l",
			".laurel.linear_right", "laurel_r",
			".laurel.post_laurel_norm", "laurel_post_norm",
		)...),
		Spec: func(k *keys.Keys) arch.Spec {
			k.Defaults(map[string]any{
				"num_attention_heads":     json.Number("8"),
				"num_key_value_heads":     json.Number("2"),
				"head_dim":                json.Number("256"),
				"max_position_embeddings": json.Number("32768"),
				"rms_norm_eps":            json.Number("1e-6"),
				"sliding_window":          json.Number("512"),
				"hidden_size_per_layer_input": json.Number(
					"256",
				),
				"num_kv_shared_layers": json.Number("15"),
				"laurel_rank":          json.Number("64"),
				"altup_num_inputs":     json.Number("4"),
			})
			d := gemmaDims(k)
			d.KVHeads, d.HeadDim = k.Int("attention.head_count_kv|num_key_value_heads"), k.HeadDim(d.Width, d.Heads)
			layers := k.LayerCount(d.Layers)
			s := k.DecoderSpec(&d, arch.RMS("output_norm", d.Eps), true)
			s.Embed.Scale = float32(math.Sqrt(float64(d.Width)))
			if s.Embed.PerLayer = perLayerRows(k, layers, d.Eps); s.Embed.PerLayer.Width == 0 {
				k.Unsupported("no rows for its layers")
			}
			s.Head.Cap = softCap(k, "final_logit_softcapping|final_logit_softcapping", 30)
			if !k.Has("|final_logit_softcapping") && !k.IsGGUF() {
				s.Head.Cap = 30
			}
			streams := arch.AltUp{Streams: k.IntOr("altup.num_inputs|altup_num_inputs", 4), Eps: d.Eps}
			if n := k.IntOr("altup.active_idx|altup_active_idx", 0); n != 0 {
				k.Unsupported("%s is %d: want 0", k.Say("altup.active_idx|altup_active_idx"), n)
			}
			act := k.ActOf("|hidden_activation", arch.GELUTanh)
			correct := arch.AltUpCorrect{AltUp: streams, Act: act, Scaled: k.Bool("|altup_correct_scale", true)}
			laurel := arch.Laurel{Rank: laurelRank(k), Eps: d.Eps}
			a := d.Attention(nil)
			a.Scale, a.QKNorm, a.ValueEps = 1, arch.QKNorm{Of: arch.PerHead, Kind: arch.RMSNorm, Eps: d.Eps}, d.Eps
			a.QKVBias, a.OutBias = k.RequiredIf("|attention_bias"), k.RequiredIf("|attention_bias")
			full := k.Rope(keys.RopeOf{HeadDim: d.HeadDim, Kind: "full_attention", Theta: 1e6})
			near := k.Rope(
				keys.RopeOf{HeadDim: d.HeadDim, Kind: "sliding_attention", Base: "rope.freq_base_swa|rope_local_base_freq", Plain: true},
			)
			windows := k.Windows(d.Layers, keys.EveryNth(5))
			sliding := make([]bool, len(windows))
			for i, w := range windows {
				sliding[i] = w > 0
			}
			from, hidden := sharers3n(k, sliding), k.IntsOr("feed_forward_length|intermediate_size", layers)
			sparse, cut := gateCuts(k, layers)
			const half = math.Sqrt2 / 2
			for i := range min(layers, len(windows), len(hidden)) {
				a.From, a.Window, a.Position = from[i], windows[i], full
				if a.Window > 0 {
					a.Position = near
				}
				if a.ValueEps = d.Eps; a.From > 0 {
					a.ValueEps = 0
				}
				layer := arch.Layer{
					{Op: arch.AltUpPredict(streams)},
					{Pre: arch.RMS("attn_norm", d.Eps), Op: a, Post: arch.RMS("post_attention_norm", d.Eps), Keep: half, Scale: half},
					{Op: laurel, Wire: arch.Shared, Scale: half},
					{
						Pre:  arch.RMS("ffn_norm", d.Eps),
						Op:   arch.GLU{Hidden: hidden[i], Act: act, Sparse: sparse[i], Cut: cut[i]},
						Post: arch.RMS("post_ffw_norm", d.Eps),
					},
					{Op: correct},
				}
				if i == 0 {
					layer = append(arch.Layer{{Op: arch.AltUpSpread{Streams: streams.Streams}}}, layer...)
				}
				if i == layers-1 {
					mean := 1 / float32(streams.Streams)
					layer = append(layer, arch.Sub{Op: arch.AltUpGather{Streams: streams.Streams}, Keep: mean, Scale: mean})
				}
				s.Add(layer...)
			}
			if k.IsGGUF() {
				s.Fixes = []arch.Fix{
					arch.Stack{Of: "altup_proj", Into: []string{"altup_proj.N"}},
					arch.Stack{Of: "altup_unembd_proj", Into: []string{"altup_unembd_proj.N"}},
				}
			}
			return s
		},
	}
}

// sharers3n are the layers whose keys and values others read. llama.cpp lets the first 20 layers of any file
// have their own, which a file without the key means.
func sharers3n(k *keys.Keys, sliding []bool) []int {
	if !k.IsGGUF() || k.Has("attention.shared_kv_layers|") {
		return sharers(k, sliding)
	}
	return sharersFrom(k, sliding, 20)
}

// laurelRank is the rank of the low-rank branch, of which a file's tensor tells.
func laurelRank(k *keys.Keys) int {
	if shape := k.Shape(arch.LayerName(0, "laurel_l.weight")); k.IsGGUF() && len(shape) == 2 {
		return shape[0]
	}
	return k.IntOr("|laurel_rank", 64)
}

// gateCuts says which layers cut their gate off, and by how many deviations above its mean. A folder says
// which share is cut, of values that are distributed normally. Where a container does not say it is the first
// ten layers by 0.95, which a file means in any case as llama.cpp reads it.
func gateCuts(k *keys.Keys, layers int) (sparse []bool, cut []float32) {
	sparse, cut = make([]bool, layers), make([]float32, layers)
	shares, deviations := k.Floats("|activation_sparsity_pattern"), k.Floats("activation_sparsity_scale|")
	for i := range sparse {
		share := 0.0
		switch {
		case i < len(deviations):
			sparse[i] = deviations[i] > -math.MaxFloat32
			cut[i] = float32(deviations[i])
			continue
		case i < len(shares):
			share = shares[i]
		case shares == nil && deviations == nil && layers > 10 && i < 10:
			share = 0.95
		}
		if !(share >= 0 && share < 1) {
			k.Invalid("activation_sparsity_pattern has %g: want a share of 1", share)
			return sparse, cut
		}
		sparse[i] = share > 0
		cut[i] = float32(math.Sqrt2 * math.Erfinv(2*share-1))
	}
	for i := range cut {
		if !sparse[i] {
			cut[i] = 0
		}
	}
	return sparse, cut
}
