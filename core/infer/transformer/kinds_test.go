package transformer

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"edged/core/model/lora"
	"edged/quant"
	"edged/quant/kernel"
)

// merged is a copy of s whose matrices hold what adapters make of them, in float64: the reference that knows nothing of how
// the forward pass applies adapters. A float64 matrix stands in wide; Matrix gives the bare one.
type merged struct {
	*memory
	wide map[string][]float64
}

// merge applies uses in their order as PEFT merges them: W + c·s·B·A, and with DoRA m / ‖W' + c·s·B·A‖ times W' plus that,
// where W' is what the adapters before have made. (PEFT's norm is that of the unchanged W; with one adapter that is W'.)
func (s *memory) merge(uses []scaled) *merged {
	m := &merged{memory: s, wide: map[string][]float64{}}
	for _, u := range uses {
		for name, mod := range u.a.Mods {
			w, cols := m.matrix64(name)
			base, _ := s.values(name)
			a, _ := widen(mod.A)
			b, rank := widen(mod.B)
			f := float64(u.scale) * float64(mod.Scale)
			for r := range len(w) / cols {
				norm := 0.0
				for c := range cols {
					d := 0.0
					for k := range rank {
						d += b[r*rank+k] * a[k*cols+c]
					}
					w[r*cols+c] += f * d
					n := base[r*cols+c] + f*d
					norm += n * n
				}
				if mod.Magnitude != nil {
					for c := range cols {
						w[r*cols+c] *= float64(mod.Magnitude[r]) / math.Sqrt(norm)
					}
				}
			}
			m.wide[name] = w
		}
		if e := u.a.Embed; e != nil {
			w, cols := m.matrix64("token_embd.weight")
			a, rank := widen(e.A)
			b, _ := widen(e.B)
			for r := range len(w) / cols {
				for c := range cols {
					for k := range rank {
						w[r*cols+c] += float64(u.scale) * float64(e.Scale) * b[c*rank+k] * a[r*rank+k]
					}
				}
			}
			m.wide["token_embd.weight"] = w
		}
	}
	return m
}

type scaled struct {
	a     *lora.Adapter
	scale float32
}

func (m *merged) matrix64(name string) ([]float64, int) {
	if w := m.wide[name]; w != nil {
		return w, m.m[name].Cols
	}
	return m.values(name)
}

// logits are the reference's, of the positions of ids, behind the rows of a soft prompt.
func (m *merged) logits(prompt *quant.Matrix, ids []int32) [][]float64 {
	s := *m.memory
	s.over = m.wide
	var before [][]float64
	if prompt != nil {
		w, cols := widen(prompt)
		for at := 0; at < len(w); at += cols {
			before = append(before, w[at:at+cols])
		}
	}
	return s.referenceBehind(before, ids, plainFreq(&s.h), 1)[len(before):]
}

// kindsAdapter makes an adapter of the given kinds on all layers of s.
func kindsAdapter(s *memory, seed uint64, rank int, kinds string) *lora.Adapter {
	rng := rand.New(rand.NewPCG(seed, 3))
	a := &lora.Adapter{Path: "random", Mods: map[string]*lora.Delta{}}
	has := func(kind string) bool { return strings.Contains(kinds, kind) }
	for _, name := range slices.Sorted(maps.Keys(s.m)) {
		w := s.m[name]
		if strings.HasSuffix(name, "_embd.weight") || name == "output.weight" != has("head") && !(has("layers") && name != "output.weight") ||
			name == "output.weight" && !has("head") {
			continue
		}
		mod := &lora.Delta{
			A: randomMatrix(rng, name, rank, w.Cols, 1/math.Sqrt(float64(w.Cols))), B: randomMatrix(rng, name, w.Rows, rank, 1/math.Sqrt(float64(rank))), Scale: 0.7,
		}
		if has("dora") {
			for range w.Rows {
				mod.Magnitude = append(mod.Magnitude, float32(1.5+0.5*rng.NormFloat64()))
			}
		}
		a.Mods[name] = mod
	}
	if has("embedding") {
		a.Embed = &lora.Delta{
			A: randomMatrix(rng, "a", s.h.VocabRows, rank, 1), B: randomMatrix(rng, "b", s.h.Width, rank, 1/math.Sqrt(float64(rank))), Scale: 0.5,
		}
	}
	if has("prompt") {
		a.Prompt = randomMatrix(rng, "prompt", 5, s.h.Width, 1)
	}
	return a
}

