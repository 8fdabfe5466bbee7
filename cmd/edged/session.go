package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"edged/core/model/mmap"
	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
	"edged/core/serve/daemon"
	"edged/core/serve/pluginhost"
)

// pluginFlags say where plugins are and which backend is used.
type pluginFlags struct {
	dir     string
	backend string
	command string
	verbose bool
	pins    map[string]string // of the configuration; nil: none
}

func (p *pluginFlags) register(c *cobra.Command, backend bool) {
	f := c.Flags()
	f.StringVar(&p.dir, "plugins-dir", os.Getenv("EDGED_PLUGINS_DIR"), "folder of the plugins (default: beside this program, then "+pluginhost.SystemDir+")")
	f.BoolVarP(&p.verbose, "verbose", "v", false, "show what the plugins log")
	if backend {
		f.StringVar(&p.backend, "backend", pluginhost.Auto, "compute backend: auto, generic, neon, another plugin's name, or the path of its file")
		f.StringVar(&p.command, "backend-command", "", `words to put before the backend's path, for example "qemu-aarch64-static -cpu cortex-a72"`)
	}
}

// log writes what plugins say to standard error: their errors, or with --verbose everything.
func (p *pluginFlags) log(s streams) *slog.Logger {
	level := slog.LevelError
	if p.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(s.err, &slog.HandlerOptions{Level: level}))
}

// modelFlags say which model is loaded and how.
type modelFlags struct {
	pluginFlags
	path      string
	adapters  []string
	context   int
	kv        string
	precision string
	threads   int
	head      string
	quantize  string
	force     bool
	draft     string
}

func (m *modelFlags) register(c *cobra.Command) {
	m.pluginFlags.register(c, true)
	m.registerModel(c)
	f := c.Flags()
	f.StringArrayVar(&m.adapters, "adapter", nil, "LoRA adapter (PEFT folder or GGUF file), with =SCALE to weigh it; may be repeated")
	f.IntVar(&m.context, "context", 0, "positions per sequence (default: the model's own limit, at most 4096)")
	f.StringVar(&m.kv, "kv", "", "format of the attention cache: f32, f16, q8_0 (default: f16, and f32 with --precision exact)")
	f.StringVar(&m.precision, "precision", "fast", "arithmetic: fast (8-bit activations where that is quicker) or exact (float32 throughout)")
	f.IntVar(&m.threads, "threads", 0, "threads of computation (default: tuned to this machine)")
	f.StringVar(&m.head, "head", "as-is", "format of the output head: as-is, q8_0, q4_0")
	f.StringVar(&m.quantize, "quantize", "", "requantise the layers: q8_0, q4_0 (default: as they are stored)")
	f.StringVar(&m.draft, "draft-model", "", "smaller model of the same vocabulary that guesses next tokens (answers stay the same)")
	f.BoolVar(&m.force, "ignore-memory-plan", false, "load even where memory seems too short")
}

func (m *modelFlags) registerModel(c *cobra.Command) {
	c.Flags().StringVarP(&m.path, "model", "m", "", "model: a GGUF file or a Hugging Face folder")
}

// check refuses values that no backend takes. It touches no file.
func (m *modelFlags) check() error {
	switch {
	case m.path == "":
		return usagef("--model is missing: name a .gguf file or a Hugging Face folder")
	case m.context < 0:
		return usagef("--context %d is negative", m.context)
	case m.threads < 0:
		return usagef("--threads %d is negative", m.threads)
	}
	for _, f := range []struct {
		name, value string
		allowed     []string
	}{
		{"kv", m.kv, []string{"", "f32", "f16", "q8_0"}},
		{"precision", m.precision, []string{"", "fast", "exact"}},
		{"head", m.head, []string{"", "as-is", "q8_0", "q4_0"}},
		{"quantize", m.quantize, []string{"", "q8_0", "q4_0"}},
	} {
		if err := oneOf(f.name, f.value, f.allowed); err != nil {
			return err
		}
	}
	if m.precision == "exact" && m.kv != "" && m.kv != "f32" {
		return usagef("--kv %s contradicts --precision exact, which keeps K and V in float32", m.kv)
	}
	return nil
}

func oneOf(name, value string, allowed []string) error {
	var names []string
	for _, a := range allowed {
		if a == value {
			return nil
		}
		if a != "" {
			names = append(names, a)
		}
	}
	return usagef("--%s %q is none of %s", name, value, strings.Join(names, ", "))
}

// loadRequest is what the backend is asked to load; sequences run at once.
func (m *modelFlags) loadRequest(sequences int) backend.LoadRequest {
	return backend.LoadRequest{
		Path: m.path, Context: m.context, KVType: m.kv, Precision: backend.Precision(m.precision),
		ThreadsPrefill: m.threads, ThreadsDecode: m.threads, Head: m.head, Quantize: m.quantize,
		CacheDir: daemon.CacheDir(), MaxSequences: sequences, IgnorePlan: m.force, DraftModel: m.draft,
	}
}

