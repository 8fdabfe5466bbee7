package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"edged/core/infer/engine/answer"
	"edged/core/infer/engine/compute"
	"edged/core/infer/transformer"
	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// Bounds of what an observation computes between two turns: as many rows as products are fast with, and few
// enough for the logits of a large vocabulary.
const (
	observeRows   = 128
	observeLogits = 32 << 20 / 4
)

var _ backend.Observer = (*Engine)(nil)

// Observe computes lists by themselves, each in pieces between two turns of whatever else runs.
func (e *Engine) Observe(ctx context.Context, req backend.ObserveRequest, row func(list, position int, logits []float32) error) ([]backend.MatrixInputs, error) {
	m, err := e.current()
	if err != nil {
		return nil, err
	}
	if err := m.decodes("this observation"); err != nil {
		return nil, err
	}
	if req.From < 0 || req.Inputs && m.opened == nil {
		return nil, fmt.Errorf("engine: observe: %w: logits from position %d on", protocol.ErrInvalid, req.From)
	}
	o := &observation{m: m, req: &req, row: row, stacks: map[string]*stack{}}
	o.rows = max(1, min(observeRows, m.size.Batch, max(observeLogits/m.size.Rows, 16)))
	if req.Logits {
		o.logits = make([]float32, o.rows*m.size.Rows)
	}
	if req.Inputs {
		o.sum = make([]float32, m.width())
	}
	for i, list := range req.Lists {
		if err := answer.CheckIDs("list", list, m.size.Rows); err != nil {
			return nil, err
		}
		if len(list) > m.size.Context {
			return nil, fmt.Errorf("engine: observe: %w: list %d has %d tokens, the context holds %d", protocol.ErrContextLength, i, len(list), m.size.Context)
		}
		if err := o.list(ctx, i, list); err != nil {
			return nil, err
		}
	}
	return o.matrices(), nil
}

// observation is one call of Observe.
type observation struct {
	m      *loaded
	req    *backend.ObserveRequest
	row    func(list, position int, logits []float32) error
	rows   int       // of a piece
	logits []float32 // (rows, VocabRows); nil: not wanted
	sum    []float32 // for rows whose logits are not wanted, so that they pass the last layers; nil: they need not
	stacks map[string]*stack
}

// stack sums the inputs of the matrices of one tensor, by their numbers.
type stack struct {
	cols   int
	sums   [][]float64
	counts []int64
}

// list computes one list.
func (o *observation) list(ctx context.Context, index int, list []int32) error {
	var seq compute.Seq
	defer func() {
		if seq != nil {
			_ = o.m.loop.do(context.WithoutCancel(ctx), seq.Free) // fails where the loop has ended, and its memory with it
		}
	}()
	rows := make([]compute.Row, 0, o.rows)
	for at := 0; at < len(list); at += len(rows) {
		rows = rows[:0]
		for _, id := range list[at:min(at+o.rows, len(list))] {
			r := compute.Row{Token: id, Sum: o.sum}
			if n, p := len(rows), at+len(rows); o.logits != nil && p >= o.req.From {
				r.Logits, r.Sum = o.logits[n*o.m.size.Rows:(n+1)*o.m.size.Rows], nil
			}
			rows = append(rows, r)
		}
		var failed error
		if err := o.m.loop.do(ctx, func() {
			if failed = ctx.Err(); failed != nil {
				return
			}
			if seq == nil {
				seq = o.m.model.NewSeq()
				seq.Stretch(o.m.model.Stretch(len(list)))
			}
			for i := range rows {
				rows[i].Seq = seq
			}
			failed = o.forward(rows)
		}); err != nil {
			return err
		}
		if errors.Is(failed, transformer.ErrNoPages) {
			failed = fmt.Errorf("%w: other requests hold the memory of keys and values: %w", protocol.ErrNoMemory, failed)
		}
		if failed != nil {
			return fmt.Errorf("engine: observe: %w", failed)
		}
		for i := range rows {
			if rows[i].Logits != nil {
				if err := o.row(index, at+i, rows[i].Logits); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// forward computes rows and watches.
func (o *observation) forward(rows []compute.Row) error {
	if o.req.Inputs {
		network := o.m.opened.Compute.Network()
		network.Observe(o.see)
		defer network.Observe(nil)
	}
	o.m.loop.count.PromptTokens += uint64(len(rows))
	return o.m.model.Forward(rows)
}

// see adds the squares of a product's input.
func (o *observation) see(tensor string, x []float32, rows, cols int) {
	name, number := stackOf(tensor)
	s := o.stacks[name]
	if s == nil {
		s = &stack{cols: cols}
		o.stacks[name] = s
	}
	for len(s.sums) <= number {
		s.sums, s.counts = append(s.sums, nil), append(s.counts, 0)
	}
	if cols != s.cols { // no tensor of a file has matrices of different widths
		return
	}
	if s.sums[number] == nil {
		s.sums[number] = make([]float64, cols)
	}
	sum := s.sums[number]
	for t := range rows {
		for i, v := range x[t*cols : (t+1)*cols] {
			sum[i] += float64(v) * float64(v)
		}
	}
	s.counts[number] += int64(rows)
}

// stackOf is the tensor that a matrix lies in, and its number there: blk.0.ffn_up.7.weight is the eighth of
// blk.0.ffn_up_exps.weight, and blk.0.attn_k_b.7.weight that of blk.0.attn_k_b.weight.
func stackOf(tensor string) (name string, number int) {
	rest, ok := strings.CutSuffix(tensor, ".weight")
	at := strings.LastIndexByte(rest, '.')
	if !ok || at < 0 {
		return tensor, 0
	}
	number, err := strconv.Atoi(rest[at+1:])
	if err != nil || number < 0 || number >= 1<<16 {
		return tensor, 0
	}
	name = rest[:at]
	if _, part, _ := strings.Cut(strings.TrimPrefix(name, "blk."), "."); strings.HasPrefix(part, "ffn_") {
		name += "_exps"
	}
	return name + ".weight", number
}

// matrices is the result, by name.
func (o *observation) matrices() []backend.MatrixInputs {
	var out []backend.MatrixInputs
	for _, name := range slices.Sorted(maps.Keys(o.stacks)) {
		s := o.stacks[name]
		m := backend.MatrixInputs{Name: name, Squares: make([]float32, len(s.sums)*s.cols), Counts: s.counts}
		for i, sum := range s.sums {
			for k, v := range sum {
				m.Squares[i*s.cols+k] = float32(v)
			}
		}
		out = append(out, m)
	}
	return out
}
