package dispatch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
	"edged/core/serve/inbox"
)

// plugins is a tokenizer and a backend with scripted failures, in the process of the test. A generation takes tick for
// each token; token i of a prompt is a function of both and of the seed, so that every attempt must give the same.
type plugins struct {
	tick     time.Duration
	template string
	context  int
	killer   func(life uint64, req backend.Request, generated int) bool // the backend dies at this token
	reject   error                                                      // of Generate, at once
	down     error                                                      // of Backends
	calls    []ToolCall
	callForm string // grammar of a call
	says     string // what every answer is, a byte a token; "": letters

	mu      sync.Mutex
	life    uint64
	dead    chan struct{} // closed when the current life ends
	started []string      // ids of the generations, in order
	running int
	most    int // running at once
	encoded []string
	chats   []tokenizer.Chat
}

func newPlugins() *plugins {
	return &plugins{tick: 10 * time.Millisecond, context: 1000, life: 1, dead: make(chan struct{})}
}

func (p *plugins) lives() *lives { return &lives{p} }

// lives gives the plugins to a Dispatcher.
type lives struct{ p *plugins }

func (l *lives) Backend(ctx context.Context, after uint64) (BackendLife, error) {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	if l.p.life <= after {
		return BackendLife{}, fmt.Errorf("fake: life %d does not come after %d", l.p.life, after)
	}
	if l.p.down != nil {
		return BackendLife{}, l.p.down
	}
	return BackendLife{Backend: &backend.Fake{GenerateFunc: l.p.Generate, ScoreFunc: l.p.Score}, Life: l.p.life, Info: backend.ModelInfo{Name: "fake", Context: l.p.context, VocabRows: 1000}}, ctx.Err()
}

func (l *lives) Tokenizer(ctx context.Context, after uint64) (TokenizerLife, error) {
	return TokenizerLife{
		Life:      after + 1,
		Tokenizer: &tokenizer.Fake{EncodeFunc: l.p.Encode, VocabularyFunc: l.p.Vocabulary, EncodeChatFunc: l.p.EncodeChat, ParseToolsFunc: l.p.ParseTools},
		Info:      tokenizer.Info{ChatTemplate: l.p.template},
	}, ctx.Err()
}

// die ends the current life: every call in it ends with ErrPluginDied. p.mu is held.
func (p *plugins) die() {
	p.life++
	close(p.dead)
	p.dead = make(chan struct{})
}

func (p *plugins) Encode(_ context.Context, texts []string, _ tokenizer.Flags) ([][]int32, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.encoded = append(p.encoded, texts...)
	out := make([][]int32, len(texts))
	for i, t := range texts {
		for _, b := range []byte(t) {
			out[i] = append(out[i], int32(b))
		}
	}
	return out, nil
}

func (p *plugins) EncodeChat(_ context.Context, c tokenizer.Chat) (tokenizer.ChatIDs, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.chats = append(p.chats, c)
	return tokenizer.ChatIDs{IDs: make([]int32, len(c.Messages)), Grammar: p.callForm}, nil
}

func (p *plugins) ParseTools(_ context.Context, text string) (tokenizer.ToolText, error) {
	out := tokenizer.ToolText{Text: text}
	if len(p.calls) > 0 {
		out.Text = "beside"
	}
	for _, c := range p.calls {
		out.Calls = append(out.Calls, tokenizer.ToolCall{Name: c.Name, Arguments: c.Arguments})
	}
	return out, nil
}

func (p *plugins) Vocabulary(context.Context) (backend.Vocabulary, error) {
	var v backend.Vocabulary
	for id := range int32(26) {
		v.Pieces = append(v.Pieces, []byte(piece(id)))
	}
	return v, nil
}

func token(req backend.Request, choice, step int) int32 {
	h := req.Sampling.Seed*31 + uint64(choice)*7 + uint64(step)*13
	for _, id := range req.PromptIDs {
		h = h*131 + uint64(id)
	}
	return int32(h % 26)
}

