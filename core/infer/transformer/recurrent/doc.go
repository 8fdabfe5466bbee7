// Package recurrent holds the operations that pass a state of fixed size from row to row: short convolutions,
// the selective scans of Mamba 1 and 2, the gated delta net, Griffin's recurrent block (RGLRU) and linear
// attention with fixed decays (Lightning). The state of a sequence lies in the cache (kv.Pool.State).
//
// All go token by token, in prompts too: the published forms in chunks add in another order, so that a row's
// bits would depend on how its prompt was cut.
package recurrent
