package transformer

import (
	"errors"
	"fmt"

	"edged/core/infer/kv"
	"edged/core/infer/transformer/batch"
	"edged/core/model/arch"
	"edged/core/model/weights"
)

// NewPair is New for an encoder-decoder: its two stacks, which compute in turns on the same threads. o is the
// decoder's; the encoder reads texts of up to o.Context tokens. The encoder is closed first.
func NewPair(m *weights.Model, o Options) (encoder, decoder *Model, err error) {
	if m.Spec.Encoder == nil {
		return nil, nil, fmt.Errorf("transformer: %s: %w: the model is a %s and has one stack", m.Path, arch.ErrUnsupported, m.Spec.Kind)
	}
	if decoder, err = New(m, o); err != nil {
		return nil, nil, err
	}
	o.Context, o.Beside = decoder.opt.Context, decoder
	if encoder, err = newModel(m, m.Spec.Encoder, encoderOptions(o)); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("transformer: %s: %w", m.Path, err), decoder.Close())
	}
	return encoder, decoder, nil
}

// encoderOptions are those of the stack before a decoder: a whole text is one batch, and nothing of it is kept.
func encoderOptions(o Options) Options {
	o.MaxRows, o.KVPages = o.Context, kv.PagesFor(o.Context)
	return o
}

// PlanEncoder is PlanMemory for the encoder that NewPair makes beside a decoder, of which o are the options
// with a Context: all its bytes.
func PlanEncoder(spec *arch.Spec, o Options) (int64, error) {
	o = encoderOptions(o)
	page, scratch, err := PlanMemory(spec.Encoder, o)
	return scratch + page*int64(o.KVPages), err
}

// Listen computes what the decoder reads of a text, of which states (n, Width) are the encoder's, for
// sequences whose Text it becomes. The caller frees it after them. The error is ErrNoPages, ErrContext or one
// that names what is wrong; nothing is held then.
func (m *Model) Listen(states []float32, adapters []Use) (*Seq, error) {
	w := m.spec.Width
	n := len(states) / w
	switch {
	case m.closed:
		return nil, errors.New("transformer: the model is closed")
	case m.spec.Encoder == nil:
		return nil, fmt.Errorf("transformer: %w: the model is a %s, which reads no other text", arch.ErrUnsupported, m.spec.Kind)
	case n == 0 || len(states) != n*w:
		return nil, fmt.Errorf("transformer: %d values are not the states of a text: want some times %d", len(states), w)
	case n > m.opt.Context:
		return nil, fmt.Errorf("%w: the text has %d tokens of at most %d", ErrContext, n, m.opt.Context)
	case kv.PagesFor(n) > m.kv.FreePages():
		return nil, fmt.Errorf("%w: %d wanted, %d free", ErrNoPages, kv.PagesFor(n), m.kv.FreePages())
	}
	if err := m.checkUses(adapters); err != nil {
		return nil, fmt.Errorf("transformer: %w", err)
	}
	text := m.NewSeq()
	text.Extend(n)
	s := m.step
	s.Threads = m.info.ThreadsPrefill
	for lo := 0; lo < n; lo += m.opt.MaxRows {
		hi := min(n, lo+m.opt.MaxRows)
		s.T, s.Groups = hi-lo, append(s.Groups[:0], batch.Group{Hi: hi - lo, Uses: adapters})
		s.Prepare(states[lo*w:hi*w], s.T, w)
		for _, c := range m.net.crosses {
			c.Listen(s, text.Seq, lo)
		}
	}
	s.End()
	text.Advance(n)
	return text, nil
}

// Answer says which text a sequence answers: one that Listen made, for as long as the sequence is used. Forks
// answer the same.
func (s *Seq) Answer(text *Seq) { s.text = text }
