package adapter

import (
	"fmt"
	"maps"
	"slices"

	"edged/core/infer/transformer/parts"
	"edged/core/model/arch"
	"edged/core/model/lora"
	"edged/quant"
	"edged/quant/kernel"
)

// Adapter is an adapter that is bound to a Model: y += scale·B(A x) beside each linear layer that it names
// (Hu et al. 2021), rows of the embedding changed likewise, a soft prompt (Lester et al. 2021). The weights
// stay as they are, so that rows of one batch can have different adapters.
type Adapter struct {
	owner     any // the model that it is bound to; nil: closed
	mods      []*Delta
	embed     *lora.Delta   // A (VocabRows, rank), B (Width, rank); nil: the embedding stays
	embedDora *DoRA         // of its columns; nil: plain LoRA
	prompt    *quant.Matrix // (virtual tokens, Width); nil: none
	change    *change       // of what is no linear layer; nil: nothing
	bytes     int64
	mem       *store // what was laid out anew; nil: nothing
}

// Use is an adapter of a row. Scale multiplies the adapter's own scaling; 1 is as trained. A soft prompt has no scale.
type Use struct {
	Adapter *Adapter
	Scale   float32
}

// Base is the part of a model that adapters are bound to and change.
type Base struct {
	Owner      any // the model
	K          kernel.Kernels
	Precision  kernel.Precision
	Spec       *arch.Spec
	Embed      *quant.Matrix
	Linears    []parts.Linear // all of them, by id
	IDs        map[string]int // by GGUF name of the weight
	Norms      []parts.Norm   // those that adapters can change
	NormIDs    map[string]int // their ids, 1 and more, by GGUF name without .weight
	Attentions []Attention    // by index
	RowNorms   func(id int) []float32
}

// Attention is an attention of a base.
type Attention struct {
	Output           string        // GGUF name of the weight behind it
	K, V             *parts.Linear // of keys and values
	KVHeads          int
	KeyDim, ValueDim int
	Owns             bool // it keeps keys and values of its own
	Latent           bool // … which are compressed
	Bare             bool // without norms of its own, and with the usual scale
}

// Bind binds a to a model. With kernel.Fast factors are held in float16, where the shape of a layer allows;
// all others are read where they are: the caller keeps a open until Close. Errors name the file and the
// layer. It may run beside Forward.
func Bind(m *Base, a *lora.Adapter) (*Adapter, error) {
	out := &Adapter{owner: m.Owner, mods: make([]*Delta, len(m.Linears))}
	if err := out.proveInput(m, a); err != nil {
		return nil, err
	}
	if err := out.bindChanges(m, a); err != nil {
		return nil, err
	}
	size := int64(0)
	for _, name := range slices.Sorted(maps.Keys(a.Mods)) {
		mod := a.Mods[name]
		id, ok := m.IDs[name]
		if !ok {
			return nil, fmt.Errorf(
				"transformer: %s: %s: the model has no linear layer of this name that an adapter can change",
				a.Path,
				name,
			)
		}
		w := m.Linears[id].W
		switch {
		case mod != nil && mod.Bias != nil && (len(mod.Bias) != w.Rows || mod.Magnitude != nil):
			return nil, fmt.Errorf(
				"transformer: %s: %s: a bias of %d values for the %d rows of (%d, %d), or one beside DoRA",
				a.Path,
				name,
				len(mod.Bias),
				w.Rows,
				w.Rows,
				w.Cols,
			)
		case mod == nil || mod.B == nil || mod.A == nil && mod.Magnitude != nil:
			return nil, fmt.Errorf("transformer: %s: %s: a low-rank factor is missing", a.Path, name)
		case mod.A == nil && (mod.B.Cols != w.Cols || mod.B.Rows != w.Rows):
			return nil, fmt.Errorf(
				"transformer: %s: %s: a change of (%d, %d): the model's is (%d, %d)",
				a.Path,
				name,
				mod.B.Rows,
				mod.B.Cols,
				w.Rows,
				w.Cols,
			)
		case mod.A == nil:
		case mod.A.Rows < 1 || mod.A.Rows > maxRank || mod.B.Cols != mod.A.Rows:
			return nil, fmt.Errorf(
				"transformer: %s: %s: ranks %d and %d of the factors: want equal ones from 1 to %d",
				a.Path,
				name,
				mod.A.Rows,
				mod.B.Cols,
				maxRank,
			)
		case mod.A.Cols != w.Cols || mod.B.Rows != w.Rows:
			return nil, fmt.Errorf(
				"transformer: %s: %s: factors for a layer of (%d, %d): the model's is (%d, %d)",
				a.Path,
				name,
				mod.B.Rows,
				mod.A.Cols,
				w.Rows,
				w.Cols,
			)
		case mod.Magnitude != nil && len(mod.Magnitude) != w.Rows:
			return nil, fmt.Errorf(
				"transformer: %s: %s: %d magnitudes for the %d rows of (%d, %d)",
				a.Path,
				name,
				len(mod.Magnitude),
				w.Rows,
				w.Rows,
				w.Cols,
			)
		}
		if !Finite(mod.Scale) {
			return nil, fmt.Errorf("transformer: %s: %s: scale %v is not a number", a.Path, name, mod.Scale)
		}
		l := &Delta{Rank: mod.B.Cols, A: mod.A, B: mod.B, Scale: mod.Scale, Bias: mod.Bias}
		out.mods[id] = l
		if n, ok := l.packable(); ok && m.Precision == kernel.Fast {
			size += n
		}
		if mod.Magnitude != nil {
			size += doraBytes(w.Rows)
		}
	}
	var err error
	if out.mem, err = newStore(size); err != nil {
		return nil, fmt.Errorf("transformer: %s: %w", a.Path, err)
	}
	for id, l := range out.mods {
		if l == nil {
			continue
		}
		base := &m.Linears[id]
		if mod := a.Mods[base.Name]; mod.Magnitude != nil {
			l.Dora = newDora(m.K, base.W, l, mod.Magnitude, m.RowNorms(id), out.mem)
		}
		if _, ok := l.packable(); ok && m.Precision == kernel.Fast {
			l.pack(out.mem)
			l.Multiple = kernel.LoRATile
		} else {
			l.Multiple = max(m.K.RowMultiple(l.B), 1)
		}
		out.bytes += l.bytes()
	}
	return out, nil
}

