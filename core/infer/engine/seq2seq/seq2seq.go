// Package seq2seq serves encoder-decoders: the encoder reads a request's text once, and sequences of the
// decoder answer it, greedily, by sampling or by beam search, as the request or the model's
// generation_config.json asks.
//
// Requests take turns, and each step of one is a function that runs in the goroutine which owns the models.
// The package schedules nothing and knows no prefix cache, grammar or adapter: a request that asks for these
// is refused.
package seq2seq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"edged/core/infer/beam"
	"edged/core/infer/engine/answer"
	"edged/core/infer/kv"
	"edged/core/infer/sample"
	"edged/core/infer/transformer"
	"edged/core/model/arch"
	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// Model is an encoder-decoder that is served. It may be used concurrently.
type Model struct {
	encoder, decoder *transformer.Model
	from             arch.Generation                           // what the model's files ask for
	do               func(ctx context.Context, f func()) error // runs f in the goroutine that owns both
	turn             chan struct{}                             // holds one value while a request runs
	sampler          sample.Sampler
}

// New serves a pair of models. from is what their files say about generation; do runs a function where both
// may compute, and waits for it.
func New(encoder, decoder *transformer.Model, from arch.Generation, do func(ctx context.Context, f func()) error) *Model {
	return &Model{encoder: encoder, decoder: decoder, from: from, do: do, turn: make(chan struct{}, 1)}
}

// listen encodes a text and makes what sequences read of it.
func (c *Model) listen(ctx context.Context, ids []int32) (text *transformer.Seq, err error) {
	states := make([]float32, len(ids)*c.encoder.Info().Width)
	if e := c.do(ctx, func() {
		if err = c.encoder.Encode([]transformer.Text{{IDs: ids, States: states}}); err == nil {
			text, err = c.decoder.Listen(states, nil)
		}
	}); e != nil {
		return nil, e
	}
	return text, err
}

// step computes the logits behind one token of each sequence.
func (c *Model) step(ctx context.Context, rows []transformer.Row) (err error) {
	if e := c.do(ctx, func() {
		if err = ctx.Err(); err != nil {
			return
		}
		n := c.decoder.Info().MaxRows
		for at := 0; at < len(rows) && err == nil; at += n {
			err = c.decoder.Forward(rows[at:min(len(rows), at+n)])
		}
	}); e != nil {
		return e
	}
	return err
}

// free gives sequences back.
func (c *Model) free(seqs ...*transformer.Seq) {
	_ = c.do(context.Background(), func() { //nolint:forbidigo // where the loop has ended, the pool goes as a whole
		for _, s := range seqs {
			s.Free()
		}
	})
}

// search is a beam search over a text.
func (c *Model) search(ctx context.Context, s *beam.Settings) ([]beam.Answer, error) {
	text, err := c.listen(ctx, s.Text)
	if err != nil {
		return nil, err
	}
	held := []*transformer.Seq{}
	defer func() { c.free(append(held, text)...) }()
	vocab := c.decoder.Info().VocabRows
	logits := make([]float32, s.Beams*vocab)
	b := beam.New(s)
	for i := range s.Beams {
		held = append(held, c.decoder.NewSeq())
		held[i].Answer(text)
	}
	for !b.Over() {
		rows, views := make([]transformer.Row, len(held)), make([][]float32, len(held))
		for i, r := range b.Running() {
			token := s.Start
			if n := len(r.IDs); n > 0 {
				token = r.IDs[n-1]
			}
			views[i] = logits[i*vocab : (i+1)*vocab : (i+1)*vocab]
			rows[i] = transformer.Row{Seq: held[i], Token: token, Logits: views[i]}
		}
		if err := c.step(ctx, rows); err != nil {
			return nil, err
		}
		parents, err := b.Step(views)
		if err != nil {
			return nil, answer.BadLogits(err)
		}
		if err := c.do(ctx, func() {
			next := make([]*transformer.Seq, len(parents))
			for i, p := range parents {
				next[i] = held[p].Fork()
			}
			for _, old := range held {
				old.Free()
			}
			held = next
		}); err != nil {
			return nil, err
		}
	}
	return b.Answers(), nil
}

