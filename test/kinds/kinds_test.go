// Package kinds takes every kind of adapter that is served through what an operator sees of it: its signature, its proof, its swap
// while requests hold it, the gate, and answers beside seven other kinds; on a folder, on NF4 and on a file of 4 bits.
package kinds

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"aead.dev/minisign"

	"edged/core/infer/engine"
	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
	"edged/core/serve/adapters"
	"edged/core/serve/daemon"
	"edged/plugins/backend-generic/x86"
	"edged/plugins/tokenizer-bpe/service"
	"edged/test/oracle"
)

// kinds are folders of one base, each of another kind.
var kinds = []string{
	"lora-plain", "adalora-pruned", "adaption-prompt", "alora", "c3a", "cpt", "dora-embed", "fourierft", "hra", "ia3", "ln-tuning", "loha", "lokr", "lora-bd",
	"miss", "mts-norm", "oft", "prefix", "prompt", "ptuning-mlp", "randlora-noproj", "tokens-list", "vblora", "vera-noproj", "waveft", "x-road",
}

// letters is a tokenizer of texts whose letters are ids.
type letters struct{ tokenizer.Tokenizer }

func (letters) Encode(_ context.Context, texts []string, _ tokenizer.Flags) ([][]int32, error) {
	var out [][]int32
	for _, s := range texts {
		ids := []int32{507}
		for _, b := range []byte(s) {
			ids = append(ids, int32(b))
		}
		out = append(out, ids)
	}
	return out, nil
}