// session is a model in plugins of its own, without a service.
type session struct {
	tok       *pluginhost.Process
	back      *pluginhost.Process
	Tokenizer tokenizer.Tokenizer
	Backend   backend.Backend
	Text      tokenizer.Info
	Model     backend.ModelInfo
	Adapters  []backend.AdapterUse
}

// startTokenizer starts the tokenizer plugin, without a model where path is empty.
func (p *pluginFlags) startTokenizer(ctx context.Context, log *slog.Logger, path string) (*session, error) {
	proc, err := pluginhost.Start(ctx, pluginhost.Options{Kind: protocol.PluginTokenizer, Name: "bpe", Dir: p.dir, Pins: p.pins, Log: log})
	if err != nil {
		return nil, err
	}
	s := &session{tok: proc, Tokenizer: proc.Tokenizer()}
	if path == "" {
		return s, nil
	}
	if s.Text, err = daemon.LoadTokenizer(ctx, s.Tokenizer, path); err != nil {
		err = s.dead(err)
		s.Close()
		return nil, err
	}
	return s, nil
}

// open starts both plugins and loads the model and its adapters.
func (m *modelFlags) open(ctx context.Context, log *slog.Logger, sequences int) (*session, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	if _, err := os.Stat(m.path); err != nil {
		return nil, mmap.Explain(m.path, err)
	}
	uses, paths, err := m.adapterUses()
	if err != nil {
		return nil, err
	}
	started := make(chan error, 1)
	var back *pluginhost.Process
	go func() {
		var err error
		back, err = m.startBackend(ctx, log)
		started <- err
	}()
	s, err := m.startTokenizer(ctx, log, m.path)
	backErr := <-started
	if err != nil || backErr != nil {
		if back != nil {
			back.Kill()
		}
		if err != nil {
			return nil, err
		}
		s.Close()
		return nil, backErr
	}
	s.back, s.Backend = back, back.Backend()
	if err := s.load(ctx, m.loadRequest(sequences), uses, paths); err != nil {
		err = s.dead(err)
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *session) load(ctx context.Context, req backend.LoadRequest, uses []backend.AdapterUse, paths []string) error {
	info, err := daemon.LoadBackend(ctx, s.Backend, s.Tokenizer, req, nil)
	if err != nil {
		return err
	}
	s.Model = info
	for i, path := range paths {
		a, err := s.Backend.LoadAdapter(ctx, backend.AdapterRequest{Path: path, Name: filepath.Base(path)})
		if err != nil {
			return err
		}
		uses[i].ID = a.ID
	}
	s.Adapters = uses
	return nil
}

// startBackend starts the backend plugin; --backend may be a path.
func (p *pluginFlags) startBackend(ctx context.Context, log *slog.Logger) (*pluginhost.Process, error) {
	return p.startBackendWith(ctx, log, strings.Fields(p.command))
}

func (p *pluginFlags) startBackendWith(ctx context.Context, log *slog.Logger, command []string) (*pluginhost.Process, error) {
	o := pluginhost.Options{Kind: protocol.PluginBackend, Name: p.backend, Dir: p.dir, Pins: p.pins, Command: command, Env: switches(), Log: log}
	if strings.ContainsRune(p.backend, filepath.Separator) {
		o.Name, o.Path = "", p.backend
	}
	return pluginhost.Start(ctx, o)
}

// switches are the variables that a plugin does not inherit but that are meant for it: slower kernels for a comparison, and
// the file of a CPU profile.
func switches() []string {
	var out []string
	for _, name := range []string{"EDGED_KERNELS", "EDGED_CPUPROFILE"} {
		if v, ok := os.LookupEnv(name); ok {
			out = append(out, name+"="+v)
		}
	}
	return out
}

// adapterUses reads PATH[=SCALE].
func (m *modelFlags) adapterUses() (uses []backend.AdapterUse, paths []string, err error) {
	for _, a := range m.adapters {
		use, path := backend.AdapterUse{Scale: 1}, a
		if at := strings.LastIndexByte(a, '='); at >= 0 {
			scale, err := strconv.ParseFloat(a[at+1:], 32)
			if err != nil || scale != scale || scale > 1e6 || scale < -1e6 {
				return nil, nil, usagef("--adapter %q: %q is not a scale", a, a[at+1:])
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

// dead puts the last words of a plugin that died in place of the sentence that its call ended.
func (s *session) dead(err error) error {
	if !errors.Is(err, protocol.ErrPluginDied) {
		return err
	}
	for _, p := range []*pluginhost.Process{s.tok, s.back} {
		if p == nil {
			continue
		}
		select {
		case <-p.Done():
			if why := p.Err(); why != nil {
				return fmt.Errorf("%w", why)
			}
		default:
		}
	}
	return err
}

// Close ends the plugins.
func (s *session) Close() {
	for _, p := range []*pluginhost.Process{s.back, s.tok} {
		if p != nil {
			p.Kill()
		}
	}
}

// prover proves adapters in the session's backend.
func (s *session) prover() daemon.Prover {
	return daemon.Prover{Backend: s.Backend, Model: s.Model, Tokenizer: s.Tokenizer, Text: s.Text}
}
