package seq2seq

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"edged/core/infer/beam"
	"edged/core/infer/transformer"
	"edged/core/model/arch"
	"edged/core/model/weights"
	"edged/plugins/backend-generic/x86"
	"edged/quant/kernel"
	"edged/test/oracle"
	"edged/test/race"
)

// caseSettings are what a case of s2s.json says otherwise than the folder.
type caseSettings struct {
	Beams           *int      `json:"num_beams"`
	Penalty         *float64  `json:"length_penalty"`
	Early           any       `json:"early_stopping"`
	MaxNew          *int      `json:"max_new_tokens"`
	MinNew          *int      `json:"min_new_tokens"`
	MinLength       *int      `json:"min_length"`
	ForcedBOS       *int32    `json:"forced_bos_token_id"`
	ForcedEOS       *int32    `json:"forced_eos_token_id"`
	BadWords        [][]int32 `json:"bad_words_ids"`
	NoRepeat        *int      `json:"no_repeat_ngram_size"`
	EncoderNoRepeat *int      `json:"encoder_no_repeat_ngram_size"`
	Repetition      *float64  `json:"repetition_penalty"`
}

// over is what a case means: settings are said in full, but the folder's where there are none.
func (c *caseSettings) over(g arch.Generation, folder bool) arch.Generation {
	if !folder {
		g = arch.Generation{Start: g.Start, EOS: g.EOS, Beams: 1, LengthPenalty: 1, Repetition: 1, EncoderRepetition: 1, ForcedBOS: -1}
	}
	set(&g.Beams, c.Beams)
	set(&g.LengthPenalty, c.Penalty)
	set(&g.MaxNew, c.MaxNew)
	set(&g.MinNew, c.MinNew)
	set(&g.MinLength, c.MinLength)
	set(&g.ForcedBOS, c.ForcedBOS)
	set(&g.NoRepeat, c.NoRepeat)
	set(&g.EncoderNoRepeat, c.EncoderNoRepeat)
	set(&g.Repetition, c.Repetition)
	if c.ForcedEOS != nil {
		g.ForcedEOS = []int32{*c.ForcedEOS}
	}
	if c.BadWords != nil {
		g.BadWords = c.BadWords
	}
	switch c.Early {
	case true:
		g.Early = arch.EarlyTrue
	case "never":
		g.Early = arch.EarlyNever
	}
	return g
}

func set[T any](dst *T, v *T) {
	if v != nil {
		*dst = *v
	}
}

// TestGenerate holds every case of transformers' generate of the reference encoder-decoders: the same sequences, and of a beam
// search the same scores.
func TestGenerate(t *testing.T) {
	race.SkipArithmetic(t)
	dir := filepath.Join(oracle.Dir(t), "encoders")
	cases := 0
	for _, name := range []string{"t5", "flan-t5", "mt5", "marian", "bart", "pegasus"} {
		t.Run(name, func(t *testing.T) {
			w, err := weights.Open(filepath.Join(dir, name, "hf"))
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			o := transformer.Options{Kernels: x86.Best(), Precision: kernel.Exact, MaxRows: 64, ThreadsPrefill: 1, ThreadsDecode: 1, Context: 128, KVPages: 64}
			enc, dec, err := transformer.NewPair(w, o)
			if err != nil {
				t.Fatal(err)
			}
			defer dec.Close()
			defer enc.Close()
			c := New(enc, dec, w.Generation, func(_ context.Context, f func()) error { f(); return nil })
			cases += checkGenerates(t, c, filepath.Join(dir, name, "oracle", "s2s.json"))
			if free, all := dec.Cache().FreePages(), dec.Cache().TotalPages(); free != all {
				t.Errorf("%d of %d pages are free at the end", free, all)
			}
		})
	}
	if cases < 100 {
		t.Errorf("only %d results were compared", cases)
	}
}

func checkGenerates(t *testing.T, c *Model, path string) (compared int) {
	var want struct {
		Lists []struct {
			IDs []int32 `json:"ids"`
		} `json:"lists"`
		Generate []struct {
			Case     string          `json:"case"`
			Settings json.RawMessage `json:"settings"`
			Lists    []int           `json:"lists"`
			Results  []struct {
				Sequence []int32  `json:"sequence"`
				Score    *float64 `json:"score"`
			} `json:"results"`
		} `json:"generate"`
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	for _, g := range want.Generate {
		var set caseSettings
		if err := json.Unmarshal(g.Settings, &set); err != nil {
			t.Fatal(err)
		}
		each := len(g.Results) / len(g.Lists)
		for i, list := range g.Lists {
			s := &beam.Settings{Generation: set.over(c.from, string(g.Settings) == "{}"), Text: want.Lists[list].IDs, Max: 21}
			switch {
			case s.MaxNew > 0:
				s.Max = s.MaxNew + 1
			case s.MaxLength > 0:
				s.Max = s.MaxLength
			}
			var got []beam.Answer
			if s.Beams > 1 {
				if got, err = c.search(context.Background(), s); err != nil {
					t.Fatal(err)
				}
			} else {
				got = []beam.Answer{{IDs: greedily(t, c, s)}}
			}
			for k, r := range g.Results[i*each : (i+1)*each] {
				compared++
				ids := r.Sequence[1:]
				for n := range ids { // rows of one tensor are filled up behind their end
					if slices.Contains(s.EOS, ids[n]) {
						ids = ids[:n+1]
						break
					}
				}
				if !slices.Equal(got[k].IDs, ids) {
					t.Errorf("%s %s, list %d, answer %d: %v (%v), want %v (%v)", g.Case, g.Settings, list, k, got[k].IDs, got[k].Score, ids, r.Score)
				} else if r.Score != nil && !(math.Abs(float64(got[k].Score)-*r.Score) <= 1e-3) {
					t.Errorf("%s %s, list %d, answer %d: score %v, want %v", g.Case, g.Settings, list, k, got[k].Score, *r.Score)
				}
			}
		}
	}
	return compared
}

func greedily(t *testing.T, c *Model, s *beam.Settings) (out []int32) {
	t.Helper()
	text, err := c.listen(context.Background(), s.Text)
	if err != nil {
		t.Fatal(err)
	}
	defer c.free(text)
	err = c.follow(context.Background(), s, text, func(logits []float32, _ []int32) (int32, error) {
		best := 0
		for i, v := range logits {
			if v > logits[best] {
				best = i
			}
		}
		return int32(best), nil
	}, func(id int32) (bool, error) {
		out = append(out, id)
		return !slices.Contains(s.EOS, id) && len(out) < s.Max-1, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
