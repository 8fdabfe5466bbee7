package transformer

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"edged/core/model/weights"
	"edged/quant/kernel"
	"edged/test/oracle"
)

// crossedCase is the part of s2s.json that is compared here.
type crossedCase struct {
	Lists []struct {
		IDs        []int32      `json:"ids"`
		DecoderIDs []int32      `json:"decoder_ids"`
		Greedy     []int32      `json:"ref_greedy"`
		Margins    []float64    `json:"ref_margins"`
		Top        [][2]float64 `json:"ref_last_top20"`
	} `json:"lists"`
}

// TestCrossed holds every encoder-decoder of the shared reference models against transformers' states, logits and greedy choices, in
// both containers.
func TestCrossed(t *testing.T) {
	dir := filepath.Join(oracle.Dir(t), "encoders")
	var all struct {
		Models []struct {
			Name string `json:"name"`
			Kind string `json:"kind"`
			GGUF string `json:"gguf"`
		} `json:"models"`
	}
	readJSON(t, filepath.Join(dir, "families.json"), &all)
	n := 0
	for _, m := range all.Models {
		if m.Kind != "seq2seq" {
			continue
		}
		paths := []string{filepath.Join(dir, m.Name, "hf")}
		if m.GGUF != "" {
			paths = append(paths, filepath.Join(dir, m.GGUF))
		}
		for _, path := range paths {
			if _, err := os.Stat(path); err != nil {
				continue // made by a script only
			}
			n++
			for precision, o := range precisions() {
				t.Run(m.Name+"/"+filepath.Base(path)+"/"+precision, func(t *testing.T) {
					checkCrossed(t, path, filepath.Join(dir, m.Name, "oracle"), o)
				})
			}
		}
	}
	if n == 0 {
		t.Fatal("families.json lists no encoder-decoder")
	}
}

// pair is an open encoder-decoder.
type pair struct {
	t        *testing.T
	enc, dec *Model
}

func openPair(t *testing.T, path string, o Options) *pair {
	t.Helper()
	w, err := weights.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if o.KVPages = 64; o.Context == 0 {
		o.Context = 128
	}
	p := &pair{t: t}
	if p.enc, p.dec, err = NewPair(w, o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, m := range []*Model{p.enc, p.dec} {
			if m.Cache().FreePages() != m.Cache().TotalPages() {
				t.Errorf("%d of %d pages are free at the end", m.Cache().FreePages(), m.Cache().TotalPages())
			}
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// states are the encoder's of a text.
func (p *pair) states(ids []int32) []float32 {
	p.t.Helper()
	out := make([]float32, len(ids)*p.enc.Info().Width)
	if err := p.enc.Encode([]Text{{IDs: ids, States: out}}); err != nil {
		p.t.Fatal(err)
	}
	return out
}

// answer begins a sequence that answers a text.
func (p *pair) answer(ids []int32) *Seq {
	p.t.Helper()
	text, err := p.dec.Listen(p.states(ids), nil)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(text.Free)
	s := p.dec.NewSeq()
	s.Answer(text)
	p.t.Cleanup(s.Free)
	return s
}

// logits are those of each of the next tokens of a sequence.
func (p *pair) logits(s *Seq, ids ...int32) []float32 {
	p.t.Helper()
	n := p.dec.Info().VocabRows
	out := make([]float32, len(ids)*n)
	rows := make([]Row, len(ids))
	for i, id := range ids {
		rows[i] = Row{Seq: s, Token: id, Logits: out[i*n : (i+1)*n : (i+1)*n]}
	}
	if err := p.dec.Forward(rows); err != nil {
		p.t.Fatal(err)
	}
	return out
}

func checkCrossed(t *testing.T, path, dir string, o Options) {
	var want crossedCase
	readJSON(t, filepath.Join(dir, "s2s.json"), &want)
	p := openPair(t, path, o)
	vocab := p.dec.Info().VocabRows
	limit, cosine, margin := 5e-3, 0.99999, 0.01
	if o.Precision == kernel.Fast { // keys and values in 16 bits
		limit, cosine, margin = 0.1, 0.9999, 0.1
	}
	closeTo(t, "states", p.states(want.Lists[0].IDs), readNPY(t, filepath.Join(dir, "hf.encoder.p0.npy")), p.enc.Info().Width, limit, cosine)
	steps := 0
	for i, l := range want.Lists {
		s := p.answer(l.IDs)
		got := p.logits(s, l.DecoderIDs...)
		if i == 0 {
			closeTo(t, "logits", got, readNPY(t, filepath.Join(dir, "hf.ref.p0.npy")), vocab, limit, cosine)
		}
		last := got[len(got)-vocab:]
		for _, x := range l.Top {
			if e := math.Abs(float64(last[int(x[0])]) - x[1]); !(e <= limit) {
				t.Errorf("list %d: the last logit of token %v is off by %.2e", i, x[0], e)
			}
		}
		steps += p.greedy(i, p.answer(l.IDs), l.DecoderIDs[0], l.Greedy, l.Margins, margin)
	}
	if steps == 0 {
		t.Error("no choice was compared")
	}
	p.bits(want)
}

// greedy compares the choices from the start token on, up to the first narrow margin.
func (p *pair) greedy(list int, s *Seq, token int32, want []int32, margins []float64, narrow float64) int {
	for i, id := range want {
		if margins[i] < narrow {
			return i
		}
		logits := p.logits(s, token)
		best := 0
		for k, v := range logits {
			if v > logits[best] {
				best = k
			}
		}
		if int32(best) != id {
			p.t.Errorf("list %d, step %d: token %d, want %d", list, i, best, id)
			return i
		}
		token = id
	}
	return len(want)
}

// bits holds a row's bits: all lists' answers in one batch, token by token, are those of each alone and at once.
func (p *pair) bits(c crossedCase) {
	vocab := p.dec.Info().VocabRows
	var seqs []*Seq
	var alone [][]float32
	least := math.MaxInt
	for _, l := range c.Lists {
		alone = append(alone, p.logits(p.answer(l.IDs), l.DecoderIDs...))
		seqs = append(seqs, p.answer(l.IDs), p.answer(l.IDs))
		least = min(least, len(l.DecoderIDs))
	}
	for step := range least {
		var rows []Row
		for i, s := range seqs {
			rows = append(rows, Row{Seq: s, Token: c.Lists[i/2].DecoderIDs[step], Logits: make([]float32, vocab)})
		}
		slices.Reverse(rows)
		if err := p.dec.Forward(rows); err != nil {
			p.t.Fatal(err)
		}
		slices.Reverse(rows)
		for i := range rows {
			if !slices.Equal(rows[i].Logits, alone[i/2][step*vocab:(step+1)*vocab]) {
				p.t.Fatalf("step %d: the logits of list %d depend on the batch", step, i/2)
			}
		}
	}
}
