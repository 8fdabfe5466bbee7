package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"edged/core/infer/engine/answer"
	"edged/core/infer/sample"
	"edged/core/infer/transformer"
	"edged/core/model/arch"
	"edged/core/protocol"
	"edged/core/protocol/backend"
)

var (
	_ backend.Ranker = (*Engine)(nil)
	_ backend.Filler = (*Engine)(nil)
)

// Rank says how well the two texts of each list fit: of a cross-encoder by the head that its files hold, of a decoder that was trained
// to rank by that of two answers, and of any decoder by the logits of two answers that the request names.
func (e *Engine) Rank(ctx context.Context, req backend.RankRequest) ([]backend.Rank, error) {
	m, err := e.current()
	if err != nil {
		return nil, err
	}
	if m.file == nil {
		return nil, fmt.Errorf("engine: rank: %w", protocol.ErrUnsupported)
	}
	spec := m.file.Spec
	score := spec.Score
	var logits []float32
	act := arch.Logistic
	switch {
	case spec.Kind == arch.EncoderDecoder:
		return nil, m.decodes("ranking")
	case spec.Kind == arch.Encoder && score == nil:
		return nil, fmt.Errorf("engine: rank: %w: the model is an %s without a head that says how well two texts fit", protocol.ErrUnsupported, arch.Encoder)
	case spec.Kind == arch.Encoder:
		act = score.Act
		logits, err = m.crossScores(ctx, &req)
	case req.Types != nil:
		return nil, fmt.Errorf("engine: rank: %w: types: the model is a %s, whose tokens have none", protocol.ErrInvalid, arch.Decoder)
	case score != nil && len(score.Steps) > 0:
		logits, err = m.lastScores(ctx, req.Lists)
	default:
		yes, no := req.Yes, req.No
		if yes == no && score != nil {
			yes, no = score.Yes, score.No
		}
		if yes == no {
			return nil, fmt.Errorf("engine: rank: %w: the model is a %s: say which tokens are its answers for and against", protocol.ErrUnsupported, arch.Decoder)
		}
		logits, err = m.judged(ctx, req.Lists, yes, no)
	}
	if err != nil {
		return nil, err
	}
	out := make([]backend.Rank, len(logits))
	for i, x := range logits {
		if x-x != 0 {
			return nil, damaged(errNoDirection)
		}
		if out[i] = (backend.Rank{Logit: x, Score: x}); act == arch.Logistic {
			out[i].Score = transformer.Logistic(x)
		}
	}
	return out, nil
}

// crossScores are the logits of an encoder's head.
func (m *loaded) crossScores(ctx context.Context, req *backend.RankRequest) ([]float32, error) {
	w, kind := m.width(), m.file.Spec.Score.Pool
	var rows []float32
	if err := m.texts(ctx, "rank", req.Lists, req.Types, func(_ int, states []float32) error {
		v, err := pooled(kind, states, w)
		rows = append(rows, v...)
		return err
	}); err != nil || len(rows) == 0 {
		return nil, err
	}
	return m.scored(ctx, rows)
}

func (m *loaded) scored(ctx context.Context, rows []float32) (out []float32, err error) {
	err = m.compute(ctx, "rank", func() (err error) {
		out, err = m.transformer().Score(rows)
		return err
	})
	return out, err
}

// lastScores are the logits of a decoder's head over the state of the last token.
func (m *loaded) lastScores(ctx context.Context, lists [][]int32) ([]float32, error) {
	var rows []float32
	for _, list := range lists {
		j, err := newEmbedding(list, m.file.Spec.Score.Pool, m.width(), m.size)
		if err != nil {
			return nil, err
		}
		if err := m.loop.follow(ctx, j, func(backend.Event) error { return nil }); err != nil {
			return nil, err
		}
		rows = append(rows, j.sum...)
	}
	if len(rows) == 0 {
		return nil, nil
	}
	return m.scored(ctx, rows)
}

// judged are the differences of the logits for two answers behind each list. Each answer is forced and its log-probability taken, whose
// difference is that of the logits; the second finds the list's pages in the prefix cache.
func (m *loaded) judged(ctx context.Context, lists [][]int32, yes, no int32) ([]float32, error) {
	v := m.vocab.Load()
	if v == nil {
		return nil, fmt.Errorf("engine: %w: no vocabulary was set", protocol.ErrNotLoaded)
	}
	out := make([]float32, len(lists))
	for i, list := range lists {
		for _, answer := range []struct {
			id   int32
			sign float32
		}{{yes, 1}, {no, -1}} {
			j, err := newJob(ctx, backend.Request{PromptIDs: list, ForcedIDs: []int32{answer.id}, MaxTokens: 1, Logprobs: true, IgnoreEOS: true}, v, m.size)
			if err != nil {
				return nil, err
			}
			if err := m.loop.follow(ctx, j, func(ev backend.Event) error {
				if !ev.Done {
					return nil
				}
				if len(ev.Choices) != 1 || len(ev.Choices[0].Logprobs) != 1 {
					return errors.New("engine: rank: an answer without its probability")
				}
				out[i] += answer.sign * ev.Choices[0].Logprobs[0].Logprob
				return nil
			}); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// Bounds of one FillRequest.
const (
	defaultGuesses = 5
	guessRows      = 32 // positions whose logits are held at once
)

// Fill guesses masked tokens.
func (e *Engine) Fill(ctx context.Context, req backend.FillRequest) ([][][]backend.Guess, error) {
	m, err := e.current()
	if err != nil {
		return nil, err
	}
	if m.file == nil || m.file.Spec.Mask == nil {
		kind := arch.Decoder
		if m.file != nil {
			kind = m.file.Spec.Kind
		}
		return nil, fmt.Errorf("engine: fill: %w: the model, of the kind %s, has no head that guesses masked tokens", protocol.ErrUnsupported, kind)
	}
	top := cmp.Or(req.Top, defaultGuesses)
	switch {
	case top < 0 || top > answer.MaxTop:
		return nil, fmt.Errorf("engine: fill: %w: top: %d: want 1 to %d", protocol.ErrInvalid, req.Top, answer.MaxTop)
	case len(req.Positions) != len(req.Lists):
		return nil, fmt.Errorf("engine: fill: %w: positions: %d lists for %d texts", protocol.ErrInvalid, len(req.Positions), len(req.Lists))
	}
	for i, at := range req.Positions {
		for _, p := range at {
			if p < 0 || int(p) >= len(req.Lists[i]) {
				return nil, fmt.Errorf("engine: fill: %w: positions: %d is outside the text's %d tokens", protocol.ErrInvalid, p, len(req.Lists[i]))
			}
		}
	}
	w := m.width()
	out := make([][][]backend.Guess, len(req.Lists))
	err = m.texts(ctx, "fill", req.Lists, req.Types, func(i int, states []float32) error {
		for at := range slices.Chunk(req.Positions[i], guessRows) {
			var rows []float32
			for _, p := range at {
				rows = append(rows, states[int(p)*w:(int(p)+1)*w]...)
			}
			var logits []float32
			if err := m.compute(ctx, "fill", func() (err error) {
				logits, err = m.transformer().Guess(rows)
				return err
			}); err != nil {
				return err
			}
			for row := range slices.Chunk(logits, m.size.Rows) {
				g, err := guesses(row, top)
				if err != nil {
					return damaged(err)
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
