package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
	"edged/core/serve/dispatch"
)

// maxPinned bounds the file of a pinned prefix.
const maxPinned = 1 << 20

// Pinned is the content of one file of prefix_cache.pinned.
type Pinned struct {
	Path     string
	Messages []json.RawMessage // of a conversation; nil: Text
	Tools    json.RawMessage   // nil: none
	Adapter  *string           // nil: the default one; "": the bare model
	Text     string            // of a system message, or of a plain prompt where the model has no chat template
}

// ReadPinned reads one file.
func ReadPinned(path string) (Pinned, error) {
	p := Pinned{Path: path}
	f, err := os.Open(path)
	if err != nil {
		return p, fmt.Errorf("prefix_cache.pinned: %w", err)
	}
	defer f.Close() //nolint:errcheck // opened for reading: nothing to lose
	text, err := io.ReadAll(io.LimitReader(f, maxPinned+1))
	switch {
	case err != nil:
		return p, fmt.Errorf("prefix_cache.pinned: %w", err)
	case len(text) > maxPinned:
		return p, fmt.Errorf("prefix_cache.pinned: %s: larger than 1 MiB", path)
	case !utf8.Valid(text):
		return p, fmt.Errorf("prefix_cache.pinned: %s: is not UTF-8", path)
	case len(text) == 0:
		return p, fmt.Errorf("prefix_cache.pinned: %s: is empty", path)
	case filepath.Ext(path) != ".json":
		p.Text = string(text)
		return p, nil
	}
	var given struct {
		Messages []json.RawMessage `json:"messages"`
		Tools    json.RawMessage   `json:"tools"`
		Adapter  *string           `json:"adapter"`
	}
	if err := json.Unmarshal(text, &given); err != nil {
		return p, fmt.Errorf("prefix_cache.pinned: %s: wants an object with \"messages\": %w", path, err)
	}
	if len(given.Messages) == 0 {
		return p, fmt.Errorf("prefix_cache.pinned: %s: messages: is missing", path)
	}
	p.Messages, p.Tools, p.Adapter = given.Messages, given.Tools, given.Adapter
	return p, nil
}

// begin returns the ids that all prompts with a pinned prefix have in common: those of two that go on
// differently, as far as they are equal. So no template needs to be understood, and no token that what
// follows would change is among them.
func (p *Pinned) begin(ctx context.Context, t tokenizerLife) ([]int32, error) {
	var both [2][]int32
	for i, more := range [2]string{"0", "x"} {
		var err error
		if both[i], err = p.encode(ctx, t, more); err != nil {
			return nil, err
		}
	}
	n := 0
	for n < min(len(both[0]), len(both[1])) && both[0][n] == both[1][n] {
		n++
	}
	return both[0][:n], nil
}

// encode gives the ids of a prompt that goes on with a text.
func (p *Pinned) encode(ctx context.Context, t tokenizerLife, more string) ([]int32, error) {
	if t.info.ChatTemplate == "" {
		if p.Messages != nil {
			return nil, errors.New("messages: this model has no chat template: name a plain text file instead")
		}
		lists, err := t.tokenizer.Encode(ctx, []string{p.Text + more}, tokenizer.Flags{AddSpecial: true})
		if err != nil || len(lists) != 1 {
			return nil, err
		}
		return lists[0], nil
	}
	messages := p.Messages
	if messages == nil {
		system, err := json.Marshal(map[string]string{"role": "system", "content": p.Text})
		if err != nil {
			return nil, err
		}
		messages = []json.RawMessage{system}
	}
	user, err := json.Marshal(map[string]string{"role": "user", "content": more})
	if err != nil {
		return nil, err
	}
	all, err := json.Marshal(append(slices.Clip(messages), user))
	if err != nil {
		return nil, err
	}
	vars, err := json.Marshal(map[string]string{"now": time.Now().Format(time.RFC3339)})
	if err != nil {
		return nil, err
	}
	out, err := t.tokenizer.EncodeChat(ctx, tokenizer.Chat{Messages: all, Tools: p.Tools, Variables: vars})
	return out.IDs, err
}

// pinAgain is how often the adapters of pinned prefixes are looked at: a new file means other pages.
const pinAgain = 10 * time.Second

// keepPinned has each life of the backend compute the pinned prefixes, after everything else that waits,
// until ctx ends. What goes wrong with one of them is logged: it costs its requests time.
func (p *plugins) keepPinned(ctx context.Context) {
	var pinned []Pinned
	for _, path := range p.d.c.PrefixCache.Pinned {
		one, err := ReadPinned(path)
		if err != nil {
			p.log.WarnContext(ctx, "a prefix is not pinned", "path", path, "err", err)
			continue
		}
		pinned = append(pinned, one)
	}
	if len(pinned) == 0 {
		return
	}
	done := map[string]string{} // by path: the life and the adapter that it was computed in
	tick := time.NewTicker(pinAgain)
	defer tick.Stop()
	for ctx.Err() == nil {
		changed := p.backend.Changed()
		back, number, err := p.backend.Current(ctx, 0)
		if err == nil {
			for i := range pinned {
				p.pin(ctx, &pinned[i], back, number, done)
			}
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// pin computes one prefix, where it was not computed with this life and these adapters.
func (p *plugins) pin(ctx context.Context, one *Pinned, back backendLife, number uint64, done map[string]string) {
	name := p.d.c.Adapters.Default
	if one.Adapter != nil {
		name = *one.Adapter
	}
	key := strconv.FormatUint(number, 10)
	var adapter dispatch.Adapter
	var err error
	if name != "" {
		if adapter, err = p.d.shelf().Pin(p.name, name, ""); err == nil {
			defer adapter.Release()
			key += " " + adapter.SHA256()
		}
	}
	if done[one.Path] == key {
		return
	}
	done[one.Path] = key
	began, tokens := time.Now(), 0
	if err == nil {
		tokens, err = p.compute(ctx, one, back, number, adapter)
	}
	switch {
	case err == nil:
		p.log.InfoContext(ctx, "prefix pinned", "path", one.Path, "tokens", tokens, "took", time.Since(began).Round(time.Millisecond))
	case ctx.Err() == nil:
		p.log.WarnContext(ctx, "a prefix is not pinned", "path", one.Path, "adapter", name, "err", err)
	}
}

// compute has the backend read a prefix and keep it.
func (p *plugins) compute(
	ctx context.Context,
	one *Pinned,
	back backendLife,
	number uint64,
	adapter dispatch.Adapter,
) (tokens int, err error) {
	t, _, err := p.tokenizer.Current(ctx, 0)
	if err != nil {
		return 0, err
	}
	ids, err := one.begin(ctx, t)
	switch {
	case err != nil:
		return 0, err
	case len(ids) == 0:
		return 0, errors.New("prompts that begin with it have no token in common")
	}
	req := backend.Request{ID: "pinned", PromptIDs: ids, MaxTokens: 1, Pin: one.Path, Priority: dispatch.MinPriority - 1}
	if adapter != nil {
		id, err := adapter.Use(ctx, dispatch.BackendLife{Backend: back.backend, Info: back.info, Life: p.before + number})
		if err != nil {
			return 0, err
		}
		req.Adapters = []backend.AdapterUse{{ID: id, Scale: 1}}
	}
	return len(ids), back.backend.Generate(ctx, req, func(backend.Event) error { return nil })
}
