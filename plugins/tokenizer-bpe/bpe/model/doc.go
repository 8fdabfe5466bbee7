// Package model has the algorithms that turn text into token ids: byte-level BPE, BPE over characters,
// SentencePiece's BPE by scores and its unigram model, WordPiece, whole words, and the longest token at each
// place.
//
// A model sees text between added tokens, after normalisation. Most models encode word by word (WordModel),
// and PerWord joins them with the pre-tokenizer that cuts the words; the others take a text as a whole
// (Model).
//
// It is not for finding added tokens or putting BOS and EOS around a text (package bpe), nor for reading
// files. Models are immutable and may be used concurrently, each call with a Scratch of its own.
package model
