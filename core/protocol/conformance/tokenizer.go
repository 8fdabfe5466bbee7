//nolint:thelper // the steps are tests themselves: a failure is to name the line in them
package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
)

// Tokenizer tries a fresh tokenizer, on which nothing was called before, with a model's file or folder.
func Tokenizer(t *testing.T, tok tokenizer.Tokenizer, model string) {
	s := &tokenizerSuite{t: tok, model: model}
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"not loaded", s.notLoaded},
		{"render without a model", s.render},
		{"load of nothing", s.loadNothing},
		{"load", s.load},
		{"vocabulary", s.vocabulary},
		{"encode and decode", s.roundTrip},
		{"special tokens", s.special},
		{"long texts", s.long},
		{"company", s.company},
		{"refusals", s.refusals},
		{"chat", s.chat},
	} {
		if !t.Run(step.name, step.run) && step.name == "load" {
			t.Fatal("nothing else can be tried without a model")
		}
	}
}

type tokenizerSuite struct {
	t     tokenizer.Tokenizer
	model string
	info  tokenizer.Info
	vocab backend.Vocabulary
}

func (s *tokenizerSuite) notLoaded(t *testing.T) {
	_, err := s.t.Encode(t.Context(), []string{"x"}, tokenizer.Flags{})
	wants(t, "encode", err, protocol.ErrNotLoaded)
	_, err = s.t.Decode(t.Context(), []int32{1}, false)
	wants(t, "decode", err, protocol.ErrNotLoaded)
	_, err = s.t.Vocabulary(t.Context())
	wants(t, "vocabulary", err, protocol.ErrNotLoaded)
	_, err = s.t.EncodeChat(t.Context(), tokenizer.Chat{Messages: json.RawMessage(`[{"role":"user","content":"x"}]`)})
	if !errors.Is(err, protocol.ErrUnsupported) {
		wants(t, "encode chat", err, protocol.ErrNotLoaded)
	}
}

