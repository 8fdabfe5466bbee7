package quantize_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edged/core/model/gguf"
	"edged/core/model/quantize"
	"edged/quant"
	"edged/test/oracle"
	"edged/test/race"
)

// TestAsLlamaQuantize holds tensors' names, types and data to what llama_model_quantize of llama-cpp-python 0.3.36 (two threads,
// x86-64) wrote from the same F16 file, without and with the reference data's importance matrix: the first eight bytes of the
// SHA-256 of "NAME TYPE\n" for every tensor and then all data.
func TestAsLlamaQuantize(t *testing.T) {
	race.SkipArithmetic(t)
	src := filepath.Join(oracle.Dir(t), "models", "llama-tied", "llama-tied-F16.gguf")
	imatrix := filepath.Join(oracle.Dir(t), "fourbit", "gguf", "llama-tied.imatrix.gguf")
	importance, err := quantize.ReadImportance(imatrix)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ mixture, plain, weighted string }{
		{"Q8_0", "7f9291fd889cf849", "7f9291fd889cf849"},
		{"Q6_K", "3b6bef2a64e5fe76", "234990585f4004e7"},
		{"Q5_K_M", "3296e42f676e4edb", "58588ff985d849b1"},
		{"Q5_K_S", "70cd94bbc0e11f83", "14cd206c89b0a42e"},
		{"Q5_1", "639752d02b3e0721", "1d8e878a5bc150cd"},
		{"Q5_0", "7039271bfb99e7dc", "91a5744cc44ad897"},
		{"Q4_K_M", "9d2f966f28b58e91", "379d8c9d579d9c73"},
		{"Q4_K_S", "810142db90ff6273", "04886fc4a6ae1142"},
		{"Q4_1", "eb8ecaede3b6259a", "0c60846cf03d42a4"},
		{"Q4_0", "97e80d030989d8d0", "30d3312f9eb5a5ae"},
		{"IQ4_NL", "dd8a779c7f647333", "92ffd85f5a870705"},
		{"IQ4_XS", "643285e14fe32e64", "202d8443f840690e"},
		{"MXFP4_MOE", "7f9291fd889cf849", "7f9291fd889cf849"},
		{"Q3_K_L", "d5c0786b9ca44ecd", "3ca45f6b9843160d"},
		{"Q3_K_M", "db3a13086c4d2315", "31f626f3d5d2dc15"},
		{"Q3_K_S", "e7dea46f316d14f4", "dbc68fb9dfa954ae"},
		{"Q2_K", "bbbf43e352188c0f", "6d629544aaa7774a"},
		{"Q2_K_S", "", "9b1990ccbae713e5"},
		{"TQ2_0", "ae8e38b68a53f76b", "ae8e38b68a53f76b"},
		{"TQ1_0", "92c5b81463e30122", "92c5b81463e30122"},
		{"Q2_0", "75d49415e9516b47", "75d49415e9516b47"},
		{"Q1_0", "4bd2ba82ee27a0ca", "4bd2ba82ee27a0ca"},
	} {
		mixture, err := quantize.ParseMixture(strings.ToLower(c.mixture))
		if err != nil {
			t.Fatal(err)
		}
		for want, imp := range map[string]*quantize.Importance{c.plain: nil, c.weighted: importance} {
			dst := filepath.Join(t.TempDir(), "out.gguf")
			_, err := quantize.File(t.Context(), dst, src, quantize.Options{Mixture: mixture, Importance: imp, Threads: 2})
			if want == "" {
				if !errors.Is(err, quantize.ErrImportance) {
					t.Errorf("%s: %v, want an error about its importance matrix", c.mixture, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", c.mixture, err)
				continue
			}
			if got := digest(t, dst); got != want {
				t.Errorf("%s, importance %v: %s, want %s", c.mixture, imp != nil, got, want)
			}
		}
	}
}

// digest hashes a file's tensors.
func digest(t *testing.T, path string) string {
	t.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	for _, x := range f.Tensors() {
		fmt.Fprintf(h, "%s %d\n", x.Name, uint32(x.Type))
	}
	for _, x := range f.Tensors() {
		h.Write(x.Data)
		h.Write(make([]byte, gguf.Padded(int64(len(x.Data)))-int64(len(x.Data))))
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// small writes a model-like file: two layers, a stack of experts, a norm, a router and a row that fills no super-block.
func small(t *testing.T, arch string) string {
	t.Helper()
	var w gguf.Writer
	w.Put("general.architecture", arch)
	w.Put("general.file_type", uint32(1))
	w.Put("general.name", "small")
	w.Put(arch+".block_count", uint32(2))
	w.Put(arch+".attention.head_count", uint32(4))
	w.Put(arch+".attention.head_count_kv", uint32(1))
	w.Put("tokenizer.ggml.tokens", []string{"a", "b", "ü"})
	state := uint32(1)
	add := func(name string, f quant.Format, dims ...int64) {
		n := int64(1)
		for _, d := range dims {
			n *= d
		}
		x := make([]float32, n)
		for i := range x {
			state = state*1664525 + 1013904223
			x[i] = float32(int32(state)>>16) / (1 << 18)
		}
		b := make([]byte, f.RowBytes(len(x)))
		if err := quant.Encode(f, b, x); err != nil {
			t.Fatal(err)
		}
		w.Add(name, f, dims, b)
	}
	add("output_norm.weight", quant.F32, 256)
	add("token_embd.weight", quant.F16, 256, 64)
	add("output.weight", quant.BF16, 256, 64)
	for l := range 2 {
		p := fmt.Sprintf("blk.%d.", l)
		add(p+"attn_v.weight", quant.F16, 256, 32)
		add(p+"ffn_gate_inp.weight", quant.F32, 256, 3)
		add(p+"ffn_down_exps.weight", quant.F16, 512, 48, 3)
		add(p+"odd.weight", quant.F16, 96, 40)
		add(p+"odder.weight", quant.F16, 33, 40)
	}
	path := filepath.Join(t.TempDir(), "src.gguf")
	if err := w.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func mixture(t *testing.T, name string) quantize.Mixture {
	t.Helper()
	m, err := quantize.ParseMixture(name)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestFile(t *testing.T) {
	src := small(t, "llama")
	dir := t.TempDir()
	var first []byte
	for _, threads := range []int{1, 2, 7} {
		dst := filepath.Join(dir, "dst.gguf") // replaced each time
		var last int64
		res, err := quantize.File(t.Context(), dst, src, quantize.Options{
			Mixture: mixture(t, "Q4_K_M"), Threads: threads,
			Progress: func(_ string, done, total int64) {
				if done < last || done > total {
					t.Errorf("progress went from %d to %d of %d", last, done, total)
				}
				last = done
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(dst)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = data
		}
		if !bytes.Equal(first, data) {
			t.Errorf("%d threads write other bytes", threads)
		}
		if res.Bytes == 0 || last != res.SourceBytes || res.BitsPerWeight() > 12 {
			t.Errorf("result %+v, last progress %d", res, last)
		}
	}
	f, err := gguf.Parse("dst", first)
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, x := range f.Tensors() {
		order = append(order, x.Name+" "+x.Type.String())
	}
	want := `output.weight Q6_K, output_norm.weight F32, token_embd.weight Q4_K, blk.0.attn_v.weight Q4_K, blk.0.ffn_down_exps.weight Q4_K, ` +
		`blk.0.ffn_gate_inp.weight F32, blk.0.odd.weight Q5_0, blk.0.odder.weight F16, blk.1.attn_v.weight Q6_K, blk.1.ffn_down_exps.weight Q6_K, ` +
		`blk.1.ffn_gate_inp.weight F32, blk.1.odd.weight Q5_0, blk.1.odder.weight F16`
	if got := strings.Join(order, ", "); got != want {
		t.Errorf("tensors %s\nwant %s", got, want)
	}
	if n, err := f.Uint("general.file_type"); err != nil || n != 15 {
		t.Errorf("file type %d, %v", n, err)
	}
	if s, err := f.Strings("tokenizer.ggml.tokens"); err != nil || len(s) != 3 || s[2] != "ü" {
		t.Errorf("tokens %q, %v", s, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

func TestOverrideAndPure(t *testing.T) {
	src, dst := small(t, "llama"), filepath.Join(t.TempDir(), "dst.gguf")
	res, err := quantize.File(t.Context(), dst, src, quantize.Options{
		Mixture: mixture(t, "Q4_K_M"), Pure: true,
		Override: func(name string) quant.Format {
			if strings.HasSuffix(name, "attn_v.weight") {
				return quant.Q8_0
			}
			return quant.FormatInvalid
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range res.Tensors {
		want := "Q4_K"
		switch {
		case strings.Contains(x.Name, "attn_v"):
			want = "Q8_0"
		case strings.Contains(x.Name, "odd."):
			want = "Q5_0"
		case strings.Contains(x.Name, "odder"):
			want = "F16"
		case strings.Contains(x.Name, "norm"), strings.Contains(x.Name, "inp"):
			want = "F32"
		}
		if x.To.String() != want {
			t.Errorf("%s became %s, want %s", x.Name, x.To, want)
		}
	}
	// A small file is no source any more, unless asked for.
	again := filepath.Join(t.TempDir(), "again.gguf")
	o := quantize.Options{Mixture: mixture(t, "q4_0")}
	if _, err := quantize.File(t.Context(), again, dst, o); !errors.Is(err, quantize.ErrUnsupported) || !strings.Contains(err.Error(), "--requantize") {
		t.Errorf("a source of 4 bits: %v", err)
	}
	o.Again = true
	if _, err := quantize.File(t.Context(), again, dst, o); err != nil {
		t.Error(err)
	}
}

func TestNothingIsLeftOfAFailure(t *testing.T) {
	src, dir := small(t, "llama"), t.TempDir()
	dst := filepath.Join(dir, "dst.gguf")
	if err := os.WriteFile(dst, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := quantize.File(ctx, dst, src, quantize.Options{Mixture: mixture(t, "Q4_0"), Progress: func(_ string, done, total int64) {
		if done > total/2 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := quantize.File(t.Context(), src, src, quantize.Options{Mixture: mixture(t, "Q4_0")}); !errors.Is(err, quantize.ErrUnsupported) {
		t.Errorf("onto itself: %v", err)
	}
	// A weight that is not finite.
	var w gguf.Writer
	w.Put("general.architecture", "llama")
	x := make([]byte, 4*512)
	copy(x[4*300:], []byte{0, 0, 0xc0, 0x7f})
	w.Add("blk.0.attn_q.weight", quant.F32, []int64{256, 2}, x)
	bad := filepath.Join(t.TempDir(), "bad.gguf")
	if err := w.WriteFile(bad); err != nil {
		t.Fatal(err)
	}
	if _, err := quantize.File(t.Context(), dst, bad, quantize.Options{Mixture: mixture(t, "Q4_0")}); err == nil ||
		!strings.Contains(err.Error(), "tensor blk.0.attn_q.weight: row 1: ") {
		t.Errorf("NaN: %v", err)
	}
	if data, err := os.ReadFile(dst); err != nil || string(data) != "old" {
		t.Errorf("the old file holds %q, %v", data, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

func TestImportanceFiles(t *testing.T) {
	dir := filepath.Join(oracle.Dir(t), "fourbit", "gguf")
	src := filepath.Join(oracle.Dir(t), "models", "llama-tied", "llama-tied-F16.gguf")
	var digests []string
	for _, name := range []string{"llama-tied.imatrix.gguf", "llama-tied.imatrix.dat"} {
		imp, err := quantize.ReadImportance(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if imp.Chunks != 12 || imp.Dataset != "imatrix.txt" {
			t.Errorf("%s: %d chunks of %q", name, imp.Chunks, imp.Dataset)
		}
		dst := filepath.Join(t.TempDir(), "dst.gguf")
		if _, err := quantize.File(t.Context(), dst, src, quantize.Options{Mixture: mixture(t, "Q4_0"), Importance: imp}); err != nil {
			t.Fatal(err)
		}
		f, err := gguf.Open(dst)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := f.Uint("quantize.imatrix.entries_count"); err != nil || n != 14 {
			t.Errorf("%s: %d entries, %v", name, n, err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		digests = append(digests, digest(t, dst))
	}
	if digests[0] == "" {
		t.Error(digests)
	}
	// One of another model.
	imp, err := quantize.ReadImportance(filepath.Join(dir, "llama-tied.imatrix.dat"))
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(oracle.Dir(t), "models", "qwen2", "qwen2-F16.gguf")
	if _, err := quantize.File(t.Context(), filepath.Join(t.TempDir(), "x"), other, quantize.Options{Mixture: mixture(t, "Q4_0"), Importance: imp}); !errors.Is(err, quantize.ErrImportance) {
		t.Errorf("another model's: %v", err)
	}
}

// FuzzImportance reads any bytes: an error, or finite numbers, with memory in proportion to the file.
func FuzzImportance(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x01\x00\x00\x00x\x02\x00\x00\x00\x01\x00\x00\x00\x00\x00\x80\x3f"))
	f.Add([]byte("GGUF\x03\x00\x00\x00"))
	f.Add(bytes.Repeat([]byte{0xff}, 64))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(dir, "x")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := quantize.ReadImportance(path); err != nil && !errors.Is(err, quantize.ErrImportance) {
			t.Fatal(err)
		}
	})
}

// TestSplitSource: a model in parts becomes one file, that of the whole model; none of its parts may be the result.
func TestSplitSource(t *testing.T) {
	mixture, err := quantize.ParseMixture("q4_0")
	if err != nil {
		t.Fatal(err)
	}
	part := filepath.Join(oracle.Cases(t), "B1", "q-00001-of-00002.gguf")
	other := filepath.Join(oracle.Cases(t), "B1", "q-00002-of-00002.gguf")
	o := quantize.Options{Mixture: mixture, Threads: 1, Again: true}
	var digests []string
	for _, src := range []string{filepath.Join(oracle.Dir(t), "models/qwen2/qwen2-Q8_0.gguf"), part} {
		dst := filepath.Join(t.TempDir(), "out.gguf")
		if _, err := quantize.File(t.Context(), dst, src, o); err != nil {
			t.Fatal(err)
		}
		f, err := gguf.Open(dst)
		if err != nil {
			t.Fatal(err)
		}
		if f.Has("split.count") || len(f.Parts()) != 1 {
			t.Errorf("%s: the result says that it is a part", src)
		}
		_ = f.Close()
		digests = append(digests, digest(t, dst))
	}
	if digests[0] != digests[1] {
		t.Errorf("digests %v differ", digests)
	}
	if _, err := quantize.File(t.Context(), other, part, o); !errors.Is(err, quantize.ErrUnsupported) {
		t.Errorf("a part as the result: %v", err)
	}
}
