package tokenizer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/test/bufconn"

	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
)

// dial serves impl over gRPC, in memory, and returns the client's side of it.
func dial(t *testing.T, impl tokenizer.Tokenizer) tokenizer.Tokenizer {
	t.Helper()
	l := bufconn.Listen(1 << 20)
	s := grpc.NewServer(append(protocol.ServerOptions(), grpc.StatsHandler(watch{t}))...)
	tokenizer.RegisterServer(s, impl)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	conn, err := grpc.NewClient("passthrough:bufconn", append(
		protocol.DialOptions(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }),
	)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return tokenizer.NewClient(conn)
}

// watch fails the test when a message comes near gRPC's default limit of 4 MiB.
type watch struct{ t *testing.T }

const nearLimit = 1 << 20

func (w watch) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (w watch) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (w watch) HandleConn(context.Context, stats.ConnStats)                       {}
func (w watch) HandleRPC(_ context.Context, s stats.RPCStats) {
	switch s := s.(type) {
	case *stats.InPayload:
		if s.Length > nearLimit {
			w.t.Errorf("the plugin received a message of %d bytes", s.Length)
		}
	case *stats.OutPayload:
		if s.Length > nearLimit {
			w.t.Errorf("the plugin sent a message of %d bytes", s.Length)
		}
	}
}

func TestEveryFieldCrosses(t *testing.T) {
	t.Parallel()
	info := tokenizer.Info{
		Kind: "bpe", Pre: "qwen2", Tokens: 151936, BOS: -1, EOS: 2, EOT: 3, Unknown: -1, Pad: 5, EOG: []int32{2, 3}, AddBOS: true,
		AddEOS: true, ChatTemplate: "{{ messages }} \xff", Hash: "ab",
	}
	chat := tokenizer.Chat{
		Messages: json.RawMessage(`[{"role":"user","content":"hi"}]`), Tools: json.RawMessage(`[{"b":1,"a":2}]`),
		Variables: json.RawMessage(`{"now":1}`), Template: "{{ x }}", NoPrompt: true, Plain: true,
	}
	chatIDs := tokenizer.ChatIDs{IDs: []int32{1, 2}, Borders: []int32{1}, Text: "<|user|>hi", Grammar: "root ::= x"}
	tools := tokenizer.ToolText{Text: "I look.", Calls: []tokenizer.ToolCall{
		{Name: "light", Arguments: json.RawMessage(`{"on":true}`)}, {Name: "none"}, {Name: "wait", Arguments: json.RawMessage(`{}`)},
	}}
	vocabulary := backend.Vocabulary{Pieces: [][]byte{[]byte("a"), []byte("b")}, Control: []bool{true, false}, EOG: []int32{0}, BOS: 1, Hash: "h"}
	same := func(what string, got, want any) {
		t.Helper()
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}
	tok := dial(t, &tokenizer.Fake{
		LoadFunc: func(_ context.Context, path string) (tokenizer.Info, error) {
			same("path", path, "/m.gguf")
			return info, nil
		},
		EncodeFunc: func(_ context.Context, texts []string, flags tokenizer.Flags) ([][]int32, error) {
			same("texts", texts, []string{"one", "", "two \xff"})
			same("flags", flags, tokenizer.Flags{AddSpecial: true, ParseSpecial: true})
			return [][]int32{{1}, nil, {2, 3}}, nil
		},
		EncodeChatFunc: func(_ context.Context, c tokenizer.Chat) (tokenizer.ChatIDs, error) {
			same("chat", c, chat)
			return chatIDs, nil
		},
		RenderFunc: func(_ context.Context, c tokenizer.Chat) (string, error) { same("chat", c, chat); return "text", nil },
		ParseToolsFunc: func(_ context.Context, text string) (tokenizer.ToolText, error) {
			same("text", text, "answer")
			return tools, nil
		},
		DecodeFunc: func(_ context.Context, ids []int32, special bool) ([]byte, error) {
			same("ids", ids, []int32{7, 8})
			same("special", special, true)
			return []byte("\xffx"), nil
		},
		VocabularyFunc: func(context.Context) (backend.Vocabulary, error) { return vocabulary, nil },
	})
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	i, err := tok.Load(ctx, "/m.gguf")
	must(err)
	same("info", i, info)
	ids, err := tok.Encode(ctx, []string{"one", "", "two \xff"}, tokenizer.Flags{AddSpecial: true, ParseSpecial: true})
	must(err)
	same("ids", ids, [][]int32{{1}, nil, {2, 3}})
	c, err := tok.EncodeChat(ctx, chat)
	must(err)
	same("chat ids", c, chatIDs)
	text, err := tok.Render(ctx, chat)
	must(err)
	same("text", text, "text")
	got, err := tok.ParseTools(ctx, "answer")
	must(err)
	same("tools", got, tools)
	data, err := tok.Decode(ctx, []int32{7, 8}, true)
	must(err)
	same("bytes", data, []byte("\xffx"))
	v, err := tok.Vocabulary(ctx)
	must(err)
	same("vocabulary", v, vocabulary)
}

