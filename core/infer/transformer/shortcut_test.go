package transformer

import (
	"path/filepath"
	"testing"

	"edged/core/infer/transformer/attention"
	"edged/core/infer/transformer/batch"
)

// countRows notes how many rows an operation computed.
type countRows struct {
	batch.Op
	rows *int
}

func (c countRows) Forward(s *batch.Batch) {
	*c.rows = s.T
	c.Op.Forward(s)
}

// wanted forgets behind the last operation the rows that want no logits, as the head asks.
type wanted struct{ batch.Op }

func (w wanted) Forward(s *batch.Batch) {
	w.Op.Forward(s)
	s.KeepWanted(nil, 0, 0)
}

// TestPromptShortcut: behind the last layer that keeps keys and values only the rows that want logits are computed, and their bits
// are those of a pass that computes all rows to the end.
func TestPromptShortcut(t *testing.T) {
	for _, name := range []string{"gemma4", "gemma3n"} {
		for precision, o := range precisions() {
			t.Run(name+"/"+precision, func(t *testing.T) {
				r, _ := openRunner(t, filepath.Join("testdata", "families", name), o)
				m := r.m
				counts := make([]int, len(m.net.units))
				owner, sharer := -1, -1
				for i := range m.net.units {
					u := &m.net.units[i]
					if a, ok := u.Op.(*attention.Grouped); ok && a.Owns() {
						owner = i
					} else if ok && sharer < 0 {
						sharer = i
					}
					u.Op = countRows{u.Op, &counts[i]}
				}
				if owner < 0 || sharer < owner {
					t.Fatalf("the last attention with keys of its own is part %d, the first without is part %d", owner, sharer)
				}
				vocab := m.Info().VocabRows
				// Two prompts in one batch, one of them in two pieces, of which rows in the middle want logits too.
				run := func() [][]float32 {
					var out [][]float32
					a, b := m.NewSeq(), m.NewSeq()
					defer a.Free()
					defer b.Free()
					ids := randomIDs(53, vocab, 4)
					for _, piece := range [][2]int{{0, 20}, {20, 53}} {
						var rows []Row
						for i := piece[0]; i < piece[1]; i++ {
							row := Row{Seq: a, Token: ids[i]}
							if i == 31 || i == 52 {
								row.Logits = make([]float32, vocab)
								out = append(out, row.Logits)
							}
							rows = append(rows, row)
						}
						if piece[0] == 0 {
							for i := range 9 {
								rows = append(rows, Row{Seq: b, Token: ids[i+40]})
							}
							last := &rows[len(rows)-1]
							last.Logits = make([]float32, vocab)
							out = append(out, last.Logits)
						}
						if err := m.Forward(rows); err != nil {
							t.Fatal(err)
						}
					}
					return out
				}
				short := run()
				if counts[owner-1] != 33 || counts[owner] != 33 || counts[owner+1] != 2 || counts[sharer] != 2 {
					t.Errorf("rows of the parts: %v; want 33 to part %d and 2 behind", counts, owner)
				}
				for _, a := range m.net.attentions {
					a.Last = false
				}
				end := &m.net.units[len(counts)-1]
				end.Op = wanted{end.Op}
				whole := run()
				if counts[len(counts)-1] != 33 {
					t.Errorf("rows of the parts without the shortcut: %v", counts)
				}
				for i := range short {
					if !sameBits(short[i], whole[i]) {
						t.Errorf("row %d has other bits than without the shortcut", i)
					}
				}
			})
		}
	}
}