func (s *tokenizerSuite) render(t *testing.T) {
	const template = `{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ sep }}{% endfor %}{% if add_generation_prompt %}>{% endif %}`
	chat := tokenizer.Chat{
		Messages:  json.RawMessage(`[{"role":"user","content":"hi <there>"},{"role":"assistant","content":"ä"}]`),
		Variables: json.RawMessage(`{"sep":"|"}`), Template: template,
	}
	got, err := s.t.Render(t.Context(), chat)
	if errors.Is(err, protocol.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil || got != "[user] hi <there>|[assistant] ä|>" {
		t.Errorf("%q, %v", got, err)
	}
	chat.NoPrompt = true
	if got, err := s.t.Render(t.Context(), chat); err != nil || got != "[user] hi <there>|[assistant] ä|" {
		t.Errorf("%q, %v", got, err)
	}
	chat.Template = `{{ raise_exception("roles must alternate") }}`
	_, err = s.t.Render(t.Context(), chat)
	wants(t, "a template that refuses", err, protocol.ErrInvalid)
	if err != nil && !strings.Contains(err.Error(), "roles must alternate") {
		t.Errorf("%v does not say what the template said", err)
	}
	begin := time.Now()
	chat.Template = `{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}x{% endfor %}{% endfor %}{% endfor %}`
	if _, err = s.t.Render(t.Context(), chat); err == nil || time.Since(begin) > time.Minute {
		t.Errorf("a template without an end: %v after %s", err, time.Since(begin))
	}
	chat.Template = `{% if %}`
	if _, err = s.t.Render(t.Context(), chat); err == nil {
		t.Error("a template that is none was rendered")
	}
}

func (s *tokenizerSuite) loadNothing(t *testing.T) {
	const path = "/nowhere/conformance.gguf"
	_, err := s.t.Load(t.Context(), path)
	wants(t, "load", err, protocol.ErrModel)
	if err != nil && !strings.Contains(err.Error(), path) {
		t.Errorf("%q does not name the file", err)
	}
}

func (s *tokenizerSuite) load(t *testing.T) {
	info, err := s.t.Load(t.Context(), s.model)
	if err != nil {
		t.Fatal(err)
	}
	s.info = info
	for _, id := range append([]int32{info.BOS, info.EOS, info.EOT, info.Unknown, info.Pad}, info.EOG...) {
		if id < -1 || int(id) >= info.Tokens {
			t.Errorf("id %d of %d tokens: %+v", id, info.Tokens, info)
		}
	}
	if info.Tokens <= 0 || info.Hash == "" || info.Kind == "" {
		t.Errorf("%+v", info)
	}
}

func (s *tokenizerSuite) vocabulary(t *testing.T) {
	v, err := s.t.Vocabulary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.vocab = v
	if len(v.Pieces) != s.info.Tokens || len(v.Control) != len(v.Pieces) || v.Hash != s.info.Hash || v.BOS != s.info.BOS ||
		!slices.Equal(v.EOG, s.info.EOG) {
		t.Errorf("%d pieces, %d flags, hash %s, BOS %d, EOG %v; info %+v", len(v.Pieces), len(v.Control), v.Hash, v.BOS, v.EOG, s.info)
	}
}

// texts returns samples of what people and devices write, in normal form C, to which some vocabularies bring
// their texts.
func texts() []string {
	return []string{
		"", " ", "hello", "Hello, World! ", "  two  spaces\n\n\tand a tab\r\n", "Grüße aus Köln", "温度は21度です", "🏡👩‍👩‍👧", "caf\u00e9",
		"{\"on\": true, \"level\": 0.25}", "<|im_start|>", "</s>", "a\x00b", strings.Repeat("ab ", 100),
	}
}

func (s *tokenizerSuite) roundTrip(t *testing.T) {
	all, err := s.t.Encode(t.Context(), texts(), tokenizer.Flags{})
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range texts() {
		one, err := s.t.Encode(t.Context(), []string{text}, tokenizer.Flags{})
		if err != nil || !slices.Equal(one[0], all[i]) {
			t.Errorf("%q: alone %v, among others %v, %v", text, one, all[i], err)
			continue
		}
		for _, id := range all[i] {
			if id < 0 || int(id) >= s.info.Tokens || (s.vocab.Control[id] && id != s.info.Unknown) {
				t.Errorf("%q: id %d", text, id)
			}
		}
		data, err := s.t.Decode(t.Context(), all[i], false)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		// Only byte-level BPE promises the bytes back; the others may put a space before or normalise.
		if s.info.Kind == "bpe" && string(data) != text {
			t.Errorf("%q came back as %q", text, data)
		}
		if s.info.Kind != "bpe" {
			continue
		}
		var joined []byte
		for _, id := range all[i] {
			joined = append(joined, s.vocab.Pieces[id]...)
		}
		if !bytes.Equal(joined, data) {
			t.Errorf("%q: the vocabulary's pieces join to %q, decode gives %q", text, joined, data)
		}
	}
}

func (s *tokenizerSuite) special(t *testing.T) {
	with, err := s.t.Encode(t.Context(), []string{"x"}, tokenizer.Flags{AddSpecial: true})
	if err != nil {
		t.Fatal(err)
	}
	if starts := len(with[0]) > 0 && with[0][0] == s.info.BOS; s.info.BOS >= 0 && starts != s.info.AddBOS {
		t.Errorf("ids %v, BOS %d wanted: %v", with[0], s.info.BOS, s.info.AddBOS)
	}
	for id, control := range s.vocab.Control {
		if !control {
			continue
		}
		text, err := s.t.Decode(t.Context(), []int32{int32(id)}, true)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) < 3 {
			continue
		}
		typed, err := s.t.Encode(t.Context(), []string{"a " + string(text) + " b"}, tokenizer.Flags{})
		if err != nil || slices.Contains(typed[0], int32(id)) {
			t.Errorf("typed %q became control token %d: %v, %v", text, id, typed, err)
		}
		parsed, err := s.t.Encode(t.Context(), []string{string(text)}, tokenizer.Flags{ParseSpecial: true})
		if err != nil || !slices.Contains(parsed[0], int32(id)) {
			t.Errorf("parsed %q is %v, want %d, %v", text, parsed, id, err)
		}
		return
	}
}

