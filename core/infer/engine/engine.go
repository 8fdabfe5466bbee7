// Package engine is the compute backend behind the plugin protocol: it holds sequences, forms batches, draws tokens and
// makes text. It serves protocol/backend on top of core/infer/transformer; the kernels are given to it.
//
// One loop owns all mutable state. Requests, cancels and adapters reach it by channel and take effect between
// two turns. In each turn it forms one batch: every running branch contributes its next token, prompts
// contribute chunks up to what fits into a turn (continuous batching, chunked prefill). Since a row's bits
// depend on its own inputs only, and a step's random number on (seed, choice, step) only, a request gives the
// same ids alone, in a batch, and after it was preempted.
//
// It must not know MQTT, the daemon, chat templates or how a kernel works. An Engine may be used concurrently.
//
// # What a request means
//
// GeneratedIDs holds the tokens that an earlier attempt has delivered: penalties, limits, stop strings and
// the final text count them, steps are numbered on behind them, and events carry only what is new, ids and
// text. They need one choice.
//
// An id stands in an event together with its text, once no stop string can cut it away any more. An id whose
// text is cut in part is part of the answer; one whose text is cut altogether is not. Control tokens have no
// text.
//
// An end-of-generation token ends the answer and is in neither ids nor text, and so does a token of StopIDs;
// both count as completion tokens. With IgnoreEOS end-of-generation tokens are ordinary ones: they may be
// drawn, stand among the ids and end nothing. (llama.cpp's server forbids them instead, which changes what is
// drawn; an oracle that goes on past the end could not be followed then. logit_bias -Inf forbids them where
// that is wanted.)
//
// ForcedIDs[i] is taken at step i instead of a draw. All else is as if it had been drawn: stops, limits,
// log-probabilities.
//
// Several choices share the computed prompt. BestOf above N ranks by the mean log-probability of all drawn
// tokens, the one that ended a choice included, under the unmodified logits; the N best are answered, best
// first, and no text is streamed, since none is known to be an answer before the end.
//
// Without MaxTokens a choice goes on until the context is full, which ends it as "length". A prompt that leaves no room
// for one token is protocol.ErrContextLength.
//
// Log-probabilities are log-softmax of the unmodified logits over all rows of the head; alternatives are ids
// that have a piece. GeneratedIDs get theirs as well: they are computed while the prompt is.
//
// # What is kept
//
// The KV pages of prompts and answers stay in a radix tree when their sequences are gone, and a request that
// begins with the same tokens under the same adapters (by content, order and scale) takes them over instead
// of computing them; Usage.CachedTokens says how many of its prompt. At least the last token of a prompt is
// computed, since its logits are wanted, and with Logprobs every token whose logits tell one. Answers do not
// depend on it. Kept pages are the pool's: they go, least recently used first, as soon as a batch needs them,
// before any request is preempted. Score and Bench neither find nor leave anything. LoadRequest.NoPrefixCache
// switches it off.
//
// # Encoder-decoders
//
// PromptIDs are the encoder's text, and answers begin behind the decoder's start token. Without a temperature
// the model's generation_config.json decides: how many beams search, and what bends the logits. See package
// seq2seq.
//
// # What is guessed
//
// Where the last tokens of a request stood in its prompt or answer before, what followed them is guessed to
// follow again, and computed in the same turn, as far as that has paid lately: see package speculate. Answers
// do not depend on it. LoadRequest.NoLookup switches it off. LoadRequest.DraftModel is a smaller model of the
// same vocabulary (proved from the files) that is asked where nothing is repeated.
//
// # Files
//
// Calls run down this list:
//
//	serve                                  the plugin's process
//	load                                   a model that is opened, and its loop
//	rank, embed, bench, engine             the calls of the protocol
//	loop                                   the one goroutine that owns all state, turn by turn
//	step, batch, speculate                 what a turn computes, and what becomes of its logits
//	schedule, adapters, proof              who is admitted and preempted; adapters: loading and proving
//	reuse, scaling, activate               the prefix cache, RoPE's scaling, adapters that a text switches on
//	end, scheduler, request                a request's end, whose turn it is, a request with its branches
//	mailbox, features, memory
//
// Packages below it: answer (what a request may be answered with, and its text so far), compute (the network
// as the engine sees it), encode (whole texts, pooling and heads), loader (opening a model: its memory,
// tiles, threads), pace (how long turns take), prefix (what earlier requests computed, in memory and on
// disk), seq2seq (encoder-decoders), and speculate (which guesses become rows).
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"edged/core/infer/engine/answer"
	"edged/core/infer/engine/compute"
	"edged/core/infer/engine/encode"
	"edged/core/infer/engine/loader"
	"edged/core/infer/engine/seq2seq"
	"edged/core/model/arch"
	"edged/core/model/weights"
	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/quant/kernel"
)

