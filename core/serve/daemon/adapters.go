package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"time"

	"edged/core/config"
	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
	"edged/core/serve/adapters"
	"edged/core/serve/dispatch"
	"edged/core/serve/door/http/upload"
	"edged/core/serve/models"
)

// AdapterOptions is the catalogue's part of a configuration.
func AdapterOptions(c *config.Config) adapters.Options {
	a := &c.Adapters
	return adapters.Options{
		Dir: a.Dir, Store: filepath.Join(c.State.Dir, "adapters"), Settle: a.Settle, Rescan: a.Rescan, Keys: a.PublicKeys,
		Limits: adapters.Limits{Names: a.MaxCount, Bytes: int64(a.MaxSize), Memory: int64(a.MaxMemory)},
		Gate:   adapters.Gate{Path: a.Gate, Margin: float64(a.GateMargin)},
	}
}

// openFolder makes the catalogue.
func (d *daemon) openFolder(ctx context.Context) (err error) {
	o := AdapterOptions(d.c)
	o.Log, o.Notify, o.Backend, o.Hold = d.log, d.status.changed, d.prover, d.holdMain
	if d.folder, err = adapters.New(o); err != nil {
		return err
	}
	return d.folder.Open(ctx)
}

// receiver takes uploads of adapters, where the configuration wants it; nil otherwise.
func (d *daemon) receiver() *upload.Receiver {
	a := &d.c.Adapters
	if !d.c.HTTP.Upload {
		return nil
	}
	return upload.New(upload.Options{Dir: a.Dir, Most: int64(a.MaxSize), Names: a.MaxCount, Quiet: d.c.HTTP.ReadTimeout})
}

// proveFolder decides about what lies in the folder at start.
func (d *daemon) proveFolder(ctx context.Context) error {
	if err := d.folder.First(ctx); err != nil {
		return err
	}
	if name := d.c.Adapters.Default; name != "" {
		pin, err := d.folder.Resolve(name, "")
		if err != nil {
			d.log.WarnContext(ctx, "the default adapter is not there: requests that name none will fail", "adapter", name, "err", err)
			return nil
		}
		pin.Release()
	}
	return nil
}

// prover is adapters.Options' Backend.
func (d *daemon) prover(ctx context.Context, after uint64) (adapters.Prover, uint64, error) {
	p := d.pair(d.main)
	if p == nil {
		return nil, 0, fmt.Errorf("the model %s is not loaded", d.main)
	}
	l, n, err := p.backend.Current(ctx, p.own(after))
	if err != nil {
		return nil, 0, err
	}
	t, _, err := p.tokenizer.Current(ctx, 0)
	if err != nil {
		return nil, 0, err
	}
	return Prover{l.backend, l.info, t.tokenizer, t.info}, p.before + n, nil
}

// holdMain is adapters.Options' Hold: the default model is loaded while an adapter is proved on it. Requests go first.
func (d *daemon) holdMain(ctx context.Context) (release func(), err error) {
	lease, err := d.acquire(ctx, d.main, models.Rank{Priority: dispatch.MinPriority - 1, Since: time.Now(), Number: math.MaxUint64}, nil)
	if err != nil {
		return nil, err
	}
	return lease.Release, nil
}

// Prover proves adapters in a backend whose model is loaded, with the tokenizer of that model.
type Prover struct {
	backend.Backend

	Model     backend.ModelInfo
	Tokenizer tokenizer.Tokenizer
	Text      tokenizer.Info
}

// Try is adapters.Prover's.
func (p Prover) Try(ctx context.Context, id string) error {
	return p.Generate(ctx, backend.Request{
		ID: "probe", PromptIDs: []int32{max(p.Text.BOS, 0)}, MaxTokens: 1, IgnoreEOS: true,
		Adapters: []backend.AdapterUse{{ID: id, Scale: 1}},
	}, func(backend.Event) error { return nil })
}

