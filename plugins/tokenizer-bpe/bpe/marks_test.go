package bpe_test

import (
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"edged/plugins/tokenizer-bpe/bpe/huggingface"
	"edged/test/oracle"
)

// TestMarks: of places in a text, as many ids are counted as no text behind them changes, and before a control token all that are there.
func TestMarks(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join(oracle.Dir(t), "text", "tokenizers", "*"))
	if err != nil || len(dirs) == 0 {
		t.Skipf("there are no kinds, error %v", err)
	}
	dirs = append(dirs, filepath.Join(oracle.Dir(t), "models", "qwen2", "hf"), filepath.Join(oracle.Dir(t), "models", "mixtral", "hf"))
	for _, dir := range dirs {
		tok, err := huggingface.Read(dir)
		if err != nil {
			continue // other files of the oracle stand there too
		}
		var controls []string
		_, isControl := tok.Pieces()
		for id := range isControl {
			if s := tok.Text(int32(id)); isControl[id] && s != "" && id != int(tok.Info().Unknown) {
				controls = append(controls, s)
			}
		}
		rng := rand.New(rand.NewPCG(3, uint64(len(dir))))
		words := []string{"hello", " world", "12:34", "\n", " ", "ünïcode", "a", ".", " the clock is ", "<", "|im_end|>", "日本"}
		for range 20 {
			text := ""
			var places []int
			for range 12 {
				if len(controls) > 0 && rng.IntN(4) == 0 {
					if text != "" { // what the model wants before a text may be written there
						places = append(places, len(text))
					}
					text += controls[rng.IntN(len(controls))]
				} else {
					text += tok.Guard(words[rng.IntN(len(words))])
					if rng.IntN(3) == 0 {
						places = append(places, len(text))
					}
				}
			}
			places = slices.Compact(places)
			plain, err := tok.EncodeRendered(nil, text, true)
			if err != nil {
				continue // a pattern over its budget is no matter of this test
			}
			ids, counts, err := tok.EncodeMarked(text, true, places)
			if err != nil || !slices.Equal(ids, plain) || len(counts) != len(places) {
				t.Fatalf("%s: %q: %v, %d of %d places, %v, want %v", dir, text, ids, len(counts), len(places), err, plain)
			}
			for i, at := range places {
				if counts[i] < 0 || counts[i] > len(ids) || i > 0 && counts[i] < counts[i-1] {
					t.Fatalf("%s: %q: places %v count %v of %d", dir, text, places, counts, len(ids))
				}
				tails := []string{""}
				if len(controls) > 0 {
					tails = append(tails, controls[0])
				}
				for _, tail := range tails {
					other, err := tok.EncodeRendered(nil, text[:at]+tail, true)
					if err != nil {
						t.Fatal(err)
					}
					n := 0
					for n < min(len(other), len(ids)) && other[n] == ids[n] {
						n++
					}
					if n < counts[i] {
						t.Errorf("%s: %q: %d ids are counted before %q, with %q behind it %d stay", dir, text, counts[i], text[at:], tail, n)
					}
				}
			}
		}
	}
}
