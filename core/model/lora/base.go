// Package lora reads adapters: PEFT folders and GGUF files of every kind that is served, proves them against
// the model that they are for and brings them into the forms that a forward pass applies.
//
// It must not know how a model computes, nor where its weights come from: those are behind Base. An Adapter
// is immutable after Open and may be read concurrently. Its tensors are views of read-only mappings, or
// memory off the Go heap, until Close.
//
// A PEFT folder holds adapter_config.json and adapter_model.safetensors (huggingface/peft,
// src/peft/utils/save_and_load.py); a GGUF adapter is one file (llama.cpp, src/llama-adapter.cpp).
package lora

import (
	"os"

	"edged/core/model/arch"
	"edged/core/model/arch/family"
	"edged/quant"
)

// Errors that callers can act on.
var (
	// ErrUnsupported means that the files are sound, but of a kind that edged does not serve.
	ErrUnsupported = arch.ErrUnsupported
	// ErrInvalid means that the files are damaged or contradict each other.
	ErrInvalid = arch.ErrInvalid
	// ErrMismatch means that an adapter belongs to another model.
	ErrMismatch = arch.ErrMismatch
)

// Base is the open model that an adapter is for. A weights.Model is one.
type Base interface {
	Network() *arch.Spec
	Family() *family.Family
	// Matrix finds a matrix by its GGUF name, nil where the model has none; the head of a tied model is its embedding.
	Matrix(name string) *quant.Matrix
	// Vector returns a norm's weight or a bias, nil where the model has none.
	Vector(name string) ([]float32, error)
	// Tensor says what a matrix or vector is; the zero Tensor for one that the model has not got.
	Tensor(name string) arch.Tensor
}

// maxList bounds the lists in a GGUF adapter's metadata.
const maxList = 1 << 12

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