func piece(id int32) string { return string('a' + id) }

func pieces(ids []int32) string {
	var b strings.Builder
	for _, id := range ids {
		b.WriteString(piece(id))
	}
	return b.String()
}

func (p *plugins) Generate(ctx context.Context, req backend.Request, emit func(backend.Event) error) error {
	if p.reject != nil {
		return p.reject
	}
	p.mu.Lock()
	life, dead := p.life, p.dead
	p.started = append(p.started, req.ID)
	p.running++
	p.most = max(p.most, p.running)
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.running--
		p.mu.Unlock()
	}()
	if err := emit(backend.Event{Prefill: &backend.Prefill{Done: len(req.PromptIDs), Of: len(req.PromptIDs)}}); err != nil {
		return err
	}
	n := max(req.N, 1)
	choices := make([]backend.Choice, n)
	for c := range choices {
		choices[c] = backend.Choice{Index: c, Finish: backend.FinishLength, IDs: slices.Clone(req.GeneratedIDs)}
	}
	for step := len(req.GeneratedIDs); step < req.MaxTokens; step++ {
		select {
		case <-time.After(p.tick):
		case <-ctx.Done():
			return ctx.Err()
		case <-dead:
			return fmt.Errorf("fake: %w", protocol.ErrPluginDied)
		}
		p.mu.Lock()
		if p.killer != nil && p.life == life && p.killer(life, req, step) {
			p.die()
		}
		p.mu.Unlock()
		select {
		case <-dead:
			return fmt.Errorf("fake: %w", protocol.ErrPluginDied)
		default:
		}
		for c := range choices {
			id := token(req, c, step)
			choices[c].IDs = append(choices[c].IDs, id)
			text := piece(id)
			if p.says != "" {
				text = p.says[step : step+1]
			}
			if err := emit(backend.Event{Index: c, IDs: []int32{id}, Text: text}); err != nil {
				return err
			}
		}
	}
	for c := range choices {
		choices[c].Text = pieces(choices[c].IDs)
		if p.says != "" {
			choices[c].Text = p.says[:len(choices[c].IDs)]
		}
		if req.Logprobs {
			for _, id := range choices[c].IDs {
				choices[c].Logprobs = append(choices[c].Logprobs, backend.TokenLogprob{ID: id, Logprob: -1, Top: []backend.Alternative{{ID: 25 - id, Logprob: -2}}})
			}
		}
	}
	return emit(backend.Event{Done: true, Choices: choices, Usage: backend.Usage{PromptTokens: len(req.PromptIDs), CompletionTokens: n * len(choices[0].IDs)}})
}

func (p *plugins) Score(_ context.Context, req backend.ScoreRequest) ([]backend.ScoreResult, error) {
	return []backend.ScoreResult{{Logprobs: make([]float32, len(req.Lists[0])-1)}}, nil
}

// sink keeps the events of every request.
type sink struct {
	mu     sync.Mutex
	events map[string][]Event
	order  []string
}

func newSink() *sink { return &sink{events: map[string][]Event{}} }

func (s *sink) Event(req *Request, ev Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events[req.ID] = append(s.events[req.ID], ev)
	if ev.Last != nil {
		s.order = append(s.order, req.ID)
	}
}

// last returns the one last event of a request and checks what holds for every sequence of events.
func (s *sink) last(t *testing.T, id string) *Last {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	events := s.events[id]
	if len(events) == 0 {
		t.Fatalf("%s: no events", id)
	}
	var text strings.Builder
	attempt, seq := 0, 0
	for i, ev := range events {
		if ev.Attempt != attempt {
			attempt, seq = ev.Attempt, 0
			text.Reset()
		}
		if ev.Seq != seq {
			t.Errorf("%s: event %d has seq %d, want %d of attempt %d", id, i, ev.Seq, seq, attempt)
		}
		seq++
		if ev.Delta != nil && ev.Delta.Index == 0 {
			text.WriteString(ev.Delta.Text)
		}
		if (ev.Last != nil) != (i == len(events)-1) {
			t.Fatalf("%s: event %d of %d has Last = %v", id, i, len(events), ev.Last)
		}
	}
	last := events[len(events)-1].Last
	if last.Error == nil && len(last.Choices) > 0 && text.Len() > 0 && text.String() != last.Choices[0].Text {
		t.Errorf("%s: the deltas of the last attempt join to %q, the text is %q", id, text.String(), last.Choices[0].Text)
	}
	return last
}

