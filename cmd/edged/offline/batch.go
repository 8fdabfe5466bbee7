package offline

import (
	"context"
	"encoding/json"
	"errors"
	"maps"

	"edged/cmd/edged/cli"
	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
)

// batchLine is one line of --batch. Settings that it does not name are those of the command line.
type batchLine struct {
	settings
	IDs          []int32         `json:"ids"`
	Prompt       *string         `json:"prompt"`
	Messages     json.RawMessage `json:"messages"`
	Tools        json.RawMessage `json:"tools"`
	TemplateVars json.RawMessage `json:"template_vars"`
	Chat         bool            `json:"chat"`
}

// outcome is one line of output: an answer, or what went wrong.
type outcome struct {
	value  any
	failed bool
	fatal  error // the plugin died: no further line can be answered
}

// generateBatch computes up to --parallel lines at once and writes the answers in the order of the lines.
// Rows of a batch do not influence each other, so that the answers are those of one line after the other.
func (a *app) generateBatch(ctx context.Context, s *session, f *generateFlags) error {
	return a.inOrder(ctx, s, f.batch, f.parallel, func(line []byte) (any, error) { return s.answerLine(ctx, f, line) })
}

// inOrder answers the lines of a file, parallel of them at once, and writes the answers in the order of the lines.
func (a *app) inOrder(ctx context.Context, s *session, file string, parallel int, answer func(line []byte) (any, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	queue := make(chan chan outcome, parallel-1) // with the one that is waited for: parallel lines
	read := make(chan error, 1)
	go func() {
		defer close(queue)
		read <- a.EachLine(file, func(_ int, line []byte) error {
			done := make(chan outcome, 1)
			select {
			case queue <- done:
			case <-ctx.Done():
				return ctx.Err()
			}
			go func() { done <- outcomeOf(ctx, line, answer) }()
			return nil
		})
	}()
	out := cli.Encoder(a.Out)
	failed := false
	var fatal error
	for done := range queue {
		o := <-done
		if fatal != nil {
			continue // let the others end
		}
		if fatal = o.fatal; fatal == nil {
			failed = failed || o.failed
			fatal = out.Encode(o.value)
		}
		if fatal != nil {
			cancel()
		}
	}
	switch err := <-read; {
	case fatal != nil:
		return s.Dead(fatal)
	case err != nil:
		return err
	case failed:
		return errSomeLines
	}
	return nil
}

// errSomeLines is the end of a batch with lines that failed.
var errSomeLines = errors.New("some lines could not be answered: see the \"error\" objects in the output")

// fatal reports whether no further line can be answered.
func fatal(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, protocol.ErrPluginDied)
}

// outcomeOf answers one line and returns its result or its error as an outcome.
func outcomeOf(ctx context.Context, line []byte, answer func(line []byte) (any, error)) outcome {
	value, err := answer(line)
	switch {
	case err == nil:
		return outcome{value: value}
	case fatal(ctx, err):
		return outcome{fatal: err}
	}
	return outcome{failed: true, value: struct {
		Error string `json:"error"`
	}{cli.OneSentence(err)}}
}

func (s *session) answerLine(ctx context.Context, f *generateFlags, line []byte) (any, error) {
	in := batchLine{settings: f.settings, Chat: f.chat}
	in.LogitBias = maps.Clone(f.settings.LogitBias) // a line's entries are added to a copy
	req, err := s.lineRequest(ctx, &in, line)
	if err != nil {
		return nil, err
	}
	last, err := s.Run(ctx, req, nil)
	if err != nil {
		return nil, err
	}
	return result(last, req), nil
}

func (s *session) lineRequest(ctx context.Context, in *batchLine, line []byte) (backend.Request, error) {
	if err := cli.Strict(line, in); err != nil {
		return backend.Request{}, err
	}
	if err := in.check(); err != nil {
		return backend.Request{}, err
	}
	if in.searches() && !s.Crossed() {
		return backend.Request{}, errSearch
	}
	if !in.translates() {
		ids, err := s.lineIDs(ctx, in)
		return in.request(ids, s.Adapters), err
	}
	if in.Prompt == nil || in.Chat || len(in.IDs) > 0 || len(in.Messages) > 0 {
		return backend.Request{}, errors.New(`"source_lang" and "target_lang" belong to a "prompt"`)
	}
	ids, first, err := s.translated(ctx, *in.Prompt, &in.settings)
	req := in.request(ids, s.Adapters)
	req.ForcedIDs = first
	return req, err
}

func (s *session) lineIDs(ctx context.Context, in *batchLine) ([]int32, error) {
	given := 0
	for _, there := range []bool{len(in.IDs) > 0, in.Prompt != nil, len(in.Messages) > 0} {
		if there {
			given++
		}
	}
	switch {
	case given != 1:
		return nil, errors.New(`give one of "ids", "prompt" and "messages"`)
	case len(in.Messages) == 0 && (len(in.Tools) > 0 || len(in.TemplateVars) > 0):
		return nil, errors.New(`"tools" and "template_vars" need "messages"`)
	case len(in.IDs) > 0:
		return in.IDs, nil
	case in.Prompt != nil:
		return s.promptIDs(ctx, *in.Prompt, in.Chat)
	}
	if s.Text.ChatTemplate == "" {
		return nil, errors.New("messages: this model has no chat template")
	}
	out, err := s.Tokenizer.EncodeChat(ctx, tokenizer.Chat{Messages: in.Messages, Tools: in.Tools, Variables: in.TemplateVars})
	return out.IDs, err
}
