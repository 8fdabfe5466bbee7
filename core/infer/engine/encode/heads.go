package encode

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"edged/core/infer/engine/answer"
	"edged/core/infer/sample"
	"edged/core/model/arch"
	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// CrossScores are the logits of an encoder's head that scores pairs of texts.
func (n *Network) CrossScores(ctx context.Context, req *backend.RankRequest) ([]float32, error) {
	w, kind := n.Width, n.Spec.Score.Pool
	var rows []float32
	if err := n.texts(ctx, "rank", req.Lists, req.Types, func(_ int, states []float32) error {
		v, err := pooled(kind, states, w)
		rows = append(rows, v...)
		return err
	}); err != nil || len(rows) == 0 {
		return nil, err
	}
	return n.Score(ctx, rows)
}

// Score gives the logit of each row of states, which together are (rows, Width), by the model's head.
func (n *Network) Score(ctx context.Context, rows []float32) (out []float32, err error) {
	err = n.compute(ctx, "rank", func() (err error) {
		out, err = n.Model.Score(rows)
		return err
	})
	return out, err
}

// Normalize scales a vector to length 1; false: it has no direction.
func Normalize(v []float32) bool {
	sum := 0.0
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	norm := math.Sqrt(sum)
	if !(norm > 0) || math.IsInf(norm, 0) {
		return false
	}
	for i, x := range v {
		v[i] = float32(float64(x) / norm)
	}
	return true
}

// Bounds of one FillRequest.
const (
	defaultGuesses = 5
	guessRows      = 32 // positions whose logits are held at once
)

// Fill guesses masked tokens.
func (n *Network) Fill(ctx context.Context, req backend.FillRequest) ([][][]backend.Guess, error) {
	if n == nil || n.Spec.Mask == nil {
		kind := arch.Decoder
		if n != nil {
			kind = n.Spec.Kind
		}
		return nil, fmt.Errorf(
			"engine: fill: %w: the model, of the kind %s, has no head that guesses masked tokens",
			protocol.ErrUnsupported,
			kind,
		)
	}
	top := cmp.Or(req.Top, defaultGuesses)
	switch {
	case top < 0 || top > answer.MaxTop:
		return nil, fmt.Errorf("engine: fill: %w: top: %d: want 1 to %d", protocol.ErrInvalid, req.Top, answer.MaxTop)
	case len(req.Positions) != len(req.Lists):
		return nil, fmt.Errorf(
			"engine: fill: %w: positions: %d lists for %d texts",
			protocol.ErrInvalid,
			len(req.Positions),
			len(req.Lists),
		)
	}
	for i, at := range req.Positions {
		for _, p := range at {
			if p < 0 || int(p) >= len(req.Lists[i]) {
				return nil, fmt.Errorf(
					"engine: fill: %w: positions: %d is outside the text's %d tokens",
					protocol.ErrInvalid,
					p,
					len(req.Lists[i]),
				)
			}
		}
	}
	w := n.Width
	out := make([][][]backend.Guess, len(req.Lists))
	err := n.texts(ctx, "fill", req.Lists, req.Types, func(i int, states []float32) error {
		for at := range slices.Chunk(req.Positions[i], guessRows) {
			var rows []float32
			for _, p := range at {
				rows = append(rows, states[int(p)*w:(int(p)+1)*w]...)
			}
			var logits []float32
			if err := n.compute(ctx, "fill", func() (err error) {
				logits, err = n.Model.Guess(rows)
				return err
			}); err != nil {
				return err
			}
			for row := range slices.Chunk(logits, n.Rows) {
				g, err := guesses(row, top)
				if err != nil {
					return answer.BadLogits(err)
				}
				out[i] = append(out[i], g)
			}
		}
		return nil
	})
	return out, err
}

// guesses are the likeliest tokens of a row of logits; of equal ones the first comes first.
func guesses(logits []float32, top int) ([]backend.Guess, error) {
	norm, err := sample.LogNorm(logits)
	if err != nil {
		return nil, err
	}
	var best []int32
	for id, x := range logits {
		if len(best) == top && !(x > logits[best[top-1]]) {
			continue
		}
		at, _ := slices.BinarySearchFunc(best, x, func(e int32, x float32) int {
			if logits[e] >= x {
				return -1
			}
			return 1
		})
		if len(best) == top {
			best = best[:top-1]
		}
		best = slices.Insert(best, at, int32(id))
	}
	out := make([]backend.Guess, len(best))
	for i, id := range best {
		out[i] = backend.Guess{ID: id, Prob: sample.Probability(sample.Logprob(logits[id], norm))}
	}
	return out, nil
}
