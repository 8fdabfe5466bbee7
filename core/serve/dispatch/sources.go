package dispatch

import (
	"context"
	"time"

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

// Witness is implemented by a Lease, Backends or Tokenizers that wants to hear that the current process has answered.
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

// Models resolves names of models, and loads them.
type Models interface {
	// Resolve returns the name that a model is served under; "" asks for the default one, and main says that
	// it is that. The error is an *Error.
	Resolve(name string) (served string, main bool, err error)
	// Lease waits until the model of a resolved name is loaded, and keeps it so until the lease's Release.
	// wait is called before the waiting, where it is not loaded yet. The error is the cause of ctx's end, or
	// why the model cannot be loaded.
	Lease(ctx context.Context, name string, place Place, wait func()) (Lease, error)
}

// Place orders those who wait for a model: the higher priority first, raised by waiting; then the lower number.
type Place struct {
	Priority int
	Since    time.Time
	Number   uint64
}

// Lease is a loaded model. The numbers of its plugins' lives go on from one loading to the next.
type Lease interface {
	Backends
	Tokenizers
	// Asked is closed when the model's memory is wanted for a request that goes first: one that has not begun
	// releases its lease then, and waits for another.
	Asked() <-chan struct{}
	// Begin says that a request begins, and reports whether it may.
	Begin() bool
	// Release ends the lease; it is called once.
	Release()
}

// alone is the model of a Dispatcher that is given the plugins of one model.
type alone struct {
	Backends
	Tokenizers
}

// Resolve is Models'.
func (a alone) Resolve(name string) (string, bool, error) {
	if name != "" {
		return "", false, fail(CodeModelNotFound, "model: %q is not there: this node serves one model, which has no name", name)
	}
	return "", true, nil
}

// Lease is Models'.
func (a alone) Lease(ctx context.Context, _ string, _ Place, _ func()) (Lease, error) {
	return a, context.Cause(ctx)
}

// Asked is Lease's.
func (a alone) Asked() <-chan struct{} { return nil }

// Begin is Lease's.
func (a alone) Begin() bool { return true }

// Release is Lease's.
func (a alone) Release() {}

// BackendAnswered is Witness's.
func (a alone) BackendAnswered() {
	if w, ok := a.Backends.(Witness); ok {
		w.BackendAnswered()
	}
}

// TokenizerAnswered is Witness's.
func (a alone) TokenizerAnswered() {
	if w, ok := a.Tokenizers.(Witness); ok {
		w.TokenizerAnswered()
	}
}

// Adapters resolves adapter names.
type Adapters interface {
	// Pin returns the generation of a name that is served now on a model, or the one with that sha256, and
	// keeps it until its Release. An error wraps protocol.ErrAdapterNotFound and lists the names there are.
	Pin(model, name, sha256 string) (Adapter, error)
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
