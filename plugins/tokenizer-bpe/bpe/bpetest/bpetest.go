package bpetest

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"edged/core/model/gguf"
	"edged/plugins/tokenizer-bpe/bpe/vocab"
)

// Metadata is GGUF metadata in memory; it implements ggufvocab.Metadata.
type Metadata map[string]any

func get[T any](m Metadata, key string) (T, error) {
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

// Has reports whether there is a key.
func (m Metadata) Has(key string) bool { _, ok := m[key]; return ok }

// String returns a value of that type.
func (m Metadata) String(key string) (string, error) { return get[string](m, key) }

// Bool returns a value of that type.
func (m Metadata) Bool(key string) (bool, error) { return get[bool](m, key) }

// Uint returns a value of that type.
func (m Metadata) Uint(key string) (uint64, error) { return get[uint64](m, key) }

// Strings returns a list of that type.
func (m Metadata) Strings(key string) ([]string, error) { return get[[]string](m, key) }

// Ints returns a list of that type.
func (m Metadata) Ints(key string) ([]int64, error) { return get[[]int64](m, key) }

// Floats returns a list of that type.
func (m Metadata) Floats(key string) ([]float64, error) { return get[[]float64](m, key) }

// With returns a copy with another value.
func (m Metadata) With(key string, v any) Metadata {
	c := maps.Clone(m)
	c[key] = v
	return c
}

// Without returns a copy without a key.
func (m Metadata) Without(key string) Metadata {
	c := maps.Clone(m)
	delete(c, key)
	return c
}

// PairVocabulary is a byte-level vocabulary whose ids show where words end: its tokens are all bytes and all
// pairs of bytes, and two bytes of one word merge, in the order of the merges of the file that llama.cpp's
// golden ids were made with. pre names the pre-tokenizer.
func PairVocabulary(pre string) Metadata {
	chars := vocab.NewByteChars()
	char := func(b int) string { return string(chars.Char[b]) }
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
		types[i] = int64(vocab.Normal)
	}
	types[len(types)-1], types[len(types)-2] = int64(vocab.Control), int64(vocab.Control)
	return Metadata{
		"tokenizer.ggml.model":        "gpt2",
		"tokenizer.ggml.pre":          pre,
		"tokenizer.ggml.tokens":       tokens,
		"tokenizer.ggml.token_type":   types,
		"tokenizer.ggml.merges":       merges,
		"tokenizer.ggml.bos_token_id": uint64(256 + 65536),
		"tokenizer.ggml.eos_token_id": uint64(256 + 65536),
	}
}

// SmallVocabulary is a byte-level vocabulary: the bytes, then "ab" (256), "abc", the control tokens
// "<|im_end|>" and "<|user|>", and the user-defined token "keep" (260).
func SmallVocabulary() Metadata {
	chars := vocab.NewByteChars()
	var tokens []string
	for b := range 256 {
		tokens = append(tokens, string(chars.Char[b]))
	}
	tokens = append(tokens, "ab", "abc", "<|im_end|>", "<|user|>", "keep")
	types := make([]int64, len(tokens))
	for i := range types {
		types[i] = int64(vocab.Normal)
	}
	types[258], types[259], types[260] = int64(vocab.Control), int64(vocab.Control), int64(vocab.UserDefined)
	return Metadata{
		"tokenizer.ggml.model":      "gpt2",
		"tokenizer.ggml.pre":        "gpt-2",
		"tokenizer.ggml.tokens":     tokens,
		"tokenizer.ggml.token_type": types,
		"tokenizer.ggml.merges":     []string{"a b", "ab c"},
	}
}

// GoldenLines reads a compressed file of JSON lines; the first says which tool made it.
func GoldenLines(t *testing.T, name string) [][]byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // it was only read
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
