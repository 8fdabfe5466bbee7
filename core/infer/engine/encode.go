package engine

import (
	"context"
	"fmt"

	"edged/core/infer/transformer"
	"edged/core/model/arch"
	"edged/core/protocol"
)

// encodeTokens is how many tokens an encoder computes before others have a turn: a list is never cut.
const encodeTokens = batchRows

// encode gives the vector of each list as the encoder's files say: its pooling, normalised or not. Several lists share a batch, and the
// loop's goroutine computes it between two turns, as it alone uses the model.
func (m *loaded) encode(ctx context.Context, lists [][]int32) ([][]float32, error) {
	pool, w := m.file.Spec.Pool, m.width()
	if pool.Kind == arch.PoolNone {
		return nil, fmt.Errorf("engine: embed: %w: the model's files ask for the vectors of all tokens, and a list has one here", protocol.ErrUnsupported)
	}
	for _, list := range lists {
		if _, err := newEmbedding(list, w, m.size); err != nil {
			return nil, err
		}
	}
	out := make([][]float32, 0, len(lists))
	for len(lists) > 0 {
		n, tokens := 1, len(lists[0])
		for n < len(lists) && tokens+len(lists[n]) <= encodeTokens {
			tokens += len(lists[n])
			n++
		}
		texts, states := make([]transformer.Text, n), make([]float32, tokens*w)
		for i, list := range lists[:n] {
			texts[i] = transformer.Text{IDs: list, States: states[:len(list)*w]}
			states = states[len(list)*w:]
		}
		var err error
		if stopped := m.loop.do(ctx, func() {
			if err = ctx.Err(); err == nil {
				err = m.encoder.Encode(texts)
			}
			m.loop.count.PromptTokens += uint64(tokens)
		}); stopped != nil {
			return nil, stopped
		}
		if err != nil {
			return nil, fmt.Errorf("engine: embed: %w", err)
		}
		for i := range texts {
			v, err := transformer.Pooled(pool.Kind, texts[i].States, w)
			if err != nil {
				return nil, fmt.Errorf("engine: embed: %w", err)
			}
			if pool.Normalize && !normalize(v) {
				return nil, damaged(errNoDirection)
			}
			for _, x := range v {
				if x-x != 0 {
					return nil, damaged(errNoDirection)
				}
			}
			out = append(out, v)
		}
		lists = lists[n:]
	}
	return out, nil
}
