package offline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
	"edged/core/model/gguf"
	"edged/core/model/lora"
	"edged/core/model/lora/convert"
	"edged/core/model/safetensors"
	"edged/core/model/weights"
)

func (a *app) convertCommand() *cobra.Command {
	var model string
	var asJSON bool
	c := &cobra.Command{
		Use:     "convert ADAPTER DST --model MODEL",
		GroupID: "offline",
		Short:   "Write an adapter as llama.cpp or as PEFT reads it",
		Long: `Reads the adapter ADAPTER, a PEFT folder or a GGUF file, proves it against MODEL, and writes DST: a GGUF file where its name ends in
.gguf, which llama.cpp reads (MODEL must be a GGUF file), or a PEFT folder (MODEL must be a folder). DST appears whole or not at all.

Every kind that has a low rank becomes plain LoRA, with the scale of each module kept, rank-stabilised ones too. What neither container has
as LoRA (DoRA, trained norms and biases, virtual tokens, changes of no low rank) is refused.`,
		Example: `  edged convert output/ pirate.gguf --model model-q4_0.gguf
  edged convert pirate.gguf pirate/ --model model/`,
		Args: cobra.ExactArgs(2),
		RunE: a.Do(func(_ context.Context, args []string) error { return a.convert(args[0], args[1], model, asJSON) }),
	}
	c.Flags().StringVar(&model, "model", "", "the model that the adapter is for")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func (a *app) convert(src, dst, model string, asJSON bool) (err error) {
	if model == "" {
		return cli.Usagef("--model is missing: an adapter's rows and names are those of its model")
	}
	toGGUF := strings.HasSuffix(dst, ".gguf")
	info, err := os.Stat(model)
	if err != nil {
		return err
	}
	switch {
	case toGGUF && info.IsDir():
		return cli.Usagef("%s is to be a GGUF file, so --model must be one, and %s is a folder", dst, model)
	case !toGGUF && !info.IsDir():
		return cli.Usagef(
			"%s is to be a PEFT folder, so --model must be a folder, and %s is a file; for a GGUF file let the name end in .gguf",
			dst,
			model,
		)
	}
	if _, err := os.Lstat(dst); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, fmt.Errorf("%s is there already: remove it first", dst))
	}
	m, err := weights.Open(model)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	adapter, err := lora.Open(src, m)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, adapter.Close()) }()
	tmp, err := os.MkdirTemp(filepath.Dir(filepath.Clean(dst)), "."+filepath.Base(dst)+".*.part")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	var made string
	if toGGUF {
		made = filepath.Join(tmp, "adapter.gguf")
		err = writeGGUFAdapter(adapter, m, model, made)
	} else {
		made = filepath.Join(tmp, "adapter")
		err = writePEFT(adapter, m, made)
	}
	if err != nil {
		return err
	}
	proof, err := lora.Open(made, m) // what was written is an adapter of this model
	if err != nil {
		return err
	}
	rank, targets, bytes := proof.Rank, proof.Targets, proof.Bytes
	if err := proof.Close(); err != nil {
		return err
	}
	if err := os.Rename(made, dst); err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(
			a.Out,
		).Encode(
			map[string]any{"file": dst, "rank": rank, "targets": targets, "bytes": bytes, "from": adapter.Kind},
		)
	}
	_, err = fmt.Fprintf(a.Out, "%s: rank %d on %s, %.1f KiB\n", dst, rank, strings.Join(targets, ", "), float64(bytes)/1024)
	return err
}

// writeGGUFAdapter writes an adapter for the GGUF file model.
func writeGGUFAdapter(adapter *lora.Adapter, m *weights.Model, model, dst string) (err error) {
	f, err := gguf.Open(model)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w, err := convert.GGUF(adapter, m, func(name string) []int64 {
		if t := f.Tensor(name); t != nil {
			return t.Dims
		}
		return nil
	})
	if err != nil {
		return err
	}
	return w.WriteFile(dst)
}

func writePEFT(adapter *lora.Adapter, m *weights.Model, dst string) error {
	config, tensors, err := convert.PEFT(adapter, m)
	if err != nil {
		return err
	}
	if err := os.Mkdir(dst, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dst, "adapter_config.json"), config, 0o644); err != nil {
		return err
	}
	return safetensors.WriteFile(filepath.Join(dst, "adapter_model.safetensors"), tensors, map[string]string{"format": "pt"})
}
