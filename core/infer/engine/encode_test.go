package engine

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/test/oracle"
	"edged/test/race"
)

// TestEncoderEmbeds: an encoder's vectors are those of sentence-transformers, from the folder and from the file, whatever is asked at
// the same time; and what it cannot do is refused by a sentence that names both kinds.
func TestEncoderEmbeds(t *testing.T) {
	race.SkipArithmetic(t)
	dir := filepath.Join(oracle.Dir(t), "encoders")
	for _, path := range []string{
		"bert-mean/hf", "bert-mean/bert-mean-F16.gguf", "bert-cls/hf", "xlmr-bge-m3/xlmr-bge-m3-F16.gguf", "modernbert-mean/hf", "nomic/nomic-F16.gguf",
	} {
		t.Run(path, func(t *testing.T) {
			e, info := load(t, backend.LoadRequest{Path: filepath.Join(dir, path), Precision: backend.Exact, MaxSequences: 2})
			name, _, _ := strings.Cut(path, "/")
			var want struct {
				Lists []struct {
					IDs []int32 `json:"ids"`
				} `json:"lists"`
			}
			text, err := os.ReadFile(filepath.Join(dir, name, "oracle/enc.json"))
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(text, &want); err != nil {
				t.Fatal(err)
			}
			var lists [][]int32
			for _, l := range want.Lists {
				lists = append(lists, l.IDs)
			}
			final := floats(t, filepath.Join(dir, name, "oracle/hf.final.npy"), len(lists)*info.Width)
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() {
					got, err := e.Embed(t.Context(), lists)
					if err != nil {
						t.Error(err)
						return
					}
					for i, v := range got {
						if c := cosineOf(v, final[i*info.Width:(i+1)*info.Width]); !(c >= 0.99999) {
							t.Errorf("list %d: cosine %.7f", i, c)
						}
					}
					alone, err := e.Embed(t.Context(), lists[1:2])
					if err != nil || !slices.Equal(alone[0], got[1]) {
						t.Errorf("alone a list has another vector: %v", err)
					}
				})
			}
			wg.Wait()
			_, score := e.Score(t.Context(), backend.ScoreRequest{Lists: lists[:1]})
			_, adapter := e.LoadAdapter(t.Context(), backend.AdapterRequest{Path: dir})
			_, bench := e.Bench(t.Context(), backend.BenchRequest{}, nil)
			generate := e.Generate(t.Context(), backend.Request{PromptIDs: lists[0]}, func(backend.Event) error { return nil })
			for _, err := range []error{generate, score, adapter, bench} {
				if !errors.Is(err, protocol.ErrUnsupported) || !strings.Contains(err.Error(), "encoder") || !strings.Contains(err.Error(), "decoder") {
					t.Errorf("%v: want unsupported, with both kinds", err)
				}
			}
			if _, err := e.Embed(t.Context(), [][]int32{make([]int32, info.Context+1)}); !errors.Is(err, protocol.ErrContextLength) {
				t.Errorf("a text beyond the context: %v", err)
			}
			rows, err := e.EmbedTexts(t.Context(), backend.EmbedRequest{Lists: lists[:1], Pooling: backend.PoolNone})
			if err != nil {
				t.Fatal(err)
			}
			states := floats(t, filepath.Join(dir, name, "oracle/hf.hidden.p0.npy"), len(lists[0])*info.Width)
			if len(rows[0]) != len(states) {
				t.Fatalf("%d values of all tokens, want %d", len(rows[0]), len(states))
			}
			for at := 0; at < len(states); at += info.Width {
				if c := cosineOf(rows[0][at:at+info.Width], states[at:at+info.Width]); !(c >= 0.99999) {
					t.Errorf("token %d: cosine %.7f", at/info.Width, c)
				}
			}
			no := false
			raw, err := e.EmbedTexts(t.Context(), backend.EmbedRequest{Lists: lists[:1], Pooling: "last", Normalize: &no})
			if err != nil || !slices.Equal(raw[0], rows[0][len(rows[0])-info.Width:]) {
				t.Errorf("the last token's vector is another one than that of all tokens: %v", err)
			}
			for _, bad := range []backend.EmbedRequest{
				{Lists: lists, Pooling: "median"},
				{Lists: lists, Types: lists[:1]},
				{Lists: lists[:1], Types: [][]int32{{0}}},
				{Lists: lists[1:2], Types: [][]int32{slices.Repeat([]int32{9}, len(lists[1]))}},
			} {
				if _, err := e.EmbedTexts(t.Context(), bad); !errors.Is(err, protocol.ErrInvalid) {
					t.Errorf("pooling %q, %d types: %v, want invalid", bad.Pooling, len(bad.Types), err)
				}
			}
			if st, err := e.Stats(t.Context()); err != nil || st.PromptTokens == 0 || st.KVPagesUsed != 0 {
				t.Errorf("%+v, %v: want tokens counted and no page held", st, err)
			}
		})
	}
}

// TestEncoderTypes: the types of tokens reach the network, and no pooling of an encoder is asked of a decoder.
func TestEncoderTypes(t *testing.T) {
	race.SkipArithmetic(t)
	dir := filepath.Join(oracle.Dir(t), "encoders/bert-mean")
	e, info := load(t, backend.LoadRequest{Path: filepath.Join(dir, "hf"), Precision: backend.Exact})
	var want struct {
		Typed struct {
			IDs   []int32 `json:"ids"`
			Types []int32 `json:"types"`
		} `json:"typed"`
	}
	text, err := os.ReadFile(filepath.Join(dir, "oracle/enc.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	rows, err := e.EmbedTexts(t.Context(), backend.EmbedRequest{
		Lists: [][]int32{want.Typed.IDs}, Types: [][]int32{want.Typed.Types}, Pooling: backend.PoolNone,
	})
	if err != nil {
		t.Fatal(err)
	}
	states := floats(t, filepath.Join(dir, "oracle/hf.typed.npy"), len(want.Typed.IDs)*info.Width)
	for i := range states {
		if e := math.Abs(float64(rows[0][i]) - float64(states[i])); !(e <= 2e-3) {
			t.Fatalf("value %d is %v, want %v", i, rows[0][i], states[i])
		}
	}
	d, _ := load(t, backend.LoadRequest{Path: filepath.Join(oracle.Repo(t), "demo/gguf/hearth-4m-q4_0.gguf"), Context: 64, MaxSequences: 1})
	if _, err := d.EmbedTexts(t.Context(), backend.EmbedRequest{Lists: [][]int32{{1}}, Pooling: "cls"}); !errors.Is(err, protocol.ErrUnsupported) {
		t.Errorf("pooling of a decoder: %v", err)
	}
}

// floats reads the n values at the end of an .npy file.
func floats(t *testing.T, path string, n int) []float32 {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) < 4*n {
		t.Fatalf("%s: %d bytes for %d values", path, len(data), n)
	}
	out := make([]float32, n)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[len(data)-4*n+4*i:]))
	}
	return out
}

func cosineOf(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		ab, aa, bb = ab+float64(a[i])*float64(b[i]), aa+float64(a[i])*float64(a[i]), bb+float64(b[i])*float64(b[i])
	}
	return ab / math.Sqrt(aa*bb)
}
