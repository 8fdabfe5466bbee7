// Package ggufvocab reads the tokenizer of a GGUF file from its metadata, as llama.cpp does: what a file
// leaves out or has wrong is set right as there.
//
// It is not for the container itself (package gguf), nor for folders (package huggingface). Read may be
// called concurrently.
package ggufvocab
