package offline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
	"edged/cmd/edged/plugins"
	"edged/core/model/quantize"
	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
)

// measureWindow is how many tokens of a text are computed by themselves, as llama.cpp's tools do where
// nothing else is said.
const measureWindow = 512

type imatrixFlags struct {
	modelFlags
	file   string
	window int
	chunks int
	asJSON bool
}

func (a *app) imatrixCommand() *cobra.Command {
	var f imatrixFlags
	c := &cobra.Command{
		Use:     "imatrix DST --model MODEL --file TEXT",
		GroupID: "offline",
		Short:   "Measure how much each column of a model's matrices matters",
		Long: `Runs MODEL over TEXT and writes the importance matrix DST: for every column of every matrix of the layers the squares of the
values that it is multiplied with, summed. "edged quantize --imatrix DST" and llama-quantize weigh their errors by it. DST is written as
llama-imatrix does: as GGUF, or in its older format where the name ends in .dat.

The text is cut into windows side by side, each begun with BOS where the model has one; an incomplete last window is dropped. The text
should be like what the model will be asked, in all its languages; some hundred windows are enough.`,
		Example: `  edged imatrix model.imatrix.gguf --model model-f16.gguf --file calibration.txt
  edged quantize model-f16.gguf model-q4.gguf --type Q4_K_M --imatrix model.imatrix.gguf`,
		Args: cobra.ExactArgs(1),
		RunE: a.Do(func(ctx context.Context, args []string) error { return a.imatrix(ctx, args[0], &f) }),
	}
	f.Register(c)
	c.Flags().StringVar(&f.file, "file", "", "the text; - is standard input")
	c.Flags().IntVar(&f.window, "window", measureWindow, "tokens of a window")
	c.Flags().IntVar(&f.chunks, "chunks", 0, "windows that are computed; 0: all")
	c.Flags().BoolVar(&f.asJSON, "json", false, "print one JSON object")
	return c
}

func (a *app) imatrix(ctx context.Context, dst string, f *imatrixFlags) error {
	switch {
	case f.file == "":
		return cli.Usagef("--file is missing: the matrix is measured over a text")
	case f.window < 2:
		return cli.Usagef("--window %d: want 2 tokens or more", f.window)
	case f.chunks < 0:
		return cli.Usagef("--chunks %d is negative", f.chunks)
	}
	text, err := a.ReadAll(f.file)
	if err != nil {
		return err
	}
	if f.Context == 0 {
		f.Context = f.window
	}
	s, err := f.open(ctx, f.Log(a.Err), 1)
	if err != nil {
		return err
	}
	defer s.Close()
	m, err := a.activations(ctx, s, f.file, string(text), f.window, f.chunks)
	if err != nil {
		return err
	}
	tensors := 0
	if info, err := os.Stat(f.Path); err == nil && !info.IsDir() {
		if tensors, err = m.Fit(f.Path); err != nil {
			return err
		}
	}
	if err := m.WriteFile(dst); err != nil {
		return err
	}
	if f.asJSON {
		return json.NewEncoder(a.Out).Encode(map[string]any{"file": dst, "tensors": tensors, "windows": m.Chunks, "window": m.ChunkSize})
	}
	_, err = fmt.Fprintf(a.Out, "%s: %d tensors over %d window(s) of %d tokens\n", dst, tensors, m.Chunks, m.ChunkSize)
	return err
}

// observer is the session's backend as one that tells what it computes.
func (s *session) observer() (backend.Observer, error) {
	o, ok := s.Backend.(backend.Observer)
	if !ok {
		return nil, fmt.Errorf("this backend does not tell what its matrices meet: %w", protocol.ErrUnsupported)
	}
	return o, nil
}

// measured cuts a text for measuring: windows of n tokens, or one of all of them where the text is shorter.
func (s *session) measured(ctx context.Context, name, text string, n, most int) ([]window, error) {
	ids, err := s.EncodeOne(ctx, text, tokenizer.Flags{AddSpecial: true})
	if err != nil {
		return nil, s.Dead(err)
	}
	if len(ids) < 2 {
		return nil, fmt.Errorf("%s has %d tokens: nothing can be measured over it", name, len(ids))
	}
	bos := int32(-1)
	if s.Text.AddBOS {
		bos = s.Text.BOS
	}
	parts := llamaWindows(ids, min(n, len(ids), s.Model.Context), bos)
	if most > 0 && len(parts) > most {
		parts = parts[:most]
	}
	return parts, nil
}

