package grammar

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"edged/core/model/gguf"
	"edged/plugins/tokenizer-bpe/bpe"
	"edged/plugins/tokenizer-bpe/bpe/ggufvocab"
	"edged/test/oracle"
)

// realPieces are those of a public vocabulary; control tokens have none.
func realPieces(tb testing.TB, name string) (*bpe.Tokenizer, [][]byte) {
	tb.Helper()
	path := oracle.Vocabulary(tb, name)
	f, err := gguf.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	tok, err := ggufvocab.Read(path, f)
	if err != nil {
		tb.Fatal(err)
	}
	pieces, control := tok.Pieces()
	for i := range pieces {
		if control[i] {
			pieces[i] = nil
		}
	}
	return tok, pieces
}

func vocabularyOf(pieces [][]byte) *Vocabulary {
	return NewVocabulary(len(pieces), func(id int32) []byte { return pieces[id] })
}

// TestRealVocabularies: as TestMasks, with the pieces of real vocabularies and few states.
func TestRealVocabularies(t *testing.T) {
	for _, name := range []string{"llama-spm", "qwen2"} {
		_, pieces := realPieces(t, name)
		v := vocabularyOf(pieces)
		rng := rand.New(rand.NewPCG(3, 4))
		for _, text := range masksOf()[4:7] {
			a, other := bind(t, text, v), bind(t, text, v)
			limit := 12 + rng.IntN(12)
			m, err := a.Start(limit)
			if err != nil {
				t.Fatal(err)
			}
			var sofar []byte
			for left := limit; left > 0 && !m.Ended(); left-- {
				m.run = nil
				st, err := m.Next()
				if err != nil {
					t.Fatal(err)
				}
				want := brute(other, pieces, sofar, left)
				n := 0
				for _, id := range want {
					if st.Mask[id>>6]>>(id&63)&1 == 0 {
						t.Fatalf("%s: %s after %q: token %d %q is missing", name, text, sofar, id, pieces[id])
					}
				}
				for id := range int32(len(pieces)) {
					n += int(st.Mask[id>>6] >> (id & 63) & 1)
				}
				if n != len(want) {
					t.Fatalf("%s: %s after %q: %d tokens, want %d", name, text, sofar, n, len(want))
				}
				id := want[rng.IntN(len(want))]
				sofar = append(sofar, pieces[id]...)
				if err := m.Advance(id, pieces[id]); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// TestSplit: what is decided without the model is cut as the model's own tokenizer cuts it, nearly always.
func TestSplit(t *testing.T) {
	for _, name := range []string{"llama-bpe", "qwen2", "gpt-2"} {
		tok, pieces := realPieces(t, name)
		v := vocabularyOf(pieces)
		same, all := 0, 0
		for _, key := range []string{"name", "temperature", "room_id", "isOn", "humidity", "brightness", "color", "start_time", "location", "value", "unit", "setpoint", "deviceName", "battery_level", "x", "description", "created_at"} {
			for _, form := range []string{`{"%s": "`, `, "%s": `, `", "%s": [{"`, `"%s"`} {
				text := fmt.Sprintf(form, key)
				got, _ := v.split([]byte(text))
				want, err := tok.Encode(nil, text, bpe.Options{})
				if err != nil {
					t.Fatal(err)
				}
				if all++; fmt.Sprint(got) == fmt.Sprint(want) {
					same++
				} else if testing.Verbose() {
					t.Logf("%s: %q: %q, the tokenizer has %q", name, text, names(pieces, got), names(pieces, want))
				}
			}
		}
		t.Logf("%s: %d of %d texts are cut the same", name, same, all)
		if same*10 < all*9 {
			t.Errorf("%s: only %d of %d texts are cut as the tokenizer cuts them", name, same, all)
		}
	}
}

const lightSchema = `{"type":"object","properties":{"room":{"enum":["hall","kitchen","shed"]},"on":{"type":"boolean"},"brightness":{"type":"integer","minimum":0,"maximum":100},"reason":{"type":"string","maxLength":200},"tags":{"type":"array","items":{"type":"string"},"maxItems":4}},"required":["room","on","brightness","reason","tags"]}`

// BenchmarkNext is the cost of one step: cold, in states that are new, and warm, in those that are known.
func BenchmarkNext(b *testing.B) {
	for _, name := range []string{"llama-bpe", "qwen2"} {
		_, pieces := realPieces(b, name)
		v := vocabularyOf(pieces)
		for kind, text := range map[string]string{"schema": Schema([]byte(lightSchema)), "any": Schema([]byte("{}")), "regex": Regex(`[A-Z][a-z]+( [a-z]+){0,30}\.`)} {
			g, err := Parse(b.Context(), text)
			if err != nil {
				b.Fatal(err)
			}
			for _, cold := range []bool{true, false} {
				b.Run(fmt.Sprintf("%s/%s/cold=%v", name, kind, cold), func(b *testing.B) {
					b.ReportAllocs()
					a, err := g.Bind(v)
					if err != nil {
						b.Fatal(err)
					}
					rng := rand.New(rand.NewPCG(1, 2))
					var m *Matcher
					for b.Loop() {
						if m == nil || m.left < 2 || m.Ended() {
							b.StopTimer()
							if m != nil && cold {
								a.forget()
							}
							if m, err = a.Start(200); err != nil {
								b.Fatal(err)
							}
							b.StartTimer()
						}
						st, err := m.Next()
						if err != nil || st.None {
							m = nil
							continue
						}
						b.StopTimer()
						id := st.Only
						for k := rng.IntN(len(pieces)); id < 0; k++ {
							if c := int32(k % len(pieces)); st.Mask[c>>6]>>(c&63)&1 != 0 {
								id = c
							}
						}
						b.StartTimer()
						if err := m.Advance(id, pieces[id]); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
		b.Run(name+"/vocabulary", func(b *testing.B) {
			for b.Loop() {
				vocabularyOf(pieces)
			}
		})
		b.Run(name+"/bind", func(b *testing.B) {
			for b.Loop() {
				bindText(b, v, Schema([]byte(lightSchema)))
			}
		})
	}
}

func bindText(b *testing.B, v *Vocabulary, text string) {
	b.Helper()
	g, err := Parse(b.Context(), text)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := g.Bind(v); err != nil {
		b.Fatal(err)
	}
}
