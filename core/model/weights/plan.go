package weights

import (
	"strings"

	"edged/core/model/arch"
	"edged/quant"
)

// Figures are the sizes that a memory plan needs, in bytes. They come from shapes and formats: weights are not touched.
type Figures struct {
	Total    int64 // all weights, as they are served, but those of OnDisk
	OnDisk   int64 // of which a token reads one row: they stay in the file, and what was read of them may be forgotten
	Derived  int64 // the part of Total that is no mapping of the files: transposed or requantised
	PerToken int64 // read to decode one token: layers (of the experts only those that are used), norms, head, one embedding row
	Head     int64 // the part of PerToken that is the output head
	Products int64 // multiply-adds of one token of a prompt: all matrices that it is multiplied with but the head, experts as in PerToken

	// Of an encoder-decoder PerToken is what the decoder reads, which writes, and Products what the encoder
	// multiplies, which reads the prompt.

	Format quant.Format // of most Products
}

// Figures computes them.
func (m *Model) Figures() Figures {
	f := Figures{Derived: m.derived}
	products := map[quant.Format]int64{}
	for name, x := range m.matrices {
		n := MatrixBytes(x)
		if _, _, stored := m.place(x); stored && m.tensors[name].Role == arch.Lookup {
			f.OnDisk += n
			f.PerToken += n / int64(x.Rows)
			continue
		}
		f.Total += n
		part := n // that a token passes
		count := int64(x.Rows) * int64(x.Cols)
		switch t := m.tensors[name]; t.Role {
		case arch.Embedding, arch.Positions, arch.Lookup:
			f.PerToken += n / int64(x.Rows)
			continue
		case arch.HeadRole: // below
			continue
		case arch.Expert:
			part, count = n*int64(t.Used)/int64(t.Experts), count*int64(t.Used)/int64(t.Experts)
		case arch.Product, arch.Routing:
		default: // a table: of distances, say
			count = 0
		}
		reads, writes := m.sides(name)
		if writes {
			f.PerToken += part
		}
		if reads {
			products[x.Format] += count
		}
	}
	for format, n := range products {
		f.Products += n
		if most := products[f.Format]; n > most || n == most && format < f.Format {
			f.Format = format
		}
	}
	for name, x := range m.vectors {
		n := MatrixBytes(x)
		f.Total += n
		if _, writes := m.sides(name); writes {
			f.PerToken += n
		}
	}
	if head := m.Matrix(arch.HeadName); head != nil {
		f.Head = MatrixBytes(head)
		f.PerToken += f.Head
	}
	return f
}

// sides tells whether a tensor reads the prompt, and whether it writes the answer: of an encoder-decoder each
// does one of both.
func (m *Model) sides(name string) (reads, writes bool) {
	if m.Spec == nil || m.Spec.Encoder == nil || m.Spec.Encoder.Prefix == "" {
		return true, true
	}
	reads = strings.HasPrefix(name, m.Spec.Encoder.Prefix)
	return reads, !reads
}

// MatrixBytes is the size of a matrix with its scales.
func MatrixBytes(x *quant.Matrix) int64 {
	n := x.Format.Bytes(int64(x.Rows), int64(x.Cols))
	if s := x.BnB; s != nil {
		blocks := (int64(x.Rows)*int64(x.Cols) + int64(s.BlockSize) - 1) / int64(s.BlockSize)
		if s.NestedBlock > 0 {
			n += blocks + (blocks+int64(s.NestedBlock)-1)/int64(s.NestedBlock)*4
		} else {
			n += 4 * blocks
		}
	}
	if g := x.Group; g != nil {
		scales := int64((x.Rows+g.Span-1)/g.Span) * int64(g.Count)
		n += scales * int64(g.ScaleFormat.Bytes())
		if g.Zeros != nil {
			n += scales
		}
		if g.ZerosF != nil {
			n += 4 * scales
		}
	}
	return n
}
