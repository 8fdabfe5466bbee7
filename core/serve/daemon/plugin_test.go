package daemon_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
)

// roleVar makes a copy of this test binary a plugin; modelVar and the files beside the model tell it how to behave.
const roleVar = "DAEMONTEST_ROLE"

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(roleVar) {
	case "":
		os.Exit(m.Run())
	case "backend":
		err = protocol.ServePlugin(protocol.ServeConfig{Name: protocol.PluginBackend, Plugin: backend.Plugin{Impl: fakeBackend()}})
	case "tokenizer":
		err = protocol.ServePlugin(protocol.ServeConfig{Name: protocol.PluginTokenizer, Plugin: tokenizer.Plugin{Impl: fakeTokenizer()}})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// pluginsDir writes plugins that are this test binary.
func pluginsDir(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for file, role := range map[string]string{"backend-fake": "backend", "tokenizer-bpe": "tokenizer"} {
		script := fmt.Sprintf("#!/bin/sh\n%s=%s exec %s\n", roleVar, role, self)
		if err := os.WriteFile(filepath.Join(dir, file), []byte(script), 0o700); err != nil { //nolint:gosec // a plugin is executable
			t.Fatal(err)
		}
	}
	return dir
}

// trouble reports whether the test has put a file of that name beside the model.
func trouble(model, name string) bool {
	_, err := os.Stat(filepath.Join(filepath.Dir(model), name))
	return err == nil
}

// stuck is trouble that comes once.
func stuck(model, name string) bool {
	return os.Remove(filepath.Join(filepath.Dir(model), name)) == nil
}

func fakeTokenizer() tokenizer.Tokenizer {
	encode := func(text string) (ids []int32) {
		for _, b := range []byte(text) {
			ids = append(ids, int32(b))
		}
		return ids
	}
	model := ""
	return &tokenizer.Fake{
		LoadFunc: func(_ context.Context, path string) (tokenizer.Info, error) {
			model = path
			if trouble(path, "no-tokenizer") {
				return tokenizer.Info{}, fmt.Errorf("%s: %w: it has no vocabulary", path, protocol.ErrModel)
			}
			return tokenizer.Info{Kind: "bytes", Tokens: 256, BOS: -1, ChatTemplate: "fake"}, nil
		},
		EncodeFunc: func(_ context.Context, texts []string, _ tokenizer.Flags) ([][]int32, error) {
			out := make([][]int32, len(texts))
			for i, t := range texts {
				out[i] = encode(t)
			}
			return out, nil
		},
		EncodeChatFunc: func(_ context.Context, c tokenizer.Chat) (tokenizer.ChatIDs, error) {
			var messages []struct{ Role, Content string }
			if err := json.Unmarshal(c.Messages, &messages); err != nil || len(messages) == 0 {
				return tokenizer.ChatIDs{}, fmt.Errorf("messages: %w", protocol.ErrInvalid)
			}
			text := messages[len(messages)-1].Content
			if stuck(model, "unavailable-tokenizer") {
				return tokenizer.ChatIDs{}, status.Error(codes.Unavailable, "try again later")
			}
			if stuck(model, "stuck-tokenizer") {
				select {}
			}
			if text == "kill the tokenizer" {
				os.Exit(3)
			}
			return tokenizer.ChatIDs{IDs: encode(text)}, nil
		},
		VocabularyFunc: func(context.Context) (backend.Vocabulary, error) {
			v := backend.Vocabulary{Control: make([]bool, 256), BOS: -1}
			for i := range 256 {
				v.Pieces = append(v.Pieces, []byte{byte(i)})
			}
			return v, nil
		},
	}
}

// tick is how long a token takes.
const tick = 5 * time.Millisecond

// fakeBackend answers with the prompt in upper case, over and over.
func fakeBackend() backend.Backend {
	model, pieces := "", 0
	var steps atomic.Uint64
	return &backend.Fake{
		DescribeFunc: func(context.Context) (backend.Description, error) {
			return backend.Description{Name: "fake", Kernels: []string{"none"}}, nil
		},
		PlanFunc: func(context.Context, backend.LoadRequest) (backend.MemoryPlan, error) {
			return backend.MemoryPlan{Fits: true}, nil
		},
		LoadFunc: func(_ context.Context, req backend.LoadRequest, _ func(backend.LoadProgress)) (backend.ModelInfo, error) {
			model = req.Path
			switch {
			case trouble(model, "bad-model"):
				return backend.ModelInfo{}, fmt.Errorf("%s: %w: it is cut off at byte 7", model, protocol.ErrModel)
			case trouble(model, "crash-loop"):
				os.Exit(5)
			}
			rows := 256
			if trouble(model, "few-rows") {
				rows = 100
			}
			return backend.ModelInfo{Name: "shouting", Arch: "fake", VocabRows: rows, Context: 10_000}, nil
		},
		StatsFunc: func(context.Context) (backend.Stats, error) {
			return backend.Stats{Steps: steps.Load()}, nil
		},
		SetVocabularyFunc: func(_ context.Context, v backend.Vocabulary) error {
			pieces = len(v.Pieces)
			return nil
		},
		LoadAdapterFunc: func(_ context.Context, req backend.AdapterRequest) (backend.AdapterInfo, error) {
			if req.Name == "bad" {
				return backend.AdapterInfo{}, fmt.Errorf("%s: %w: no such module", req.Path, protocol.ErrModel)
			}
			return backend.AdapterInfo{ID: req.SHA256, SHA256: req.SHA256, Rank: 4}, nil
		},
		GenerateFunc: func(ctx context.Context, req backend.Request, emit func(backend.Event) error) error {
			if pieces != 256 {
				return errors.New("no vocabulary")
			}
			ids := append([]int32{}, req.GeneratedIDs...)
			for step := len(ids); step < req.MaxTokens; step++ {
				select {
				case <-time.After(tick):
				case <-ctx.Done():
					return ctx.Err()
				}
				if req.ID != "probe" && step == 0 && trouble(model, "slow-start") {
					time.Sleep(time.Second)
				}
				if req.ID != "probe" && step == 3 && stuck(model, "unavailable") {
					return status.Error(codes.Unavailable, "try again later")
				}
				if req.ID != "probe" && step == 3 && stuck(model, "stuck") {
					select {}
				}
				steps.Add(1)
				id := int32(strings.ToUpper(string(req.PromptIDs[step%len(req.PromptIDs)]))[0])
				ids = append(ids, id)
				if err := emit(backend.Event{IDs: []int32{id}, Text: string(id)}); err != nil {
					return err
				}
			}
			var text strings.Builder
			for _, id := range ids {
				text.WriteRune(id)
			}
			return emit(backend.Event{
				Done: true, Usage: backend.Usage{PromptTokens: len(req.PromptIDs), CompletionTokens: len(ids)},
				Choices: []backend.Choice{{IDs: ids, Text: text.String(), Finish: backend.FinishLength}},
			})
		},
	}
}

// shouted is what fakeBackend answers.
func shouted(prompt string, tokens int) string {
	return strings.ToUpper(strings.Repeat(prompt, tokens/len(prompt)+1)[:tokens])
}
