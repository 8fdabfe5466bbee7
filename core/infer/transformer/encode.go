package transformer

import (
	"errors"
	"fmt"
	"math"

	"edged/core/infer/kv"
	"edged/core/model/arch"
)

// Text is one text for an encoder.
type Text struct {
	IDs    []int32
	Types  []int32   // of the tokens; nil: all 0
	States []float32 // (len(IDs), Width), filled with the states of all tokens behind the last norm. Owned by the caller
}

// Encode computes the states of whole texts, as many of them in one batch as fit into it; every text must fit
// by itself into Options.Context and Options.MaxRows. A text's states do not depend on the others, bit for
// bit. Nothing is kept between calls: keys and values lie in pages of the model only while their batch is
// computed.
func (m *Model) Encode(texts []Text) error {
	if m.closed {
		return errors.New("transformer: the model is closed")
	}
	if m.spec.Kind != arch.Encoder {
		return fmt.Errorf("transformer: %w: the model is a %s, and whole texts are for an encoder", arch.ErrUnsupported, m.spec.Kind)
	}
	for i := range texts {
		if err := m.checkText(&texts[i]); err != nil {
			return fmt.Errorf("transformer: text %d: %w", i, err)
		}
	}
	for len(texts) > 0 {
		n, rows, pages := 0, 0, 0
		for n < len(texts) {
			rows += len(texts[n].IDs)
			pages += kv.PagesFor(len(texts[n].IDs))
			if n > 0 && (rows > m.opt.MaxRows || pages > m.kv.FreePages()) {
				break
			}
			n++
		}
		if err := m.encode(texts[:n]); err != nil {
			return err
		}
		texts = texts[n:]
	}
	return nil
}

// checkText refuses a text that cannot be encoded.
func (m *Model) checkText(t *Text) error {
	switch n := len(t.IDs); {
	case n == 0:
		return errors.New("it has no tokens")
	case n > m.opt.Context:
		return fmt.Errorf("%w: it has %d tokens of at most %d", ErrContext, n, m.opt.Context)
	case n > m.opt.MaxRows:
		return fmt.Errorf("it has %d tokens: at most %d rows are reserved for", n, m.opt.MaxRows)
	case t.Types != nil && len(t.Types) != n:
		return fmt.Errorf("it has %d tokens and %d token types", n, len(t.Types))
	case len(t.States) != n*m.spec.Width:
		return fmt.Errorf("room for %d values of its states: want %d", len(t.States), n*m.spec.Width)
	}
	for i, id := range t.IDs {
		if id < 0 || int(id) >= m.spec.Vocab {
			return fmt.Errorf("token %d: the model has %d", id, m.spec.Vocab)
		}
		if t.Types != nil && (t.Types[i] < 0 || int(t.Types[i]) >= max(m.spec.Embed.Types, 1)) {
			return fmt.Errorf("token type %d: the model has %d", t.Types[i], m.spec.Embed.Types)
		}
	}
	return nil
}

// encode computes one batch.
func (m *Model) encode(texts []Text) error {
	var rows []Row
	w := m.spec.Width
	for i := range texts {
		t, s := &texts[i], m.NewSeq()
		defer s.Free()
		clear(t.States) // to which Forward adds
		for k, id := range t.IDs {
			r := Row{Seq: s, Token: id, Sum: t.States[k*w : (k+1)*w : (k+1)*w]}
			if t.Types != nil {
				r.Type = t.Types[k]
			}
			rows = append(rows, r)
		}
	}
	return m.Forward(rows)
}

// Pooled makes one vector of the states of a text, see arch.Pool; normalising is the caller's. PoolNone has
// no single vector.
func Pooled(kind arch.PoolKind, states []float32, width int) ([]float32, error) {
	n := 0
	if width > 0 {
		n = len(states) / width
	}
	if n == 0 {
		return nil, errors.New("transformer: a text without tokens has no vector")
	}
	out := make([]float32, width)
	weigh := func(weight func(t int) float64, total float64) {
		for i := range out {
			sum := 0.0
			for t := range n {
				sum += float64(weight(t) * float64(states[t*width+i])) // rounded: a fused sum has other bits
			}
			out[i] = float32(sum / total)
		}
	}
	one := func(int) float64 { return 1 }
	switch kind {
	case arch.PoolMean:
		weigh(one, float64(n))
	case arch.PoolRoot:
		weigh(one, math.Sqrt(float64(n)))
	case arch.PoolRise:
		weigh(func(t int) float64 { return float64(t + 1) }, float64(n)*float64(n+1)/2)
	case arch.PoolMax:
		copy(out, states)
		for t := 1; t < n; t++ {
			for i := range out {
				out[i] = max(out[i], states[t*width+i])
			}
		}
	case arch.PoolCLS:
		copy(out, states)
	case arch.PoolLast:
		copy(out, states[(n-1)*width:])
	default:
		return nil, errors.New("transformer: without pooling a text has no single vector")
	}
	return out, nil
}
