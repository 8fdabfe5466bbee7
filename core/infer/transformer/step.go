package transformer

import (
	"edged/core/infer/transformer/pool"
	"edged/quant/kernel"
)

// step is the state of one Forward: the rows of the batch, the residual stream and the scratch of the blocks, allocated
// once. Every buffer is row-major with the rows of the batch first; t of them are in use.
type step struct {
	m       *Model
	k       kernel.Kernels
	p       kernel.Precision
	threads int

	t      int        // rows of the batch; after the last attention block: those that want logits
	rows   []row      // (t)
	groups []rowGroup // rows by adapter set, in order, covering [0, t)
	sub    []rowGroup // the groups of a part of the rows

	x    []float32 // (t, Width) residual stream
	d    []float32 // (t, Width) what the last part adds to x
	e    []float32 // (t, Width) what a part beside it adds
	out  []float32 // d or e: the result of the present part
	h    []float32 // (t, Width) normalised x
	qkv  []float32 // (t, attention.ld) queries, keys and values
	o    []float32 // (t, Heads·ValueDim) attention's result
	gate []float32 // (t, Hidden)
	up   []float32 // (t, Hidden)
	// (t, perLayer.all) what the tokens have for all layers
	token []float32
	// (t, all) streams of the rows: what was predicted of x, and the others
	streams []float32
	all     int       // values of all streams of a row; 0: there is but x
	cos     []float32 // for each rotation: (t, Dim/2)
	sin     []float32 // for each rotation: (t, Dim/2)

	pending [2]*unit // the parts whose d and e are still to be added; nil: none
	first   *norm    // of the embedding, still to be applied; nil: none

	logits []float32 // (headRows, VocabRows)
	lora   []float32 // (t, widest product) low-rank part of a product
	parts  []float32 // partial attention: (items, spans, attention.partialLen)
	router []float32 // (t, Experts)
	picked []pick    // (t, ExpertsUsed)
	scores []float32 // (Experts) of one row, for choosing
	gx     []float32 // (t, Width) rows of one expert
	gd     []float32 // (t, Width) result of one expert
	gt     []int32   // (t) their rows

	act     kernel.Activations // the input of the current products
	workers []worker           // scratch of each thread

	embed  embedJob
	narrow narrowJob
	norms  normJob

	inPlace  inPlaceJob
	prep     prepareJob
	mul      product
	low      lowRank
	put      putJob
	cached   latentJob
	heard    hearJob
	scaled   scaleJob
	att      attendJob
	fold     foldJob
	adapt    adaptJob
	conv     convJob
	scan     scanJob
	mix      mixJob
	gating   gateJob
	one      oneJobs
	rowsOf   rowsJob
	reads    readJob
	stream   streamsJob
	cutOff   cutJob
	open     openJob
	headGate headGateJob
	lru      lruJob
	bright   lightningJob
	deltaMix deltaMixJob
	delta    deltaJob

	runs  []seqRun          // of the batch, where a state is passed on
	recur kernel.Recurrence // what passes it on
}

// row is one row of the batch.
type row struct {
	seq    *Seq
	pos    int
	token  int32
	kind   int32     // type of the token
	uses   []Use     // of its group
	logits []float32 // the caller's; nil: not wanted
	peaks  []float32 // the caller's; nil: not wanted
	sum    []float32 // the caller's; nil: not wanted
}

// rowGroup is a run of rows with the same adapters.
type rowGroup struct {
	lo, hi int
	uses   []Use
}

// worker is the scratch of one thread.
type worker struct {
	args  kernel.AttendArgs
	sums  [2][]float32   // memory of part and total
	part  kernel.Partial // of one span
	total kernel.Partial // of the spans so far
	split kernel.Partial // view of step.parts
	first kernel.Partial // another
	conv  kernel.ConvArgs
	scan  kernel.ScanArgs
	delta kernel.DeltaArgs

	// Of an adapter of the embedding.
	code    []float32          // (rank) its row of A
	changed []float32          // (Width) B times it
	act     kernel.Activations // code as the input of a product

	row []float32 // of the table that every layer has a part of

	// A norm that several adapters change, or one in part.
	mixed      norm
	mixW, mixB []float32
}

// newStep lays out the buffers.
func newStep(m *Model, z *sizes, mem []float32) *step {
	s := &step{m: m, k: m.k, p: m.opt.Precision}
	for i, dst := range [bufs]*[]float32{
		bufX: &s.x, bufD: &s.d, bufE: &s.e, bufH: &s.h, bufQKV: &s.qkv, bufO: &s.o, bufGate: &s.gate, bufUp: &s.up, bufCos: &s.cos,
		bufSin: &s.sin, bufLogits: &s.logits, bufLora: &s.lora, bufParts: &s.parts, bufRouter: &s.router, bufGX: &s.gx,
		bufGD: &s.gd, bufToken: &s.token, bufStreams: &s.streams,
	} {
		n := int(z.lens[i])
		*dst, mem = mem[:n:n], mem[align(z.lens[i]):]
	}
	s.rows = make([]row, 0, z.rows)
	s.groups = make([]rowGroup, 0, 8)
	s.sub = make([]rowGroup, 0, 8)
	s.picked, s.scores = make([]pick, z.rows*z.used), make([]float32, z.experts)
	s.gt = make([]int32, 0, z.rows)
	s.k.Grow(&s.act, z.rows, z.actCols)
	s.workers = make([]worker, m.pool.Threads())
	for i := range s.workers {
		for k := range s.workers[i].sums {
			s.workers[i].sums[k] = make([]float32, z.partial)
		}
	}
	s.rowsOf.s, s.reads.s, s.stream.s, s.cutOff.s = s, s, s, s
	if n := m.spec.Streams(); n > 1 {
		s.all = n * m.spec.Width
	}
	s.mix.s, s.scan.s, s.gating.s = s, s, s
	s.one.split.s, s.one.gate.s = s, s
	s.recur, s.runs = recurrence(m.k), make([]seqRun, 0, z.rows)
	s.conv.s, s.open.s, s.deltaMix.s, s.delta.s = s, s, s, s
	s.low.k = kernel.LowRank(kernel.Portable{})
	if k, ok := m.k.(kernel.LowRank); ok {
		s.low.k = k
	}
	s.narrow.s, s.headGate.s, s.lru.s, s.bright.s = s, s, s, s
	s.embed.s, s.norms.s, s.prep.s, s.mul.s, s.low.s, s.put.s, s.att.s, s.fold.s = s, s, s, s, s, s, s, s
	return s
}

// run divides a job into chunks over the threads of this batch.
func (s *step) run(chunks int, j pool.Job) { s.m.pool.Run(s.threads, chunks, j) }

// rowChunks is the number of chunks into which work on n single rows is cut, and rowRange the rows of one of them.
func (s *step) rowChunks(n int) int { return min(n, 4*s.threads) }

func (s *step) rowRange(n, chunk int) (lo, hi int) {
	chunks := s.rowChunks(n)
	return n * chunk / chunks, n * (chunk + 1) / chunks
}
