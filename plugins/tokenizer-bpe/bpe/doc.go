// Package bpe turns text into the token ids of a model and back. A Tokenizer is made of Parts by New;
// packages huggingface and ggufvocab read the parts from a model's files.
//
// A text goes four steps:
//
//	text → added tokens found → normalised (folders only) → cut into words → ids
//	       package bpe          package normalize           pretokenize,     model
//	                                                        split
//
// For a GGUF file the ids are llama.cpp's, for a folder those of Hugging Face's tokenizers library: where the
// two differ for one model (normalisation, which added token wins), each file is read as its own world reads
// it.
//
// Invalid UTF-8 is text too: every byte that starts no valid character is read as U+FFFD, except that
// SentencePiece vocabularies of GGUF files take bytes as they are, as llama.cpp does.
//
// Time is O(n log n) in the length of a text, also for one word of a megabyte. The package must not know file
// formats, gRPC, chat templates or models' weights. A Tokenizer is immutable and may be used concurrently.
package bpe
