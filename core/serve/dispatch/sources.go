package dispatch

import (
	"context"

	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
)

// Backends gives the backend plugin's current life.
type Backends interface {
	// Backend returns the current life if it is a later one than after, which is known to be dead, perhaps before
	// anybody else has noticed; else it waits for the next one. An error means that none will come soon, or that ctx
	// ended.
	Backend(ctx context.Context, after uint64) (BackendLife, error)
}

// BackendLife is one process of the backend plugin, with its model loaded.
type BackendLife struct {
	Backend backend.Backend
	Info    backend.ModelInfo
	Life    uint64 // counts starts, from 1
}

// Witness is what a Backends or a Tokenizers may also be: it is told that the current life has done what it is for.
type Witness interface {
	BackendAnswered()
	TokenizerAnswered()
}

// Tokenizers gives the tokenizer plugin's current life.
type Tokenizers interface {
	// Tokenizer returns the current life, as Backend does.
	Tokenizer(ctx context.Context, after uint64) (TokenizerLife, error)
}

// TokenizerLife is one process of the tokenizer plugin, with its model's tokenizer loaded.
type TokenizerLife struct {
	Tokenizer tokenizer.Tokenizer
	Info      tokenizer.Info
	Life      uint64 // counts starts, from 1
}

// Adapters resolves adapter names.
type Adapters interface {
	// Pin returns the generation of a name that is served now, or the one with that sha256, and keeps it until its
	// Release. An error wraps protocol.ErrAdapterNotFound and lists the names there are.
	Pin(name, sha256 string) (Adapter, error)
}

// Adapter is a pinned generation of an adapter.
type Adapter interface {
	// SHA256 is the hash of its content.
	SHA256() string
	// Use returns its id in a life of the backend, where it is loaded when it is not yet.
	Use(ctx context.Context, life BackendLife) (id string, err error)
	// Release ends the pin; it is called once.
	Release()
}
