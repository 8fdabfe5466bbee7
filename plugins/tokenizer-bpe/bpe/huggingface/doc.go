// Package huggingface reads the tokenizer of a model's folder: tokenizer.json, tekken.json, SentencePiece
// models, tiktoken files, vocab.json with merges.txt, and vocab.txt. Whatever the file is, it is first put
// into the form of a tokenizer.json, and one builder makes the tokenizer's parts of that.
//
// It is not for GGUF files (package ggufvocab), nor for encoding (package bpe). Read may be called concurrently.
package huggingface
