package batch

import (
	"slices"

	"edged/core/infer/kv"
	"edged/core/infer/transformer/adapter"
	"edged/core/infer/transformer/parts"
	"edged/core/infer/transformer/pool"
	"edged/core/infer/transformer/position"
	"edged/quant/kernel"
)

// Batch is the state of one forward pass: the rows, the residual stream and the scratch of the operations. It
// is allocated once, for as many rows as a batch may have, and filled anew for each pass; a pass allocates
// nothing. Every buffer is row-major with the rows of the batch first, of which T are in use.
//
// An operation finds its input prepared (the last Prepare or Over) and in H, and writes what it adds to the
// residual stream to Out. QKV, O, Gate, Up, Router, GX and GD are scratch that any operation may use as it
// likes between its beginning and its end.
type Batch struct {
	K         kernel.Kernels
	pool      *pool.Pool
	Cache     *kv.Pool
	Ropes     []position.Rope // the model's rotations, those that differ
	Width     int             // hidden size
	vocab     int             // rows of the output head
	headScale float32         // of the logits
	headCap   float32         // of the logits; 0: none
	PerRow    int             // values that a row's token has for all layers together, see arch.PerLayerRows; 0: none
	P         kernel.Precision
	Threads   int

	T      int     // rows of the batch; after the last attention block: those that want logits
	Rows   []Row   // (t)
	Groups []Group // rows by adapter set, in order, covering [0, t)
	Sub    []Group // the groups of a part of the rows

	X    []float32 // (t, Width) residual stream
	D    []float32 // (t, Width) what the last part adds to x
	e    []float32 // (t, Width) what a part beside it adds
	Out  []float32 // d or e: the result of the present part
	H    []float32 // (t, Width) normalised x
	QKV  []float32 // (t, attention.ld) queries, keys and values
	O    []float32 // (t, Heads·ValueDim) attention's result
	Gate []float32 // (t, Hidden)
	Up   []float32 // (t, Hidden)
	// (t, perLayer.all) what the tokens have for all layers
	Token []float32
	// (t, all) streams of the rows: what was predicted of x, and the others
	Streams []float32
	All     int       // values of all streams of a row; 0: there is but x
	cos     []float32 // for each rotation: (t, Dim/2)
	sin     []float32 // for each rotation: (t, Dim/2)

	Pending [2]*Unit    // the parts whose d and e are still to be added; nil: none
	First   *parts.Norm // of the embedding, still to be applied; nil: none

	logits []float32 // (HeadRows, VocabRows)
	lora   []float32 // (t, widest product) low-rank part of a product
	Parts  []float32 // partial attention: (items, spans, attention.partialLen)
	Router []float32 // (t, Experts)
	Picked []Pick    // (t, ExpertsUsed)
	Scores []float32 // (Experts) of one row, for choosing
	GX     []float32 // (t, Width) rows of one expert
	GD     []float32 // (t, Width) result of one expert
	GT     []int32   // (t) their rows

	act     kernel.Activations // the input of the current products
	Workers []Worker           // scratch of each thread

	norms normJob

	inPlace inPlaceJob
	prep    prepareJob
	mul     product
	low     lowRank

	// Observe is told of every product with a matrix what its input is: rows of cols values, before they are
	// rounded to anything. It runs where Forward does; nil: nobody asks.
	Observe func(l *parts.Linear, x []float32, rows, cols int)

	Runs  []Run             // of the batch, where a state is passed on
	Recur kernel.Recurrence // what passes it on
}

// Row is one row of the batch.
type Row struct {
	Seq    *kv.Seq
	Of     int     // rows of its sequence in the batch
	Text   *kv.Seq // what its sequence reads beside, see Model.Listen; nil: nothing
	Pos    int
	Token  int32
	Kind   int32         // type of the token
	Uses   []adapter.Use // of its group
	Logits []float32     // the caller's; nil: not wanted
	Peaks  []float32     // the caller's; nil: not wanted
	Sum    []float32     // the caller's; nil: not wanted
}

// Group is a run of rows with the same adapters.
type Group struct {
	Lo, Hi int
	Uses   []adapter.Use
}