// bench is a catalogue over an engine.
type bench struct {
	t       *testing.T
	dir     string
	key     minisign.PrivateKey
	folder  *adapters.Folder
	prover  daemon.Prover
	ids     map[string]string // of a kind, while it is served
	samples []adapters.Sample
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newBench(t *testing.T, model string) *bench {
	t.Helper()
	e := engine.New(engine.Options{Name: "kinds", Version: "kinds", Kernels: x86.Best()})
	t.Cleanup(func() { must(t, e.Close()) })
	info, err := e.Load(t.Context(), backend.LoadRequest{Path: model, Context: 128, MaxSequences: 8, ThreadsPrefill: 1, ThreadsDecode: 1}, nil)
	must(t, err)
	tok := &service.Service{Log: slog.New(slog.DiscardHandler)}
	_, err = tok.Load(t.Context(), model)
	must(t, err)
	v, err := tok.Vocabulary(t.Context())
	must(t, err)
	must(t, e.SetVocabulary(t.Context(), v))
	public, private, err := minisign.GenerateKey(rand.Reader)
	must(t, err)
	lines := strings.Split(strings.TrimSpace(public.String()), "\n")
	b := &bench{
		t: t, dir: t.TempDir(), key: private, ids: map[string]string{},
		prover:  daemon.Prover{Backend: e, Model: info, Tokenizer: letters{}, Text: tokenizer.Info{BOS: 507}},
		samples: []adapters.Sample{{Prompt: "open the door", Reference: "as you like it"}},
	}
	gate := filepath.Join(t.TempDir(), "gate.jsonl")
	must(t, os.WriteFile(gate, []byte(`{"prompt": "open the door", "reference": "as you like it"}`+"\n"), 0o600))
	b.folder, err = adapters.New(adapters.Options{
		Dir: b.dir, Store: t.TempDir(), Settle: 10 * time.Millisecond, Keys: lines[len(lines)-1:],
		Gate: adapters.Gate{Path: gate, Margin: 0.05}, Log: slog.New(slog.DiscardHandler),
		Backend: func(context.Context, uint64) (adapters.Prover, uint64, error) { return b.prover, 1, nil },
	})
	must(t, err)
	must(t, b.folder.Open(t.Context()))
	return b
}

// drop puts a folder of the oracle under a name, signed, and then changed by edit.
func (b *bench) drop(name, from string, edit func(data []byte)) {
	b.t.Helper()
	dir := filepath.Join(b.dir, name)
	must(b.t, os.RemoveAll(dir))
	must(b.t, os.MkdirAll(dir, 0o700))
	for _, file := range []string{"adapter_config.json", "adapter_model.safetensors"} {
		data, err := os.ReadFile(filepath.Join(from, file))
		must(b.t, err)
		r := minisign.NewReader(bytes.NewReader(data))
		_, err = r.Read(make([]byte, len(data)))
		must(b.t, err)
		must(b.t, os.WriteFile(filepath.Join(dir, file+".minisig"), r.Sign(b.key), 0o600))
		if edit != nil && strings.HasSuffix(file, ".safetensors") {
			edit(data)
		}
		must(b.t, os.WriteFile(filepath.Join(dir, file), data, 0o600))
	}
}

// decide has the catalogue look, until it has decided about the name's drop.
func (b *bench) decide(name string, done func(s adapters.State) bool) adapters.State {
	b.t.Helper()
	for range 500 {
		must(b.t, b.folder.First(b.t.Context()))
		for _, s := range b.folder.States() {
			if s.Name == name && (s.State == adapters.Active || s.State == adapters.Rejected) && done(s) {
				return s
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	b.t.Fatalf("%s: nothing was decided: %+v", name, b.folder.States())
	return adapters.State{}
}

// loaded is the engine's name of what a pin holds.
func (b *bench) loaded(p *adapters.Pin) string {
	b.t.Helper()
	id, err := p.Use(b.t.Context(), b.prover, 1)
	must(b.t, err)
	return id
}

// answer is what the model says with an adapter.
func (b *bench) answer(id, request string) ([]int32, error) {
	var ids []int32
	err := b.prover.Generate(b.t.Context(), backend.Request{
		ID: request, PromptIDs: []int32{59, 192, 5, 6, 9, 274, 241, 404}, MaxTokens: 8, IgnoreEOS: true, Adapters: []backend.AdapterUse{{ID: id, Scale: 1}},
	}, func(e backend.Event) error {
		for _, c := range e.Choices {
			ids = append(ids, c.IDs...)
		}
		return nil
	})
	return ids, err
}

func (b *bench) perplexity(id string) float64 {
	b.t.Helper()
	nats, tokens, err := b.prover.Score(b.t.Context(), id, b.samples)
	must(b.t, err)
	return math.Exp(nats / float64(tokens))
}

// TestKinds is all of it.
func TestKinds(t *testing.T) {
	dir := oracle.Dir(t)
	peft := oracle.Path(t, dir, "adapters", "peft")
	for _, base := range []string{"models/llama-tied/hf", "nf4/llama-tied-nf4-dq", "models/llama-tied/llama-tied-Q4_K_M.gguf"} {
		t.Run(base, func(t *testing.T) {
			b := newBench(t, oracle.Path(t, dir, filepath.FromSlash(base)))
			plain := filepath.Join(peft, "lora-rslora", "adapter")
			for _, kind := range kinds {
				b.kind(t, kind, filepath.Join(peft, kind, "adapter"), plain)
			}
			b.together(t)
		})
	}
}

// kind takes one kind through signature, proof, swap and gate.
func (b *bench) kind(t *testing.T, kind, folder, plain string) {
	t.Helper()
	// What was signed and then changed is refused, and nothing is served under the name.
	b.drop(kind, folder, func(data []byte) { data[len(data)-1] ^= 1 })
	if s := b.decide(kind, func(adapters.State) bool { return true }); s.State != adapters.Rejected || s.Generation != 0 || !strings.Contains(s.Error, "does not match its signature") {
		t.Fatalf("%s, changed behind its signature: %+v", kind, s)
	}
	// Another adapter comes first, and requests hold it; the kind then takes its place, where the gate lets it.
	b.drop(kind, plain, nil)
	if s := b.decide(kind, func(s adapters.State) bool { return s.State == adapters.Active }); s.Generation != 1 || s.Kind != "lora" {
		t.Fatalf("%s, before it: %+v", kind, s)
	}
	old, err := b.folder.Resolve(kind, "")
	must(t, err)
	defer old.Release()
	before := b.loaded(old)
	b.drop(kind, folder, nil)
	s := b.decide(kind, func(s adapters.State) bool { return s.Generation == 2 || s.State == adapters.Rejected })
	// What the gate says is what the two perplexities say.
	alone := b.open(t, kind, folder)
	was, is := b.perplexity(before), b.perplexity(alone)
	if worse := is > was*1.05; worse != (s.State == adapters.Rejected) || worse && !strings.Contains(s.Error, "perplexity") {
		t.Fatalf("%s: perplexity %g after %g, and the gate says %+v", kind, is, was, s)
	}
	if got := b.loaded(old); got != before {
		t.Errorf("%s: a request that held the old one got %s for %s", kind, got, before)
	}
	if s.State == adapters.Active && (s.SHA256 == old.SHA256() || s.Kind == "lora" && kind != "lora-plain" && kind != "alora" && kind != "lora-bd" && kind != "mts-norm" && kind != "tokens-list") {
		t.Errorf("%s: %+v", kind, s)
	}
	first, err := b.answer(before, kind+" before")
	must(t, err)
	second, err := b.answer(alone, kind+" alone")
	must(t, err)
	if len(second) != 8 || slices.Equal(first, second) {
		t.Errorf("%s: it answers as the one before it: %v", kind, second)
	}
	b.ids[kind] = alone
}

// open loads the kind as the catalogue loads what it proved: under a name that nothing is held against, where the gate passes it.
func (b *bench) open(t *testing.T, kind, folder string) string {
	t.Helper()
	name := kind + ".first"
	b.drop(name, folder, nil)
	if s := b.decide(name, func(adapters.State) bool { return true }); s.State != adapters.Active || s.Generation != 1 {
		t.Fatalf("%s: %+v", kind, s)
	}
	p, err := b.folder.Resolve(name, "")
	must(t, err)
	t.Cleanup(p.Release)
	return b.loaded(p)
}

// together has eight kinds at a time answer side by side, as each answers alone.
func (b *bench) together(t *testing.T) {
	t.Helper()
	for group := range slices.Chunk(kinds, 8) {
		alone, beside, errs := make([][]int32, len(group)), make([][]int32, len(group)), make([]error, len(group))
		var wg sync.WaitGroup
		for i, kind := range group {
			var err error
			alone[i], err = b.answer(b.ids[kind], fmt.Sprintf("%s %d", kind, i))
			must(t, err)
		}
		for i, kind := range group {
			wg.Go(func() { beside[i], errs[i] = b.answer(b.ids[kind], kind+" beside others") })
		}
		wg.Wait()
		for i, kind := range group {
			if errs[i] != nil || !slices.Equal(alone[i], beside[i]) {
				t.Errorf("%s: %v beside others, %v alone (%v)", kind, beside[i], alone[i], errs[i])
			}
		}
	}
}
