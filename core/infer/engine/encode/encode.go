// Package encode computes whole texts with an encoder, and what stands behind the hidden states of encoders
// and decoders: pooling, dense layers, heads that score pairs of texts, and heads that guess masked tokens.
//
// It draws no token and keeps nothing of a text; a decoder's hidden states come from the engine's batches.
// What it computes, it computes in the goroutine that owns the model, between two turns.
package encode

import (
	"context"
	"errors"
	"fmt"

	"edged/core/infer/engine/answer"
	"edged/core/infer/transformer"
	"edged/core/model/arch"
	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// batchTokens is how many tokens an encoder computes before others have a turn: a text is never cut.
const batchTokens = 128

// ErrNoDirection is the error of vectors and scores that are zero or no numbers.
var ErrNoDirection = errors.New("its hidden states have no direction")

// Network is a model with what stands behind its hidden states. It may be used concurrently.
type Network struct {
	Model         *transformer.Model
	Spec          *arch.Spec
	Rows, Context int
	Width         int                                       // of a hidden state
	Do            func(ctx context.Context, f func()) error // runs f where the model may compute, and waits for it
	Computed      func(tokens int)                          // is told of texts; it runs where the model computes
}

// CheckList refuses a text that the model cannot read.
func CheckList(list []int32, rows, context int) error {
	if err := answer.CheckIDs("list", list, rows); err != nil {
		return err
	}
	switch {
	case len(list) == 0:
		return fmt.Errorf("engine: embed: %w: a list holds no tokens", protocol.ErrInvalid)
	case len(list) > context:
		return fmt.Errorf("engine: embed: %w: the list has %d tokens, the context holds %d", protocol.ErrContextLength, len(list), context)
	}
	return nil
}

// poolKinds are a request's words for them.
func poolKinds(own arch.PoolKind) map[string]arch.PoolKind {
	return map[string]arch.PoolKind{
		"": own, backend.PoolNone: arch.PoolNone, "mean": arch.PoolMean, "cls": arch.PoolCLS, "last": arch.PoolLast, "max": arch.PoolMax,
		"mean_sqrt_len": arch.PoolRoot, "weightedmean": arch.PoolRise,
	}
}

// poolOf is how a request's vectors are made.
func (n *Network) poolOf(req *backend.EmbedRequest) (arch.Pool, error) {
	pool := n.Spec.Pool
	kind, ok := poolKinds(pool.Kind)[req.Pooling]
	switch {
	case !ok:
		return pool, fmt.Errorf(
			"engine: embed: %w: pooling: %.40q: want mean, cls, last, max, mean_sqrt_len, weightedmean or none",
			protocol.ErrInvalid,
			req.Pooling,
		)
	case kind == arch.PoolNone && req.Pooling == "":
		return pool, fmt.Errorf(
			"engine: embed: %w: the model's files name no pooling: ask for mean, cls, last or none",
			protocol.ErrUnsupported,
		)
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
func (n *Network) checkTypes(what string, lists, all [][]int32) error {
	if all != nil && len(all) != len(lists) {
		return fmt.Errorf("engine: %s: %w: types: %d lists for %d texts", what, protocol.ErrInvalid, len(all), len(lists))
	}
	most := n.Spec.Embed.Types
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

// Vectors gives the vector of each list as the encoder's files say, or the request.
func (n *Network) Vectors(ctx context.Context, req backend.EmbedRequest) ([][]float32, error) {
	pool, err := n.poolOf(&req)
	if err != nil {
		return nil, err
	}
	w := n.Width
	out := make([][]float32, 0, len(req.Lists))
	err = n.texts(ctx, "embed", req.Lists, req.Types, func(_ int, states []float32) error {
		v, err := pooled(pool.Kind, states, w)
		if err != nil {
			return err
		}
		out = append(out, v)
		return nil
	})
	if err == nil && pool.Kind != arch.PoolNone {
		err = n.Dense(ctx, out)
	}
	if err != nil {
		return nil, err
	}
	if !pool.Normalize {
		return out, nil
	}
	for _, v := range out {
		size := len(v)
		if pool.Kind == arch.PoolNone { // one vector for each token
			size = w
		}
		for at := 0; at < len(v); at += size {
			if !Normalize(v[at : at+size]) {
				return nil, answer.BadLogits(ErrNoDirection)
			}
		}
	}
	return out, nil
}

// texts computes the states of lists and hands them to take, in order, each (tokens, Width). Several lists
// share a batch, and the loop's goroutine computes it between two turns, as it alone uses the model. What is
// the request's name in errors.
func (n *Network) texts(ctx context.Context, what string, lists, types [][]int32, take func(i int, states []float32) error) error {
	w := n.Width
	for _, list := range lists {
		if err := CheckList(list, n.Rows, n.Context); err != nil {
			return err
		}
	}
	if err := n.checkTypes(what, lists, types); err != nil {
		return err
	}
	for at := 0; at < len(lists); {
		rest := lists[at:]
		count, tokens := 1, len(rest[0])
		for count < len(rest) && tokens+len(rest[count]) <= batchTokens {
			tokens += len(rest[count])
			count++
		}
		texts, states := make([]transformer.Text, count), make([]float32, tokens*w)
		for i, list := range rest[:count] {
			texts[i] = transformer.Text{IDs: list, States: states[:len(list)*w]}
			if types != nil && n.Spec.Embed.Types > 0 {
				texts[i].Types = types[at+i]
			}
			states = states[len(list)*w:]
		}
		if err := n.compute(ctx, what, func() error {
			n.Computed(tokens)
			return n.Model.Encode(texts)
		}); err != nil {
			return err
		}
		for i := range texts {
			if err := take(at+i, texts[i].States); err != nil {
				return err
			}
		}
		at += count
	}
	return nil
}

// compute runs f between two turns of the loop.
func (n *Network) compute(ctx context.Context, what string, f func() error) error {
	var failed error
	if err := n.Do(ctx, func() {
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
			return nil, answer.BadLogits(ErrNoDirection)
		}
	}
	return v, nil
}

// Dense sends vectors through the dense layers behind the pooling, where the model has them.
func (n *Network) Dense(ctx context.Context, vectors [][]float32) error {
	if n == nil || len(n.Spec.Dense) == 0 {
		return nil
	}
	return n.compute(ctx, "embed", func() error {
		for i, v := range vectors {
			var err error
			if vectors[i], err = n.Model.Dense(v); err != nil {
				return err
			}
		}
		return nil
	})
}