// Options say what an engine computes with. Kernels is required.
type Options struct {
	Name       string         // of the backend: "generic", "neon"
	Version    string         // of the plugin
	Kernels    kernel.Kernels // what computes
	Log        *slog.Logger   // nil: nothing is logged
	MaxWaiting int            // requests that may wait for others to end; 0: 256
	// Limited reports whether the processor's clock is held down, by heat or by its power supply: then fewer
	// threads decode where that is faster, unless the load request names their number. nil: never.
	Limited func() bool
}

// Engine is a backend.Backend.
type Engine struct {
	opt Options

	adapterMu sync.Mutex // one adapter is opened at a time

	mu      sync.Mutex // guards the rest
	loading bool
	closed  bool
	loaded  *loaded
}

// loaded is a model that is being served.
type loaded struct {
	opened  *loader.Model  // nil in tests with a double
	file    *weights.Model // of opened
	draft   compute.Model  // that drafts tokens for speculation; nil: there is none
	info    backend.ModelInfo
	size    sizes
	model   compute.Model
	network *encode.Network // of model, where it has one stack: pooling and heads; nil in tests with a double
	pair    *seq2seq.Model  // of model, where it is an encoder-decoder; nil: it has one stack
	loop    *loop
	vocab   atomic.Pointer[answer.Vocabulary]
	headEOG []int32 // end-of-generation ids that the model's files name
}

var _ backend.Backend = (*Engine)(nil)

// decodes refuses what is asked of a decoder where the model is an encoder; what is the thing that was asked for.
func (m *loaded) decodes(what string) error {
	if m.pair != nil {
		return fmt.Errorf("engine: %w: the model is an %s, which answers texts, and %s needs a %s", protocol.ErrUnsupported, arch.EncoderDecoder, what, arch.Decoder)
	}
	if !m.encodes() {
		return nil
	}
	return fmt.Errorf("engine: %w: the model is an %s, which gives embeddings, and %s needs a %s", protocol.ErrUnsupported, arch.Encoder, what, arch.Decoder)
}

// encodes reports whether the model is an encoder: nothing is generated.
func (m *loaded) encodes() bool { return m.network != nil && m.network.Spec.Kind == arch.Encoder }

// width is the length of a hidden state.
func (m *loaded) width() int { return m.info.Width }

// New returns an engine without a model.
func New(o Options) *Engine {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MaxWaiting == 0 {
		o.MaxWaiting = 256
	}
	return &Engine{opt: o}
}

// Close ends all requests and frees the model. The engine serves nothing afterwards.
func (e *Engine) Close() error {
	e.mu.Lock()
	m := e.loaded
	e.loaded, e.closed = nil, true
	e.mu.Unlock()
	if m == nil {
		return nil
	}
	m.loop.stop()
	e.adapterMu.Lock() // binding an adapter reads the weights
	defer e.adapterMu.Unlock()
	return m.close()
}

func (m *loaded) close() error {
	if m.opened != nil {
		return m.opened.Close()
	}
	var errs []error
	if m.draft != nil {
		errs = append(errs, m.draft.Close())
	}
	return errors.Join(append(errs, m.model.Close())...)
}

// Describe names the backend.
func (e *Engine) Describe(context.Context) (backend.Description, error) {
	names := []string{e.opt.Kernels.Name()}
	if portable := (kernel.Portable{}).Name(); !slices.Contains(names, portable) {
		names = append(names, portable) // what has no faster kernel runs on these
	}
	return backend.Description{Name: e.opt.Name, Version: e.opt.Version, Kernels: names, Features: features(), Embeds: true, Benches: true}, nil
}

