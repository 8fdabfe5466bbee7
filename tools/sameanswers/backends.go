package main

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/core/serve/pluginhost"
)

// patience bounds a load and a request: the models are small.
const patience = 3 * time.Minute

// compareBackends asks the backends of both builds the same on every model that the old one serves.
func compareBackends(ctx context.Context, s settings, old, fresh string, r *report) error {
	models, err := findModels(s)
	if err != nil {
		return err
	}
	served, err := planned(ctx, old, models)
	if err != nil {
		return err
	}
	fmt.Printf("%d of %d models can be read by the old build\n", len(served), len(models))
	for n, i := range served {
		share := s.requests/len(served) + min(1, max(0, s.requests%len(served)-n))
		name, err := filepath.Rel(s.shared, models[i])
		if err != nil {
			return err
		}
		want, adapters, err := ask(ctx, s, old, models[i], i, share, nil)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			fmt.Printf("%s: the old build does not serve it: %v\n", name, err)
			continue
		}
		got, _, err := ask(ctx, s, fresh, models[i], i, share, adapters)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			got = map[string]string{"load": err.Error()}
		}
		r.compare(prefixed(name, want), prefixed(name, got))
	}
	return nil
}

// planned returns the indexes of the models whose headers a build can read.
func planned(ctx context.Context, programs string, models []string) ([]int, error) {
	p, err := launch(ctx, programs)
	if err != nil {
		return nil, err
	}
	defer p.Kill()
	var served []int
	for i, path := range models {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if _, err := p.Backend().Plan(ctx, backend.LoadRequest{Path: path, IgnorePlan: true}); err == nil {
			served = append(served, i)
		}
	}
	return served, nil
}

// launch starts a build's backend.
func launch(ctx context.Context, programs string) (*pluginhost.Process, error) {
	return pluginhost.Start(ctx, pluginhost.Options{
		Kind: protocol.PluginBackend, Path: filepath.Join(programs, "plugins", "backend-generic"),
		Log: slog.New(slog.DiscardHandler), StartTimeout: patience,
	})
}

func prefixed(name string, answers map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range answers {
		out[name+": "+k] = v
	}
	return out
}

// findModels lists the GGUF files and the folders with a config.json, sorted.
func findModels(s settings) ([]string, error) {
	var found []string
	err := filepath.WalkDir(s.shared, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		model := path
		switch {
		case e.IsDir():
			return nil
		case e.Name() == "config.json":
			model = filepath.Dir(path)
		case filepath.Ext(path) != ".gguf":
			return nil
		}
		rel, err := filepath.Rel(s.shared, model)
		if err == nil && s.models.MatchString(rel) {
			found = append(found, model)
		}
		return err
	})
	return slices.Compact(found), err
}

// build is a backend of one build with a model.
type build struct {
	process *pluginhost.Process
	info    backend.ModelInfo
}

// load starts a backend and has it load a model: every other model with exact arithmetic, every third with
// 8-bit keys and values.
func load(ctx context.Context, programs, path string, index int) (*build, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	p, err := launch(ctx, programs)
	if err != nil {
		return nil, err
	}
	req := backend.LoadRequest{
		Path: path, ThreadsPrefill: 1, ThreadsDecode: 1, MaxSequences: 4, KVBytes: 64 << 20, IgnorePlan: true,
	}
	if index%2 == 1 {
		req.Precision = backend.Exact
	} else if index%3 == 1 {
		req.KVType = "q8_0"
	}
	info, err := p.Backend().Load(ctx, req, nil)
	if err == nil {
		err = p.Backend().SetVocabulary(ctx, vocabulary(info.VocabRows))
	}
	if err != nil {
		p.Kill()
		return nil, err
	}
	return &build{p, info}, nil
}

// vocabulary is one of printable pieces, the same for both builds whatever their tokenizers read in the model's files.
func vocabulary(rows int) backend.Vocabulary {
	v := backend.Vocabulary{BOS: -1, Hash: strings.Repeat("5a", 32), EOG: []int32{2}}
	for i := range rows {
		piece := fmt.Sprintf(" w%d", i)
		if i < 256 {
			piece = string([]byte{byte(i)}) //nolint:gosec // below 256
		}
		v.Pieces = append(v.Pieces, []byte(piece))
		v.Control = append(v.Control, i == 2)
	}
	return v
}