// Worker is the scratch of one thread.
type Worker struct {
	Args  kernel.AttendArgs
	Sums  [2][]float32   // memory of part and total
	Part  kernel.Partial // of one span
	Total kernel.Partial // of the spans so far
	Split kernel.Partial // view of Batch.Parts
	First kernel.Partial // another
	Conv  kernel.ConvArgs
	Scan  kernel.ScanArgs
	Delta kernel.DeltaArgs

	// Of an adapter of the embedding.
	Code    []float32          // (rank) its row of A
	Changed []float32          // (Width) B times it
	Act     kernel.Activations // code as the input of a product

	Row []float32 // of the table that every layer has a part of

	// A norm that several adapters change, or one in part.
	mixed      parts.Norm
	mixW, mixB []float32
}

// Setup holds the sizes and kernels that a Batch is made for.
type Setup struct {
	K         kernel.Kernels
	P         kernel.Precision
	Pool      *pool.Pool
	Cache     *kv.Pool
	Ropes     []position.Rope // the model's rotations, those that differ
	Vocab     int             // rows of the output head
	HeadScale float32         // of the logits
	HeadCap   float32         // of the logits; 0: none
	Streams   int             // of a row
	PerRow    int             // see Batch
}

// New lays out the buffers.
func New(o *Setup, z *Sizes, mem []float32) *Batch {
	s := &Batch{
		K: o.K, P: o.P, pool: o.Pool, Cache: o.Cache, Ropes: o.Ropes, Width: z.Width, vocab: o.Vocab, headScale: o.HeadScale, headCap: o.HeadCap,
		PerRow: o.PerRow,
	}
	for i, dst := range [bufs]*[]float32{
		BufX: &s.X, BufD: &s.D, BufE: &s.e, BufH: &s.H, BufQKV: &s.QKV, BufO: &s.O, BufGate: &s.Gate, BufUp: &s.Up, bufCos: &s.cos,
		bufSin: &s.sin, BufLogits: &s.logits, BufLora: &s.lora, bufParts: &s.Parts, BufRouter: &s.Router, BufGX: &s.GX,
		BufGD: &s.GD, BufToken: &s.Token, BufStreams: &s.Streams,
	} {
		n := int(z.lens[i])
		*dst, mem = mem[:n:n], mem[align(z.lens[i]):]
	}
	s.Rows = make([]Row, 0, z.Rows)
	s.Groups = make([]Group, 0, 8)
	s.Sub = make([]Group, 0, 8)
	s.Picked, s.Scores = make([]Pick, z.Rows*z.used), make([]float32, z.experts)
	s.GT = make([]int32, 0, z.Rows)
	s.K.Grow(&s.act, z.Rows, z.ActCols)
	s.Workers = make([]Worker, o.Pool.Threads())
	for i := range s.Workers {
		for k := range s.Workers[i].Sums {
			s.Workers[i].Sums[k] = make([]float32, z.partial)
		}
	}
	if o.Streams > 1 {
		s.All = o.Streams * z.Width
	}
	s.Recur, s.Runs = recurrence(o.K), make([]Run, 0, z.Rows)
	s.low.k = kernel.LowRank(kernel.Portable{})
	if k, ok := o.K.(kernel.LowRank); ok {
		s.low.k = k
	}
	s.norms.s, s.prep.s, s.mul.s, s.low.s = s, s, s, s
	return s
}

// Run divides a job into chunks over the threads of this batch.
func (s *Batch) Run(chunks int, j pool.Job) { s.pool.Run(s.Threads, chunks, j) }

// RowChunks is the number of chunks into which work on n single rows is cut.
func (s *Batch) RowChunks(n int) int { return min(n, 4*s.Threads) }

// RowRange are the rows of one of them.
func (s *Batch) RowRange(n, chunk int) (lo, hi int) {
	chunks := s.RowChunks(n)
	return n * chunk / chunks, n * (chunk + 1) / chunks
}

// Angles are the cosines and sines of rotation i at row t.
func (s *Batch) Angles(i, t int) (cos, sin []float32) {
	r := &s.Ropes[i]
	n := len(r.Freq)
	at := r.At*cap(s.Rows) + t*n
	return s.cos[at : at+n], s.sin[at : at+n]
}

// Pick is an expert that a row was sent to.
type Pick struct {
	Expert int
	Weight float32
}

// Group finds the group of a set of adapters, or returns -1.
func (s *Batch) Group(uses []adapter.Use) int {
	for i := range s.Groups {
		if slices.Equal(s.Groups[i].Uses, uses) {
			return i
		}
	}
	return -1
}

// End lets go of what belongs to the caller.
func (s *Batch) End() {
	clear(s.Rows[:cap(s.Rows)])
	clear(s.Groups[:cap(s.Groups)])
	clear(s.Sub[:cap(s.Sub)])
	clear(s.Runs[:cap(s.Runs)])
}
