package transformer

import (
	"edged/core/infer/kv"
	"edged/core/model/arch"
)

// Seq is the cached part of one sequence: the keys and values of its first Len tokens.
type Seq struct {
	*kv.Seq
	turn uint64 // the batch that it was last part of
	rows int    // thereof
	text *Seq   // what an encoder-decoder's rows read beside, see Model.Listen; owned by its maker
}

// NewSeq returns an empty sequence. It holds no page until its first Forward.
func (m *Model) NewSeq() *Seq { return &Seq{Seq: m.kv.NewSeq()} }

// Fork returns a sequence with the same positions, see kv.Seq.Fork.
func (s *Seq) Fork() *Seq { return &Seq{Seq: s.Seq.Fork(), text: s.text} }

// Cache is the memory of the model's sequences.
func (m *Model) Cache() *kv.Pool { return m.kv }

// Stretch is how a sequence of n positions is turned, which Seq.Stretch takes: 0 as long as its model's first
// way of turning holds. Beyond a border that some models have, all positions of a sequence are turned in
// another way, so that what was computed before is of no use: longrope has one other way, dynamic one for
// each length.
func (m *Model) Stretch(n int) int {
	most := 0
	for i := range m.net.ropes {
		switch sc := &m.net.ropes[i].Of.Scaling; {
		case n <= sc.Original:
		case sc.Kind == arch.LongRope:
			most = max(most, 1)
		case sc.Kind == arch.Dynamic:
			most = max(most, n)
		}
	}
	return most
}