// Score is adapters.Prover's. A text that is longer than the context is scored in pieces of half of it.
func (p Prover) Score(ctx context.Context, id string, samples []adapters.Sample) (nats float64, tokens int, err error) {
	var uses []backend.AdapterUse
	if id != "" {
		uses = []backend.AdapterUse{{ID: id, Scale: 1}}
	}
	for i, s := range samples {
		lists, from, err := p.encode(ctx, s)
		if err != nil {
			return 0, 0, fmt.Errorf("sample %d: %w", i+1, err)
		}
		results, err := p.Backend.Score(ctx, backend.ScoreRequest{Lists: lists, Adapters: uses})
		if err != nil {
			return 0, 0, fmt.Errorf("sample %d: %w", i+1, err)
		}
		for k, r := range results {
			if k > 0 {
				from = 1
			}
			for _, lp := range r.Logprobs[min(from-1, len(r.Logprobs)):] {
				nats -= float64(lp)
				tokens++
			}
		}
	}
	return nats, tokens, nil
}

// encode returns the token lists of a sample, and the index in the first of them from which tokens count. A
// prompt is what it is in a request: what a user says, where the model has a chat template.
func (p Prover) encode(ctx context.Context, s adapters.Sample) (lists [][]int32, from int, err error) {
	if s.Messages == nil && s.Prompt != "" && p.Text.ChatTemplate != "" {
		said, err := json.Marshal([]map[string]string{{"role": "user", "content": s.Prompt}})
		if err != nil {
			return nil, 0, err
		}
		s.Messages = said
	}
	if s.Messages == nil {
		texts := []string{s.Prompt + s.Reference}
		if s.Prompt != "" {
			texts = append(texts, s.Prompt)
		}
		encoded, err := p.Tokenizer.Encode(ctx, texts, tokenizer.Flags{AddSpecial: true})
		if err != nil {
			return nil, 0, err
		}
		ids := encoded[0]
		if len(encoded) > 1 { // where the two texts' tokens part, the reference begins
			from = common(encoded[0], encoded[1])
		}
		return p.cut(ids), max(from, 1), nil
	}
	chat, err := p.Tokenizer.EncodeChat(ctx, tokenizer.Chat{Messages: s.Messages})
	if err != nil {
		return nil, 0, err
	}
	encoded, err := p.Tokenizer.Encode(ctx, []string{s.Reference}, tokenizer.Flags{})
	if err != nil {
		return nil, 0, err
	}
	if len(chat.IDs) == 0 {
		return nil, 0, fmt.Errorf("%w: the messages give no token", protocol.ErrInvalid)
	}
	ids := slices.Concat(chat.IDs, encoded[0])
	if p.Model.Context > 0 && len(ids) > p.Model.Context {
		return nil, 0, fmt.Errorf("%w: it has %d tokens and the context is %d", protocol.ErrContextLength, len(ids), p.Model.Context)
	}
	return [][]int32{ids}, len(chat.IDs), nil
}

// cut cuts ids into lists that the context takes.
func (p Prover) cut(ids []int32) [][]int32 {
	if p.Model.Context <= 0 || len(ids) <= p.Model.Context {
		return [][]int32{ids}
	}
	return slices.Collect(slices.Chunk(ids, max(p.Model.Context/2, 2)))
}

// common is the length of what two lists begin with.
func common(a, b []int32) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// shelf gives the adapters' catalogue to the dispatcher.
type shelf struct {
	f    *adapters.Folder
	main string // the model that the adapters are for
}

func (s shelf) Pin(model, name, sha256 string) (dispatch.Adapter, error) {
	if model != s.main {
		return nil, fmt.Errorf(
			"%w: %q: adapters are for the default model %s, and the request names %s",
			protocol.ErrAdapterNotFound,
			name,
			s.main,
			model,
		)
	}
	p, err := s.f.Resolve(name, sha256)
	if err != nil {
		return nil, err
	}
	return pinned{p}, nil
}

type pinned struct{ *adapters.Pin }

func (p pinned) Use(ctx context.Context, life dispatch.BackendLife) (string, error) {
	return p.Pin.Use(ctx, life.Backend, life.Life)
}