// follow draws token after token of one answer: choose is given the bent logits, take says whether to go on.
func (c *Model) follow(
	ctx context.Context,
	s *beam.Settings,
	text *transformer.Seq,
	choose func(logits []float32, ids []int32) (int32, error),
	take func(id int32) (bool, error),
) error {
	seq := c.decoder.NewSeq()
	defer c.free(seq)
	seq.Answer(text)
	logits := make([]float32, c.decoder.Info().VocabRows)
	var ids []int32
	for token := s.Start; ; {
		if err := c.step(ctx, []transformer.Row{{Seq: seq, Token: token, Logits: logits}}); err != nil {
			return err
		}
		if err := s.Bend(logits, ids); err != nil {
			return answer.BadLogits(err)
		}
		id, err := choose(logits, ids)
		if err != nil {
			return err
		}
		more, err := take(id)
		if err != nil || !more {
			return err
		}
		ids, token = append(ids, id), id
	}
}

// settings are those of a request.
func (c *Model) settings(req *backend.Request) (*beam.Settings, error) {
	s := &beam.Settings{Generation: c.from, Text: req.PromptIDs}
	context := c.decoder.Info().Context
	if err := searched(s, &req.Search); err != nil {
		return nil, err
	}
	switch {
	case req.MaxTokens > 0:
		s.Max = min(req.MaxTokens, context) + 1
	case s.MaxNew > 0:
		s.Max = min(s.MaxNew, context) + 1
	case s.MaxLength > 1:
		s.Max = s.MaxLength
	default:
		s.Max = context
	}
	if s.Max = min(s.Max, context); s.Max < 2 {
		return nil, fmt.Errorf("engine: %w: a context of %d tokens holds no answer", protocol.ErrContextLength, context)
	}
	if req.IgnoreEOS {
		s.EOS = nil
	}
	if len(req.ForcedIDs) == 1 { // a language, say: beams keep to it as to what the files force
		s.ForcedBOS = req.ForcedIDs[0]
	}
	if req.Sampling.Temperature > 0 || len(req.ForcedIDs) > 1 || len(req.GeneratedIDs) > 0 && s.Beams == 1 {
		s.Beams = 1
	}
	if n := max(req.N, req.BestOf); s.Beams > 1 && n > s.Beams {
		return nil, fmt.Errorf("engine: %w: n: %d answers of a search with %d beams", protocol.ErrInvalid, n, s.Beams)
	}
	pages := kv.PagesFor(len(req.PromptIDs)) + s.Beams*(kv.PagesFor(s.Max)+1)
	if all := c.decoder.Cache().TotalPages(); pages > all {
		return nil, fmt.Errorf(
			"engine: %w: %d tokens answered in up to %d by %d beams take %d pages of keys and values, and there are %d: ask for fewer tokens or give the cache more memory",
			protocol.ErrContextLength,
			len(req.PromptIDs),
			s.Max-1,
			s.Beams,
			pages,
			all,
		)
	}
	return s, nil
}

// searched puts what a request says about the search in the place of what the model's files say.
func searched(s *beam.Settings, by *backend.Search) error {
	if by.Beams < 0 || by.Beams > arch.MaxBeams {
		return fmt.Errorf("engine: %w: num_beams: %d is outside 1 to %d", protocol.ErrInvalid, by.Beams, arch.MaxBeams)
	}
	if by.Beams > 0 {
		s.Beams = by.Beams
	}
	if p := by.LengthPenalty; p != nil {
		if *p-*p != 0 {
			return fmt.Errorf("engine: %w: length_penalty: %g is no number", protocol.ErrInvalid, *p)
		}
		s.LengthPenalty = *p
	}
	if by.EarlyStopping != "" {
		early, ok := map[string]arch.Early{"true": arch.EarlyTrue, "false": arch.EarlyFalse, "never": arch.EarlyNever}[by.EarlyStopping]
		if !ok {
			return fmt.Errorf("engine: %w: early_stopping: %.40q: want true, false or never", protocol.ErrInvalid, by.EarlyStopping)
		}
		s.Early = early
	}
	return nil
}

