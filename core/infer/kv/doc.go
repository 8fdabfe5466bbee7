// Package kv is the memory of sequences: what a model keeps of the tokens that it has computed, so that the
// next one needs only them.
//
// A Pool holds keys and values in pages of kernel.BlockPositions positions, each layer by its own geometry
// (arch.Memory), and counts who holds a page. A Seq is one sequence: a list of pages, which it shares with
// those that were forked from it or that begin alike until one of them writes. A Tree finds the pages of an
// earlier sequence by the tokens that they stand for; package pagestore keeps pages in files.
//
// It must not know what computes keys and values, what a request is or when a prefix is worth keeping. A Pool
// and all that hangs on it are used by one goroutine at a time, but for WritePage.
package kv
