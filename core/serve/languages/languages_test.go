package languages

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
)

// fake is a tokenizer of words: control tokens are found where the flags say so, and what it puts around a text is given.
func fake(words, control []string, before, after []string) *tokenizer.Fake {
	all := append(slices.Clone(words), control...)
	id := func(s string, special bool) int32 {
		if i := slices.Index(words, s); i >= 0 {
			return int32(i)
		}
		if i := slices.Index(control, s); i >= 0 && special {
			return int32(len(words) + i)
		}
		return 0
	}
	return &tokenizer.Fake{
		EncodeFunc: func(_ context.Context, texts []string, f tokenizer.Flags) ([][]int32, error) {
			var out [][]int32
			for _, text := range texts {
				ids := []int32{}
				add := func(list []string, special bool) {
					for _, w := range list {
						ids = append(ids, id(w, special))
					}
				}
				if f.AddSpecial {
					add(before, true)
				}
				add(strings.Fields(text), f.ParseSpecial)
				if f.AddSpecial {
					add(after, true)
				}
				out = append(out, ids)
			}
			return out, nil
		},
		DecodeFunc: func(_ context.Context, ids []int32, _ bool) ([]byte, error) {
			var out []string
			for _, i := range ids {
				out = append(out, all[i])
			}
			return []byte(strings.Join(out, " ")), nil
		},
		VocabularyFunc: func(context.Context) (backend.Vocabulary, error) {
			var v backend.Vocabulary
			for i, s := range all {
				v.Pieces, v.Control = append(v.Pieces, []byte(s)), append(v.Control, i >= len(words))
			}
			return v, nil
		},
	}
}

// TestEncode: what each kind of model reads. A word of the vocabulary that is called like a language is none.
func TestEncode(t *testing.T) {
	words := []string{"?", "the", "window", "de", "translate", "English", "to", "German:"} // 0 to 7
	for _, c := range []struct {
		name           string
		control        []string // from 8
		before, after  []string
		source, target string
		text           string
		want, first    []int32
		refused        string
	}{
		{"NLLB", []string{"</s>", "eng_Latn", "deu_Latn"}, []string{"eng_Latn"}, []string{"</s>"}, "deu_Latn", "eng_Latn", "the window", []int32{10, 1, 2, 8}, []int32{9}, ""},
		{"NLLB, its own source", []string{"</s>", "eng_Latn", "deu_Latn"}, []string{"eng_Latn"}, []string{"</s>"}, "", "deu_Latn", "the", []int32{9, 1, 8}, []int32{10}, ""},
		{"mBART", []string{"</s>", "en_XX", "de_DE"}, nil, []string{"</s>", "en_XX"}, "de_DE", "en_XX", "window", []int32{2, 8, 10}, []int32{9}, ""},
		{"M2M-100", []string{"</s>", "__en__", "__de__"}, []string{"__en__"}, []string{"</s>"}, "de", "en", "the de", []int32{10, 1, 3, 8}, []int32{9}, ""},
		{"a text like a token", []string{"</s>", "__en__", "__de__"}, []string{"__en__"}, []string{"</s>"}, "de", "en", "__en__", []int32{10, 0, 8}, []int32{9}, ""},
		{"MADLAD", []string{"</s>", "<2de>"}, nil, []string{"</s>"}, "", "de", "the window", []int32{9, 1, 2, 8}, nil, ""},
		{"T5", []string{"</s>", "<extra_id_0>"}, nil, []string{"</s>"}, "en", "german", "the window", []int32{4, 5, 6, 7, 1, 2, 8}, nil, ""},
		{"T5, one language", []string{"</s>", "<extra_id_0>"}, nil, []string{"</s>"}, "", "de", "the", nil, nil, "needs both"},
		{"a stranger", []string{"</s>", "eng_Latn", "deu_Latn"}, []string{"eng_Latn"}, []string{"</s>"}, "", "tlh_Latn", "the", nil, nil, `"tlh_Latn" is none of this model's languages: deu_Latn, eng_Latn`},
		{"a strange source", []string{"</s>", "eng_Latn", "deu_Latn"}, []string{"eng_Latn"}, []string{"</s>"}, "xx", "deu_Latn", "the", nil, nil, `source_lang: "xx" is none`},
		{"MADLAD, a stranger", []string{"</s>", "<2de>"}, nil, []string{"</s>"}, "English", "German", "the", nil, nil, `"German" is none of this model's languages: de`},
		{"no place for the source", []string{"</s>", "eng_Latn"}, nil, []string{"</s>"}, "eng_Latn", "eng_Latn", "the", nil, nil, "source language's token"},
		{"no name", []string{"</s>"}, nil, []string{"</s>"}, "", "a b", "the", nil, nil, "no name of a language"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tok := fake(words, c.control, c.before, c.after)
			info := &tokenizer.Info{BOS: -1, EOS: 8, EOT: -1, Unknown: 0, Pad: -1, Mask: -1}
			model := &backend.ModelInfo{Kind: "encoder-decoder"}
			in, err := Encode(t.Context(), tok, model, info, c.text, c.source, c.target)
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) {
					t.Errorf("%v, %v", in, err)
				}
				return
			}
			if err != nil || !slices.Equal(in.IDs, c.want) || !slices.Equal(in.First, c.first) {
				t.Errorf("%+v, %v", in, err)
			}
		})
	}
	// OPUS-MT's marks are pieces of its vocabulary, and found in a text like any other.
	marian := fake(append(slices.Clone(words), ">>deu<<"), []string{"</s>"}, nil, []string{"</s>"})
	info := &tokenizer.Info{BOS: -1, EOS: 9, EOT: -1, Unknown: 0, Pad: -1, Mask: -1}
	in, err := Encode(t.Context(), marian, &backend.ModelInfo{Kind: "encoder-decoder"}, info, "the window", "", "deu")
	if err != nil || !slices.Equal(in.IDs, []int32{8, 1, 2, 9}) || in.First != nil {
		t.Errorf("%+v, %v", in, err)
	}
	none := fake(words, []string{"</s>"}, nil, []string{"</s>"})
	for _, kind := range []string{"decoder", "encoder", "encoder-decoder"} {
		if _, err := Encode(t.Context(), none, &backend.ModelInfo{Kind: kind}, info, "the", "", "de"); !errors.Is(err, protocol.ErrUnsupported) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}