// activations measures what the model's matrices meet in a text.
func (a *app) activations(ctx context.Context, s *session, name, text string, n, most int) (*quantize.Activations, error) {
	o, err := s.observer()
	if err != nil {
		return nil, err
	}
	parts, err := s.measured(ctx, name, text, n, most)
	if err != nil {
		return nil, err
	}
	m := &quantize.Activations{Dataset: filepath.Base(name), ChunkSize: len(parts[0].list)}
	bar := cli.NewProgress(a.Err, "measuring")
	defer bar.End()
	for i, w := range parts {
		bar.Show(i, len(parts))
		all, err := o.Observe(ctx, backend.ObserveRequest{Lists: [][]int32{w.list}, Inputs: true}, nil)
		if err != nil {
			return nil, s.Dead(err)
		}
		for _, x := range all {
			// llama-imatrix leaves out the output head, which is quantised well without, and so may what
			// reads its files.
			if !strings.HasPrefix(x.Name, "blk.") {
				continue
			}
			if err := m.Add(x.Name, x.Squares, x.Counts); err != nil {
				return nil, err
			}
		}
		m.Chunks++
	}
	return m, nil
}

// calibrate measures the importance matrix of a GGUF file over a text.
func (a *app) calibrate(ctx context.Context, p *plugins.Flags, src, file string) (*quantize.Importance, error) {
	text, err := a.ReadAll(file)
	if err != nil {
		return nil, err
	}
	s, err := a.measuring(ctx, p, src)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	m, err := a.activations(ctx, s, file, string(text), measureWindow, 0)
	if err != nil {
		return nil, err
	}
	if n, err := m.Fit(src); err != nil || n == 0 {
		return nil, errors.Join(err, fmt.Errorf("%s: none of its tensors was measured over %s", src, file))
	}
	return m.Importance(file), nil
}

// measuring opens a model for measuring: exactly, so that the figures are those of the weights and not of the
// arithmetic.
func (a *app) measuring(ctx context.Context, p *plugins.Flags, path string) (*session, error) {
	m := modelFlags{plugins.ModelFlags{Flags: *p, Path: path, Context: measureWindow, Precision: string(backend.Exact)}}
	return m.open(ctx, p.Log(a.Err), 1)
}

// compare computes what two models would go on with behind every token of the second halves of a text's windows, as
// llama-perplexity --kl-divergence does.
func (a *app) compare(ctx context.Context, p *plugins.Flags, src, dst, file string) (*quantize.Divergence, error) {
	text, err := a.ReadAll(file)
	if err != nil {
		return nil, err
	}
	var o [2]backend.Observer
	var s [2]*session
	for i, path := range []string{src, dst} {
		if s[i], err = a.measuring(ctx, p, path); err != nil {
			return nil, err
		}
		defer s[i].Close()
		if o[i], err = s[i].observer(); err != nil {
			return nil, err
		}
	}
	parts, err := s[0].measured(ctx, file, string(text), measureWindow, 0)
	if err != nil {
		return nil, err
	}
	d := &quantize.Divergence{}
	bar := cli.NewProgress(a.Err, "verifying")
	defer bar.End()
	for i, w := range parts {
		bar.Show(i, len(parts))
		if err := both(ctx, o, w, d); err != nil {
			return nil, errors.Join(s[0].Dead(err))
		}
	}
	return d, nil
}

// both computes a window with both models at once, so that a row of logits of each is all that is held.
func both(ctx context.Context, o [2]backend.Observer, w window, d *quantize.Divergence) error {
	req := backend.ObserveRequest{Lists: [][]int32{w.list}, Logits: true, From: w.first}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	rows, taken, ended := make(chan []float32), make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := o[0].Observe(ctx, req, func(_, _ int, logits []float32) error {
			select {
			case rows <- logits:
				<-taken
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
		cancel(err) // nil where all went well: then nobody waits for a row
		ended <- err
	}()
	_, err := o[1].Observe(ctx, req, func(_, position int, logits []float32) error {
		select {
		case first := <-rows:
			defer func() { taken <- struct{}{} }()
			if position+1 == len(w.list) {
				return nil // nothing came behind the last one
			}
			return d.Add(first, logits, w.list[position+1])
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	if err != nil {
		cancel(err)
	}
	return errors.Join(<-ended, err)
}