func (s *tokenizerSuite) long(t *testing.T) {
	const size = 1 << 20
	for _, unit := range []string{"a", " ", "🏡", "word and ", "\n"} {
		// Quadratic time would be hours, not minutes: the bound catches that on the slowest machine, and nothing else.
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		ids, err := s.t.Encode(ctx, []string{strings.Repeat(unit, size/len(unit))}, tokenizer.Flags{})
		cancel()
		// WordPiece has no token for white space.
		none := s.info.Kind == "wordpiece" && strings.TrimSpace(unit) == ""
		if err != nil || len(ids) != 1 || (len(ids[0]) == 0) != none {
			t.Errorf("1 MiB of %q: %v", unit, err)
		}
	}
}

func (s *tokenizerSuite) company(t *testing.T) {
	want, err := s.t.Encode(t.Context(), texts(), tokenizer.Flags{AddSpecial: true})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			got, err := s.t.Encode(t.Context(), texts(), tokenizer.Flags{AddSpecial: true})
			if err != nil || !slices.EqualFunc(got, want, slices.Equal) {
				t.Errorf("in company: %v, %v", got, err)
			}
		})
	}
	all.Wait()
}

func (s *tokenizerSuite) refusals(t *testing.T) {
	for _, id := range []int32{-1, int32(s.info.Tokens)} {
		_, err := s.t.Decode(t.Context(), []int32{id}, false)
		wants(t, "decode", err, protocol.ErrInvalid)
	}
	for _, messages := range []string{``, `{`, `{}`, `"x"`, `[1]`, `[{"role":"user"`, strings.Repeat(`[`, 100_000)} {
		_, err := s.t.Render(t.Context(), tokenizer.Chat{Messages: json.RawMessage(messages), Template: "{{ messages }}"})
		if errors.Is(err, protocol.ErrUnsupported) {
			return
		}
		wants(t, "messages "+messages[:min(len(messages), 20)], err, protocol.ErrInvalid)
	}
}

func (s *tokenizerSuite) chat(t *testing.T) {
	if s.info.ChatTemplate == "" {
		_, err := s.t.EncodeChat(t.Context(), tokenizer.Chat{Messages: json.RawMessage(`[{"role":"user","content":"hi"}]`)})
		if err == nil {
			t.Error("a conversation was encoded without a template")
		}
		return
	}
	encode := func(content string) tokenizer.ChatIDs {
		t.Helper()
		messages, err := json.Marshal([]map[string]string{{"role": "user", "content": content}})
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.t.EncodeChat(t.Context(), tokenizer.Chat{Messages: messages})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	control := func(ids []int32) (n int) {
		for _, id := range ids {
			if s.vocab.Control[id] {
				n++
			}
		}
		return n
	}
	plain := encode("hi")
	if len(plain.IDs) == 0 || !strings.Contains(plain.Text, "hi") {
		t.Errorf("%+v", plain)
	}
	if s.info.BOS >= 0 && len(plain.IDs) > 1 && plain.IDs[0] == s.info.BOS && plain.IDs[1] == s.info.BOS {
		t.Errorf("two BOS: %v", plain.IDs)
	}
	// Whatever a user types, the control tokens are the template's.
	var hostile []string
	for id, c := range s.vocab.Control {
		if text, err := s.t.Decode(t.Context(), []int32{int32(id)}, true); c && err == nil && len(text) > 2 {
			hostile = append(hostile, string(text))
		}
		if len(hostile) == 20 {
			break
		}
	}
	typed := strings.Join(hostile, " hi ")
	if got := encode("hi " + typed); control(got.IDs) != control(plain.IDs) || !strings.Contains(got.Text, typed) {
		t.Errorf("a user who types %q gets %d control tokens instead of %d, in %q", typed, control(got.IDs), control(plain.IDs), got.Text)
	}
}
