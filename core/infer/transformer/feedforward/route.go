package feedforward

import (
	"math"

	"edged/core/infer/transformer/batch"
	"edged/core/infer/transformer/parts"
	"edged/core/model/arch"
	"edged/quant/kernel"
)

// choose fills picked with the experts of a row and their weights, from its router logits, which it
// overwrites. scratch has room for as many values. Of equal scores the expert of the lower number counts.
//
// The order of steps is that of transformers' routers and llama.cpp's build_moe_ffn: scores from logits, the
// correction and the groups for the choice only, weights from the uncorrected scores.
func (l *Experts) choose(picked []batch.Pick, logits, scratch []float32) {
	switch l.how.Kind {
	case arch.SparseMixer:
		sparseMixer(picked, logits, scratch, l.how.Jitter)
		return
	case arch.Softmax:
		softmax(logits)
	case arch.Sigmoid:
		for e, v := range logits {
			logits[e] = sigmoid(v)
		}
	}
	scores := logits
	if l.corrected != nil || l.how.Groups > 1 {
		scores = scratch[:len(logits)]
		copy(scores, logits)
		for e, c := range l.corrected {
			scores[e] += c
		}
		if l.how.Groups > 1 {
			keepGroups(scores, l.how.Groups, l.how.UsedGroups, l.how.BestOfGroup)
		}
	}
	for i := range picked {
		best := largest(scores, picked[:i])
		picked[i] = batch.Pick{Expert: best, Weight: logits[best]}
	}
	if l.how.Kind == arch.SoftmaxChosen {
		overChosen(picked)
	}
	l.weigh(picked)
}

// weigh normalises and scales the weights of the chosen.
func (l *Experts) weigh(picked []batch.Pick) {
	if l.how.Normalise {
		sum := float32(0)
		for i := range picked {
			sum += picked[i].Weight
		}
		sum = max(sum+l.how.Add, l.how.Least)
		for i := range picked {
			picked[i].Weight /= sum
		}
	}
	if f := parts.Factor(l.how.Scale); f != 1 {
		for i := range picked {
			picked[i].Weight *= f
		}
	}
}

// overChosen turns the logits of the chosen into their soft-max. The first is the largest.
func overChosen(picked []batch.Pick) {
	top, sum := picked[0].Weight, float32(0)
	for i := range picked {
		picked[i].Weight = kernel.Exp(picked[i].Weight - top)
		sum += picked[i].Weight
	}
	for i := range picked {
		picked[i].Weight /= sum
	}
}

// softmax turns logits into probabilities.
func softmax(x []float32) {
	top := x[0]
	for _, v := range x {
		top = max(top, v)
	}
	sum := float32(0)
	for i, v := range x {
		x[i] = kernel.Exp(v - top)
		sum += x[i]
	}
	for i := range x {
		x[i] /= sum
	}
}

// largest is the index of the largest value that is not picked yet.
func largest(x []float32, picked []batch.Pick) int {
	best := -1
	for e, v := range x {
		if !taken(picked, e) && (best < 0 || v > x[best]) {
			best = e
		}
	}
	return best
}

func taken(picked []batch.Pick, e int) bool {
	for _, p := range picked {
		if p.Expert == e {
			return true
		}
	}
	return false
}

// keepGroups takes all but the best groups out of the choice: a group is as good as the sum of its best
// scores. Theirs become -∞ and not 0, as in DeepSeek-V2 alone, whose scores are never below: with a
// correction those of a kept group can be.
func keepGroups(scores []float32, groups, used, best int) {
	size := len(scores) / groups
	var keep, worth [arch.MaxGroups]float32
	for g := range groups {
		worth[g] = bestSum(scores[g*size:(g+1)*size], best)
	}
	for range used {
		at := -1
		for g := range groups {
			if keep[g] == 0 && (at < 0 || worth[g] > worth[at]) {
				at = g
			}
		}
		keep[at] = 1
	}
	for g := range groups {
		if keep[g] == 0 {
			for i := range scores[g*size : (g+1)*size] {
				scores[g*size+i] = float32(math.Inf(-1))
			}
		}
	}
}

// bestSum adds up the n largest values, of which there are one or two.
func bestSum(x []float32, n int) float32 {
	first, second := float32(math.Inf(-1)), float32(math.Inf(-1))
	for _, v := range x {
		switch {
		case v > first:
			first, second = v, first
		case v > second:
			second = v
		}
	}
	if n < 2 || len(x) < 2 {
		return first
	}
	return first + second
}

// sparseMixer picks two experts, each with its probability among those whose logit is near enough to its own
// (Liu et al. 2023, as PhiMoE computes it): the second is looked for without the first.
func sparseMixer(picked []batch.Pick, logits, scratch []float32, jitter float32) {
	near := scratch[:len(logits)]
	for i := range picked {
		best := largest(logits, picked[:i])
		top := logits[best]
		sum := float32(0)
		for e, v := range logits {
			near[e] = 0
			if taken(picked[:i], e) || (top-v)/max(abs(v), top) > 2*jitter {
				continue
			}
			near[e] = kernel.Exp(v - top)
			sum += near[e]
		}
		picked[i] = batch.Pick{Expert: best, Weight: near[best] / sum}
	}
}

func abs(x float32) float32 { return float32(math.Abs(float64(x))) }

// sigmoid is 1 / (1 + e⁻ˣ).
func sigmoid(x float32) float32 {
	f := kernel.Func{Kind: kernel.Sigmoid}
	return f.Of(x)
}

// dot is the sum of products, in order; the conversions keep a compiler from fusing a product and a sum on
// some processors only.
func dot(a, b []float32) float32 {
	sum := float32(0)
	for i := range a {
		sum += float32(a[i] * b[i])
	}
	return sum
}