// ended returns the ids in the order of their last events.
func (s *sink) ended() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.order)
}

func (s *sink) has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.events[id]) > 0
}

// bench is a Dispatcher that runs in a synctest bubble.
type bench struct {
	t *testing.T
	*Dispatcher
	p    *plugins
	s    *sink
	stop func() // ends Run and waits for it
}

// in runs a test with a Dispatcher over fakes.
func in(t *testing.T, set func(c *Config, p *plugins), test func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newPlugins()
		c := Config{
			Backends: p.lives(), Tokenizers: p.lives(), Node: "node", Defaults: Defaults{MaxTokens: 10},
			Limits: Limits{Grace: time.Hour, Queued: 1000, PerClient: 1000},
		}
		if set != nil {
			set(&c, p)
		}
		b := &bench{t: t, Dispatcher: New(c), p: p, s: newSink()}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := b.Run(ctx); err != nil {
				t.Error(err)
			}
		}()
		b.stop = func() {
			cancel()
			<-done
		}
		test(b)
		b.stop()
		if !b.Idle() {
			t.Error("requests are left after Run")
		}
		for model, l := range b.lanes {
			if !l.scheduler.Idle() || len(b.admission.clients) != 0 || len(l.encodes) != 0 {
				t.Errorf("left behind of model %q: its scheduler is idle: %v, clients %v, %d calls of the tokenizer", model, l.scheduler.Idle(), b.admission.clients, len(l.encodes))
			}
		}
	})
}

func (b *bench) submit(t *testing.T, req *Request) {
	t.Helper()
	if err := b.Submit(t.Context(), req, b.s); err != nil {
		t.Fatalf("%s: %v", req.ID, err)
	}
}

func (b *bench) refused(t *testing.T, req *Request, want Code) *Error {
	t.Helper()
	err := b.Submit(t.Context(), req, b.s)
	var e *Error
	if !errors.As(err, &e) || e.Code != want {
		t.Fatalf("%s: got %v, want %s", req.ID, err, want)
	}
	return e
}

func ask(id, prompt string) *Request {
	seed := uint64(7)
	return &Request{ID: id, Prompt: prompt, Hash: [32]byte{1}, Stream: true, Options: Options{Seed: &seed}}
}

func with(r *Request, change func(r *Request)) *Request {
	change(r)
	return r
}

// undisturbed is the text that a request gives when nothing goes wrong.
func undisturbed(r *Request, tokens int) string {
	req := backend.Request{Sampling: backend.Sampling{Seed: *r.Options.Seed}}
	for _, b := range []byte(r.Prompt) {
		req.PromptIDs = append(req.PromptIDs, int32(b))
	}
	var ids []int32
	for step := range tokens {
		ids = append(ids, token(req, 0, step))
	}
	return pieces(ids)
}

// durable makes a store in memory say that it survives.
type durable struct{ *inbox.Memory }

func (durable) Durable() bool { return true }

// shelf is an Adapters that has any name.
type shelf struct {
	asked []string
	held  int
}

func (s *shelf) Pin(_, name, sha string) (Adapter, error) {
	s.asked = append(s.asked, name+"@"+sha)
	s.held++
	return &book{s, name}, nil
}

type book struct {
	s    *shelf
	name string
}

func (b *book) SHA256() string { return "sha-of-" + b.name }
func (b *book) Use(_ context.Context, life BackendLife) (string, error) {
	return fmt.Sprint(b.name, life.Life), nil
}
func (b *book) Release() { b.s.held-- }
