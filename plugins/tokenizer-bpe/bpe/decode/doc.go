// Package decode has the decoders of tokenizer.json: what turns the texts of tokens into the text that people read.
//
// It is not for ids (package bpe looks them up), nor for GGUF files, whose tokens are decoded one by one
// (package vocab). Decoders may be used concurrently.
package decode
