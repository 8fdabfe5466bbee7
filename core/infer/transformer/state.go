package transformer

import (
	"fmt"
	"slices"

	"edged/quant/kernel"
)

// checkStates refuses a batch whose sequences need more fixed states than are free, or whose rows would not be computed in their
// order.
func (m *Model) checkStates(rows []Row) error {
	need := 0
	for i := 0; i < len(rows); {
		n := rows[i].Seq.rows
		others := 0 // of the same state, before this one
		for k := 0; k < i; k += rows[k].Seq.rows {
			if slot := rows[k].Seq.StateSlot(); slot >= 0 && slot == rows[i].Seq.StateSlot() {
				others++
			}
		}
		if rows[i].Seq.NeedStateAfter(others) {
			need++
		}
		for k := i + 1; k < i+n; k++ {
			if !slices.Equal(rows[k].Adapters, rows[i].Adapters) {
				return fmt.Errorf("transformer: row %d: other adapters than the row before, whose state it goes on with", k)
			}
		}
		i += n
	}
	if free := m.kv.FreeStates(); need > free {
		return fmt.Errorf("%w: %d states wanted, %d free", ErrNoPages, need, free)
	}
	return nil
}

// run of rows of one sequence, which lie together and in order.
type seqRun struct {
	seq    *Seq
	lo, hi int
}

// sequences lists the runs of the batch.
func (s *step) sequences() []seqRun {
	s.runs = s.runs[:0]
	for t := range s.rows {
		if n := len(s.runs); n > 0 && s.runs[n-1].seq == s.rows[t].seq {
			s.runs[n-1].hi = t + 1
		} else {
			s.runs = append(s.runs, seqRun{seq: s.rows[t].seq, lo: t, hi: t + 1})
		}
	}
	return s.runs
}

// recurrence finds the kernels of what passes a state from row to row.
func recurrence(k kernel.Kernels) kernel.Recurrence {
	if r, ok := k.(kernel.Recurrence); ok {
		return r
	}
	return kernel.Portable{}
}

// stateChunk is the number of channels that one chunk of a recurrence computes: all sequences of a batch are cut alike.
const stateChunk = 256
