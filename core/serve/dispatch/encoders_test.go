package dispatch

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
	"edged/core/serve/inbox"
)

// readers are plugins of a model that reads whole texts.
type readers struct {
	model  backend.ModelInfo
	text   tokenizer.Info
	tok    tokenizer.Fake
	back   backend.Fake
	deaths int // of the backend, before it answers
}

func (r *readers) Backend(ctx context.Context, after uint64) (BackendLife, error) {
	return BackendLife{Backend: &r.back, Info: r.model, Life: after + 1}, ctx.Err()
}

func (r *readers) Tokenizer(ctx context.Context, after uint64) (TokenizerLife, error) {
	return TokenizerLife{Tokenizer: &r.tok, Info: r.text, Life: after + 1}, ctx.Err()
}

// crossEncoder has a logit for each pair that is the length of its document, less that of its query.
func crossEncoder() *readers {
	r := &readers{
		model: backend.ModelInfo{Name: "ranker", Kind: "encoder", Tasks: []string{backend.TaskRank}, Context: 100, TrainContext: 100},
		text:  tokenizer.Info{Pairs: true},
	}
	r.tok.EncodePairsFunc = func(_ context.Context, pairs [][2]string, f tokenizer.Flags) ([]tokenizer.Pair, error) {
		if f != (tokenizer.Flags{AddSpecial: true, MaxTokens: 100}) {
			return nil, fmt.Errorf("flags %+v", f)
		}
		var out []tokenizer.Pair
		for _, p := range pairs {
			out = append(out, tokenizer.Pair{IDs: make([]int32, len(p[0])+len(p[1])), Types: append(make([]int32, len(p[0])), slices.Repeat([]int32{1}, len(p[1]))...)})
		}
		return out, nil
	}
	r.back.RankFunc = func(_ context.Context, req backend.RankRequest) ([]backend.Rank, error) {
		if r.deaths > 0 {
			r.deaths--
			return nil, fmt.Errorf("fake: %w", protocol.ErrPluginDied)
		}
		var out []backend.Rank
		for _, types := range req.Types {
			logit := float32(-len(types))
			for _, t := range types {
				logit += 2 * float32(t)
			}
			out = append(out, backend.Rank{Logit: logit, Score: logit / 10})
		}
		return out, nil
	}
	return r
}

func rank(id, query string, documents ...string) *Request {
	return &Request{ID: id, Kind: Rank, Query: query, Texts: documents, Hash: [32]byte{1}}
}

func TestRank(t *testing.T) {
	r := crossEncoder()
	r.deaths = 1 // another attempt gives the same
	in(t, func(c *Config, _ *plugins) { c.Backends, c.Tokenizers = r, r }, func(b *bench) {
		t := b.t
		b.submit(t, rank("all", "qq", "ddd", "d", "ddddd", "d"))
		b.submit(t, with(rank("best", "qq", "ddd", "d", "ddddd"), func(r *Request) { r.Best = 2 }))
		b.submit(t, with(rank("told", "qq", "d"), func(r *Request) { r.Instruct = "which" }))
		synctest.Wait()
		want := []Ranked{{2, 0.3, 3}, {0, 0.1, 1}, {1, -0.1, -1}, {3, -0.1, -1}}
		last := b.s.last(t, "all")
		if d := cmp.Diff(want, last.Ranks); d != "" || last.Error != nil {
			t.Errorf("%v %s", last.Error, d)
		}
		if last.Model != "ranker" || last.Usage.PromptTokens != 18 || last.Finish != "stop" {
			t.Errorf("%+v", last)
		}
		if d := cmp.Diff(want[:2], b.s.last(t, "best").Ranks); d != "" {
			t.Error(d)
		}
		if last := b.s.last(t, "told"); last.Error == nil || last.Error.Code != CodeInvalidRequest || !strings.Contains(last.Error.Message, "instruct") {
			t.Errorf("an instruction for a cross-encoder: %+v", last.Error)
		}
	})
}