// TestKinds holds every kind of adapter on every architecture and several formats of the base to merged weights in float64,
// at scale 1, at another scale, and two at once.
func TestKinds(t *testing.T) {
	for _, c := range []struct {
		arch   string
		format quant.Format
		tied   bool
		kinds  []string
		scales []float32
	}{
		{"llama", quant.F32, false, []string{"layers"}, []float32{1}},
		{"llama", quant.F32, false, []string{"layers dora"}, []float32{1}},
		{"llama", quant.F16, false, []string{"layers dora"}, []float32{0.5}},
		{"llama", quant.Q4_0, false, []string{"layers dora head"}, []float32{1}},
		{"llama", quant.Q4_0, false, []string{"layers dora"}, []float32{0}},
		{"llama", quant.NF4, false, []string{"layers dora"}, []float32{1}},
		{"llama", quant.NF4, false, []string{"layers dora"}, []float32{-0.75}},
		{"qwen2", quant.Q8_0, false, []string{"layers dora"}, []float32{1}}, // biases
		{"qwen2", quant.F16, false, []string{"layers dora"}, []float32{0.3}},
		{"gpt2", quant.F16, false, []string{"layers dora embedding prompt"}, []float32{1}},
		{"mixtral", quant.F32, false, []string{"layers dora"}, []float32{1}},
		{"llama", quant.F32, false, []string{"embedding"}, []float32{1}},
		{"llama", quant.Q4_0, false, []string{"embedding head"}, []float32{0.5}},
		{"llama", quant.F32, true, []string{"embedding"}, []float32{1}},
		{"llama", quant.F32, true, []string{"head"}, []float32{1}},
		{"llama", quant.F16, true, []string{"embedding head layers"}, []float32{1}},
		{"llama", quant.F32, false, []string{"prompt"}, []float32{1}},
		{"llama", quant.NF4, false, []string{"prompt", "layers"}, []float32{1, 0.5}},
		{"qwen3", quant.F16, false, []string{"layers embedding", "layers head"}, []float32{0.5, 1}},
		{"llama", quant.F16, false, []string{"layers", "layers embedding"}, []float32{1, -0.5}},
		{"mistral", quant.F32, false, []string{"prompt layers", "layers"}, []float32{1, 1}},
	} {
		t.Run(fmt.Sprint(c.arch, " ", c.format, " tied ", c.tied, " ", c.kinds, c.scales), func(t *testing.T) {
			t.Parallel()
			s := newMemory(c.arch, tiny(c.arch))
			if c.tied {
				s.h.Tied = true
				s.m["output.weight"] = s.m["token_embd.weight"]
			}
			switch {
			case c.format == quant.NF4:
				s.encodeNF4()
			case c.format != quant.F32:
				s.encode(t, c.format)
			}
			ids := randomIDs(20, s.h.VocabRows, 3)
			m := s.open(t, Options{Precision: kernel.Exact, Context: 64, MaxRows: 48})
			var applied []scaled
			var uses []Use
			var prompt *quant.Matrix
			for i, kinds := range c.kinds {
				a := kindsAdapter(s, uint64(i), 3+i, kinds)
				b, err := m.LoadAdapter(a)
				if err != nil {
					t.Fatal(err)
				}
				defer b.Close()
				applied, uses = append(applied, scaled{a, c.scales[i]}), append(uses, Use{Adapter: b, Scale: c.scales[i]})
				if a.Prompt != nil {
					prompt = a.Prompt
				}
			}
			want := s.merge(applied).logits(prompt, ids)
			bare := s.merge(nil).logits(nil, ids)
			n := 0
			if prompt != nil {
				n = prompt.Rows
			}
			tokens := make([]int32, 0, n+len(ids))
			for i := range n {
				tokens = append(tokens, int32(-1-i))
			}
			got, seq := (&runner{t: t, m: m, uses: uses}).logits(append(tokens, ids...))
			defer seq.Free()
			worst, moved := 0.0, 0.0
			for p := range want {
				for i, w := range want[p] {
					worst = max(worst, math.Abs(float64(got[(n+p)*s.h.VocabRows+i])-w))
					moved = max(moved, math.Abs(bare[p][i]-w))
				}
			}
			t.Logf("largest error %.2g, the adapters move logits by up to %.2g", worst, moved)
			if !(worst <= 2e-3) || moved < 0.1 {
				t.Errorf("largest error %g; moved by %g", worst, moved)
			}
		})
	}
}

// TestFastIsCloseToExact: factors in float16, in the packed layout and in others, give what exact factors give.
func TestFastIsCloseToExact(t *testing.T) {
	for _, wide := range []float64{1, 3e5, 1e-7} {
		h := tiny("llama")
		h.FFN = 72 // not laid out in tiles
		s := newMemory("llama", h)
		a := kindsAdapter(s, 1, 5, "layers dora head")
		// The same product from factors at the ends of what float16 holds.
		for _, mod := range a.Mods {
			mod.A, mod.B = times(mod.A, wide), times(mod.B, 1/wide)
		}
		ids := randomIDs(20, h.VocabRows, 3)
		var got [2][]float32
		for i, p := range []kernel.Precision{kernel.Exact, kernel.Fast} {
			m := s.open(t, Options{Precision: p, Context: 64})
			b, err := m.LoadAdapter(a)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			var seq *Seq
			got[i], seq = (&runner{t: t, m: m, uses: []Use{{Adapter: b, Scale: 0.5}}}).logits(ids)
			seq.Free()
		}
		res := &result{cosine: 1}
		res.compare(got[1], got[0], h.VocabRows, true)
		if !(res.relRMS < 2e-3) { // the base is float32 in both
			t.Errorf("factors times %g: relative error %g", wide, res.relRMS)
		}
	}
}

