package weights_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"edged/core/model/weights"
	"edged/quant"
	"edged/test/oracle"
)

// TestRequantizeAsGGML quantises exact weights and compares with the bytes that llama-quantize made of the same numbers.
func TestRequantizeAsGGML(t *testing.T) {
	dir := filepath.Join(oracle.Dir(t), "models")
	for _, c := range []struct {
		base, file string
		format     quant.Format
	}{
		{"qwen2/qwen2-F32.gguf", "qwen2/qwen2-Q4_0.gguf", quant.Q4_0},
		{"qwen2/qwen2-F32.gguf", "qwen2/qwen2-Q8_0.gguf", quant.Q8_0},
		{"llama-tied/llama-tied-F16.gguf", "llama-tied/llama-tied-Q4_0.gguf", quant.Q4_0},
		{"llama-tied/llama-tied-F16.gguf", "llama-tied/llama-tied-Q8_0.gguf", quant.Q8_0},
		{"gpt2/hf", "gpt2/gpt2-Q8_0.gguf", quant.Q8_0},
		{"mixtral/mixtral-F16.gguf", "mixtral/mixtral-Q4_0.gguf", quant.Q4_0},
	} {
		t.Run(c.file, func(t *testing.T) {
			m, want := open(t, filepath.Join(dir, c.base)), open(t, filepath.Join(dir, c.file))
			before, err := m.Hash()
			if err != nil {
				t.Fatal(err)
			}
			if err := weights.Requantize(m, weights.LinearLayers, c.format); err != nil {
				t.Fatal(err)
			}
			after, err := m.Hash()
			if err != nil || before == after {
				t.Errorf("hash %s before and %s after: %v", before, after, err)
			}
			compared := 0
			for _, name := range want.Names() {
				w := want.Matrix(name)
				if w == nil || w.Format != c.format || !weights.LinearLayers(m.Tensor(name)) {
					continue
				}
				compared++
				if x := m.Matrix(name); x.Format != c.format || !bytes.Equal(x.Data, w.Data) {
					t.Errorf("%s: bytes differ", name)
				}
			}
			if compared < 12 {
				t.Errorf("%d matrices compared", compared)
			}
			if x := m.Matrix("token_embd.weight"); x.Format == c.format {
				t.Error("the embedding was requantised")
			}
		})
	}
}

func open(tb testing.TB, path string) *weights.Model {
	tb.Helper()
	m, err := weights.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := m.Close(); err != nil {
			tb.Error(err)
		}
		if err := m.Close(); err != nil {
			tb.Error("second close:", err)
		}
	})
	return m
}

func TestRequantizeHead(t *testing.T) {
	dir := oracle.Dir(t)
	m := open(t, filepath.Join(dir, "nf4/llama-tied-nf4-dq"))
	embed := m.Matrix("token_embd.weight")
	if m.Matrix("output.weight") != embed {
		t.Fatal("not tied")
	}
	old := m.Figures()
	if err := weights.Requantize(m, weights.OutputHead, quant.Q8_0); err != nil {
		t.Fatal(err)
	}
	head := m.Matrix("output.weight")
	if m.Matrix("token_embd.weight") != embed || head.Format != quant.Q8_0 || head.Rows != embed.Rows || m.Matrix("blk.0.attn_q.weight").Format != quant.NF4 {
		t.Errorf("head %v, embedding %v", head.Format, m.Matrix("token_embd.weight").Format)
	}
	now := m.Figures()
	if now.Head != int64(len(head.Data)) || now.Total-old.Total != now.Head || now.Derived-old.Derived != now.Head ||
		old.PerToken-now.PerToken != old.Head-now.Head {
		t.Errorf("figures %+v, then %+v", old, now)
	}
	worst := float32(0)
	x, y := decode(embed), decode(head)
	for i := range x {
		worst = max(worst, max(x[i]-y[i], y[i]-x[i]))
	}
	if worst == 0 || worst > 0.01 {
		t.Errorf("worst difference %g", worst)
	}
	if err := weights.Requantize(m, weights.OutputHead, quant.IQ2_XS); !errors.Is(err, weights.ErrUnsupported) {
		t.Errorf("iq2_xs: %v", err)
	}
}