// facts are what both builds must say of a model.
func (b *build) facts() map[string]string {
	i := b.info
	return map[string]string{"model": fmt.Sprintf("arch %s, format %s, %d layers, width %d, %d rows, %d parameters, hash %s",
		i.Arch, i.Format, i.Layers, i.Width, i.VocabRows, i.Parameters, i.Hash)}
}

// ask runs n random requests on a model, four at once, and returns the answers by their names. Half of them
// use an adapter: of those named, or where names is nil of all that load, whose names it returns.
func ask(
	ctx context.Context,
	s settings,
	programs, path string,
	index, n int,
	names []string,
) (answers map[string]string, used []string, err error) {
	b, err := load(ctx, programs, path, index)
	if err != nil {
		return nil, nil, err
	}
	defer b.process.Kill()
	answers = b.facts()
	if names == nil {
		names = adaptersOf(path)
	}
	ids := map[string]string{}
	for _, name := range names {
		if id, facts := b.adapter(ctx, name); id != "" {
			answers["adapter "+filepath.Base(name)] = facts
			ids[name] = id
			used = append(used, name)
		}
	}
	if used == nil {
		used = []string{}
	}

	var mu sync.Mutex
	var wait sync.WaitGroup
	places := make(chan struct{}, 4)
	for i := range n {
		places <- struct{}{}
		wait.Go(func() {
			defer func() { <-places }()
			rng := rand.New(rand.NewPCG(s.seed, uint64(index)<<32|uint64(i))) //nolint:gosec // to be the same again is what it is for
			name, answer := b.one(ctx, rng, names, ids)
			mu.Lock()
			defer mu.Unlock()
			answers[fmt.Sprintf("%s %d", name, i)] = answer
		})
	}
	wait.Wait()
	return answers, used, ctx.Err()
}

// adaptersOf lists the adapters that lie beside a model, in the places that the demo and the oracles have for them.
func adaptersOf(path string) []string {
	parent := filepath.Dir(path)
	above := filepath.Dir(parent)
	var names []string
	for _, dir := range []string{
		filepath.Join(parent, "adapters"), filepath.Join(above, "adapters"), // the demo's
		filepath.Join(filepath.Dir(above), "lora", filepath.Base(parent)), parent, // the oracles'
	} {
		found, err := filepath.Glob(filepath.Join(dir, "*", "adapter_config.json"))
		if err != nil {
			continue // a folder whose name is a pattern
		}
		for _, config := range found {
			names = append(names, filepath.Dir(config))
		}
	}
	return names
}

// adapter loads an adapter; an empty id means that the backend refuses it.
func (b *build) adapter(ctx context.Context, path string) (id, facts string) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	info, err := b.process.Backend().LoadAdapter(ctx, backend.AdapterRequest{Path: path})
	if err != nil {
		return "", ""
	}
	return info.ID, fmt.Sprintf("rank %d, targets %v, sha256 %s", info.Rank, info.Targets, info.SHA256)
}

