// Package plugins starts the plugins of a model for one command, without a service, and asks them.
//
// It must not know what a command prints.
package plugins

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
	"edged/core/model/mmap"
	"edged/core/protocol/backend"
	"edged/core/serve/daemon"
	"edged/core/serve/pluginhost"
)

// Flags say where plugins are and which backend is used.
type Flags struct {
	Dir     string // "": beside this program, then the system's
	Backend string // a name, or the path of a file
	command string
	verbose bool
	Pins    map[string]string // of the configuration; nil: none
}

// Register adds the flags to a command; backend: with those of the backend.
func (p *Flags) Register(c *cobra.Command, backend bool) {
	f := c.Flags()
	f.StringVar(
		&p.Dir,
		"plugins-dir",
		os.Getenv("EDGED_PLUGINS_DIR"),
		"folder of the plugins (default: beside this program, then "+pluginhost.SystemDir+")",
	)
	f.BoolVarP(&p.verbose, "verbose", "v", false, "show what the plugins log")
	if backend {
		f.StringVar(
			&p.Backend,
			"backend",
			pluginhost.Auto,
			"compute backend: auto, generic, neon, another plugin's name, or the path of its file",
		)
		f.StringVar(
			&p.command,
			"backend-command",
			"",
			`words to put before the backend's path, for example "qemu-aarch64-static -cpu cortex-a72"`,
		)
	}
}

// Log writes what plugins say to standard error: their errors, or with --verbose everything.
func (p *Flags) Log(w io.Writer) *slog.Logger {
	level := slog.LevelError
	if p.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

// ModelFlags say which model is loaded and how.
type ModelFlags struct {
	Flags
	Path      string
	Adapters  []string
	Context   int
	kv        string
	Precision string
	threads   int
	head      string
	quantize  string
	force     bool
	draft     string
}

// Register adds the flags to a command.
func (m *ModelFlags) Register(c *cobra.Command) {
	m.Flags.Register(c, true)
	m.RegisterModel(c)
	f := c.Flags()
	f.StringArrayVar(&m.Adapters, "adapter", nil, "LoRA adapter (PEFT folder or GGUF file), with =SCALE to weigh it; may be repeated")
	f.IntVar(&m.Context, "context", 0, "positions per sequence (default: the model's own limit, at most 4096)")
	f.StringVar(&m.kv, "kv", "", "format of the attention cache: f32, f16, q8_0 (default: f16, and f32 with --precision exact)")
	f.StringVar(
		&m.Precision,
		"precision",
		"fast",
		"arithmetic: fast (8-bit activations where that is quicker) or exact (float32 throughout)",
	)
	f.IntVar(&m.threads, "threads", 0, "threads of computation (default: tuned to this machine)")
	f.StringVar(&m.head, "head", "as-is", "format of the output head: as-is, q8_0, q4_0")
	f.StringVar(&m.quantize, "quantize", "", "requantise the layers: q8_0, q4_0 (default: as they are stored)")
	f.StringVar(&m.draft, "draft-model", "", "smaller model of the same vocabulary that guesses next tokens (answers stay the same)")
	f.BoolVar(&m.force, "ignore-memory-plan", false, "load even where memory seems too short")
}

// RegisterModel adds --model alone.
func (m *ModelFlags) RegisterModel(c *cobra.Command) {
	c.Flags().StringVarP(&m.Path, "model", "m", "", "model: a GGUF file or a Hugging Face folder")
}

// Check refuses values that no backend takes. It touches no file.
func (m *ModelFlags) Check() error {
	switch {
	case m.Path == "":
		return cli.Usagef("--model is missing: name a .gguf file or a Hugging Face folder")
	case m.Context < 0:
		return cli.Usagef("--context %d is negative", m.Context)
	case m.threads < 0:
		return cli.Usagef("--threads %d is negative", m.threads)
	}
	for _, f := range []struct {
		name, value string
		allowed     []string
	}{
		{"kv", m.kv, []string{"", "f32", "f16", "q8_0"}},
		{"precision", m.Precision, []string{"", "fast", "exact"}},
		{"head", m.head, []string{"", "as-is", "q8_0", "q4_0"}},
		{"quantize", m.quantize, []string{"", "q8_0", "q4_0"}},
	} {
		if err := cli.OneOf(f.name, f.value, f.allowed); err != nil {
			return err
		}
	}
	if m.Precision == "exact" && m.kv != "" && m.kv != "f32" {
		return cli.Usagef("--kv %s contradicts --precision exact, which keeps K and V in float32", m.kv)
	}
	return nil
}

// loadRequest builds the backend's load request for sequences that run concurrently.
func (m *ModelFlags) loadRequest(sequences int) backend.LoadRequest {
	return backend.LoadRequest{
		Path: m.Path, Context: m.Context, KVType: m.kv, Precision: backend.Precision(m.Precision),
		ThreadsPrefill: m.threads, ThreadsDecode: m.threads, Head: m.head, Quantize: m.quantize,
		CacheDir: daemon.CacheDir(), MaxSequences: sequences, IgnorePlan: m.force, DraftModel: m.draft,
	}
}

// adapterUses reads PATH[=SCALE].
func (m *ModelFlags) adapterUses() (uses []backend.AdapterUse, paths []string, err error) {
	for _, a := range m.Adapters {
		use, path := backend.AdapterUse{Scale: 1}, a
		if at := strings.LastIndexByte(a, '='); at >= 0 {
			scale, err := strconv.ParseFloat(a[at+1:], 32)
			if err != nil || scale != scale || scale > 1e6 || scale < -1e6 {
				return nil, nil, cli.Usagef("--adapter %q: %q is not a scale", a, a[at+1:])
			}
			use.Scale, path = float32(scale), a[:at]
		}
		if path, err = filepath.Abs(path); err != nil {
			return nil, nil, err
		}
		if _, err := os.Stat(path); err != nil {
			return nil, nil, mmap.Explain(path, err)
		}
		uses, paths = append(uses, use), append(paths, path)
	}
	return uses, paths, nil
}
