package bpe

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"edged/core/model/gguf"
	"edged/plugins/tokenizer-bpe/bpe/split"
	"edged/test/oracle"
)

// goldenLines reads a compressed file of JSON lines; the first says which tool made it.
func goldenLines(t *testing.T, name string) [][]byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var out [][]byte
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 1<<22)
	for lines.Scan() {
		out = append(out, slices.Clone(lines.Bytes()))
	}
	if err := lines.Err(); err != nil || len(out) < 2 {
		t.Fatalf("%d lines, error %v", len(out), err)
	}
	return out[1:]
}

// fakeMeta is GGUF metadata in memory.
type fakeMeta map[string]any

func get[T any](m fakeMeta, key string) (T, error) {
	v, ok := m[key]
	if !ok {
		return *new(T), fmt.Errorf("key %q: %w", key, gguf.ErrMissing)
	}
	x, ok := v.(T)
	if !ok {
		return *new(T), fmt.Errorf("key %q: %w", key, gguf.ErrType)
	}
	return x, nil
}

func (m fakeMeta) Has(key string) bool                  { _, ok := m[key]; return ok }
func (m fakeMeta) String(key string) (string, error)    { return get[string](m, key) }
func (m fakeMeta) Bool(key string) (bool, error)        { return get[bool](m, key) }
func (m fakeMeta) Uint(key string) (uint64, error)      { return get[uint64](m, key) }
func (m fakeMeta) Strings(key string) ([]string, error) { return get[[]string](m, key) }
func (m fakeMeta) Ints(key string) ([]int64, error)     { return get[[]int64](m, key) }
func (m fakeMeta) Floats(key string) ([]float64, error) { return get[[]float64](m, key) }
func (m fakeMeta) with(key string, v any) fakeMeta      { c := maps.Clone(m); c[key] = v; return c }

func (m fakeMeta) without(key string) fakeMeta { c := maps.Clone(m); delete(c, key); return c }

func (m fakeMeta) mustLoad(tb testing.TB) *Tokenizer {
	tb.Helper()
	tok, err := FromGGUF("memory", m)
	if err != nil {
		tb.Fatal(err)
	}
	return tok
}

// pairVocabulary shows where words end: its tokens are all bytes and all pairs of bytes, and two bytes of one word merge,
// in an order that is the same in the tool's file.
func pairVocabulary(pre string) fakeMeta {
	chars := newByteChars()
	char := func(b int) string { return string(chars.char[b]) }
	var tokens, merges []string
	for b := range 256 {
		tokens = append(tokens, char(b))
	}
	for a := range 256 {
		for b := range 256 {
			tokens = append(tokens, char(a)+char(b))
		}
	}
	for i := range 65536 {
		k := int((uint32(i)*40503 + 12345) % 65536) // 32 bits suffice: 65536 divides 2^32
		merges = append(merges, char(k>>8)+" "+char(k&255))
	}
	tokens = append(tokens, "<|endoftext|>", "<|im_start|>")
	types := make([]int64, len(tokens))
	for i := range types {
		types[i] = int64(normal)
	}
	types[len(types)-1], types[len(types)-2] = int64(control), int64(control)
	return fakeMeta{
		keyModel: "gpt2", keyPre: pre, keyTokens: tokens, keyTypes: types, keyMerges: merges,
		keyBOS: uint64(256 + 65536), keyEOS: uint64(256 + 65536),
	}
}

// TestPreTokenizersLikeLlamaCpp: llama.cpp's ids of texts that meet every branch of the patterns.
func TestPreTokenizersLikeLlamaCpp(t *testing.T) {
	toks := map[string]*Tokenizer{}
	for _, line := range goldenLines(t, "pretokenizers.jsonl.gz") {
		var c struct {
			Text string
			IDs  []struct {
				Pre []string
				IDs []int32
			}
		}
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatal(err)
		}
		for _, answer := range c.IDs {
			for _, pre := range answer.Pre {
				if toks[pre] == nil {
					toks[pre] = pairVocabulary(pre).mustLoad(t)
				}
				got, err := toks[pre].Encode(nil, c.Text, Options{})
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got, answer.IDs) {
					t.Errorf("%s: %q:\nwant %v\ngot  %v", pre, c.Text, answer.IDs, got)
				}
			}
		}
	}
	if len(toks) != 15 {
		t.Errorf("%d pre-tokenizers were compared", len(toks))
	}
}

// TestTokenizerJSONLikeHuggingFace: the ids of Hugging Face's library for every part of a tokenizer.json that is
// supported.
func TestTokenizerJSONLikeHuggingFace(t *testing.T) {
	bases := map[string]string{
		"demo":    filepath.Join(oracle.Repo(t), "demo", "hf-nf4"),
		"mixtral": filepath.Join(oracle.Dir(t), "models", "mixtral", "hf"),
	}
	for _, line := range goldenLines(t, "huggingface.jsonl.gz") {
		var g struct {
			Name, Base string
			Patch      map[string]json.RawMessage
			Model      map[string]json.RawMessage
			Cases      []struct {
				Text string
				Add  bool
				IDs  []int32
			}
		}
		if err := json.Unmarshal(line, &g); err != nil {
			t.Fatal(err)
		}
		t.Run(g.Name, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(bases[g.Base], "tokenizer.json"))
			if err != nil {
				t.Fatal(err)
			}
			tok, err := readJSON(patched(t, patched(t, data, g.Patch), map[string]json.RawMessage{"model": patched(t, field(t, data, "model"), g.Model)}))
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range g.Cases {
				got, err := tok.Encode(nil, c.Text, Options{AddSpecial: c.Add, ParseSpecial: true})
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got, c.IDs) {
					t.Errorf("%q, special %t:\nwant %v\ngot  %v", c.Text, c.Add, c.IDs, got)
				}
			}
		})
	}
}

func field(t *testing.T, data []byte, name string) json.RawMessage {
	t.Helper()
	var o map[string]json.RawMessage
	if err := json.Unmarshal(data, &o); err != nil {
		t.Fatal(err)
	}
	return o[name]
}

func patched(t *testing.T, data []byte, fields map[string]json.RawMessage) []byte {
	t.Helper()
	var o map[string]json.RawMessage
	if err := json.Unmarshal(data, &o); err != nil {
		t.Fatal(err)
	}
	maps.Copy(o, fields)
	out, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestEveryNameLoads: all names that are listed as known build a tokenizer.
func TestEveryNameLoads(t *testing.T) {
	for _, name := range split.Names() {
		if _, err := split.ByName(name, split.NewClasses()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