// proveInput takes over what an adapter changes before the first layer.
func (a *Adapter) proveInput(m *Base, w *lora.Adapter) error {
	h := m.Spec
	if e := w.Embed; e != nil {
		switch {
		case e.A == nil || e.B == nil || e.A.Cols < 1 || e.A.Cols > maxRank || e.B.Cols != e.A.Cols:
			return fmt.Errorf(
				"transformer: %s: token_embd.weight: its low-rank factors are not two of one rank from 1 to %d",
				w.Path,
				maxRank,
			)
		case e.A.Rows != h.Vocab || e.B.Rows != h.Width:
			return fmt.Errorf(
				"transformer: %s: token_embd.weight: factors for an embedding of (%d, %d): the model's is (%d, %d)",
				w.Path,
				e.A.Rows,
				e.B.Rows,
				h.Vocab,
				h.Width,
			)
		case !Finite(e.Scale):
			return fmt.Errorf("transformer: %s: token_embd.weight: scale %v is not a number", w.Path, e.Scale)
		}
		if e.Magnitude != nil {
			if len(e.Magnitude) != h.Width {
				return fmt.Errorf(
					"transformer: %s: token_embd.weight: %d magnitudes for the model's width of %d",
					w.Path,
					len(e.Magnitude),
					h.Width,
				)
			}
			a.embedDora = newEmbedDora(m.Embed, e)
			a.bytes += 5 * 4 * int64(h.Width)
		}
		a.embed = e
		a.bytes += parts.Bytes(e.A) + parts.Bytes(e.B)
	}
	if p := w.Prompt; p != nil {
		if h.Embed.PerLayer.Width > 0 {
			return fmt.Errorf(
				"transformer: %s: a soft prompt has no rows for each layer, which every token of the model has: train an adapter of another kind",
				w.Path,
			)
		}
		if p.Rows < 1 || p.Cols != h.Width {
			return fmt.Errorf("transformer: %s: a soft prompt of (%d, %d): the model's width is %d", w.Path, p.Rows, p.Cols, h.Width)
		}
		a.prompt = p
		a.bytes += parts.Bytes(p)
	}
	return nil
}

// maxRank bounds the scratch of the low-rank products.
const maxRank = 1024

// Closed reports whether Close was called.
func (a *Adapter) Closed() bool { return a.owner == nil }

// BoundTo reports whether the adapter is bound to a model, which is the Owner of its Base.
func (a *Adapter) BoundTo(model any) bool { return a.owner == model }

// Embedding returns what the adapter adds to a token's row, scale·B·A[token] with A (VocabRows, rank) and B
// (Width, rank), and what changes the length of the result's columns; nil: nothing.
func (a *Adapter) Embedding() (factors *lora.Delta, lengths *DoRA) { return a.embed, a.embedDora }

// SoftPrompt are its virtual tokens (tokens, Width) that stand in the place of embedded ones; nil: it has none.
func (a *Adapter) SoftPrompt() *quant.Matrix { return a.prompt }

// Bytes is the memory that it takes, that of the lora.Adapter included where it is read from there.
func (a *Adapter) Bytes() int64 { return a.bytes }

// Virtual is the number of virtual tokens of its soft prompt or prefix: a sequence with it begins with rows
// of the tokens -1, -2, …, -Virtual.
func (a *Adapter) Virtual() int {
	if a.prompt == nil {
		return a.prefixRows()
	}
	return a.prompt.Rows + a.prefixRows()
}

// Close ends the use of a; the lora.Adapter that it was made of may be closed then. Later calls do nothing.
func (a *Adapter) Close() {
	_ = a.mem.close() // there is nothing to be done about it
	*a = Adapter{}
}

// Finite reports whether f is a number.
func Finite(f float32) bool { return f-f == 0 }

// Delta returns the adapter's change of a linear layer; nil: none.
func (a *Adapter) Delta(id int) *Delta { return a.mods[id] }

// Norm is the norm of an id as it has it; nil: that one stays.
func (a *Adapter) Norm(id int) *parts.Norm {
	if a.change == nil || a.change.norms == nil {
		return nil
	}
	return a.change.norms[id-1]
}

// Beside is the prompt that the queries of an attention read beside the text; nil: there is none.
func (a *Adapter) Beside(attention int) *Prompt {
	if a.change == nil || a.change.adaption == nil {
		return nil
	}
	return a.change.adaption[attention]
}
