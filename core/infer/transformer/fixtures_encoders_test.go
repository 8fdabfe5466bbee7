package transformer

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"edged/quant/kernel"
)

// goldenList is what transformers computed from one list of ids, see tools/oracle/encoders.py.
type goldenList struct {
	IDs     []int32   `json:"ids"`
	Types   []int32   `json:"types"`
	States  []float32 `json:"states"`  // of an encoder without a head, of all tokens
	Score   float64   `json:"score"`   // of one that scores
	Place   int       `json:"place"`   // of the token that one that fills masks guesses
	Decoder []int32   `json:"decoder"` // that an encoder-decoder has begun with
	Logits  []float32 `json:"logits"`  // behind them, or at Place
}

// TestEncoderFixtures holds the committed tiny encoders and encoder-decoders, plain and packed, to what transformers computed from the
// weights that each container holds.
func TestEncoderFixtures(t *testing.T) {
	const dir = "testdata/encoders"
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) < 20 {
		t.Errorf("only %d models", len(entries))
	}
	packed := 0
	for _, e := range entries {
		folder := filepath.Join(dir, e.Name())
		var want struct {
			Head  string       `json:"head"`
			Lists []goldenList `json:"lists"`
			NF4   []goldenList `json:"nf4"`
			Int8  []goldenList `json:"int8"`
			Q8    []goldenList `json:"Q8_0"`
			Q4    []goldenList `json:"Q4_0"`
		}
		readJSON(t, filepath.Join(folder, "golden.json"), &want)
		for path, lists := range map[string][]goldenList{
			folder: want.Lists, filepath.Join(folder, "nf4"): want.NF4, filepath.Join(folder, "int8"): want.Int8,
			filepath.Join(folder, e.Name()+"-Q8_0.gguf"): want.Q8, filepath.Join(folder, e.Name()+"-Q4_0.gguf"): want.Q4,
		} {
			if exists(path) != (lists != nil) {
				t.Errorf("%s: it is there without results, or they without it", path)
			}
			if lists == nil {
				continue
			}
			if path != folder {
				packed++
			}
			for precision, o := range precisions() {
				if precision == "fast" && (path != folder || want.Head == "s2s") {
					continue // activations in 8 bits: TestEncoders and TestCrossed hold it with models of useful sizes
				}
				t.Run(e.Name()+"/"+filepath.Base(path)+"/"+precision, func(t *testing.T) {
					checkGolden(t, path, want.Head, lists, o)
				})
			}
		}
	}
	if packed < 8 {
		t.Errorf("only %d packed models", packed)
	}
}

func checkGolden(t *testing.T, path, head string, lists []goldenList, o Options) {
	limit, cosine := 2e-3, 0.99999
	if o.Precision == kernel.Fast {
		limit, cosine = 0.03, 0.9999
	}
	if o.Context = 48; head == "s2s" {
		p := openPair(t, path, o)
		for _, l := range lists {
			got := p.logits(p.answer(l.IDs), l.Decoder...)
			vocab := p.dec.Info().VocabRows
			closeTo(t, "logits", got[len(got)-vocab:], l.Logits, vocab, limit, cosine)
		}
		return
	}
	r, w := openRunner(t, path, o)
	width := w.Spec.Width
	for _, l := range lists {
		states := make([]float32, len(l.IDs)*width)
		if err := r.m.Encode([]Text{{IDs: l.IDs, Types: l.Types, States: states}}); err != nil {
			t.Fatal(err)
		}
		switch head {
		case "rank":
			v, err := Pooled(w.Spec.Score.Pool, states, width)
			if err != nil {
				t.Fatal(err)
			}
			y, err := r.m.Score(v)
			if err != nil || !(math.Abs(float64(y[0])-l.Score) <= limit) {
				t.Errorf("score %v, %v, want %v", y, err, l.Score)
			}
		case "mask":
			y, err := r.m.Guess(states[l.Place*width : (l.Place+1)*width])
			if err != nil {
				t.Fatal(err)
			}
			closeTo(t, "logits", y, l.Logits, len(y), limit, cosine)
		default:
			closeTo(t, "states", states, l.States, width, limit, cosine)
		}
	}
}
