package streams

import (
	"math"

	"edged/core/infer/transformer/batch"
	"edged/core/infer/transformer/bind"
	"edged/core/infer/transformer/parts"
	"edged/core/model/arch"
	"edged/quant"
	"edged/quant/kernel"
)

// Rows holds the tokens' rows for every layer, see arch.PerLayerRows: one part is read from a table, the other
// computed of the embedded token.
type Rows struct {
	table *quant.Matrix // (Rows, all)
	proj  parts.Linear  // (all, Width)
	norm  parts.Norm    // of each layer's part, on what proj gives
	width int           // of a part
	all   int           // of all layers
	rows  rowsJob
}

// NewRows binds it; nil: the model has none.
func NewRows(b *bind.Builder) *Rows {
	of := &b.Spec.Embed.PerLayer
	if of.Width == 0 {
		return nil
	}
	p := &Rows{width: of.Width, all: len(b.Spec.Layers) * of.Width}
	p.table = b.Matrix(b.Prefix+arch.PerLayerName, of.Rows, p.all)
	p.proj = b.Linear(arch.PerLayerProj, p.all, b.Spec.Width)
	// norm(c·y) with c = 1/√Width is y/√(mean(y²) + eps/c²).
	n := arch.RMS("per_layer_proj_norm", of.Eps)
	p.norm = b.Norm(&n, of.Width)
	p.norm.Eps *= float32(b.Spec.Width)
	if id := p.norm.ID; id > 0 {
		b.Norms[id-1].Eps = p.norm.Eps
	}
	b.Weigh(&p.proj, 1, 1)
	return p
}

// Read computes them for all rows of the batch, of which x are the embedded tokens.
func (p *Rows) Read(s *batch.Batch) {
	s.Prepare(s.X, s.T, s.Width)
	s.Queue(&p.proj, s.Token, p.all)
	s.Compute(s.P, s.Groups, batch.Nothing)
	p.rows = rowsJob{s: s, p: p}
	s.Run(s.RowChunks(s.T), &p.rows)
}

// rowsJob joins the two parts of what a row's token has.
type rowsJob struct {
	s *batch.Batch
	p *Rows
}

func (j *rowsJob) Do(worker, chunk int) {
	s, p := j.s, j.p
	lo, hi := s.RowRange(s.T, chunk)
	w := &s.Workers[worker]
	if cap(w.Row) < p.all {
		w.Row = make([]float32, p.all)
	}
	row := w.Row[:p.all]
	for t := lo; t < hi; t++ {
		token := int(s.Rows[t].Token)
		if token < 0 || token >= p.table.Rows { // as transformers reads the tokens of other senses, which have none
			token = 0
		}
		quant.Row(row, p.table, token)
		p.join(s, s.Token[t*p.all:(t+1)*p.all], row, worker, t)
	}
}

// join sets x to (norm(x) + √width·row)/√2, part by part.
func (p *Rows) join(s *batch.Batch, x, row []float32, worker, t int) {
	root, half := float32(math.Sqrt(float64(p.width))), float32(1/math.Sqrt2)
	n := s.NormOf(&p.norm, worker, t)
	for at := 0; at < p.all; at += p.width {
		part := x[at : at+p.width]
		n.Apply(s.K, part, part)
		parts.AccumulateScaled(part, row[at:at+p.width], root)
		parts.Scale(part, half)
	}
}

// Add adds to a row what its token has for the layer, see arch.PerLayer.
type Add struct {
	gate, proj parts.Linear
	act        kernel.Func
	at         int // of the layer's part in Batch.Token
	reads      readJob
}

// NewAdd binds it.
func NewAdd(b *bind.Builder, act arch.Act) *Add {
	w, n := b.Spec.Width, b.Spec.Embed.PerLayer.Width
	l := &Add{gate: b.Linear("inp_gate", n, w), proj: b.Linear("proj", w, n), act: parts.Function(act), at: b.Layer * n}
	b.Weigh(&l.gate, 1, 1)
	b.Weigh(&l.proj, 1, 1)
	return l
}

// Forward computes it, see batch.Op.
func (l *Add) Forward(s *batch.Batch) { l.through(s, s.Out) }

// through sets y (t, Width) to what the input that is prepared makes of the rows of the tokens.
func (l *Add) through(s *batch.Batch, y []float32) {
	n := l.gate.W.Rows
	s.Queue(&l.gate, s.Up, n)
	s.Compute(s.P, s.Groups, batch.Nothing)
	l.reads = readJob{s: s, l: l}
	s.Run(s.RowChunks(s.T), &l.reads)
	s.Prepare(s.Up, s.T, n)
	s.Queue(&l.proj, y, l.proj.W.Rows)
	s.Compute(s.P, s.Groups, batch.Nothing)
}

// readJob multiplies what the gate gives by the rows of the tokens.
type readJob struct {
	s *batch.Batch
	l *Add
}

func (j *readJob) Do(_, chunk int) {
	s, l := j.s, j.l
	n, all := l.gate.W.Rows, s.PerRow
	lo, hi := s.RowRange(s.T, chunk)
	for t := lo; t < hi; t++ {
		s.K.Gate(s.Up[t*n:(t+1)*n], s.Token[t*all+l.at:t*all+l.at+n], l.act)
	}
}

// RowsRoom makes room for n values of a row for all layers together.
func RowsRoom(z *batch.Sizes, n int) {
	z.Need(batch.BufToken, n)
	z.Need(batch.BufLora, n)
}
