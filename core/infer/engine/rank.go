package engine

import (
	"context"
	"errors"
	"fmt"

	"edged/core/infer/engine/answer"
	"edged/core/infer/engine/encode"
	"edged/core/infer/transformer"
	"edged/core/model/arch"
	"edged/core/protocol"
	"edged/core/protocol/backend"
)

var (
	_ backend.Ranker = (*Engine)(nil)
	_ backend.Filler = (*Engine)(nil)
)

// Rank says how well the two texts of each list fit: of a cross-encoder by the head that its files hold, of a
// decoder that was trained to rank by that of two answers, and of any decoder by the logits of two answers
// that the request names.
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
		logits, err = m.network.CrossScores(ctx, &req)
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
		logits, err = m.answerScores(ctx, req.Lists, yes, no)
	}
	if err != nil {
		return nil, err
	}
	out := make([]backend.Rank, len(logits))
	for i, x := range logits {
		if x-x != 0 {
			return nil, answer.BadLogits(encode.ErrNoDirection)
		}
		if out[i] = (backend.Rank{Logit: x, Score: x}); act == arch.Logistic {
			out[i].Score = transformer.Logistic(x)
		}
	}
	return out, nil
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
	return m.network.Score(ctx, rows)
}

// answerScores are the differences of the logits for two answers behind each list. Each answer is forced and
// its log-probability taken, whose difference is that of the logits; the second finds the list's pages in the
// prefix cache.
func (m *loaded) answerScores(ctx context.Context, lists [][]int32, yes, no int32) ([]float32, error) {
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

// Fill guesses masked tokens.
func (e *Engine) Fill(ctx context.Context, req backend.FillRequest) ([][][]backend.Guess, error) {
	m, err := e.current()
	if err != nil {
		return nil, err
	}
	return m.network.Fill(ctx, req)
}