func times(m *quant.Matrix, f float64) *quant.Matrix {
	x, _ := widen(m)
	return floats(m.Rows, m.Cols, func(i int) float32 { return float32(x[i] * f) })
}

func floats(rows, cols int, value func(i int) float32) *quant.Matrix {
	x := make([]float32, rows*cols)
	for i := range x {
		x[i] = value(i)
	}
	m := &quant.Matrix{Name: "m", Format: quant.F32, Rows: rows, Cols: cols, Data: make([]byte, 4*rows*cols)}
	if err := quant.Encode(quant.F32, m.Data, x); err != nil {
		panic(err)
	}
	return m
}

// TestManyAdapters: 8 different adapters of all kinds in one batch give each row the bits that it has alone, in both
// precisions, decoded and as pieces of prompts.
func TestManyAdapters(t *testing.T) {
	for _, precision := range []kernel.Precision{kernel.Fast, kernel.Exact} {
		s := newMemory("llama", tiny("llama")).encode(t, quant.Q4_0)
		m := s.open(t, Options{Precision: precision, Context: 64, KVPages: 40, MaxRows: 100, ThreadsPrefill: 2})
		kinds := []string{"layers", "layers dora", "embedding head", "prompt", "layers", "layers dora head", "prompt layers", ""}
		seqs := make([]*Seq, len(kinds))
		uses := make([][]Use, len(kinds))
		for i, k := range kinds {
			if k != "" {
				a, err := m.LoadAdapter(kindsAdapter(s, uint64(i), 2+i, k))
				if err != nil {
					t.Fatal(err)
				}
				defer a.Close()
				uses[i] = []Use{{Adapter: a, Scale: 1}}
				if a.Virtual() == 0 && i > 3 {
					uses[i][0].Scale = 0.5
				}
			}
			seqs[i] = m.NewSeq()
		}
		vocab := m.Info().VocabRows
		rows := func(i int, tokens ...int32) (out []Row) {
			for _, token := range tokens {
				out = append(out, Row{Seq: seqs[i], Token: token, Adapters: uses[i], Logits: make([]float32, vocab)})
			}
			return out
		}
		tokens := func(i int) []int32 {
			var out []int32
			if len(uses[i]) > 0 {
				for v := range uses[i][0].Adapter.Virtual() {
					out = append(out, int32(-1-v))
				}
			}
			return append(out, randomIDs(5+i, vocab, uint64(i))...)
		}
		var want [][]float32
		for i := range kinds {
			all := rows(i, tokens(i)...)
			for _, r := range all {
				if err := m.Forward([]Row{r}); err != nil {
					t.Fatal(err)
				}
				want = append(want, r.Logits)
			}
			seqs[i].Truncate(0)
		}
		var batch []Row
		for i := range kinds {
			batch = append(batch, rows(i, tokens(i)...)...)
		}
		if err := m.Forward(batch); err != nil {
			t.Fatal(err)
		}
		for i := range batch {
			if !sameBits(batch[i].Logits, want[i]) {
				t.Fatalf("precision %d: row %d of the batch has other bits than alone", precision, i)
			}
		}
		for i := range seqs {
			seqs[i].Free()
		}
	}
}

func sameBits(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
}

// TestVirtualTokensAreChecked: a token below 0 means something only with a soft prompt.
func TestVirtualTokensAreChecked(t *testing.T) {
	s := newMemory("llama", tiny("llama"))
	m := s.open(t, Options{Context: 32})
	a, err := m.LoadAdapter(kindsAdapter(s, 1, 2, "prompt"))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	seq := m.NewSeq()
	defer seq.Free()
	with := []Use{{Adapter: a, Scale: 1}}
	for _, r := range []Row{{Seq: seq, Token: -1}, {Seq: seq, Token: -6, Adapters: with}, {Seq: seq, Token: math.MinInt32, Adapters: with}} {
		if err := m.Forward([]Row{r}); err == nil || !strings.Contains(err.Error(), "no virtual token") {
			t.Errorf("token %d: %v", r.Token, err)
		}
	}
	if seq.Len() != 0 {
		t.Error("a refused row was computed")
	}
}
