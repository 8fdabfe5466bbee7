package bpe_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edged/plugins/tokenizer-bpe/bpe"
	"edged/plugins/tokenizer-bpe/bpe/huggingface"
	"edged/test/oracle"
)

// TestPairsOfFile: a GGUF file of a cross-encoder puts two texts together as the folder does that it was made of.
func TestPairsOfFile(t *testing.T) {
	dir := filepath.Join(oracle.Dir(t), "encoders")
	for _, name := range []string{"bert-rank", "xlmr-rank", "modernbert-rank"} {
		folder, err := huggingface.Read(filepath.Join(dir, name, "hf"))
		if err != nil {
			t.Fatal(err)
		}
		file := loadGGUF(t, filepath.Join(dir, name, name+"-F16.gguf"))
		for _, p := range [][2]string{{"Is the window open?", "The kitchen window is open."}, {"a", ""}, {"", ""}} {
			ids, types, err := folder.EncodePair(p[0], p[1], bpe.Options{}, 0)
			if err != nil {
				t.Fatal(err)
			}
			got, kinds, err := file.EncodePair(p[0], p[1], bpe.Options{}, 0)
			if err != nil || !slices.Equal(got, ids) || !slices.Equal(kinds, types) {
				t.Errorf("%s, %q: %v %v, want %v %v; %v", name, p, got, kinds, ids, types, err)
			}
		}
	}
}

// TestEncodeCut: a text that is cut keeps what stands around it.
func TestEncodeCut(t *testing.T) {
	tok, err := huggingface.Read(filepath.Join(oracle.Dir(t), "encoders", "bert-mean", "hf"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("window ", 50)
	whole, err := tok.Encode(nil, text, bpe.Options{AddSpecial: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, most := range []int{0, len(whole), len(whole) + 1} {
		if got, err := tok.EncodeCut(text, bpe.Options{AddSpecial: true}, most); err != nil || !slices.Equal(got, whole) {
			t.Errorf("cut to %d: %v, %v", most, got, err)
		}
	}
	for most := 1; most < len(whole); most++ {
		got, err := tok.EncodeCut(text, bpe.Options{AddSpecial: true}, most)
		if err != nil || len(got) != most || got[0] != whole[0] || most > 1 && got[most-1] != whole[len(whole)-1] {
			t.Fatalf("cut to %d: %v, %v", most, got, err)
		}
	}
}
