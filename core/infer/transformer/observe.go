package transformer

import "edged/core/infer/transformer/parts"

// Observe has see called for every product with a matrix from the next Forward on, in its goroutine: tensor
// is the GGUF name of the matrix ("blk.0.attn_q.weight"; a matrix of a stack has its number before the last
// word: "blk.0.ffn_up.7.weight"), and x (rows, cols) what it is multiplied with, valid during the call. nil
// ends it.
//
// A row passes the last layers only where its logits or its sum are wanted.
func (m *Model) Observe(see func(tensor string, x []float32, rows, cols int)) {
	m.step.Observe = nil
	if see != nil {
		m.step.Observe = func(l *parts.Linear, x []float32, rows, cols int) { see(l.Name, x, rows, cols) }
	}
}