func TestFigures(t *testing.T) {
	expert := regexp.MustCompile(`\.ffn_[a-z]+\.\d+\.weight$`)
	dir := oracle.Dir(t)
	for _, path := range []string{"models/gpt2/hf", "models/mixtral/mixtral-Q4_0.gguf", "nf4/llama-tied-nf4-dq", "models/llama-tied/llama-tied-Q4_K_M.gguf"} {
		full := open(t, filepath.Join(dir, path))
		head, err := weights.OpenHeaders(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		a, b := full.Figures(), head.Figures()
		if a != b {
			t.Errorf("%s: figures %+v, from headers %+v", path, a, b)
		}
		// Of these models every matrix but embeddings and the head is multiplied with each token, or it is one of 8 experts, of which 2 are.
		sum, products := int64(0), int64(0)
		for _, x := range full.Products() {
			if n := int64(x.Rows) * int64(x.Cols); x == full.Matrix("output.weight") {
				continue
			} else if expert.MatchString(x.Name) {
				products += n / 4
			} else {
				products += n
			}
		}
		if a.Products != products {
			t.Errorf("%s: %d products, want %d", path, a.Products, products)
		}
		for _, n := range full.Names() {
			if x := full.Matrix(n); x != nil {
				sum += int64(len(x.Data))
				if s := x.BnB; s != nil {
					sum += int64(4*len(s.Absmax) + len(s.AbsmaxQ) + 4*len(s.NestedAbsmax))
				}
			}
		}
		if rest := a.Total - sum; rest < 0 || rest > 64<<10 {
			t.Errorf("%s: total %d, matrices hold %d", path, a.Total, sum)
		}
		t.Logf("%s: %+v", path, a)
		if err := head.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Of an encoder-decoder a written token reads the decoder alone, and a prompt's passes the encoder alone.
func TestFiguresOfTwoSides(t *testing.T) {
	for _, path := range []string{"encoders/t5/hf", "encoders/marian/hf", "encoders/bart/hf"} {
		m := open(t, oracle.Path(t, oracle.Dir(t), path))
		prefix := m.Spec.Encoder.Prefix
		head := m.Matrix("output.weight")
		var reads, writes int64
		for _, x := range m.Products() {
			switch {
			case x == head:
			case strings.HasPrefix(x.Name, prefix):
				reads += int64(x.Rows) * int64(x.Cols)
			default:
				writes += weights.MatrixBytes(x)
			}
		}
		f := m.Figures()
		if reads == 0 || writes == 0 {
			t.Fatalf("%s: %d, %d", path, reads, writes)
		}
		// Norms, biases and a row of the embedding come to it.
		if rest := f.PerToken - f.Head - writes; f.Products != reads || rest < 0 || rest > writes/8 {
			t.Errorf("%s: %+v: the encoder multiplies %d, the decoder holds %d bytes", path, f, reads, writes)
		}
	}
}

func TestHashCached(t *testing.T) {
	dir := filepath.Join(oracle.Dir(t), "models/qwen2")
	cache := filepath.Join(t.TempDir(), "cache")
	copyOf := filepath.Join(t.TempDir(), "model.GGUF")
	data, err := os.ReadFile(filepath.Join(dir, "qwen2-Q4_0.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copyOf, data, 0o600); err != nil {
		t.Fatal(err)
	}
	m := open(t, copyOf)
	want, err := m.Hash()
	if err != nil {
		t.Fatal(err)
	}
	if sum, err := m.HashCached(cache); err != nil || sum != want {
		t.Errorf("first: %s, %v; want %s", sum, err, want)
	}
	if found, _ := filepath.Glob(cache + "/hashes/*"); len(found) != 0 {
		t.Errorf("a file of this moment was memoised: %v", found)
	}
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(copyOf, past, past); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		m = open(t, copyOf)
		if sum, err := m.HashCached(cache); err != nil || sum != want {
			t.Errorf("memoised: %s, %v; want %s", sum, err, want)
		}
	}
	found, _ := filepath.Glob(cache + "/hashes/*")
	if len(found) != 1 {
		t.Fatalf("memos %v", found)
	}
	// The memo is believed, and a broken one is not.
	for text, believed := range map[string]bool{"ab": false, string(bytes.Repeat([]byte("ab"), 32)): true} {
		if err := os.WriteFile(found[0], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if sum, err := open(t, copyOf).HashCached(cache); err != nil || (sum != want) != believed {
			t.Errorf("memo %q: %s, %v", text, sum, err)
		}
		_ = os.Remove(found[0])
	}
	other := filepath.Join(t.TempDir(), "renamed.gguf")
	if err := os.Rename(copyOf, other); err != nil {
		t.Fatal(err)
	}
	if sum, err := m.Hash(); err != nil || sum != want {
		t.Errorf("after renaming: %s, %v", sum, err)
	}
	if sum, err := open(t, other).Hash(); err != nil || sum != want {
		t.Errorf("another name: %s, %v", sum, err)
	}
}
