package offline

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
	"edged/cmd/edged/plugins"
	"edged/core/model/quantize"
)

type quantizeFlags struct {
	plugins    plugins.Flags
	calibrate  string
	verify     string
	kind       string
	importance string
	tensors    []string
	threads    int
	pure       bool
	again      bool
	asJSON     bool
}

func (a *app) quantizeCommand() *cobra.Command {
	var f quantizeFlags
	c := &cobra.Command{
		Use:     "quantize SRC DST --type TYPE",
		GroupID: "offline",
		Short:   "Write a GGUF model anew with smaller weights",
		Long: `Reads the GGUF file SRC, of 32, 16 or 8 bits, and writes DST with weights of TYPE, whole or not at all. Types are llama-quantize's
mixtures: ` + quantize.MixtureNames() + `.
The result is, byte for byte, what llama-quantize writes from the same file, on any processor and with any number of threads.

--imatrix weighs errors by how large the activations are that meet them, as measured by "edged imatrix" or llama-imatrix (both of its
formats are read); --calibrate TEXT measures that first, running SRC over the text in windows of 512 tokens. --verify TEXT runs SRC and
DST over a text and prints the perplexity of both and how far DST's probabilities are from SRC's (Kullback-Leibler divergence, in nats):
0.01 is hard to notice, 0.1 is not. Take another text than the one for --calibrate.
--tensor-type PATTERN=TYPE gives tensors whose name the regular expression matches another type.`,
		Example: `  edged quantize model-f16.gguf model-q4.gguf --type Q4_K_M --imatrix model.imatrix.gguf
  edged quantize model-f16.gguf model-q4.gguf --type Q4_K_M --calibrate mine.txt --verify other.txt
  edged quantize model-f16.gguf model-q4.gguf --type Q4_0 --tensor-type 'ffn_down=Q5_0'`,
		Args: cobra.ExactArgs(2),
		RunE: a.Do(func(ctx context.Context, args []string) error { return a.quantize(ctx, args[0], args[1], &f) }),
	}
	f.plugins.Register(c, true)
	fl := c.Flags()
	fl.StringVar(&f.calibrate, "calibrate", "", "text over which the importance matrix is measured first; - is standard input")
	fl.StringVar(&f.verify, "verify", "", "text over which source and result are compared")
	fl.StringVar(&f.kind, "type", "", "the mixture, Q4_K_M for instance")
	fl.StringVar(&f.importance, "imatrix", "", "importance matrix")
	fl.StringArrayVar(
		&f.tensors,
		"tensor-type",
		nil,
		"PATTERN=TYPE: the type of tensors by name; as often as you like, the first that matches counts",
	)
	fl.IntVar(&f.threads, "threads", 0, "threads; 0: one for each core")
	fl.BoolVar(&f.pure, "pure", false, "every matrix in the type itself, without the mixture's exceptions")
	fl.BoolVar(&f.again, "requantize", false, "take weights of fewer than 8 bits as a source: the errors of both add up")
	fl.BoolVar(&f.asJSON, "json", false, "print one JSON object")
	return c
}

func (a *app) quantize(ctx context.Context, src, dst string, f *quantizeFlags) error {
	if f.kind == "" {
		return cli.Usagef("--type is missing: give one of %s", quantize.MixtureNames())
	}
	mixture, err := quantize.ParseMixture(f.kind)
	if err != nil {
		return cli.Usagef("--type %s: not one of %s", f.kind, quantize.MixtureNames())
	}
	o := quantize.Options{Mixture: mixture, Pure: f.pure, Threads: f.threads, Again: f.again}
	if f.threads < 0 {
		return cli.Usagef("--threads %d: not a number of threads", f.threads)
	}
	if o.Override, err = quantize.Overrides(f.tensors); err != nil {
		return cli.Usagef("--tensor-type %v", err)
	}
	if info, err := os.Stat(src); err == nil && info.IsDir() {
		return fmt.Errorf(
			"%s is a folder: make a GGUF file of 16 bits of it first (convert_hf_to_gguf.py of llama.cpp), and quantise that",
			src,
		)
	}
	if info, err := os.Stat(dst); err == nil && info.Mode().Type() != fs.FileMode(0) {
		return fmt.Errorf("%s is there already and is no file", dst)
	}
	if f.importance != "" && f.calibrate != "" {
		return cli.Usagef("--imatrix %s and --calibrate %s: give one of them", f.importance, f.calibrate)
	}
	if f.calibrate != "" {
		if o.Importance, err = a.calibrate(ctx, &f.plugins, src, f.calibrate); err != nil {
			return err
		}
	}
	if f.importance != "" {
		if o.Importance, err = quantize.ReadImportance(f.importance); err != nil {
			return err
		}
	}
	p := cli.NewProgress(a.Err, "quantising")
	o.Progress = func(_ string, done, total int64) { p.Show(int(done>>10), int(total>>10)) }
	began := time.Now()
	res, err := quantize.File(ctx, dst, src, o)
	p.End()
	if err != nil {
		return err
	}
	took := time.Since(began)
	var d *quantize.Divergence
	if f.verify != "" {
		if d, err = a.compare(ctx, &f.plugins, src, dst, f.verify); err != nil {
			return fmt.Errorf("%s is written, but could not be verified: %w", dst, err)
		}
	}
	return a.quantized(dst, res, f, took, d)
}

// quantized reports; d is nil where nothing was verified.
func (a *app) quantized(dst string, res *quantize.Result, f *quantizeFlags, took time.Duration, d *quantize.Divergence) error {
	types := map[string]int{}
	for _, t := range res.Tensors {
		types[t.To.String()]++
	}
	if f.asJSON {
		out := map[string]any{
			"file": dst, "weights": res.Weights, "source_bytes": res.SourceBytes, "bytes": res.Bytes,
			"bits_per_weight": res.BitsPerWeight(), "types": types, "seconds": took.Seconds(),
		}
		if d != nil {
			first, second := d.Perplexities()
			mean, deviation := d.KL()
			out["verified"] = map[string]any{
				"tokens": d.Tokens, "source_ppl": first, "ppl": second, "kl": mean, "kl_error": deviation, "kl_max": d.MaxKL,
				"same_top": d.Same(), "probability_rms": d.Delta(),
			}
		}
		return json.NewEncoder(a.Out).Encode(out)
	}
	var parts []string
	for _, t := range res.Tensors {
		name := t.To.String()
		if n := types[name]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, name))
			delete(types, name)
		}
	}
	_, err := fmt.Fprintf(
		a.Out,
		"%s: %s of weights from %s, %.2f bits a weight, in %s (%s)\n",
		dst,
		mebibytes(res.Bytes),
		mebibytes(res.SourceBytes),
		res.BitsPerWeight(),
		took.Round(10*time.Millisecond),
		strings.Join(parts, ", "),
	)
	if err != nil || d == nil {
		return err
	}
	first, second := d.Perplexities()
	mean, deviation := d.KL()
	_, err = fmt.Fprintf(
		a.Out,
		"perplexity %.4f from %.4f, KL divergence %.6f ± %.6f (at most %.4f), the same likeliest token in %.2f %% of %d\n",
		second,
		first,
		mean,
		deviation,
		d.MaxKL,
		100*d.Same(),
		d.Tokens,
	)
	return err
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