// TestRankAfterRestart: a ranking that was journalled and not answered is answered by the next process.
func TestRankAfterRestart(t *testing.T) {
	store := durable{inbox.NewMemory(inbox.Limits{})}
	before := record{Request: rank("r", "qq", "ddd", "ddddd")}
	before.Request.Door, before.Request.Best = "mqtt", 1
	rec, err := before.encode(inbox.Key{ID: "r"})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Accept(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	r := crossEncoder()
	in(t, func(c *Config, _ *plugins) { c.Backends, c.Tokenizers, c.Inbox = r, r, store }, func(b *bench) {
		t := b.t
		if unfinished, _ := b.Replay(t.Context(), map[string]Sink{"mqtt": b.s}); unfinished != 1 {
			t.Fatalf("%d taken up", unfinished)
		}
		synctest.Wait()
		if d := cmp.Diff([]Ranked{{1, 0.3, 3}}, b.s.last(t, "r").Ranks); d != "" {
			t.Error(d)
		}
	})
}

// TestRankRefused: what is no ranking is refused at once, and what the model cannot do by one sentence.
func TestRankRefused(t *testing.T) {
	in(t, nil, func(b *bench) {
		t := b.t
		for want, r := range map[string]*Request{
			"query: is missing":                             rank("a", "", "d"),
			"documents: is missing":                         rank("a", "q"),
			"documents: 257 are more than 256":              rank("a", "q", slices.Repeat([]string{"d"}, 257)...),
			"prompt: a ranking takes a query and documents": with(rank("a", "q", "d"), func(r *Request) { r.Prompt = "p" }),
			"query: only a ranking takes one":               with(ask("a", "p"), func(r *Request) { r.Query = "q" }),
			"instruct: has 5000 bytes, more than 4096":      with(rank("a", "q", "d"), func(r *Request) { r.Instruct = strings.Repeat("x", 5000) }),
		} {
			if e := b.refused(t, r, CodeInvalidRequest); e.Message != want {
				t.Errorf("%s, want %s", e.Message, want)
			}
		}
		b.refused(t, with(rank("a", "q", "d"), func(r *Request) { r.Adapters = []AdapterRef{{Name: "pirate", Scale: 1}} }), CodeUnsupported)
	})
	for name, change := range map[string]func(r *readers){
		"an embedder":       func(r *readers) { r.model.Tasks = []string{backend.TaskEmbed} },
		"a backend without": func(r *readers) { r.back.RankFunc = nil },
	} {
		r := crossEncoder()
		change(r)
		in(t, func(c *Config, _ *plugins) { c.Backends, c.Tokenizers = r, r }, func(b *bench) {
			b.submit(b.t, rank("a", "q", "d"))
			synctest.Wait()
			if last := b.s.last(b.t, "a"); last.Error == nil || last.Error.Code != CodeUnsupported {
				b.t.Errorf("%s: %+v", name, last.Error)
			}
		})
	}
}

// TestEmbed: the prompt of a task stands before each text, texts are cut or refused as is asked, and vectors are cut and scaled anew.
func TestEmbed(t *testing.T) {
	r := &readers{
		model: backend.ModelInfo{Name: "embedder", Kind: "encoder", Tasks: []string{backend.TaskEmbed}, Context: 100, TrainContext: 100, Width: 4},
		text:  tokenizer.Info{MaxTokens: 8, Prompts: map[string]string{"query": "q: ", "document": "d: "}, Prompt: "d: "},
	}
	var read []string
	r.tok.EncodeFunc = func(_ context.Context, texts []string, f tokenizer.Flags) ([][]int32, error) {
		read = append(read, texts...)
		var out [][]int32
		for _, text := range texts {
			n := len(text)
			if f.MaxTokens > 0 {
				n = min(n, f.MaxTokens)
			}
			out = append(out, make([]int32, n))
		}
		return out, nil
	}
	r.back.EmbedFunc = func(_ context.Context, lists [][]int32) ([][]float32, error) {
		var out [][]float32
		for _, l := range lists {
			out = append(out, []float32{0, float32(len(l)), 0, 1})
		}
		return out, nil
	}
	in(t, func(c *Config, _ *plugins) { c.Backends, c.Tokenizers = r, r }, func(b *bench) {
		t := b.t
		asked := func(id string, change func(r *Request)) *Last {
			t.Helper()
			b.submit(t, with(&Request{ID: id, Kind: Embed, Texts: []string{"ab", "abcdefgh"}}, change))
			synctest.Wait()
			return b.s.last(t, id)
		}
		last := asked("plain", func(*Request) {})
		if d := cmp.Diff([][]float32{{0, 5, 0, 1}, {0, 8, 0, 1}}, last.Vectors); d != "" || last.Usage.PromptTokens != 13 {
			t.Errorf("%v %s", last.Error, d)
		}
		last = asked("asked", func(r *Request) { r.Task, r.Dims = "query", 3 })
		if d := cmp.Diff([][]float32{{0, 1, 0}, {0, 1, 0}}, last.Vectors); d != "" {
			t.Errorf("%v %s", last.Error, d)
		}
		if d := cmp.Diff([]string{"d: ab", "d: abcdefgh", "q: ab", "q: abcdefgh"}, read); d != "" {
			t.Error(d)
		}
		for id, c := range map[string]struct {
			code Code
			want string
			make func(r *Request)
		}{
			"whole": {CodeContextLength, "input[1]: has 11 tokens, and the model's longest text is 8", func(r *Request) { r.Whole = true }},
			"task":  {CodePromptNotFound, `task: "passage" is none of this model's: document, query`, func(r *Request) { r.Task = "passage" }},
			"dims":  {CodeInvalidRequest, "dimensions: 5 is more than the 4 of this model's vectors", func(r *Request) { r.Dims = 5 }},
			"zero":  {CodeInvalidRequest, "dimensions: the first 1 values of a vector are all 0, which has no direction", func(r *Request) { r.Dims = 1 }},
		} {
			if e := asked(id, c.make).Error; e == nil || e.Code != c.code || e.Message != c.want {
				t.Errorf("%s: %+v", id, e)
			}
		}
		b.refused(t, with(ask("g", "p"), func(r *Request) { r.Dims = 3 }), CodeInvalidRequest)
	})
}
