package engine

import (
	"context"
	"fmt"

	"edged/core/infer/transformer"
	"edged/core/model/arch"
	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// encodeTokens is how many tokens an encoder computes before others have a turn: a list is never cut.
const encodeTokens = batchRows

// EmbedTexts is Embed for an encoder with what a request says otherwise than the model's files.
func (e *Engine) EmbedTexts(ctx context.Context, req backend.EmbedRequest) ([][]float32, error) {
	m, err := e.current()
	if err != nil {
		return nil, err
	}
	if m.encoder != nil {
		return m.encode(ctx, req)
	}
	if req.Types != nil || req.Pooling != "" || req.Normalize != nil {
		return nil, fmt.Errorf("engine: embed: %w: the model is a %s, and types, pooling and normalize are for an %s", protocol.ErrUnsupported, arch.Decoder, arch.Encoder)
	}
	return e.Embed(ctx, req.Lists)
}

// poolOf is how a request's vectors are made.
func (m *loaded) poolOf(req *backend.EmbedRequest) (arch.Pool, error) {
	pool := m.file.Spec.Pool
	kinds := map[string]arch.PoolKind{"": pool.Kind, backend.PoolNone: arch.PoolNone, "mean": arch.PoolMean, "cls": arch.PoolCLS, "last": arch.PoolLast}
	kind, ok := kinds[req.Pooling]
	switch {
	case !ok:
		return pool, fmt.Errorf("engine: embed: %w: pooling: %.40q: want mean, cls, last or none", protocol.ErrInvalid, req.Pooling)
	case kind == arch.PoolNone && req.Pooling == "":
		return pool, fmt.Errorf("engine: embed: %w: the model's files name no pooling: ask for mean, cls, last or none", protocol.ErrUnsupported)
	}
	pool.Kind = kind
	if req.Normalize != nil {
		pool.Normalize = *req.Normalize
	} else if kind == arch.PoolNone { // the rows of all tokens are what the network gives
		pool.Normalize = false
	}
	return pool, nil
}

// checkTypes refuses token types that do not belong to the lists.
func (m *loaded) checkTypes(req *backend.EmbedRequest) error {
	if req.Types != nil && len(req.Types) != len(req.Lists) {
		return fmt.Errorf("engine: embed: %w: types: %d lists for %d texts", protocol.ErrInvalid, len(req.Types), len(req.Lists))
	}
	most := max(m.file.Spec.Embed.Types, 1)
	for i, types := range req.Types {
		if len(types) != len(req.Lists[i]) {
			return fmt.Errorf("engine: embed: %w: types: %d for a text of %d tokens", protocol.ErrInvalid, len(types), len(req.Lists[i]))
		}
		for _, t := range types {
			if t < 0 || int(t) >= most {
				return fmt.Errorf("engine: embed: %w: types: %d is outside the model's %d", protocol.ErrInvalid, t, most)
			}
		}
	}
	return nil
}

// encode gives the vector of each list as the encoder's files say, or the request. Several lists share a batch, and the
// loop's goroutine computes it between two turns, as it alone uses the model.
func (m *loaded) encode(ctx context.Context, req backend.EmbedRequest) ([][]float32, error) {
	pool, err := m.poolOf(&req)
	if err != nil {
		return nil, err
	}
	w := m.width()
	for _, list := range req.Lists {
		if _, err := newEmbedding(list, pool.Kind, w, m.size); err != nil {
			return nil, err
		}
	}
	if err := m.checkTypes(&req); err != nil {
		return nil, err
	}
	out := make([][]float32, 0, len(req.Lists))
	for at := 0; at < len(req.Lists); {
		lists := req.Lists[at:]
		n, tokens := 1, len(lists[0])
		for n < len(lists) && tokens+len(lists[n]) <= encodeTokens {
			tokens += len(lists[n])
			n++
		}
		texts, states := make([]transformer.Text, n), make([]float32, tokens*w)
		for i, list := range lists[:n] {
			texts[i] = transformer.Text{IDs: list, States: states[:len(list)*w]}
			if req.Types != nil {
				texts[i].Types = req.Types[at+i]
			}
			states = states[len(list)*w:]
		}
		if err := m.compute(ctx, texts, tokens); err != nil {
			return nil, err
		}
		for i := range texts {
			v, err := vectorOf(pool, texts[i].States, w)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		at += n
	}
	return out, nil
}

// compute fills in the states of texts.
func (m *loaded) compute(ctx context.Context, texts []transformer.Text, tokens int) error {
	var failed error
	if err := m.loop.do(ctx, func() {
		if failed = ctx.Err(); failed != nil {
			return
		}
		failed = m.encoder.Encode(texts)
		m.loop.count.PromptTokens += uint64(tokens)
	}); err != nil {
		return err
	}
	if failed != nil {
		return fmt.Errorf("engine: embed: %w", failed)
	}
	return nil
}

// vectorOf makes what is answered of a text's states.
func vectorOf(pool arch.Pool, states []float32, w int) ([]float32, error) {
	v := states
	if pool.Kind != arch.PoolNone {
		var err error
		if v, err = transformer.Pooled(pool.Kind, states, w); err != nil {
			return nil, fmt.Errorf("engine: embed: %w", err)
		}
	}
	for _, x := range v {
		if x-x != 0 {
			return nil, damaged(errNoDirection)
		}
	}
	if pool.Normalize {
		for at := 0; at < len(v); at += w {
			if !normalize(v[at : at+w]) {
				return nil, damaged(errNoDirection)
			}
		}
	}
	return v, nil
}
