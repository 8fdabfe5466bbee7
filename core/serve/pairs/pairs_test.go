package pairs

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
)

func TestCrossEncoder(t *testing.T) {
	var flags tokenizer.Flags
	tok := &tokenizer.Fake{EncodePairsFunc: func(_ context.Context, pairs [][2]string, f tokenizer.Flags) ([]tokenizer.Pair, error) {
		flags = f
		var out []tokenizer.Pair
		for _, p := range pairs {
			out = append(out, tokenizer.Pair{IDs: []int32{int32(len(p[0])), int32(len(p[1]))}, Types: []int32{0, 1}})
		}
		return out, nil
	}}
	model := &backend.ModelInfo{Kind: "encoder", Tasks: []string{backend.TaskRank}, TrainContext: 512}
	e, err := New(t.Context(), tok, model, &tokenizer.Info{Pairs: true, MaxTokens: 100})
	if err != nil {
		t.Fatal(err)
	}
	req, err := e.Encode(t.Context(), "", "abc", []string{"d", "ef"}, false)
	if err != nil || len(req.Lists) != 2 || !slices.Equal(req.Lists[1], []int32{3, 2}) || !slices.Equal(req.Types[0], []int32{0, 1}) {
		t.Errorf("%+v, %v", req, err)
	}
	if flags != (tokenizer.Flags{AddSpecial: true, MaxTokens: 100}) || !e.Typed() {
		t.Errorf("flags %+v", flags)
	}
	if _, err := e.Encode(t.Context(), "what fits", "a", []string{"b"}, false); !errors.Is(err, protocol.ErrInvalid) || !strings.HasPrefix(err.Error(), "instruct: ") {
		t.Errorf("an instruction: %v", err)
	}
	for name, m := range map[string]*backend.ModelInfo{
		"an embedder":        {Kind: "encoder", Tasks: []string{backend.TaskEmbed}},
		"an encoder-decoder": {Kind: "encoder-decoder", Tasks: []string{backend.TaskGenerate}},
	} {
		if _, err := New(t.Context(), tok, m, &tokenizer.Info{Pairs: true}); !errors.Is(err, protocol.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(t.Context(), tok, model, &tokenizer.Info{}); !errors.Is(err, protocol.ErrUnsupported) {
		t.Errorf("a tokenizer that knows no pairs: %v", err)
	}
}

func TestDecoder(t *testing.T) {
	tok := &tokenizer.Fake{
		EncodeFunc: func(_ context.Context, texts []string, f tokenizer.Flags) ([][]int32, error) {
			if len(texts) != 3 || texts[0] != "yes" || texts[1] != "no" || !f.ParseSpecial || f.AddSpecial {
				t.Errorf("%q, %+v", texts, f)
			}
			return [][]int32{{1, 2}, {3}, {4}}, nil
		},
		EncodeChatFunc: func(_ context.Context, c tokenizer.Chat) (tokenizer.ChatIDs, error) {
			var m []struct{ Content string }
			if err := json.Unmarshal(c.Messages, &m); err != nil || len(m) != 3 || !strings.Contains(c.Template, "<Query>") {
				t.Errorf("%s, %v", c.Messages, err)
			}
			return tokenizer.ChatIDs{IDs: []int32{int32(len(m[0].Content)), int32(len(m[1].Content)), int32(len(m[2].Content))}}, nil
		},
	}
	reranker := &backend.ModelInfo{Kind: "decoder", Name: "Qwen3 Reranker 0.6B"}
	e, err := New(t.Context(), tok, reranker, &tokenizer.Info{})
	if err != nil {
		t.Fatal(err)
	}
	req, err := e.Encode(t.Context(), "x", "ab", []string{"cde"}, false)
	if err != nil || req.Yes != 2 || req.No != 3 || req.Types != nil || !slices.Equal(req.Lists[0], []int32{1, 2, 3}) {
		t.Errorf("%+v, %v", req, err)
	}
	if req, err = e.Encode(t.Context(), "", "ab", []string{"cde"}, false); err != nil || req.Lists[0][0] != int32(len(Instruct)) {
		t.Errorf("%+v, %v", req, err)
	}
	// What a decoder must have in its files to be asked; pairs of ids are anybody's own matter.
	for name, c := range map[string]struct {
		model backend.ModelInfo
		text  tokenizer.Info
		asks  bool
		yes   int32
	}{
		"a chat model":         {backend.ModelInfo{Name: "Qwen3 0.6B"}, tokenizer.Info{ChatTemplate: "<|im_start|>user\n"}, false, 2},
		"tasks that are told":  {backend.ModelInfo{Name: "x", Tasks: []string{backend.TaskGenerate, backend.TaskEmbed}}, tokenizer.Info{}, false, 2},
		"a head or two tokens": {backend.ModelInfo{Name: "x", Tasks: []string{backend.TaskGenerate, backend.TaskRank}}, tokenizer.Info{}, true, 0},
		"a template that asks": {backend.ModelInfo{Name: "x"}, tokenizer.Info{ChatTemplate: "<Instruct>: a\n<Query>: b\n<Document>: c"}, true, 2},
		"a name":               {backend.ModelInfo{Name: "my-reranker-Q4_0"}, tokenizer.Info{}, true, 2},
	} {
		c.model.Kind = "decoder"
		e, err := New(t.Context(), tok, &c.model, &c.text)
		if err != nil {
			t.Fatal(err)
		}
		var ids backend.RankRequest
		if e.Answers(&ids); ids.Yes != c.yes {
			t.Errorf("%s: pairs of ids are answered by token %d, want %d", name, ids.Yes, c.yes)
		}
		req, err := e.Encode(t.Context(), "x", "ab", []string{"cde"}, false)
		if c.asks != (err == nil) || c.asks && req.Yes != c.yes ||
			!c.asks && (!errors.Is(err, protocol.ErrUnsupported) || !strings.HasPrefix(err.Error(), "model: nothing in the files of this decoder says")) {
			t.Errorf("%s: %+v, %v", name, req, err)
		}
	}
	tok.EncodeFunc = func(context.Context, []string, tokenizer.Flags) ([][]int32, error) {
		return [][]int32{{1}, {3}, {4, 5}}, nil
	}
	if e, err = New(t.Context(), tok, reranker, &tokenizer.Info{}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Encode(t.Context(), "", "ab", []string{"cde"}, false); !errors.Is(err, protocol.ErrUnsupported) {
		t.Errorf("a decoder of another form: %v", err)
	}
	tok.EncodeFunc = func(context.Context, []string, tokenizer.Flags) ([][]int32, error) {
		return [][]int32{{1}, {1}, {4}}, nil
	}
	if _, err := New(t.Context(), tok, &backend.ModelInfo{Kind: "decoder"}, &tokenizer.Info{}); !errors.Is(err, protocol.ErrUnsupported) {
		t.Errorf("yes that is no: %v", err)
	}
}

func TestLimit(t *testing.T) {
	for _, c := range []struct {
		model backend.ModelInfo
		text  tokenizer.Info
		want  int
	}{
		{backend.ModelInfo{Kind: "encoder", TrainContext: 512}, tokenizer.Info{}, 512},
		{backend.ModelInfo{Kind: "encoder", TrainContext: 512}, tokenizer.Info{MaxTokens: 128}, 128},
		{backend.ModelInfo{Kind: "encoder", TrainContext: 512}, tokenizer.Info{MaxTokens: 1 << 20}, 512},
		{backend.ModelInfo{Kind: "decoder", TrainContext: 512}, tokenizer.Info{}, 0},
		{backend.ModelInfo{Kind: "decoder", TrainContext: 512}, tokenizer.Info{MaxTokens: 64}, 64},
	} {
		if got := Limit(&c.model, &c.text); got != c.want {
			t.Errorf("%+v, %+v: %d, want %d", c.model, c.text, got, c.want)
		}
	}
}
