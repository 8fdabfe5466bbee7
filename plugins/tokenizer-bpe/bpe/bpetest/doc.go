// Package bpetest has what the tests of several packages of the tokenizer share: GGUF metadata in memory,
// small vocabularies, and the reader of golden files. No other code may import it.
package bpetest
