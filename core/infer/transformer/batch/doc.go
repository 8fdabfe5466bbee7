// Package batch runs operations over the rows of one batch: it holds the rows, the residual stream, the
// scratch and the worker threads of a forward pass (Batch), and what every operation is expressed in:
// products with the parts that adapters add (Queue, Compute), norms, and how the result of a part of a layer
// joins the residual stream (Unit). Sizes says how much scratch that takes.
//
// It knows no operation: those are in the packages beside it, each a type with a method Forward. A Batch is
// used by one goroutine; the threads are inside. A row's bits depend on the row only: products add in one
// order, whatever else is in the batch.
package batch
