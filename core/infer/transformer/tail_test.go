package transformer

import (
	"errors"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edged/core/model/weights"
	"edged/quant/kernel"
	"edged/test/oracle"
)

// TestHeads holds scores of pairs against sentence-transformers' and guesses of masked tokens against transformers', in both containers.
func TestHeads(t *testing.T) {
	dir := filepath.Join(oracle.Dir(t), "encoders")
	var all struct {
		Models []struct {
			Name   string `json:"name"`
			Kind   string `json:"kind"`
			Folder string `json:"folder"`
			GGUF   string `json:"gguf"`
			Oracle string `json:"oracle"`
		} `json:"models"`
	}
	readJSON(t, filepath.Join(dir, "families.json"), &all)
	held := 0
	for _, m := range all.Models {
		check := map[string]func(*testing.T, string, string, Options){"reranker": checkScores, "masked": checkMasks}[m.Kind]
		if check == nil {
			continue
		}
		held++
		for precision, o := range precisions() {
			for _, path := range []string{m.Folder, m.GGUF} {
				if path == "" {
					continue
				}
				t.Run(m.Name+"/"+filepath.Base(path)+"/"+precision, func(t *testing.T) {
					check(t, filepath.Join(dir, path), filepath.Join(dir, m.Oracle), o)
				})
			}
		}
	}
	if held < 6 {
		t.Fatalf("families.json lists %d models with heads: want 6 or more", held)
	}
}

func checkScores(t *testing.T, path, file string, o Options) {
	if filepath.Base(path) == "bert-rank-F16.gguf" { // its converter has left the pooler out
		if w, err := weights.Open(path); !errors.Is(err, weights.ErrUnsupported) || !strings.Contains(err.Error(), "folder") {
			t.Errorf("a head that has lost its first layer: %v", err)
			if err == nil {
				_ = w.Close()
			}
		}
		return
	}
	var want struct {
		Pairs []struct {
			IDs   []int32 `json:"ids"`
			Types []int32 `json:"types"`
			Logit float64 `json:"logit"`
			Score float64 `json:"score"`
			Zero  float64 `json:"logit_if_types_are_zero"`
		} `json:"pairs"`
	}
	readJSON(t, file, &want)
	o.MaxRows, o.Context = 512, 512
	r, w := openRunner(t, path, o)
	score, width := w.Spec.Score, r.m.Info().Width
	if score == nil {
		t.Fatal("the file has no head that makes a score")
	}
	limit := 1e-3
	if o.Precision == kernel.Fast { // keys and values in 16 bits
		limit = 0.05
	}
	one := func(ids, types []int32) float64 {
		states := make([]float32, len(ids)*width)
		if err := r.m.Encode([]Text{{IDs: ids, Types: types, States: states}}); err != nil {
			t.Fatal(err)
		}
		v, err := Pooled(score.Pool, states, width)
		if err != nil {
			t.Fatal(err)
		}
		y, err := r.m.Score(v)
		if err != nil || len(y) != 1 {
			t.Fatalf("%v, %v", y, err)
		}
		return float64(y[0])
	}
	for i, p := range want.Pairs {
		types := p.Types
		if w.Spec.Embed.Types < 2 {
			types = nil
		}
		got := one(p.IDs, types)
		if !(math.Abs(got-p.Logit) <= limit) {
			t.Errorf("pair %d: logit %.6f, want %.6f", i, got, p.Logit)
		}
		if s := float64(Logistic(float32(got))); !(math.Abs(s-p.Score) <= limit) {
			t.Errorf("pair %d: score %.6f, want %.6f", i, s, p.Score)
		}
		if got := one(p.IDs, nil); !(math.Abs(got-p.Zero) <= limit) {
			t.Errorf("pair %d without types: logit %.6f, want %.6f", i, got, p.Zero)
		}
	}
	if _, err := r.m.Guess(make([]float32, width)); !errors.Is(err, weights.ErrUnsupported) {
		t.Errorf("guesses of a reranker: %v", err)
	}
}

func checkMasks(t *testing.T, path, file string, o Options) {
	var want struct {
		Lists []struct {
			IDs       []int32        `json:"ids"`
			Positions []int          `json:"positions"`
			Top       [][][2]float64 `json:"top10"`
		} `json:"lists"`
	}
	readJSON(t, file, &want)
	o.MaxRows, o.Context = 512, 512
	r, w := openRunner(t, path, o)
	width, vocab := r.m.Info().Width, w.Spec.Vocab
	limit := 5e-3
	if o.Precision == kernel.Fast {
		limit = 0.1
	}
	for i, l := range want.Lists {
		states := make([]float32, len(l.IDs)*width)
		if err := r.m.Encode([]Text{{IDs: l.IDs, States: states}}); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			all, err := r.m.Guess(states)
			if err != nil {
				t.Fatal(err)
			}
			closeTo(t, "logits", all, readNPY(t, filepath.Join(filepath.Dir(file), "hf.logits.p0.npy")), vocab, limit, 0.9999)
		}
		for k, p := range l.Positions {
			row, err := r.m.Guess(states[p*width : (p+1)*width])
			if err != nil {
				t.Fatal(err)
			}
			order := make([]int, vocab)
			for id := range order {
				order[id] = id
			}
			slices.SortStableFunc(order, func(a, b int) int {
				switch {
				case row[a] > row[b]:
					return -1
				case row[a] < row[b]:
					return 1
				}
				return 0
			})
			for n, top := range l.Top[k] {
				if id := int(top[0]); !(math.Abs(float64(row[id])-top[1]) <= limit) {
					t.Errorf("list %d, position %d: logit of %d is %.5f, want %.5f", i, p, id, row[id], top[1])
				}
				if o.Precision == kernel.Exact && order[n] != int(top[0]) && math.Abs(float64(row[order[n]])-top[1]) > 1e-3 {
					t.Errorf("list %d, position %d: number %d is %d, want %d", i, p, n, order[n], int(top[0]))
				}
			}
		}
	}
	if _, err := r.m.Score(make([]float32, width)); !errors.Is(err, weights.ErrUnsupported) {
		t.Errorf("a score of a model that fills masks: %v", err)
	}
}
