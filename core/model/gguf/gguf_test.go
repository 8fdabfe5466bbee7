package gguf_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edged/core/model/gguf"
	"edged/quant"
	"edged/test/oracle"
)

// sample is a small file with every kind of value.
func sample(tb testing.TB) []byte {
	tb.Helper()
	var w gguf.Writer
	w.Put("general.architecture", "llama")
	w.Put("u8", uint8(200))
	w.Put("i8", int8(-100))
	w.Put("u16", uint16(60000))
	w.Put("i16", int16(-30000))
	w.Put("u32", uint32(4e9))
	w.Put("i32", int32(-2e9))
	w.Put("u64", uint64(math.MaxUint64))
	w.Put("i64", int64(math.MinInt64))
	w.Put("f32", float32(1.5))
	w.Put("f64", math.Pi)
	w.Put("bool", true)
	w.Put("empty", "")
	w.Put("int", 7)
	w.Put("strings", []string{"a", "", "ünï", "\xff\x00"})
	w.Put("floats", []float32{1, -2})
	w.Put("ints", []int32{1, -2, 3})
	w.Put("bools", []bool{true, false})
	w.Put("bytes", []uint8{1, 2})
	w.Put("none", []string{})
	w.Put("nested", [][]int32{{1}, {}, {2, 3}})
	w.Put("nested strings", [][]string{{"x"}, {"y", "z"}})
	w.Add("a", quant.F32, []int64{3}, make([]byte, 12))
	w.Add("b", quant.Q4_0, []int64{64, 3}, bytes.Repeat([]byte{1}, 3*36))
	w.Add("c", quant.F16, []int64{2, 3, 4}, make([]byte, 48))
	var b bytes.Buffer
	if _, err := w.WriteTo(&b); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.gguf")
	if err := os.WriteFile(path, sample(t), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	strs, err := f.Strings("strings")
	if err != nil {
		t.Fatal(err)
	}
	if f.Version != 3 || len(f.Keys()) != 22 || f.Keys()[1] != "u8" {
		t.Errorf("version %d, keys %q", f.Version, f.Keys())
	}
	b := f.Tensor("b")
	if b.Type.String() != "Q4_0" || b.Type.Format() != quant.Q4_0 || b.Elements() != 192 || len(b.Data) != 108 || b.Data[107] != 1 || b.Offset%32 != 0 {
		t.Errorf("tensor b: %+v", b)
	}
	if f.Tensor("d") != nil || len(f.Tensors()) != 3 || f.Tensors()[2].Name != "c" {
		t.Errorf("tensors %+v", f.Tensors())
	}
	for key, want := range map[string]uint64{"u8": 200, "u16": 60000, "u32": 4e9, "u64": math.MaxUint64, "int": 7} {
		if v, err := f.Uint(key); err != nil || v != want {
			t.Errorf("Uint(%s) = %d, %v", key, v, err)
		}
	}
	for key, want := range map[string]int64{"i8": -100, "i16": -30000, "i32": -2e9, "i64": math.MinInt64, "u32": 4e9} {
		if v, err := f.Int(key); err != nil || v != want {
			t.Errorf("Int(%s) = %d, %v", key, v, err)
		}
	}
	for key, want := range map[string]float64{"f32": 1.5, "f64": math.Pi, "i8": -100, "u64": math.MaxUint64} {
		if v, err := f.Float(key); err != nil || v != want {
			t.Errorf("Float(%s) = %v, %v", key, v, err)
		}
	}
	if v, err := f.Bool("bool"); err != nil || !v {
		t.Errorf("Bool = %v, %v", v, err)
	}
	if v, err := f.String("empty"); err != nil || v != "" {
		t.Errorf("String = %q, %v", v, err)
	}
	if v, err := f.Floats("floats"); err != nil || !cmp.Equal(v, []float64{1, -2}) {
		t.Errorf("Floats = %v, %v", v, err)
	}
	if v, err := f.Floats("ints"); err != nil || !cmp.Equal(v, []float64{1, -2, 3}) {
		t.Errorf("Floats of ints = %v, %v", v, err)
	}
	if v, err := f.Ints("ints"); err != nil || !cmp.Equal(v, []int64{1, -2, 3}) {
		t.Errorf("Ints = %v, %v", v, err)
	}
	if v, err := f.Bools("bools"); err != nil || !cmp.Equal(v, []bool{true, false}) {
		t.Errorf("Bools = %v, %v", v, err)
	}
	if v, err := f.Strings("none"); err != nil || len(v) != 0 {
		t.Errorf("empty Strings = %v, %v", v, err)
	}
	if n, ok := f.Len("nested"); !ok || n != 3 || f.Describe("nested") != "array of 3 array" || f.Describe("u8") != "uint8" || f.Describe("?") != "" {
		t.Errorf("nested: %d, %v, %s", n, ok, f.Describe("nested"))
	}
	for name, err := range map[string]error{
		"Uint of negative": second(f.Uint("i8")),
		"Uint of string":   second(f.Uint("empty")),
		"Int of 2^64":      second(f.Int("u64")),
		"String of number": second(f.String("u8")),
		"Bool of number":   second(f.Bool("u8")),
		"Float of bool":    second(f.Float("bool")),
		"Strings of ints":  second(f.Strings("ints")),
		"Strings of text":  second(f.Strings("empty")),
		"Ints of floats":   second(f.Ints("floats")),
		"Ints of nested":   second(f.Ints("nested")),
		"Floats of bools":  second(f.Floats("bools")),
		"Bools of bytes":   second(f.Bools("bytes")),
	} {
		if !errors.Is(err, gguf.ErrType) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := second(f.Uint("absent")); !errors.Is(err, gguf.ErrMissing) || !strings.Contains(err.Error(), "absent") {
		t.Errorf("missing key: %v", err)
	}
	for range 2 {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	if !cmp.Equal(strs, []string{"a", "", "ünï", "\xff\x00"}) {
		t.Errorf("strings after Close: %q", strs)
	}
}

func second[T any](_ T, err error) error { return err }

func TestWriterRefuses(t *testing.T) {
	for name, fill := range map[string]func(w *gguf.Writer){
		"a struct":         func(w *gguf.Writer) { w.Put("k", struct{}{}) },
		"a large int":      func(w *gguf.Writer) { w.Put("k", math.MinInt); w.Put("32-bit systems have none", struct{}{}) },
		"too little data":  func(w *gguf.Writer) { w.Add("t", quant.F32, []int64{4}, make([]byte, 15)) },
		"a torn block":     func(w *gguf.Writer) { w.Add("t", quant.Q8_0, []int64{33}, make([]byte, 34)) },
		"a foreign format": func(w *gguf.Writer) { w.Add("t", quant.NF4, []int64{64}, make([]byte, 32)) },
	} {
		var w gguf.Writer
		fill(&w)
		if _, err := w.WriteTo(&bytes.Buffer{}); err == nil {
			t.Errorf("%s was written", name)
		}
	}
}

// A hand builds files that the writer refuses to write.
type hand struct{ bytes.Buffer }

func (h *hand) put(values ...any) *hand {
	for _, v := range values {
		switch v := v.(type) {
		case string:
			_ = binary.Write(h, binary.LittleEndian, uint64(len(v)))
			h.WriteString(v)
		case []byte:
			h.Write(v)
		default:
			_ = binary.Write(h, binary.LittleEndian, v)
		}
	}
	return h
}

// header starts a file.
func header(version uint32, tensors, keys uint64) *hand {
	h := &hand{}
	h.WriteString("GGUF")
	return h.put(version, tensors, keys)
}

// tensor appends a tensor info.
func (h *hand) tensor(name string, kind uint32, offset uint64, dims ...uint64) *hand {
	h.put(name, uint32(len(dims)))
	for _, d := range dims {
		h.put(d)
	}
	return h.put(kind, offset)
}

func (h *hand) body(n int) []byte {
	for h.Len()%32 != 0 {
		h.WriteByte(0)
	}
	h.Write(make([]byte, n))
	return h.Bytes()
}

func TestRefuses(t *testing.T) {
	zeros := make([]byte, 64)
	deep := header(3, 0, 1).put("k", uint32(9))
	for range 5 {
		deep.put(uint32(9), uint64(1))
	}
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "cut off"},
		{"another file", []byte("PK\x03\x04 and more"), `"PK\x03\x04"`},
		{"big-endian magic", []byte("FUGG\x00\x00\x00\x03"), "big-endian"},
		{"big-endian", append([]byte("GGUF\x00\x00\x00\x03"), zeros...), "big-endian"},
		{"version 1", header(1, 0, 0).Bytes(), "version 1"},
		{"version 4", header(4, 0, 0).Bytes(), "version 4"},
		{"too many keys", header(3, 0, 1<<40).body(64), "metadata pairs"},
		{"keys beyond the file", header(3, 0, 100).body(64), "metadata pairs"},
		{"too many tensors", header(3, 1<<63, 0).body(64), "tensors"},
		{"huge key", header(3, 0, 1).put(uint64(math.MaxUint64)).put(zeros).Bytes(), "at most 65535"},
		{"empty key", header(3, 0, 1).put("", uint32(0), uint8(1), zeros).Bytes(), "empty"},
		{"key twice", header(3, 0, 2).put("k", uint32(0), uint8(1), "k", uint32(0), uint8(1), zeros).Bytes(), `"k" appears twice`},
		{"unknown value type", header(3, 0, 1).put("k", uint32(13), zeros).Bytes(), "type 13"},
		{"bool 2", header(3, 0, 1).put("k", uint32(7), uint8(2), zeros).Bytes(), "bool is 2"},
		{"bool array 3", header(3, 0, 1).put("k", uint32(9), uint32(7), uint64(2), uint8(1), uint8(3), zeros).Bytes(), "bool 1"},
		{"huge string", header(3, 0, 1).put("k", uint32(8), uint64(1)<<62, zeros).Bytes(), "cut off"},
		{"huge array", header(3, 0, 1).put("k", uint32(9), uint32(10), uint64(1)<<62, zeros).Bytes(), "longer than the file"},
		{"huge string array", header(3, 0, 1).put("k", uint32(9), uint32(8), uint64(1)<<61, zeros).Bytes(), "longer than the file"},
		{"huge nested array", header(3, 0, 1).put("k", uint32(9), uint32(9), uint64(1)<<60, zeros).Bytes(), "longer than the file"},
		{"unknown element type", header(3, 0, 1).put("k", uint32(9), uint32(77), uint64(1), zeros).Bytes(), "element type 77"},
		{"deep nesting", deep.put(zeros).Bytes(), "deeper"},
		{"alignment 0", header(3, 0, 1).put("general.alignment", uint32(4), uint32(0), zeros).Bytes(), "power of two"},
		{"alignment 48", header(3, 0, 1).put("general.alignment", uint32(4), uint32(48), zeros).Bytes(), "power of two"},
		{"alignment text", header(3, 0, 1).put("general.alignment", uint32(8), "32", zeros).Bytes(), "wrong type"},
		{"tensor twice", header(3, 2, 0).tensor("t", 0, 0, 1).tensor("t", 0, 32, 1).body(64), `"t" appears twice`},
		{"tensor without name", header(3, 1, 0).tensor("", 0, 0, 1).body(64), "want a name"},
		{"no dimensions", header(3, 1, 0).tensor("t", 0, 0).body(64), "0 dimensions"},
		{"five dimensions", header(3, 1, 0).tensor("t", 0, 0, 1, 1, 1, 1, 1).body(64), "5 dimensions"},
		{"zero dimension", header(3, 1, 0).tensor("t", 0, 0, 4, 0).body(64), "dimension 1 is 0"},
		{"huge dimensions", header(3, 1, 0).tensor("t", 0, 0, 1<<32, 1<<32).body(64), "larger than any file"},
		{"overflowing dimensions", header(3, 1, 0).tensor("t", 0, 0, math.MaxUint64, 2).body(64), "larger than any file"},
		{"unknown tensor type", header(3, 1, 0).tensor("t", 4, 0, 32).body(64), "unknown type 4"},
		{"a fork's tensor type", header(3, 1, 0).tensor("t", 139, 0, 256).body(640), "type 139: one that only the fork ik_llama.cpp writes (IQ4_K)"},
		{"a fork's rows", header(3, 1, 0).tensor("t", 339, 0, 256).body(640), "type 339: one that only the fork ik_llama.cpp writes"},
		{"bitnet.cpp or repacked", header(3, 1, 0).tensor("t", 36, 0, 256).body(640), "bitnet.cpp"},
		{"a type of the future", header(3, 1, 0).tensor("t", 99, 0, 256).body(640), "unknown type 99: a newer type"},
		{"torn block", header(3, 1, 0).tensor("t", 2, 0, 33).body(64), "33"},
		{"misaligned", header(3, 1, 0).tensor("t", 0, 8, 1).body(64), "offset 8"},
		{"beyond the file", header(3, 1, 0).tensor("t", 0, 64, 1).body(64), "cut off"},
		{"far beyond the file", header(3, 1, 0).tensor("t", 0, math.MaxUint64-31, 1).body(64), "larger than any file"},
		{"too long", header(3, 1, 0).tensor("t", 0, 0, 17).body(64), "68 bytes"},
		{"overlap", header(3, 2, 0).tensor("t", 0, 0, 9).tensor("u", 0, 32, 1).body(64), `"t" and "u" overlap`},
	} {
		f, err := gguf.Parse("FILE", c.data)
		if err == nil {
			t.Errorf("%s: accepted: %+v", c.name, f)
			continue
		}
		if !errors.Is(err, gguf.ErrFormat) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "FILE") {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	// What stays just inside the limits is taken.
	for name, data := range map[string][]byte{
		"no tensors":          header(2, 0, 0).Bytes(),
		"not padded":          header(3, 0, 1).put("k", uint32(0), uint8(1)).Bytes(),
		"four nested":         header(3, 0, 1).put("k", uint32(9), uint32(9), uint64(1), uint32(9), uint64(1), uint32(9), uint64(1), uint32(0), uint64(1), uint8(1)).Bytes(),
		"last one unpadded":   header(3, 1, 0).tensor("t", 0, 0, 1).body(4),
		"a gap":               header(3, 1, 0).tensor("t", 0, 32, 1).body(64),
		"unused type":         header(3, 1, 0).tensor("t", 16, 0, 256).body(96),
		"alignment of 4 KiB":  header(3, 0, 1).put("general.alignment", uint32(4), uint32(4096)).Bytes(),
		"order of file mixed": header(3, 2, 0).tensor("t", 0, 32, 1).tensor("u", 0, 0, 1).body(64),
	} {
		if _, err := gguf.Parse("FILE", data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTruncated(t *testing.T) {
	data := sample(t)
	for n := range data {
		if f, err := gguf.Parse("FILE", data[:n]); err == nil {
			// Only the padding behind the last tensor may be missing.
			if last := f.Tensors()[2]; n < int(last.Offset)+len(last.Data) {
				t.Errorf("cut at %d of %d: accepted", n, len(data))
			}
		} else if !errors.Is(err, gguf.ErrFormat) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
}

func TestFlippedBits(t *testing.T) {
	data := sample(t)
	for i := range data {
		for bit := range 8 {
			flipped := bytes.Clone(data)
			flipped[i] ^= 1 << bit
			probe(t, flipped)
		}
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		b := bytes.Clone(data)
		for range 1 + rng.IntN(8) {
			b[rng.IntN(len(b))] = byte(rng.Uint32())
		}
		probe(t, b)
	}
}

// probe parses data and, where that is accepted, asks for everything.
func probe(tb testing.TB, data []byte) {
	tb.Helper()
	f, err := gguf.Parse("FILE", data)
	if err != nil {
		if !errors.Is(err, gguf.ErrFormat) {
			tb.Fatalf("an error of another kind: %v", err)
		}
		return
	}
	for _, k := range f.Keys() {
		_, _ = f.String(k)
		_, _ = f.Bool(k)
		_, _ = f.Uint(k)
		_, _ = f.Int(k)
		_, _ = f.Float(k)
		_, _ = f.Strings(k)
		_, _ = f.Ints(k)
		_, _ = f.Floats(k)
		_, _ = f.Bools(k)
		_ = f.Describe(k)
	}
	for i := range f.Tensors() {
		x := &f.Tensors()[i]
		if x.Elements() < 1 || len(x.Data) == 0 {
			tb.Fatalf("tensor %+v", x)
		}
		_ = x.Data[len(x.Data)-1]
	}
}

// TestVocabularies opens models and vocabulary-only files, and asks for their tokens.
func TestVocabularies(t *testing.T) {
	dir := oracle.Dir(t)
	paths, err := filepath.Glob(filepath.Join(dir, "models/*/*.gguf"))
	if err != nil || len(paths) == 0 {
		t.Fatal(err)
	}
	packed, err := filepath.Glob(filepath.Join(dir, "tokenizer/vocab/*.gguf.gz"))
	if err != nil || len(packed) == 0 {
		t.Fatal(err)
	}
	for _, path := range packed {
		paths = append(paths, unpack(t, path))
	}
	for _, path := range paths {
		f, err := gguf.Open(path)
		if err != nil {
			t.Error(err)
			continue
		}
		tokens, err := f.Strings("tokenizer.ggml.tokens")
		if n, ok := f.Len("tokenizer.ggml.tokens"); err != nil || !ok || len(tokens) != n || n == 0 {
			t.Errorf("%s: %d tokens, %v", path, len(tokens), err)
		}
		if allocs := testing.AllocsPerRun(1, func() { _, _ = f.Strings("tokenizer.ggml.tokens") }); allocs > 4 {
			t.Errorf("%s: %v allocations for %d tokens", path, allocs, len(tokens))
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

func unpack(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), strings.TrimSuffix(filepath.Base(path), ".gz"))
	if err := os.WriteFile(out, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return out
}

// FuzzGGUF parses any bytes: an error or a file, with memory in proportion to the input.
func FuzzGGUF(f *testing.F) {
	f.Add(sample(f))
	f.Add(header(3, 1, 0).tensor("t", 0, 0, 1).body(64))
	f.Add(header(3, 0, 1).put("k", uint32(9), uint32(9), uint64(1), uint32(8), uint64(1), "x").Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _ = gguf.Parse("FILE", data)
		runtime.ReadMemStats(&after)
		// A tensor info of 32 bytes becomes some 200 bytes of structs, twice while slices and maps grow.
		if n := after.TotalAlloc - before.TotalAlloc; n > 64*uint64(len(data))+1<<20 {
			t.Errorf("%d bytes allocated for a file of %d", n, len(data))
		}
		probe(t, data)
	})
}
