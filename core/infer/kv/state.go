package kv

import (
	"fmt"
	"unsafe"

	"edged/core/model/arch"
	"edged/core/model/mmap"
)

// Fixed states. An operation such as a convolution or a scan keeps a few values of all positions together,
// which the next position changes. So a sequence cannot go back: it has checkpoints, which are states that
// were kept on the way, and Truncate reaches the last one at or before what it is asked for.
//
// The states of all operations of a sequence lie together in a slot, of which the pool has a fixed number. A
// slot has holders, as a page has: the sequence, its forks, its checkpoints, and the nodes of a Tree. Only a
// sequence that holds one alone writes to it; one that shares it takes a copy first. So a checkpoint costs
// nothing but the copy that the sequence takes when it goes on.

// noState is no slot: the state of an empty sequence, all zero.
const noState = -1

// states are the slots of a pool.
type states struct {
	values  []float32 // (slots, each)
	each    int       // values of a slot
	at      []int     // where each operation's values begin in it
	lens    []int
	holders []int32 // (slots)
	unused  []int32 // stack of slots without holder
	mem     *mmap.Mapping
}

// StateBytes is the memory of one slot of a Pool for this Spec; 0: the model has no fixed state.
func StateBytes(spec *arch.Spec) int64 {
	var n int64
	for _, s := range arch.States(spec) {
		n += int64(s.Values+15) &^ 15
	}
	return 4 * n
}

// reserve takes the memory of n slots.
func (s *states) reserve(spec *arch.Spec, n int) error {
	for _, x := range arch.States(spec) {
		s.at, s.lens = append(s.at, s.each), append(s.lens, x.Values)
		s.each += (x.Values + 15) &^ 15
	}
	if s.each == 0 {
		return nil
	}
	n = max(n, 1)
	b, mem, err := mmap.Reserve(4 * int64(n) * int64(s.each))
	if err != nil {
		return fmt.Errorf("%d states of %d bytes: %w", n, 4*s.each, err)
	}
	s.mem, s.values = mem, unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), n*s.each)
	s.holders = make([]int32, n)
	for i := range n {
		s.unused = append(s.unused, int32(n-1-i))
	}
	return nil
}

func (s *states) close() error {
	if s.mem == nil {
		return nil
	}
	return s.mem.Close()
}

// Fixed reports whether sequences have a fixed state, so that they do not rewind to every position.
func (s *states) Fixed() bool { return s.each > 0 }

// FreeStates is the number of slots that nobody holds.
func (s *states) FreeStates() int { return len(s.unused) }

// TotalStates is the number of slots.
func (s *states) TotalStates() int { return len(s.holders) }

// State returns the values of operation i, in the order of arch.States, in a slot.
func (s *states) State(slot int32, i int) []float32 {
	at := int(slot)*s.each + s.at[i]
	return s.values[at : at+s.lens[i] : at+s.lens[i]]
}

// slot is all of it.
func (s *states) slot(i int32) []float32 { return s.values[int(i)*s.each : int(i+1)*s.each] }

// StateData is a slot as bytes, all of it, for a file: little endian on every machine that edged runs on. A
// slot with more than one holder is not written to, so that it may be read beside a forward pass; one of
// TakeState is the caller's alone.
func (s *states) StateData(slot int32) []byte {
	v := s.slot(slot)
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), 4*len(v))
}

// StateSize is the number of bytes of a slot.
func (s *states) StateSize() int { return 4 * s.each }

// TakeState hands out a slot without holder, whose holder is the caller; there must be one.
func (s *states) TakeState() int32 {
	i := s.unused[len(s.unused)-1]
	s.unused = s.unused[:len(s.unused)-1]
	s.holders[i] = 1
	return i
}

// ShareState adds a holder to a slot.
func (s *states) ShareState(slot int32) {
	if slot != noState {
		s.holders[slot]++
	}
}

// DropState takes a holder from a slot.
func (s *states) DropState(slot int32) {
	if slot == noState {
		return
	}
	if s.holders[slot]--; s.holders[slot] == 0 {
		s.unused = append(s.unused, slot)
	}
}

// Checkpoint is the state of a sequence's first N positions.
type Checkpoint struct {
	N    int
	Slot int32
}

// Rewinds reports whether Truncate reaches every position.
func (s *Seq) Rewinds() bool { return s.p == nil || !s.p.Fixed() }

// StateSlot is the slot of the state of the first Len positions, after Extend the sequence's own.
func (s *Seq) StateSlot() int32 { return s.state }

// NeedState reports whether Extend takes a slot: the sequence has none, or shares the one it has.
func (s *Seq) NeedState() bool { return s.NeedStateAfter(0) }

// NeedStateAfter is NeedState once so many other holders of its slot have taken slots of their own: the last
// one keeps it.
func (s *Seq) NeedStateAfter(others int) bool {
	return s.p.Fixed() && (s.state == noState || int(s.p.holders[s.state])-others > 1)
}

// ownState makes the state the sequence's own, before it is changed.
func (s *Seq) ownState() {
	if !s.NeedState() {
		return
	}
	own := s.p.TakeState()
	if s.state == noState {
		clear(s.p.slot(own))
	} else {
		copy(s.p.slot(own), s.p.slot(s.state))
		s.p.DropState(s.state)
	}
	s.state = own
}

// Checkpoint keeps the state of the first Len positions. It takes no slot until the sequence goes on.
func (s *Seq) Checkpoint() {
	if s.p == nil || s.state == noState || s.n == 0 {
		return
	}
	if k := len(s.points); k > 0 && s.points[k-1].N == s.n {
		return
	}
	s.p.ShareState(s.state)
	s.points = append(s.points, Checkpoint{s.n, s.state})
}

// Checkpoints are those that s holds, by position. The list is valid until s changes.
func (s *Seq) Checkpoints() []Checkpoint { return s.points }

// ForgetCheckpoints drops those of the first n positions and before.
func (s *Seq) ForgetCheckpoints(n int) {
	i := 0
	for i < len(s.points) && s.points[i].N <= n {
		s.p.DropState(s.points[i].Slot)
		i++
	}
	s.points = append(s.points[:0], s.points[i:]...)
}

// rewind makes the state that of the last checkpoint at or before n, and returns its position.
func (s *Seq) rewind(n int) int {
	i := len(s.points)
	for i > 0 && s.points[i-1].N > n {
		i--
		s.p.DropState(s.points[i].Slot)
	}
	s.points = s.points[:i]
	s.p.DropState(s.state)
	if s.state = noState; i == 0 {
		return 0
	}
	s.state = s.points[i-1].Slot
	s.p.ShareState(s.state)
	return s.points[i-1].N
}

// Cut forgets all positions from n on, and the state of all of them: Adopt, Copy and Resume follow.
func (s *Seq) Cut(n int) {
	if s.p.Fixed() {
		for _, c := range s.points {
			s.p.DropState(c.Slot)
		}
		s.points = s.points[:0]
		s.p.DropState(s.state)
		s.state = noState
	}
	s.cut(n)
}

// Resume gives a sequence the state of its positions.
func (s *Seq) Resume(slot int32) {
	s.p.ShareState(slot)
	s.p.DropState(s.state)
	s.state = slot
}
