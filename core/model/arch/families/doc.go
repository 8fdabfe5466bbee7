// Package families is the table of the model families that are served. Each is a file in one of the packages
// below: decoders, mixtures (experts in most layers), recurrent (a state of fixed size) and encoders (with
// the encoder-decoders). This is the only part of the module that names families.
//
// The table does not change and may be read concurrently.
//
// # How to add a family
//
// One file, named after the family, with a function that returns a family.Family, and a line for it in the
// package's all.go. Look at the model's code in transformers for what it computes, and write down only that:
//
//	// olmo2 is OLMo 2 (OLMo Team 2025): llama with the norms behind attention and network instead of before them, and an
//	// RMSNorm over all queries and all keys of a row.
//	func olmo2() family.Family {
//		return family.Family{
//			Names: []string{"olmo2"}, // general.architecture and model_type
//			// Hugging Face name, GGUF name; the first that fits counts
//			Modules: family.DecoderModules().With(
//				".post_attention_layernorm", "post_attention_norm",
//				".post_feedforward_layernorm", "post_ffw_norm",
//			),
//			Spec: func(k *keys.Keys) arch.Spec {
//				d, eps := k.Decoder(), k.RMSEps()
//				s := k.DecoderSpec(&d, arch.RMS("output_norm", eps), false)
//				a := d.Attention(k.Rope(keys.RopeOf{HeadDim: d.HeadDim}))
//				a.QKNorm = arch.QKNorm{Of: arch.WholeRow, Kind: arch.RMSNorm, Eps: eps}
//				ffn := arch.GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_act", arch.SiLU)}
//				for range k.LayerCount(d.Layers) {
//					s.Add(
//						arch.Sub{Post: arch.RMS("post_attention_norm", eps), Op: a},
//						arch.Sub{Post: arch.RMS("post_ffw_norm", eps), Op: ffn},
//					)
//				}
//				return s
//			},
//		}
//	}
//
// The first sentence of the comment becomes the family's line in docs/models.md. Rules that save an hour each:
//
//   - Names of keys are alternatives: "GGUF key without its architecture|config.json key|another". A part that a container has
//     not got stays empty: "|hidden_act", "expert_count|".
//   - Norms and matrices carry their GGUF names without the layer's prefix. A Norm without a name has no weight.
//   - Biases are taken wherever the file has them (Optional, the zero value). Required makes their absence an error, Absent
//     their presence.
//   - Whether q and k rows are rotated in adjacent pairs depends on the container where llama.cpp's converter permutes them:
//     Adjacent: k.IsGGUF() with Family.Permuted, which also permutes adapters. Where both containers are adjacent: Adjacent: true.
//   - What a GGUF file cannot say is what llama.cpp assumes, with a comment.
//   - A setting that the Spec cannot express is refused with Keys.Unsupported, never passed over.
//   - A folder's head counts wherever it is in the file: Head{Tied: k.Tied(default of the class)}.
//
// A family that needs an operation that is not there yet: see package arch.
//
// The judge is the reference implementation: TestFamilies of package transformer holds every family against
// transformers' logits, in both containers.
package families
