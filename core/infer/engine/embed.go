package engine

import (
	"context"
	"fmt"

	"edged/core/infer/engine/answer"
	"edged/core/infer/engine/encode"
	"edged/core/model/arch"
	"edged/core/protocol"
	"edged/core/protocol/backend"
)

var (
	_ backend.Embedder    = (*Engine)(nil)
	_ backend.TextEncoder = (*Engine)(nil)
)

// Embed returns a vector of the model's width for each list: the mean of the hidden states behind the last
// norm over all tokens of the list, scaled to length 1, so that the product of two vectors is the cosine of
// their angle. The mean, and not the last token's state, since most models that are served were trained to go
// on with a text and not to end it with its sense. Of those that were trained for embeddings the files say
// which state counts (pooling_type of a GGUF file, 1_Pooling of a folder).
//
// An encoder's vector is what its files say: see package encode.
//
// The lists' rows share batches with whatever else runs, list after list. Nothing of the prefix cache is
// used: it holds keys and values, and every hidden state is wanted.
func (e *Engine) Embed(ctx context.Context, lists [][]int32) ([][]float32, error) {
	m, err := e.current()
	if err != nil {
		return nil, err
	}
	if m.encodes() {
		return m.network.Vectors(ctx, backend.EmbedRequest{Lists: lists})
	}
	if err := m.decodes("an embedding"); err != nil {
		return nil, err
	}
	out := make([][]float32, len(lists))
	for i, list := range lists {
		pool := arch.PoolMean
		if m.file != nil {
			pool = m.file.Spec.Pool.Kind
		}
		j, err := newEmbedding(list, pool, m.width(), m.size)
		if err != nil {
			return nil, err
		}
		if err := m.loop.follow(ctx, j, func(backend.Event) error { return nil }); err != nil {
			return nil, err
		}
		out[i] = j.sum
	}
	if err := m.network.Dense(ctx, out); err != nil {
		return nil, err
	}
	for _, v := range out {
		if !encode.Normalize(v) {
			return nil, answer.BadLogits(encode.ErrNoDirection)
		}
	}
	return out, nil
}

// EmbedTexts is Embed for an encoder with what a request says otherwise than the model's files.
func (e *Engine) EmbedTexts(ctx context.Context, req backend.EmbedRequest) ([][]float32, error) {
	m, err := e.current()
	if err != nil {
		return nil, err
	}
	if m.encodes() {
		return m.network.Vectors(ctx, req)
	}
	if req.Types != nil || req.Pooling != "" || req.Normalize != nil {
		return nil, fmt.Errorf("engine: embed: %w: the model is a %s, and types, pooling and normalize are for an %s", protocol.ErrUnsupported, arch.Decoder, arch.Encoder)
	}
	return e.Embed(ctx, req.Lists)
}
