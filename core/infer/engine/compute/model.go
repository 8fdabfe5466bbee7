// Package compute is what the engine sees of a network: sequences, rows, adapters that are bound, and the
// memory of pages and fixed states. Model is an interface so that scheduling, speculation and caching are
// tested with a deterministic double; Transformer is the one that computes.
//
// It decides nothing: which rows are computed, for whom and in which order is the engine's. A Model is used
// by one goroutine at a time, but for what it says of pages and states that the disk's goroutines read and
// write.
package compute

import (
	"edged/core/infer/kv"
	"edged/core/infer/sample"
	"edged/core/infer/transformer"
	"edged/core/model/lora"
	"edged/quant/kernel"
)

// Model is a network with the memory of its sequences, as transformer.Model and its kv.Pool are together.
type Model interface {
	// NewSeq returns an empty sequence, which holds no page yet.
	NewSeq() Seq
	// Stretch is the RoPE scaling that a sequence of n positions needs, see transformer.Model.Stretch; 0:
	// that of short ones.
	Stretch(n int) int
	// Forward computes rows; rows of one sequence are consecutive and append to it. transformer.ErrNoPages leaves every
	// sequence unchanged.
	Forward(rows []Row) error
	// LoadAdapter binds an adapter, whose files stay open until it is closed.
	LoadAdapter(a *lora.Adapter) (Adapter, error)
	// Bind makes the value of Row.Adapters from a request's adapters; nil for none.
	Bind(uses []Use) any
	kv.Pages // those of the prefix cache
	IdlePages() int
	TotalStates() int
	// States as bytes, see kv.Pool. What StateData gives may be read while Forward runs, and written to where
	// nobody else has the slot.
	StateSize() int
	TakeState() int32
	StateData(slot int32) []byte
	// Pages as bytes, for those on disk. WritePage may run while Forward does.
	PageBytes() int
	Take() int32
	Drop(page int32)
	ReadPage(page int32, dst []byte)
	WritePage(page int32, src []byte)
	Close() error
}

// Seq is the cached part of one sequence: pages of keys and values, or a fixed state, of its first Len tokens.
type Seq interface {
	kv.Holder
	Pages() int
	Need(n int) int
	NeedState() bool
	Checkpoint()
	Stretch(how int)
	Stretched() int
	Fork() Seq
	Free()
}

// Adapter is one that is ready to compute.
type Adapter interface {
	Bytes() int64
	Close()
}

// Use is one adapter of a request and the factor of its change to the weights.
type Use struct {
	Adapter Adapter
	Scale   float32
}

// Sizes are the bounds of what one forward pass computes.
type Sizes struct {
	Rows      int // of the embedding matrix: VocabRows
	Peaks     int // of a row of logits, which the model finds; 0: it does not
	Context   int // positions of one sequence
	Page      int // positions of one KV page
	Batch     int // rows of one turn
	Logits    int // rows of one turn that may want logits
	Sequences int // that compute at once; a request that has more runs alone
}

// MinStates is how many fixed states a pool has at least, where the model has them at all.
const MinStates = 4

// Row is one row of a batch: a token that is appended to a sequence, and what is wanted of the state behind it.
type Row struct {
	Seq      Seq
	Token    int32
	Adapters any       // of Model.Bind
	Logits   []float32 // (VocabRows); nil: not wanted
	Peaks    []float32 // of logits, see sample.Peaks; nil: not wanted
	Sum      []float32 // (Width) that the normalised hidden state is added to; nil: not wanted
}

// Transformer is the Model that computes: a transformer.Model and the pool of pages and states of its sequences.
type Transformer struct {
	*kv.Pool
	m    *transformer.Model
	rows []transformer.Row
}

// sequence is a transformer.Seq whose forks are Seqs.
type sequence struct{ *transformer.Seq }

func (s sequence) Fork() Seq { return sequence{s.Seq.Fork()} }

// NewSeq is Model.NewSeq.
func (c *Transformer) NewSeq() Seq { return sequence{c.m.NewSeq()} }

// Stretch is Model.Stretch.
func (c *Transformer) Stretch(n int) int { return c.m.Stretch(n) }

// Forward is Model.Forward.
func (c *Transformer) Forward(rows []Row) error {
	c.rows = c.rows[:0]
	for _, r := range rows {
		out := transformer.Row{Seq: r.Seq.(sequence).Seq, Token: r.Token, Logits: r.Logits, Peaks: r.Peaks, Sum: r.Sum}
		if r.Adapters != nil {
			out.Adapters = r.Adapters.([]transformer.Use)
		}
		c.rows = append(c.rows, out)
	}
	err := c.m.Forward(c.rows)
	clear(c.rows) // no sequence is kept alive by scratch
	return err
}

// LoadAdapter is Model.LoadAdapter.
func (c *Transformer) LoadAdapter(a *lora.Adapter) (Adapter, error) {
	b, err := c.m.LoadAdapter(a)
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Bind is Model.Bind; its values are []transformer.Use.
func (c *Transformer) Bind(uses []Use) any {
	if len(uses) == 0 {
		return nil
	}
	out := make([]transformer.Use, len(uses))
	for i, u := range uses {
		out[i] = transformer.Use{Adapter: u.Adapter.(*transformer.Adapter), Scale: u.Scale}
	}
	return out
}

// Network is the network itself, for what no row asks for: pooling, heads of encoders, threads.
func (c *Transformer) Network() *transformer.Model { return c.m }

// Stream reads all weights of a token and computes nothing; it returns their bytes.
func (c *Transformer) Stream() int64 { return c.m.Stream() }

// Close closes the network.
func (c *Transformer) Close() error { return c.m.Close() }

// Sizes are the bounds of its batches, of which so many rows may want logits and so many sequences run at once.
func (c *Transformer) Sizes(logits, sequences int) Sizes {
	i := c.m.Info()
	return Sizes{
		Rows: i.VocabRows, Peaks: (i.VocabRows + sample.PeakLen - 1) / sample.PeakLen, Context: i.Context, Page: kernel.BlockPositions,
		Batch: i.MaxRows, Logits: logits, Sequences: sequences,
	}
}

// New makes a Model of a network that is open; Close closes it.
func New(m *transformer.Model) *Transformer { return &Transformer{Pool: m.Cache(), m: m} }
