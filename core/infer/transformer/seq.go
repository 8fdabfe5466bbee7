package transformer

import "edged/core/infer/kv"

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
