package transformer

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edged/quant/kernel"
)

var updateBits = flag.Bool("update-encoder-bits", false, "write testdata/encoder-bits.txt anew")

// bitsHead begins testdata/encoder-bits.txt.
const bitsHead = "# go test ./core/infer/transformer -run TestEncoderFixtures -update-encoder-bits, on amd64: sums over the bits of all results"

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
// weights that each container holds, and the bits of the results to those of testdata/encoder-bits.txt, whatever the machine: a compiler
// for arm64 may join a product and a sum.
func TestEncoderFixtures(t *testing.T) {
	const dir = "testdata/encoders"
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) < 20 {
		t.Errorf("only %d models", len(entries))
	}
	packed, bits := 0, map[string]string{}
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
				o.Kernels, o.ThreadsPrefill, o.ThreadsDecode = kernel.Portable{}, 2, 2
				t.Run(e.Name()+"/"+filepath.Base(path)+"/"+precision, func(t *testing.T) {
					sum := sha256.New()
					for _, x := range checkGolden(t, path, want.Head, lists, o) {
						_, _ = sum.Write(binary.LittleEndian.AppendUint32(nil, math.Float32bits(x)))
					}
					bits[e.Name()+"/"+filepath.Base(path)+"/"+precision] = hex.EncodeToString(sum.Sum(nil)[:8])
				})
			}
		}
	}
	if packed < 8 {
		t.Errorf("only %d packed models", packed)
	}
	if !t.Failed() {
		checkBits(t, bits)
	}
}

// checkBits compares the sums of results with those that were computed on another machine.
func checkBits(t *testing.T, bits map[string]string) {
	const path = "testdata/encoder-bits.txt"
	lines := []string{bitsHead}
	for _, name := range slices.Sorted(maps.Keys(bits)) {
		lines = append(lines, name+" "+bits[name])
	}
	got := strings.Join(lines, "\n") + "\n"
	if *updateBits {
		writeFile(t, path, []byte(got))
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(bits) < 40 {
		return // -run has chosen some of them
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("other bits than on amd64 (-want +got):\n%s", diff)
	}
}

func checkGolden(t *testing.T, path, head string, lists []goldenList, o Options) (results []float32) {
	t.Helper()
	limit, cosine := 2e-3, 0.99999
	if o.Precision == kernel.Fast {
		limit, cosine = 0.03, 0.9999
	}
	if o.Context = 48; head == "s2s" {
		p := openPair(t, path, o)
		for _, l := range lists {
			got := p.logits(p.answer(l.IDs), l.Decoder...)
			vocab := p.dec.Info().VocabRows
			results = append(results, got...)
			closeTo(t, "logits", got[len(got)-vocab:], l.Logits, vocab, limit, cosine)
		}
		return results
	}
	r, w := openRunner(t, path, o)
	width := w.Spec.Width
	for _, l := range lists {
		states := make([]float32, len(l.IDs)*width)
		if err := r.m.Encode([]Text{{IDs: l.IDs, Types: l.Types, States: states}}); err != nil {
			t.Fatal(err)
		}
		results = append(results, states...)
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
			results = append(results, y...)
		case "mask":
			y, err := r.m.Guess(states[l.Place*width : (l.Place+1)*width])
			if err != nil {
				t.Fatal(err)
			}
			results = append(results, y...)
			closeTo(t, "logits", y, l.Logits, len(y), limit, cosine)
		default:
			closeTo(t, "states", states, l.States, width, limit, cosine)
		}
	}
	return results
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