// Generate runs one request and gives its events to emit. Beams are for requests without a temperature, and
// their answers are not streamed: which one wins is known at the end.
func (c *Model) Generate(
	ctx context.Context,
	req backend.Request,
	v *answer.Vocabulary,
	rows, context int,
	emit func(backend.Event) error,
) error {
	for _, no := range []struct {
		name string
		set  bool
	}{{"grammar", req.Grammar != ""}, {"logprobs", req.Logprobs}, {"adapter", len(req.Adapters) > 0}, {"best_of", req.BestOf > max(req.N, 1)}} {
		if no.set {
			return fmt.Errorf(
				"engine: %w: %s: the model is an %s, which is served without",
				protocol.ErrUnsupported,
				no.name,
				arch.EncoderDecoder,
			)
		}
	}
	a, err := answer.New(ctx, req, v, rows, context)
	if err != nil {
		return err
	}
	s, err := c.settings(&req)
	if err != nil {
		return err
	}
	a.Limit = s.Max - 1
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	a.Times.Started = time.Now()
	if s.Beams > 1 {
		err = c.best(ctx, a, s)
	} else {
		err = c.each(ctx, a, s, emit)
	}
	switch {
	case errors.Is(err, transformer.ErrContext):
		return fmt.Errorf("engine: %w: %w", protocol.ErrContextLength, err)
	case err != nil:
		return err
	}
	return emit(a.Last())
}

// best makes a request's answers of a beam search.
func (c *Model) best(ctx context.Context, a *answer.Answers, s *beam.Settings) error {
	answers, err := c.search(ctx, s)
	if err != nil {
		return err
	}
	a.Times.First = time.Now()
	for i, b := range a.Choices {
		given := len(b.IDs) // by an earlier attempt, which searched alike
		b.Score = &answers[i].Score
		for k, id := range answers[i].IDs {
			if k < given || b.Finish != "" {
				continue
			}
			b.Steps++
			if !a.Req.IgnoreEOS && slices.Contains(s.EOS, id) || slices.Contains(a.Req.StopIDs, id) {
				b.Ender = &id
				b.End(backend.FinishStop)
			} else if err := b.Accept(id); err != nil {
				return err
			}
		}
		if b.Finish == "" {
			b.End(backend.FinishLength)
		}
	}
	return nil
}

// each draws a request's answers one after the other.
func (c *Model) each(ctx context.Context, a *answer.Answers, s *beam.Settings, emit func(backend.Event) error) error {
	text, err := c.listen(ctx, s.Text)
	if err != nil {
		return err
	}
	defer c.free(text)
	for _, b := range a.Choices {
		known := slices.Concat(b.IDs, a.Req.ForcedIDs[min(len(b.IDs), len(a.Req.ForcedIDs)):])
		given := len(b.IDs)
		if b.Finish != "" {
			continue
		}
		err := c.follow(ctx, s, text, func(logits []float32, ids []int32) (int32, error) {
			if n := len(ids); n < len(known) {
				return known[n], nil
			}
			return c.sampler.Next(&sample.Step{
				Logits:    logits,
				Limit:     a.Vocab.Limit(),
				Params:    &a.Params,
				Prompt:    a.Req.PromptIDs,
				Generated: ids,
				Choice:    b.Index,
				Index:     len(ids),
			})
		}, func(id int32) (bool, error) {
			if given > 0 {
				given--
				return true, nil
			}
			if a.Times.First.IsZero() {
				a.Times.First = time.Now()
			}
			b.Steps++
			if !a.Req.IgnoreEOS && (a.Vocab.IsEOG(id) || slices.Contains(s.EOS, id)) || slices.Contains(a.Req.StopIDs, id) {
				b.Ender = &id
				b.End(backend.FinishStop)
			} else if err := b.Accept(id); err != nil {
				return false, err
			}
			if ev, ok := b.Release(); ok {
				if err := emit(ev); err != nil {
					return false, err
				}
			}
			return b.Finish == "", nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