// current is the model that is served. The error is protocol.ErrNotLoaded.
func (e *Engine) current() (*loaded, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.loaded == nil {
		return nil, fmt.Errorf("engine: %w", protocol.ErrNotLoaded)
	}
	return e.loaded, nil
}

// SetVocabulary takes the pieces of all tokens. Requests that run keep the vocabulary that they began with.
func (e *Engine) SetVocabulary(ctx context.Context, v backend.Vocabulary) error {
	m, err := e.current()
	if err != nil {
		return err
	}
	packed, err := answer.NewVocabulary(v, m.size.Rows, m.headEOG)
	if err != nil {
		return err
	}
	m.vocab.Store(packed)
	e.opt.Log.InfoContext(ctx, "vocabulary set", "tokens", packed.Len(), "rows", m.size.Rows, "eog", packed.EOG())
	return nil
}

// LoadAdapter opens an adapter, proves it against the model and makes it ready.
func (e *Engine) LoadAdapter(ctx context.Context, req backend.AdapterRequest) (backend.AdapterInfo, error) {
	m, err := e.current()
	if err != nil {
		return backend.AdapterInfo{}, err
	}
	if err := m.decodes("an adapter"); err != nil {
		return backend.AdapterInfo{}, err
	}
	e.adapterMu.Lock()
	defer e.adapterMu.Unlock()
	return m.loadAdapter(ctx, req, e.opt.Log)
}

// UnloadAdapter makes an adapter unknown to new requests at once, and frees it when the last request that uses it has
// ended. It does not wait for that.
func (e *Engine) UnloadAdapter(ctx context.Context, id string) error {
	m, err := e.current()
	if err != nil {
		return err
	}
	var result error
	if err := m.loop.do(ctx, func() { result = m.loop.unload(id) }); err != nil {
		return err
	}
	return result
}

// Generate runs one request. See the package's documentation for what its fields mean.
func (e *Engine) Generate(ctx context.Context, req backend.Request, emit func(backend.Event) error) error {
	m, err := e.current()
	if err != nil {
		return err
	}
	if m.pair == nil {
		if err := m.decodes("generation"); err != nil {
			return err
		}
	}
	v := m.vocab.Load()
	if v == nil {
		return fmt.Errorf("engine: %w: no vocabulary was set", protocol.ErrNotLoaded)
	}
	if m.pair != nil {
		return m.pair.Generate(ctx, req, v, m.size.Rows, m.size.Context, emit)
	}
	j, err := newJob(ctx, req, v, m.size)
	if err != nil {
		return err
	}
	return m.loop.follow(ctx, j, emit)
}

// Score computes the log-probabilities of lists, one list after the other; their rows share batches with whatever else
// runs. A list that is longer than the context is protocol.ErrContextLength.
func (e *Engine) Score(ctx context.Context, req backend.ScoreRequest) ([]backend.ScoreResult, error) {
	m, err := e.current()
	if err != nil {
		return nil, err
	}
	if err := m.decodes("scoring"); err != nil {
		return nil, err
	}
	results := make([]backend.ScoreResult, len(req.Lists))
	for i, list := range req.Lists {
		j, err := newScoring(list, req.Adapters, m.size)
		if err != nil {
			return nil, err
		}
		if j == nil {
			continue
		}
		err = m.loop.follow(ctx, j, func(ev backend.Event) error {
			if ev.Done {
				for _, p := range ev.Choices[0].Logprobs {
					results[i].Logprobs = append(results[i].Logprobs, p.Logprob)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return results, nil
}

// Stats is a snapshot of the counters; it never waits for a turn.
func (e *Engine) Stats(context.Context) (backend.Stats, error) {
	m, err := e.current()
	if err != nil {
		return backend.Stats{}, err
	}
	st := m.loop.stats()
	st.ResidentBytes, st.HeapBytes = residentBytes(), heapBytes()
	return st, nil
}
