package batch

import (
	"edged/core/infer/kv"
	"edged/quant/kernel"
)

// Run is rows of one sequence, which lie together and in order.
type Run struct {
	Seq    *kv.Seq
	Lo, Hi int
}

// Sequences lists the runs of the batch.
func (s *Batch) Sequences() []Run {
	s.Runs = s.Runs[:0]
	for t := range s.Rows {
		if n := len(s.Runs); n > 0 && s.Runs[n-1].Seq == s.Rows[t].Seq {
			s.Runs[n-1].Hi = t + 1
		} else {
			s.Runs = append(s.Runs, Run{Seq: s.Rows[t].Seq, Lo: t, Hi: t + 1})
		}
	}
	return s.Runs
}

// recurrence finds the kernels of what passes a state from row to row.
func recurrence(k kernel.Kernels) kernel.Recurrence {
	if r, ok := k.(kernel.Recurrence); ok {
		return r
	}
	return kernel.Portable{}
}