func TestNoTexts(t *testing.T) {
	t.Parallel()
	tok := dial(t, &tokenizer.Fake{
		EncodeFunc: func(_ context.Context, texts []string, flags tokenizer.Flags) ([][]int32, error) {
			if len(texts) != 0 || !flags.AddSpecial {
				t.Errorf("texts %q, flags %+v", texts, flags)
			}
			return nil, nil
		},
		DecodeFunc: func(_ context.Context, ids []int32, _ bool) ([]byte, error) { return nil, nil },
	})
	ids, err := tok.Encode(t.Context(), nil, tokenizer.Flags{AddSpecial: true})
	if err != nil || len(ids) != 0 {
		t.Errorf("encode: %v, %v", ids, err)
	}
	data, err := tok.Decode(t.Context(), nil, false)
	if err != nil || len(data) != 0 {
		t.Errorf("decode: %v, %v", data, err)
	}
}

// A text of 16 MiB passes in both directions, in messages that stay far below gRPC's limit (see watch).
func TestLargeTexts(t *testing.T) {
	t.Parallel()
	const size = 16 << 20
	big := strings.Repeat("0123456789äöü€", size/16+1)[:size]
	texts := []string{big[:size-1000], strings.Repeat("x", 300_000), ""}
	for range 10_000 {
		texts = append(texts, "short")
	}
	tok := dial(t, &tokenizer.Fake{
		EncodeFunc: func(_ context.Context, got []string, _ tokenizer.Flags) ([][]int32, error) {
			out := make([][]int32, len(got))
			for i, text := range got {
				if text != texts[i] {
					t.Errorf("text %d differs", i)
				}
				out[i] = make([]int32, len(text)/4)
			}
			return out, nil
		},
		EncodeChatFunc: func(_ context.Context, c tokenizer.Chat) (tokenizer.ChatIDs, error) {
			return tokenizer.ChatIDs{IDs: make([]int32, size/2), Text: string(c.Messages), Grammar: string(c.Tools)}, nil
		},
		RenderFunc: func(_ context.Context, c tokenizer.Chat) (string, error) { return string(c.Messages) + c.Template, nil },
		ParseToolsFunc: func(_ context.Context, text string) (tokenizer.ToolText, error) {
			return tokenizer.ToolText{Text: text, Calls: []tokenizer.ToolCall{{Name: "n", Arguments: json.RawMessage(text)}, {Name: "m"}}}, nil
		},
		DecodeFunc: func(_ context.Context, ids []int32, _ bool) ([]byte, error) { return []byte(big[:len(ids)*4]), nil },
	})
	ctx := t.Context()
	ids, err := tok.Encode(ctx, texts, tokenizer.Flags{})
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range ids {
		if len(l) != len(texts[i])/4 {
			t.Errorf("list %d has %d ids", i, len(l))
		}
	}
	c, err := tok.EncodeChat(ctx, tokenizer.Chat{Messages: json.RawMessage(big), Tools: json.RawMessage(big)})
	if err != nil || c.Text != big || c.Grammar != big || len(c.IDs) != size/2 {
		t.Errorf("encode chat: %d bytes, %d bytes, %d ids, %v", len(c.Text), len(c.Grammar), len(c.IDs), err)
	}
	text, err := tok.Render(ctx, tokenizer.Chat{Messages: json.RawMessage(big), Template: big})
	if err != nil || text != big+big {
		t.Errorf("render: %d bytes, %v", len(text), err)
	}
	tools, err := tok.ParseTools(ctx, big)
	if err != nil || tools.Text != big || len(tools.Calls) != 2 || string(tools.Calls[0].Arguments) != big {
		t.Errorf("parse tools: %v", err)
	}
	data, err := tok.Decode(ctx, make([]int32, size/4), false)
	if err != nil || string(data) != big {
		t.Errorf("decode: %d bytes, %v", len(data), err)
	}
	_, err = tok.Render(ctx, tokenizer.Chat{Messages: json.RawMessage(strings.Repeat(" ", protocol.MaxValue+1))})
	if !errors.Is(err, protocol.ErrInvalid) {
		t.Errorf("a conversation beyond the bound: %v", err)
	}
}

