package engine

import (
	"context"
	"fmt"

	"edged/core/infer/engine/compute"
	"edged/core/infer/transformer"
	"edged/core/model/arch"
	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// encodeTokens is how many tokens an encoder computes before others have a turn: a list is never cut.
const encodeTokens = 128

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

// poolKinds are a request's words for them.
func poolKinds(own arch.PoolKind) map[string]arch.PoolKind {
	return map[string]arch.PoolKind{
		"": own, backend.PoolNone: arch.PoolNone, "mean": arch.PoolMean, "cls": arch.PoolCLS, "last": arch.PoolLast, "max": arch.PoolMax,
		"mean_sqrt_len": arch.PoolRoot, "weightedmean": arch.PoolRise,
	}
}

// poolOf is how a request's vectors are made.
func (m *loaded) poolOf(req *backend.EmbedRequest) (arch.Pool, error) {
	pool := m.file.Spec.Pool
	kind, ok := poolKinds(pool.Kind)[req.Pooling]
	switch {
	case !ok:
		return pool, fmt.Errorf("engine: embed: %w: pooling: %.40q: want mean, cls, last, max, mean_sqrt_len, weightedmean or none", protocol.ErrInvalid, req.Pooling)
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
func (m *loaded) checkTypes(what string, lists, all [][]int32) error {
	if all != nil && len(all) != len(lists) {
		return fmt.Errorf("engine: %s: %w: types: %d lists for %d texts", what, protocol.ErrInvalid, len(all), len(lists))
	}
	most := m.file.Spec.Embed.Types
	if most == 0 {
		most = 2 // a model without types reads none, and the tokenizer of pairs may give them all the same
	}
	for i, types := range all {
		if len(types) != len(lists[i]) {
			return fmt.Errorf("engine: %s: %w: types: %d for a text of %d tokens", what, protocol.ErrInvalid, len(types), len(lists[i]))
		}
		for _, t := range types {
			if t < 0 || int(t) >= most {
				return fmt.Errorf("engine: %s: %w: types: %d is outside the model's %d", what, protocol.ErrInvalid, t, most)
			}
		}
	}
	return nil
}

// encode gives the vector of each list as the encoder's files say, or the request.
func (m *loaded) encode(ctx context.Context, req backend.EmbedRequest) ([][]float32, error) {
	pool, err := m.poolOf(&req)
	if err != nil {
		return nil, err
	}
	w := m.width()
	out := make([][]float32, 0, len(req.Lists))
	err = m.texts(ctx, "embed", req.Lists, req.Types, func(_ int, states []float32) error {
		v, err := pooled(pool.Kind, states, w)
		if err != nil {
			return err
		}
		out = append(out, v)
		return nil
	})
	if err == nil && pool.Kind != arch.PoolNone {
		err = m.densed(ctx, out)
	}
	if err != nil {
		return nil, err
	}
	if !pool.Normalize {
		return out, nil
	}
	for _, v := range out {
		n := len(v)
		if pool.Kind == arch.PoolNone {
			n = w
		}
		for at := 0; at < len(v); at += n {
			if !normalize(v[at : at+n]) {
				return nil, damaged(errNoDirection)
			}
		}
	}
	return out, nil
}

// texts computes the states of lists and hands them to take, in order, each (tokens, Width). Several lists share a batch, and the
// loop's goroutine computes it between two turns, as it alone uses the model. What is the request's name in errors.
func (m *loaded) texts(ctx context.Context, what string, lists, types [][]int32, take func(i int, states []float32) error) error {
	w := m.width()
	for _, list := range lists {
		if _, err := newEmbedding(list, arch.PoolMean, w, m.size); err != nil {
			return err
		}
	}
	if err := m.checkTypes(what, lists, types); err != nil {
		return err
	}
	for at := 0; at < len(lists); {
		rest := lists[at:]
		n, tokens := 1, len(rest[0])
		for n < len(rest) && tokens+len(rest[n]) <= encodeTokens {
			tokens += len(rest[n])
			n++
		}
		texts, states := make([]transformer.Text, n), make([]float32, tokens*w)
		for i, list := range rest[:n] {
			texts[i] = transformer.Text{IDs: list, States: states[:len(list)*w]}
			if types != nil && m.file.Spec.Embed.Types > 0 {
				texts[i].Types = types[at+i]
			}
			states = states[len(list)*w:]
		}
		if err := m.compute(ctx, what, func() error {
			m.loop.count.PromptTokens += uint64(tokens)
			return m.encoder.Encode(texts)
		}); err != nil {
			return err
		}
		for i := range texts {
			if err := take(at+i, texts[i].States); err != nil {
				return err
			}
		}
		at += n
	}
	return nil
}

// compute runs f between two turns of the loop.
func (m *loaded) compute(ctx context.Context, what string, f func() error) error {
	var failed error
	if err := m.loop.do(ctx, func() {
		if failed = ctx.Err(); failed == nil {
			failed = f()
		}
	}); err != nil {
		return err
	}
	if failed != nil {
		return fmt.Errorf("engine: %s: %w", what, failed)
	}
	return nil
}

// pooled makes the vector of a text's states, of which all are numbers.
func pooled(kind arch.PoolKind, states []float32, w int) ([]float32, error) {
	v := states
	if kind != arch.PoolNone {
		var err error
		if v, err = transformer.Pooled(kind, states, w); err != nil {
			return nil, fmt.Errorf("engine: embed: %w", err)
		}
	}
	for _, x := range v {
		if x-x != 0 {
			return nil, damaged(errNoDirection)
		}
	}
	return v, nil
}

// densed sends vectors through the dense layers behind the pooling, where the model has them.
func (m *loaded) densed(ctx context.Context, vectors [][]float32) error {
	if m.file == nil || len(m.file.Spec.Dense) == 0 {
		return nil
	}
	t := m.transformer()
	return m.compute(ctx, "embed", func() error {
		for i, v := range vectors {
			var err error
			if vectors[i], err = t.Dense(v); err != nil {
				return err
			}
		}
		return nil
	})
}

// transformer is the model that computes; nil in tests with a double.
func (m *loaded) transformer() *transformer.Model {
	if c, ok := m.model.(*compute.Transformer); ok {
		return c.Network()
	}
	return nil
}
