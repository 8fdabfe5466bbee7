package keys

import (
	"strconv"

	"edged/core/model/arch"
)

// ScoreOf reads the head of a cross-encoder from the tensors that are there: a layer with act, maybe with a
// norm, before the last one. nil: there is none.
func (k *Keys) ScoreOf(width int, pool arch.PoolKind, act arch.Act, norm arch.Norm) *arch.Score {
	out := k.Shape(arch.ScoreOut + ".weight")
	if len(out) != 2 {
		if out != nil {
			k.Invalid("the score head has shape %v: want a matrix", out)
		}
		return nil
	}
	labels := out[0]
	if labels != 1 {
		k.Unsupported("a classifier of %d labels: only one that says how well two texts fit is served", labels)
		return nil
	}
	if !k.HasTensor(arch.ScoreName + ".weight") {
		k.Unsupported(
			"the file has lost the layer between the first state and the classifier, without which its scores mean nothing: take the model's folder",
		)
		return nil
	}
	first := arch.Step{Name: arch.ScoreName, In: width, Out: width, Act: act}
	if k.HasTensor(arch.ScoreNorm + ".weight") {
		first.Norm = norm
	}
	return &arch.Score{
		Pool:  pool,
		Steps: []arch.Step{first, {Name: arch.ScoreOut, In: width, Out: labels, Act: arch.Act{Kind: arch.Identity}}},
	}
}

// MaskOf reads the head of a model that fills masks, whose layer has the given name; nil: there is none.
func (k *Keys) MaskOf(width int, name string, act arch.Act, norm arch.Norm) *arch.Mask {
	if !k.HasTensor(name+".weight") || k.HasTensor(arch.ScoreOut+".weight") {
		return nil
	}
	return &arch.Mask{Steps: []arch.Step{{Name: name, In: width, Out: width, Act: act, Norm: norm}}}
}

// Denses reads a file's dense layers behind the pooling, which llama.cpp numbers as modules.json does; a
// folder has a file for each.
func (k *Keys) Denses() []arch.Step {
	if !k.IsGGUF() {
		return nil
	}
	var out []arch.Step
	for n := 2; n < 10; n++ {
		name := arch.DensePrefix + strconv.Itoa(n)
		if shape := k.Shape(name + ".weight"); len(shape) == 2 {
			out = append(out, arch.Step{Name: name, In: shape[1], Out: shape[0], Act: arch.Act{Kind: arch.Identity}})
		}
	}
	return out
}

// Answers reads the head of a file's decoder that was trained to rank: llama.cpp's converter keeps the rows
// of its head for the two answers, that for first. nil: there is none.
func (k *Keys) Answers(width int) *arch.Score {
	shape := k.Shape(arch.ScoreOut + ".weight")
	if !k.IsGGUF() || shape == nil {
		return nil
	}
	if len(shape) != 2 || shape[0] != 2 {
		k.Unsupported("a score head of shape %v: one for two answers is served", shape)
		return nil
	}
	return &arch.Score{
		Pool:  arch.PoolLast,
		Steps: []arch.Step{{Name: arch.ScoreOut, In: width, Out: 2, Act: arch.Act{Kind: arch.Identity}}},
	}
}

// EncoderSpec is the Spec of an encoder without layers yet.
func (k *Keys) EncoderSpec(d *Dims) arch.Spec {
	s := arch.Spec{Kind: arch.Encoder, Width: d.Width, Context: d.Context, Pool: k.Pool(), Dense: k.Denses()}
	if types := k.Shape(arch.TypesName); len(types) > 0 {
		s.Embed.Types = types[0]
	}
	if k.Has("attention.causal|") && k.Bool("attention.causal|", false) {
		k.Unsupported("%s is true: this family is served as an encoder", k.Say("attention.causal|"))
	}
	return s
}

// Pool reads a file's pooling, of which a vector of length 1 is made, as llama.cpp's programs do. What a
// folder means stands beside its config.json, where package weights reads it.
func (k *Keys) Pool() arch.Pool {
	p := arch.Pool{Kind: arch.PoolMean, Normalize: k.IsGGUF()}
	switch n := k.IntOr("pooling_type|", 1); n {
	case 0:
		p.Kind = arch.PoolNone
	case 1:
	case 2:
		p.Kind = arch.PoolCLS
	case 3:
		p.Kind = arch.PoolLast
	case 4: // ranks pairs of texts: see ScoreOf
		if p.Kind = arch.PoolNone; !k.HasTensor(arch.ScoreOut + ".weight") {
			k.Invalid("%s is 4, a model that ranks pairs of texts, and tensor %s.weight is missing", k.Say("pooling_type|"), arch.ScoreOut)
		}
	default:
		k.Unsupported("%s is %d: the known ones are 0 to 4", k.Say("pooling_type|"), n)
	}
	return p
}

// DecoderPool is how a decoder's states become a vector: the mean, unless the file of one that was trained
// for embeddings says otherwise. A reranker's is for another purpose.
func (k *Keys) DecoderPool() arch.PoolKind {
	switch k.FloatOr("pooling_type|", 1) {
	case 2:
		return arch.PoolCLS
	case 3:
		return arch.PoolLast
	default:
		return arch.PoolMean
	}
}