func TestErrorsCross(t *testing.T) {
	t.Parallel()
	sent := fmt.Errorf("tokenizer-bpe: /m.gguf: tokenizer.ggml.pre: %w: no pre-tokenizer is called %q", protocol.ErrModel, "x")
	tok := dial(t, &tokenizer.Fake{
		LoadFunc:   func(context.Context, string) (tokenizer.Info, error) { return tokenizer.Info{}, sent },
		EncodeFunc: func(context.Context, []string, tokenizer.Flags) ([][]int32, error) { return nil, sent },
		RenderFunc: func(context.Context, tokenizer.Chat) (string, error) { return "", sent },
		VocabularyFunc: func(context.Context) (backend.Vocabulary, error) {
			return backend.Vocabulary{}, sent
		},
	})
	_, load := tok.Load(t.Context(), "")
	_, encode := tok.Encode(t.Context(), []string{strings.Repeat("x", 1<<20)}, tokenizer.Flags{})
	_, render := tok.Render(t.Context(), tokenizer.Chat{})
	_, vocabulary := tok.Vocabulary(t.Context())
	for name, err := range map[string]error{"load": load, "encode": encode, "render": render, "vocabulary": vocabulary} {
		if !errors.Is(err, protocol.ErrModel) || err.Error() != sent.Error() {
			t.Errorf("%s: %v, want %v", name, err, sent)
		}
	}
	_, err := tok.Decode(t.Context(), nil, false)
	if !errors.Is(err, protocol.ErrUnsupported) {
		t.Errorf("an unset method of the fake: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tok.Load(ctx, ""); !errors.Is(err, context.Canceled) || errors.Is(err, protocol.ErrPluginDied) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestPairs: pairs of texts and what is told of a tokenizer survive the wire.
func TestPairs(t *testing.T) {
	long := strings.Repeat("ä", 300_000)
	ids := make([]int32, 200_000)
	want := []tokenizer.Pair{{IDs: []int32{1, 2}, Types: []int32{0, 1}}, {IDs: ids, Types: ids}}
	info := tokenizer.Info{Mask: -1, MaxTokens: 512, Prompts: map[string]string{"query": "query: ", "none": ""}, Prompt: "query: ", Pairs: true}
	fake := &tokenizer.Fake{
		LoadFunc: func(context.Context, string) (tokenizer.Info, error) { return info, nil },
		EncodePairsFunc: func(_ context.Context, pairs [][2]string, flags tokenizer.Flags) ([]tokenizer.Pair, error) {
			if len(pairs) != 2 || pairs[0] != [2]string{"a", ""} || pairs[1] != [2]string{long, "b"} || flags != (tokenizer.Flags{ParseSpecial: true, MaxTokens: 77}) {
				t.Errorf("the request came over changed: %d pairs, %+v", len(pairs), flags)
			}
			return want, nil
		},
	}
	c := dial(t, fake)
	for _, mask := range []int32{-1, 0, 7} {
		info.Mask = mask
		got, err := c.Load(t.Context(), "x")
		if err != nil || !cmp.Equal(got, info) {
			t.Errorf("%+v, %v", got, err)
		}
	}
	got, err := c.(tokenizer.PairEncoder).EncodePairs(t.Context(), [][2]string{{"a", ""}, {long, "b"}}, tokenizer.Flags{ParseSpecial: true, MaxTokens: 77})
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("%d pairs, %v", len(got), err)
	}
	fake.EncodePairsFunc = func(context.Context, [][2]string, tokenizer.Flags) ([]tokenizer.Pair, error) { return want[:1], nil }
	if _, err := c.(tokenizer.PairEncoder).EncodePairs(t.Context(), [][2]string{{"a", ""}, {"c", "b"}}, tokenizer.Flags{}); err == nil {
		t.Error("fewer pairs than asked for")
	}
}
