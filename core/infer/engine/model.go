package engine

import (
	"edged/core/infer/kv"
	"edged/core/infer/transformer"
	"edged/core/model/lora"
)

// model is what the loop needs of a transformer.Model. The tests put a deterministic double in its place. Like that one,
// it is used by one goroutine at a time.
type model interface {
	newSeq() seq
	// stretch is how a sequence of n positions is turned, see transformer.Model.Stretch; 0: as it is from the first position on.
	stretch(n int) int
	// forward computes rows; rows of one sequence are consecutive and append to it. transformer.ErrNoPages leaves every
	// sequence unchanged.
	forward(rows []row) error
	loadAdapter(a *lora.Adapter) (bound, error)
	// bind makes of a request's adapters what its rows carry; nil for none.
	bind(uses []use) any
	kv.Pages // those of the prefix cache
	IdlePages() int
	TotalStates() int
	// States as bytes, see kv.Pool. What StateData gives may be read and, of a slot that nobody else has, written to beside forward.
	StateSize() int
	TakeState() int32
	StateData(slot int32) []byte
	// Pages as bytes, for those on disk. WritePage may run beside forward.
	PageBytes() int
	Take() int32
	Drop(page int32)
	ReadPage(page int32, dst []byte)
	WritePage(page int32, src []byte)
	close() error
}

// seq is the cached part of one sequence.
type seq interface {
	kv.Holder
	Pages() int
	Need(n int) int
	NeedState() bool
	Checkpoint()
	Stretch(how int)
	Stretched() int
	Fork() seq
	Free()
}

// bound is an adapter that is ready to compute.
type bound interface {
	Bytes() int64
	Close()
}

// use is one adapter of a request.
type use struct {
	bound bound
	scale float32
}

// row is one row of a batch.
type row struct {
	seq    seq
	token  int32
	bound  any       // of model.bind
	logits []float32 // (VocabRows); nil: not wanted
	peaks  []float32 // of logits, see sample.Peaks; nil: not wanted
	sum    []float32 // (Width) that the normalised hidden state is added to; nil: not wanted
}

// computer is a transformer.Model as the loop sees it.
type computer struct {
	*kv.Pool
	m    *transformer.Model
	rows []transformer.Row
}

type sequence struct{ *transformer.Seq }

func (s sequence) Fork() seq { return sequence{s.Seq.Fork()} }

func (c *computer) newSeq() seq { return sequence{c.m.NewSeq()} }

func (c *computer) stretch(n int) int { return c.m.Stretch(n) }

func (c *computer) forward(rows []row) error {
	c.rows = c.rows[:0]
	for _, r := range rows {
		out := transformer.Row{Seq: r.seq.(sequence).Seq, Token: r.token, Logits: r.logits, Peaks: r.peaks, Sum: r.sum}
		if r.bound != nil {
			out.Adapters = r.bound.([]transformer.Use)
		}
		c.rows = append(c.rows, out)
	}
	err := c.m.Forward(c.rows)
	clear(c.rows) // no sequence is kept alive by scratch
	return err
}

func (c *computer) loadAdapter(a *lora.Adapter) (bound, error) {
	b, err := c.m.LoadAdapter(a)
	if err != nil {
		return nil, err
	}
	return b, nil
}

func (c *computer) bind(uses []use) any {
	if len(uses) == 0 {
		return nil
	}
	out := make([]transformer.Use, len(uses))
	for i, u := range uses {
		out[i] = transformer.Use{Adapter: u.bound.(*transformer.Adapter), Scale: u.scale}
	}
	return out
}

func (c *computer) close() error { return c.m.Close() }

// newComputer makes a model of one that is open.
func newComputer(m *transformer.Model) *computer { return &computer{Pool: m.Cache(), m: m} }

func (l *loop) pages(tokens int) int { return (tokens + l.size.page - 1) / l.size.page }
