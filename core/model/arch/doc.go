// Package arch says what a model computes: as data, a Spec, made from a file's hyper-parameters by one function for each family.
//
// Everything else derives from it. Package weights loads and proves exactly the tensors that Tensors lists and repairs them as
// Fixes says; package transformer compiles a Spec by the types of its operations; memory plans, caches, adapters and
// requantisation ask it for shapes and roles. None of them knows a family's name, and a test holds that.
//
// It holds no bytes and no arithmetic, and reads no file: Keys is handed what a container says. All of it is plain values, which
// may be read concurrently.
//
// # How to add a family
//
// One file, named after the family, with a function that returns a Family, and its line in families.go. Look at the model's code
// in transformers for what it computes, and write down only that:
//
//	// olmo2 is OLMo 2 (OLMo Team 2025): llama with the norms behind attention and network instead of before them, and an
//	// RMSNorm over all queries and all keys of a row.
//	func olmo2() Family {
//		return Family{
//			Names:   []string{"olmo2"},            // general.architecture and model_type
//			Modules: decoderModules().With(         // Hugging Face name, GGUF name; the first that fits counts
//				".post_attention_layernorm", "post_attention_norm",
//				".post_feedforward_layernorm", "post_ffw_norm",
//			),
//			read: func(k *Keys) Spec {
//				d, eps := k.Decoder(), k.RMSEps()
//				rope := k.Rope(RopeOf{HeadDim: d.HeadDim})
//				s := Spec{Width: d.Width, Context: d.Context, Norm: RMS("output_norm", eps), Head: Head{Tied: k.Tied(false), Bias: Absent}}
//				for range k.layers(d.Layers) {
//					s.Add(
//						Sub{Post: RMS("post_attention_norm", eps), Op: Attention{
//							Heads: d.Heads, KVHeads: d.KVHeads, KeyDim: d.HeadDim, ValueDim: d.HeadDim, Position: rope,
//							QKNorm: QKNorm{Of: WholeRow, Kind: RMSNorm, Eps: eps},
//						}},
//						Sub{Post: RMS("post_ffw_norm", eps), Op: GLU{Hidden: d.FFN, Act: k.ActOf("|hidden_act", SiLU)}},
//					)
//				}
//				return s
//			},
//		}
//	}
//
// Rules that save an hour each:
//
//   - Names of Keys are alternatives: "GGUF key without its architecture|config.json key|another". A part that a container has
//     not got stays empty: "|hidden_act", "expert_count|".
//   - Norms and matrices carry their GGUF names without the layer's prefix. A Norm without a name has no weight.
//   - Biases are taken wherever the file has them (Optional, the zero value). Required makes their absence an error, Absent
//     their presence.
//   - Whether q and k rows are rotated in adjacent pairs depends on the container where llama.cpp's converter permutes them:
//     Adjacent: k.IsGGUF() with Family.Permuted, which also turns adapters. Where both containers are adjacent: Adjacent: true.
//   - What a GGUF file cannot say is what llama.cpp assumes, with a comment.
//   - A setting that the Spec cannot express is refused with Keys.Unsupported, never passed over.
//   - A folder's head counts wherever it is in the file: Head{Tied: k.Tied(default of the class)}.
//
// A family that needs an operation that is not there yet: a struct in op.go, its tensors in tensors.go, its bounds in check.go,
// its memory in memory.go, and a file with its forward pass in package transformer, named in compile.go's switch.
//
// The judge is the reference implementation: TestFamilies of package transformer holds every family against transformers' logits,
// in both containers.
package arch
