package engine

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

// crossed serves an encoder-decoder: the encoder reads a request's text once, and the decoder's sequences answer it. Requests take
// turns; each step of one is a function that the loop runs between two turns, as it alone uses the models.
type crossed struct {
	encoder, decoder *transformer.Model
	from             arch.Generation                           // what the model's files ask for
	do               func(ctx context.Context, f func()) error // of the loop
	turn             chan struct{}                             // holds one value while a request runs
	sampler          sample.Sampler
}

func newCrossed(encoder, decoder *transformer.Model, from arch.Generation) *crossed {
	return &crossed{encoder: encoder, decoder: decoder, from: from, turn: make(chan struct{}, 1)}
}

// listen encodes a text and makes what sequences read of it.
func (c *crossed) listen(ctx context.Context, ids []int32) (text *transformer.Seq, err error) {
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
func (c *crossed) step(ctx context.Context, rows []transformer.Row) (err error) {
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
func (c *crossed) free(seqs ...*transformer.Seq) {
	_ = c.do(context.Background(), func() { //nolint:forbidigo // where the loop has ended, the pool goes as a whole
		for _, s := range seqs {
			s.Free()
		}
	})
}

// search is a beam search over a text.
func (c *crossed) search(ctx context.Context, s *beam.Settings) ([]beam.Answer, error) {
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
			return nil, damaged(err)
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
func (c *crossed) follow(ctx context.Context, s *beam.Settings, text *transformer.Seq, choose func(logits []float32, ids []int32) (int32, error), take func(id int32) (bool, error)) error {
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
			return damaged(err)
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
func (c *crossed) settings(req *backend.Request) (*beam.Settings, error) {
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
		return nil, fmt.Errorf("engine: %w: %d tokens answered in up to %d by %d beams take %d pages of keys and values, and there are %d: ask for fewer tokens or give the cache more memory",
			protocol.ErrContextLength, len(req.PromptIDs), s.Max-1, s.Beams, pages, all)
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

// generate runs one request. Beams are for requests without a temperature, and their answers are not streamed: which one wins is
// known at the end.
func (c *crossed) generate(ctx context.Context, req backend.Request, v *answer.Vocabulary, size sizes, emit func(backend.Event) error) error {
	for _, no := range []struct {
		name string
		set  bool
	}{{"grammar", req.Grammar != ""}, {"logprobs", req.Logprobs}, {"adapter", len(req.Adapters) > 0}, {"best_of", req.BestOf > max(req.N, 1)}} {
		if no.set {
			return fmt.Errorf("engine: %w: %s: the model is an %s, which is served without", protocol.ErrUnsupported, no.name, arch.EncoderDecoder)
		}
	}
	j, err := newJob(ctx, req, v, size)
	if err != nil {
		return err
	}
	s, err := c.settings(&req)
	if err != nil {
		return err
	}
	j.Limit = s.Max - 1
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	j.Times.Started = time.Now()
	if s.Beams > 1 {
		err = c.best(ctx, j, s)
	} else {
		err = c.each(ctx, j, s, emit)
	}
	switch {
	case errors.Is(err, transformer.ErrContext):
		return fmt.Errorf("engine: %w: %w", protocol.ErrContextLength, err)
	case err != nil:
		return err
	}
	return emit(j.last())
}

// best makes a job's answers of a search.
func (c *crossed) best(ctx context.Context, j *job, s *beam.Settings) error {
	answers, err := c.search(ctx, s)
	if err != nil {
		return err
	}
	j.Times.First = time.Now()
	for i, b := range j.branches {
		given := len(b.IDs) // by an earlier attempt, which searched alike
		b.Score = &answers[i].Score
		for k, id := range answers[i].IDs {
			if k < given || b.Finish != "" {
				continue
			}
			b.Steps++
			if !j.Req.IgnoreEOS && slices.Contains(s.EOS, id) || slices.Contains(j.Req.StopIDs, id) {
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

// each draws a job's answers one after the other.
func (c *crossed) each(ctx context.Context, j *job, s *beam.Settings, emit func(backend.Event) error) error {
	text, err := c.listen(ctx, s.Text)
	if err != nil {
		return err
	}
	defer c.free(text)
	for _, b := range j.branches {
		known := slices.Concat(b.IDs, j.Req.ForcedIDs[min(len(b.IDs), len(j.Req.ForcedIDs)):])
		given := len(b.IDs)
		if b.Finish != "" {
			continue
		}
		err := c.follow(ctx, s, text, func(logits []float32, ids []int32) (int32, error) {
			if n := len(ids); n < len(known) {
				return known[n], nil
			}
			return c.sampler.Next(&sample.Step{
				Logits: logits, Limit: j.Vocab.Limit(), Params: &j.Params, Prompt: j.Req.PromptIDs, Generated: ids, Choice: b.Index, Index: len(ids),
			})
		}, func(id int32) (bool, error) {
			if given > 0 {
				given--
				return true, nil
			}
			if j.Times.First.IsZero() {
				j.Times.First = time.Now()
			}
			b.Steps++
			if !j.Req.IgnoreEOS && (j.Vocab.IsEOG(id) || slices.Contains(s.EOS, id)) || slices.Contains(j.Req.StopIDs, id) {
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
