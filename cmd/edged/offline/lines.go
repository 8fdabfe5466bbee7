package offline

import (
	"context"
	"errors"

	"edged/cmd/edged/cli"
)

// lineGroup is the number of lines of --batch that are answered by one call: short texts share a batch of the backend.
const lineGroup = 64

// batchOf reads the lines of --batch and answers them in groups of what has come so far, so that a file is
// read in large groups and a line that somebody types is answered at once. prepare reads a line; answer
// computes those of a group that could be read, and returns a value or an error for each. Every line has an
// object in the output, in the order of the input.
func batchOf[T any](
	ctx context.Context,
	a *app,
	s *session,
	path string,
	prepare func(line []byte) (T, error),
	answer func([]T) ([]any, error),
) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines, read := make(chan []byte, lineGroup), make(chan error, 1)
	go func() {
		defer close(lines)
		read <- a.EachLine(path, func(_ int, line []byte) error {
			select {
			case lines <- line:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	g := group[T]{a: a, s: s, prepare: prepare, answer: answer}
	for line := range lines {
		g.lines = append(g.lines[:0], line)
		for more := true; more && len(g.lines) < lineGroup; {
			select {
			case next, ok := <-lines:
				if more = ok; ok {
					g.lines = append(g.lines, next)
				}
			default:
				more = false
			}
		}
		if err := g.write(ctx); err != nil {
			return err
		}
	}
	switch err := <-read; {
	case err != nil:
		return err
	case g.failed:
		return errSomeLines
	}
	return nil
}

// group answers some lines of a batch.
type group[T any] struct {
	a       *app
	s       *session
	prepare func(line []byte) (T, error)
	answer  func([]T) ([]any, error)
	lines   [][]byte
	failed  bool
}

// write answers the lines and writes their objects. The error is one after which no line can be answered.
func (g *group[T]) write(ctx context.Context) error {
	out := make([]any, len(g.lines))
	var asked []T
	var places []int
	for i, line := range g.lines {
		in, err := g.prepare(line)
		switch {
		case err == nil:
			asked, places = append(asked, in), append(places, i)
		case fatal(ctx, err):
			return g.s.Dead(err)
		default:
			out[i] = g.refusal(err)
		}
	}
	answers, err := g.answers(asked)
	if err != nil && !fatal(ctx, err) && len(asked) > 1 { // one by one, so that only those fail whose fault it is
		for k := range asked {
			one, err := g.answers(asked[k : k+1])
			switch {
			case err == nil:
				out[places[k]] = one[0]
			case fatal(ctx, err):
				return g.s.Dead(err)
			default:
				out[places[k]] = g.refusal(err)
			}
		}
	} else {
		for k, i := range places {
			switch {
			case err == nil:
				out[i] = answers[k]
			case fatal(ctx, err):
				return g.s.Dead(err)
			default:
				out[i] = g.refusal(err)
			}
		}
	}
	e := cli.Encoder(g.a.Out)
	for _, v := range out {
		if err := e.Encode(v); err != nil {
			return err
		}
	}
	return nil
}

func (g *group[T]) answers(asked []T) ([]any, error) {
	if len(asked) == 0 {
		return nil, nil
	}
	out, err := g.answer(asked)
	if err == nil && len(out) != len(asked) {
		err = errors.New("the backend gave no answer to a line")
	}
	return out, err
}

func (g *group[T]) refusal(err error) any {
	g.failed = true
	return struct {
		Error string `json:"error"`
	}{cli.OneSentence(err)}
}
