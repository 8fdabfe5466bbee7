package plugins

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"edged/core/model/mmap"
	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
	"edged/core/serve/daemon"
	"edged/core/serve/pluginhost"
)

// Session is a model in plugins of its own, without a service.
type Session struct {
	tok       *pluginhost.Process
	back      *pluginhost.Process
	Tokenizer tokenizer.Tokenizer
	Backend   backend.Backend
	Text      tokenizer.Info
	Model     backend.ModelInfo
	Adapters  []backend.AdapterUse
}

// StartTokenizer starts the tokenizer plugin, without a model where path is empty.
func (p *Flags) StartTokenizer(ctx context.Context, log *slog.Logger, path string) (*Session, error) {
	proc, err := pluginhost.Start(ctx, pluginhost.Options{Kind: protocol.PluginTokenizer, Name: "bpe", Dir: p.Dir, Pins: p.Pins, Log: log})
	if err != nil {
		return nil, err
	}
	s := &Session{tok: proc, Tokenizer: proc.Tokenizer()}
	if path == "" {
		return s, nil
	}
	if s.Text, err = daemon.LoadTokenizer(ctx, s.Tokenizer, path); err != nil {
		err = s.Dead(err)
		s.Close()
		return nil, err
	}
	return s, nil
}

// Open starts both plugins and loads the model and its adapters.
func (m *ModelFlags) Open(ctx context.Context, log *slog.Logger, sequences int) (*Session, error) {
	if err := m.Check(); err != nil {
		return nil, err
	}
	if _, err := os.Stat(m.Path); err != nil {
		return nil, mmap.Explain(m.Path, err)
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
	s, err := m.StartTokenizer(ctx, log, m.Path)
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
	if err := s.Load(ctx, m.loadRequest(sequences), uses, paths); err != nil {
		err = s.Dead(err)
		s.Close()
		return nil, err
	}
	return s, nil
}

// Load loads the model into the backend, and the adapters at paths beside it, whose numbers it puts into uses.
func (s *Session) Load(ctx context.Context, req backend.LoadRequest, uses []backend.AdapterUse, paths []string) error {
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
func (p *Flags) startBackend(ctx context.Context, log *slog.Logger) (*pluginhost.Process, error) {
	return p.startBackendWith(ctx, log, strings.Fields(p.command))
}

func (p *Flags) startBackendWith(ctx context.Context, log *slog.Logger, command []string) (*pluginhost.Process, error) {
	o := pluginhost.Options{
		Kind:    protocol.PluginBackend,
		Name:    p.Backend,
		Dir:     p.Dir,
		Pins:    p.Pins,
		Command: command,
		Env:     switches(),
		Log:     log,
	}
	if strings.ContainsRune(p.Backend, filepath.Separator) {
		o.Name, o.Path = "", p.Backend
	}
	return pluginhost.Start(ctx, o)
}

// switches are the variables that a plugin does not inherit but that are meant for it: slower kernels for a
// comparison, and the file of a CPU profile.
func switches() []string {
	var out []string
	for _, name := range []string{"EDGED_KERNELS", "EDGED_CPUPROFILE"} {
		if v, ok := os.LookupEnv(name); ok {
			out = append(out, name+"="+v)
		}
	}
	return out
}

// Dead puts the last words of a plugin that died in place of the sentence that its call ended.
func (s *Session) Dead(err error) error {
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

// TokenizerPath is the file of the tokenizer's plugin.
func (s *Session) TokenizerPath() string { return s.tok.Path() }

// StartBackend starts the backend of a session that has none yet, without a model, and returns the path of
// the plugin's file.
func (s *Session) StartBackend(ctx context.Context, p *Flags, log *slog.Logger, command []string) (path string, err error) {
	back, err := p.startBackendWith(ctx, log, command)
	if err != nil {
		return "", err
	}
	s.back, s.Backend = back, back.Backend()
	return back.Path(), nil
}

// Close ends the plugins.
func (s *Session) Close() {
	for _, p := range []*pluginhost.Process{s.back, s.tok} {
		if p != nil {
			p.Kill()
		}
	}
}

// Prover proves adapters in the session's backend.
func (s *Session) Prover() daemon.Prover {
	return daemon.Prover{Backend: s.Backend, Model: s.Model, Tokenizer: s.Tokenizer, Text: s.Text}
}

// Run generates and returns the last event; text that comes is written to stream.
func (s *Session) Run(ctx context.Context, req backend.Request, stream io.Writer) (*backend.Event, error) {
	var last *backend.Event
	written := 0
	err := s.Backend.Generate(ctx, req, func(ev backend.Event) error {
		if ev.Done {
			last = &ev
			return nil
		}
		if stream != nil && ev.Text != "" {
			written += len(ev.Text)
			_, err := io.WriteString(stream, ev.Text)
			return err
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case last == nil || len(last.Choices) == 0:
		return nil, errors.New("the backend ended without an answer")
	}
	if text := last.Choices[0].Text; stream != nil && written < len(text) {
		if _, err := io.WriteString(stream, text[written:]); err != nil {
			return nil, err
		}
	}
	return last, nil
}

// Crossed reports whether the model is an encoder-decoder.
func (s *Session) Crossed() bool { return s.Model.Kind == "encoder-decoder" }

// EncodeOne encodes one text.
func (s *Session) EncodeOne(ctx context.Context, text string, flags tokenizer.Flags) ([]int32, error) {
	lists, err := s.Tokenizer.Encode(ctx, []string{text}, flags)
	if err != nil {
		return nil, err
	}
	if len(lists) != 1 {
		return nil, fmt.Errorf("the tokenizer gave %d lists for one text", len(lists))
	}
	return lists[0], nil
}