// one asks one random request and returns its kind and its answer.
func (b *build) one(ctx context.Context, rng *rand.Rand, names []string, ids map[string]string) (kind, answer string) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var uses []backend.AdapterUse
	if len(ids) > 0 && rng.IntN(2) == 0 {
		var there []string
		for _, name := range names {
			if ids[name] != "" {
				there = append(there, name)
			}
		}
		uses = append(uses, backend.AdapterUse{ID: ids[there[rng.IntN(len(there))]], Scale: []float32{1, 0.5, -1}[rng.IntN(3)]})
	}
	room := b.info.Context
	if room <= 0 {
		room = 64
	}
	switch k := rng.IntN(8); {
	case k == 0:
		lists := [][]int32{b.ids(rng, 2+rng.IntN(min(60, room-2))), b.ids(rng, 2)}
		scores, err := b.process.Backend().Score(ctx, backend.ScoreRequest{Lists: lists, Adapters: uses})
		if err != nil {
			return "score", "error: " + err.Error()
		}
		var out strings.Builder
		for _, s := range scores {
			bits(&out, s.Logprobs)
		}
		return "score", out.String()
	case k == 1:
		e, able := b.process.Backend().(backend.Embedder)
		if !able {
			return "embed", "not served"
		}
		vectors, err := e.Embed(ctx, [][]int32{b.ids(rng, 1+rng.IntN(min(40, room-1)))})
		if err != nil {
			return "embed", "error: " + err.Error()
		}
		var out strings.Builder
		for _, v := range vectors {
			bits(&out, v)
		}
		return "embed", out.String()
	}
	req := b.request(rng, room)
	req.Adapters = uses
	var out strings.Builder
	err := b.process.Backend().Generate(ctx, req, func(ev backend.Event) error {
		if ev.Done {
			for _, c := range ev.Choices {
				fmt.Fprintf(&out, "choice %d: %v %q %s", c.Index, c.IDs, c.Text, c.Finish)
				for _, l := range c.Logprobs {
					fmt.Fprintf(&out, " %d:%08x", l.ID, math.Float32bits(l.Logprob))
					for _, t := range l.Top {
						fmt.Fprintf(&out, "/%d:%08x", t.ID, math.Float32bits(t.Logprob))
					}
				}
				out.WriteString("; ")
			}
			fmt.Fprintf(&out, "prompt %d, completion %d", ev.Usage.PromptTokens, ev.Usage.CompletionTokens)
		}
		return nil
	})
	if err != nil {
		return "generate", "error: " + err.Error()
	}
	return "generate", out.String()
}

// request draws a generation: sampling, limits, stops, grammars, choices, forced and already generated tokens.
func (b *build) request(rng *rand.Rand, room int) backend.Request {
	chance := func(one int) bool { return rng.IntN(one) == 0 }
	req := backend.Request{
		ID: "r", PromptIDs: b.ids(rng, 1+rng.IntN(min(120, room/2))), MaxTokens: 1 + rng.IntN(min(24, room/4)),
		Logprobs: true, TopLogprobs: rng.IntN(4), IgnoreEOS: chance(2), Stream: chance(2),
		Client: []string{"", "a", "b"}[rng.IntN(3)], Priority: rng.IntN(3) - 1,
	}
	if chance(2) { // a prompt that repeats itself, which is guessed on
		req.PromptIDs = append(req.PromptIDs, req.PromptIDs[:min(len(req.PromptIDs), room/4)]...)
	}
	if !chance(3) {
		req.Sampling = backend.Sampling{
			Temperature: 0.2 + rng.Float32(),
			TopK:        rng.IntN(50),
			TopP:        0.5 + rng.Float32()/2,
			MinP:        rng.Float32() / 10,
			Seed:        rng.Uint64() >> 11,
		}
		if chance(3) {
			req.Sampling.TypicalP = 0.5 + rng.Float32()/2
		}
	}
	if chance(3) {
		req.Sampling.RepeatPenalty = 1 + rng.Float32()
		req.Sampling.PresencePenalty, req.Sampling.FrequencyPenalty = rng.Float32(), rng.Float32()
	}
	if chance(5) {
		req.Sampling.LogitBias = map[int32]float32{b.ids(rng, 1)[0]: 5}
	}
	switch rng.IntN(8) {
	case 0:
		req.Grammar = `root ::= ("yes" | "no") ", " [a-z]+`
	case 1:
		req.Stop = []string{"e", " w3"}
	case 2:
		req.N, req.BestOf = 2, 2+rng.IntN(2)
	case 3:
		req.GeneratedIDs = b.ids(rng, 1+rng.IntN(min(3, req.MaxTokens)))
	case 4:
		req.ForcedIDs = b.ids(rng, 1+rng.IntN(req.MaxTokens))
	}
	return req
}

// ids draws tokens that are no end of a text.
func (b *build) ids(rng *rand.Rand, n int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = int32(min(3, b.info.VocabRows-1) + rng.IntN(max(1, b.info.VocabRows-3))) //nolint:gosec // below the rows of a vocabulary
	}
	return out
}

func bits(out *strings.Builder, values []float32) {
	for _, v := range values {
		fmt.Fprintf(out, "%08x ", math.Float32bits(v))
	}
	out.WriteString("; ")
}
