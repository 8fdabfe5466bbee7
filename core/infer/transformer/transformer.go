// Package transformer is the forward pass of language models, decoders, encoders and pairs of them: token ids
// in, logits out, over a paged cache of keys and values and with LoRA adapters beside the unchanged weights.
//
// What a model computes is data, an arch.Spec: compile makes a batch.Unit of each part of a layer by the type
// of its operation. The operations are in packages below this one, and a family that is made of known
// operations needs nothing here.
//
// It must not know requests, sampling, text or files: weights come as a weights.Model, arithmetic as
// kernel.Kernels. A Model and all that hangs on it (sequences, adapters) are used by one goroutine at a time,
// but for LoadAdapter; the worker threads are inside. A row's logits depend on its own tokens, position and
// adapters only, bit for bit: not on the batch it is in, how its prompt was cut into chunks, which pages it
// has or how many threads work.
//
// # Packages
//
// Imports run down this list; a package imports none of its own line:
//
//	transformer                                    opening a model, batches, texts without answers, adapters of a model
//	attention, recurrent, feedforward, streams     the operations
//	batch, bind                                    running them over rows; binding their tensors
//	adapter                                        what adapters add
//	parts, position                                linear layers and norms; rotations and distances
//	exactmath, pool                                functions with the same bits everywhere; threads
//
// In this package calls run from transformer, pair, encode, tune, tail and stream over forward, embed and
// adapters to compile, plan and seq.
package transformer

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"

	"edged/core/infer/kv"
	"edged/core/infer/transformer/batch"
	"edged/core/infer/transformer/bind"
	"edged/core/infer/transformer/pool"
	"edged/core/model/arch"
	"edged/core/model/mmap"
	"edged/core/model/weights"
	"edged/quant"
	"edged/quant/kernel"
)

// ErrNoPages means that the page pool cannot hold the batch; no sequence was changed.
var ErrNoPages = errors.New("transformer: no free key/value pages")

// ErrContext means that a sequence would grow beyond Options.Context; no sequence was changed.
var ErrContext = errors.New("transformer: context length exceeded")

// Options says how to compute. The zero value of a field is the default that is named there.
type Options struct {
	Kernels        kernel.Kernels   // required
	Precision      kernel.Precision // kernel.Fast; Exact asks for KVF32
	KV             kernel.KVType    // kernel.KVF32
	Context        int              // positions per sequence; 0: what the model was trained with, at most 4096
	ThreadsPrefill int              // 0: GOMAXPROCS, which is also the limit
	ThreadsDecode  int              // threads for a batch below DecodeRows rows; 0: as ThreadsPrefill
	KVPages        int              // pages of kernel.BlockPositions positions; 0: one sequence of Context
	States         int              // of sequences and checkpoints, where the model has a fixed state, see kv.Checkpoint; 0: 8
	MaxRows        int              // rows of one Forward; 0: 128
	Beside         *Model           // a model that computes in turns with this one, is closed after it and lends its threads; nil: none
}

// DecodeRows is the number of rows from which on a batch is limited by arithmetic and no longer by reading weights, so
// that Options.ThreadsPrefill applies.
const DecodeRows = 4

const (
	defaultContext = 4096
	defaultRows    = 128
	maxContext     = 1 << 20 // the angles of RoPE are exact to float32 up to here
	maxRows        = 1 << 15
	defaultStates  = 8
	maxStates      = 1 << 12
)

// resolve fills in the defaults and refuses what cannot be served.
func (o Options) resolve(spec *arch.Spec) (Options, error) {
	if o.Kernels == nil {
		return o, errors.New("no kernels given")
	}
	for _, c := range arch.Memory(spec) {
		if n := max(c.KeyDim, c.ValueDim); n > kernel.MaxHeadDim {
			return o, fmt.Errorf("layer %d keeps heads of %d values: at most %d are supported", c.Layer, n, kernel.MaxHeadDim)
		}
	}
	switch o.Precision {
	case kernel.Fast:
	case kernel.Exact:
		if o.KV != kernel.KVF32 {
			return o, errors.New("precision exact keeps keys and values in float32: ask for KV type f32 or for precision fast")
		}
	default:
		return o, fmt.Errorf("precision %d is not known", o.Precision)
	}
	switch o.KV {
	case kernel.KVF32, kernel.KVF16:
	case kernel.KVQ8:
		for _, c := range arch.Memory(spec) {
			for _, n := range []int{c.KeyDim, c.ValueDim, c.Latent} {
				if n%32 != 0 {
					return o, fmt.Errorf("KV type q8_0 stores blocks of 32 values, and this model's heads have %d: use f16", n)
				}
			}
		}
	default:
		return o, fmt.Errorf("KV type %d is not known", o.KV)
	}
	if o.Context == 0 {
		o.Context = min(spec.Context, defaultContext)
	}
	if o.Context < 1 || o.Context > maxContext {
		return o, fmt.Errorf("a context of %d positions: want 1 to %d", o.Context, maxContext)
	}
	if o.MaxRows == 0 {
		o.MaxRows = defaultRows
	}
	if o.MaxRows < 1 || o.MaxRows > maxRows {
		return o, fmt.Errorf("%d rows in a batch: want 1 to %d", o.MaxRows, maxRows)
	}
	if o.ThreadsPrefill < 0 || o.ThreadsDecode < 0 {
		return o, errors.New("a negative number of threads")
	}
	limit := runtime.GOMAXPROCS(0)
	if o.ThreadsPrefill == 0 || o.ThreadsPrefill > limit {
		o.ThreadsPrefill = limit
	}
	if o.ThreadsDecode == 0 {
		o.ThreadsDecode = o.ThreadsPrefill
	}
	o.ThreadsDecode = min(o.ThreadsDecode, limit)
	if o.KVPages == 0 {
		o.KVPages = kv.PagesFor(o.Context)
	}
	if o.States == 0 {
		o.States = defaultStates
	}
	if o.States < 1 || o.States > maxStates {
		return o, fmt.Errorf("%d fixed states: want 1 to %d", o.States, maxStates)
	}
	if o.KVPages < 1 || o.KVPages > math.MaxInt32 {
		return o, fmt.Errorf("%d KV pages: want 1 or more", o.KVPages)
	}
	return o, nil
}

// Model is a model that is ready to compute.
type Model struct {
	info    Info
	spec    *arch.Spec
	border  int // see arch.Spec.Border
	opt     Options
	k       kernel.Kernels
	net     network
	kv      *kv.Pool
	pool    *pool.Pool
	step    *batch.Batch
	embed   embedJob
	narrow  narrowJob
	scratch *mmap.Mapping
	turn    uint64 // number of the current batch
	closed  bool

	normMu sync.Mutex
	norms  map[int][]float32 // see rowNorms
}

// Info describes a Model.
type Info struct {
	Arch           string
	Name           string
	Format         quant.Format // of the linear layer with the most bytes
	Layers         int
	Width          int
	VocabRows      int // length of Row.Logits
	Context        int // positions per sequence that are served
	TrainContext   int
	Parameters     int64
	WeightBytes    int64 // read per decoded token
	HeadBytes      int64 // thereof by the output head
	PageBytes      int64 // of one KV page
	StateBytes     int64 // of one fixed state; 0: there is none
	ScratchBytes   int64
	Precision      kernel.Precision
	KV             kernel.KVType
	MaxRows        int
	ThreadsPrefill int
	ThreadsDecode  int
}

// New binds the tensors of m, proves their shapes and reserves all memory that Forward needs. The Model reads m's
// tensors until Close; the caller closes m after that. Errors name the file and what is wrong with it.
func New(m *weights.Model, o Options) (*Model, error) {
	model, err := newModel(m, m.Spec, o)
	if err != nil {
		return nil, fmt.Errorf("transformer: %s: %w", m.Path, err)
	}
	model.info.Name = m.Name
	return model, nil
}

func newModel(src bind.Source, spec *arch.Spec, o Options) (*Model, error) {
	if err := spec.Check(); err != nil {
		return nil, err
	}
	if p := src.Matrix(spec.Prefix + arch.PositionName); p != nil && p.Rows-spec.Embed.Offset < spec.Context {
		short := *spec
		short.Context = p.Rows - spec.Embed.Offset // what the default of Options.Context follows
		spec = &short
	}
	o, err := o.resolve(spec)
	if err != nil {
		return nil, err
	}
	m := &Model{spec: spec, border: spec.Border(), opt: o, k: o.Kernels}
	if m.net, err = compile(src, spec, o.Kernels); err != nil {
		return nil, err
	}
	if n := m.net.positions; n != nil && o.Context > n.Rows-m.net.offset {
		return nil, fmt.Errorf("a context of %d positions: the model has learned %d", o.Context, n.Rows-m.net.offset)
	}
	for _, d := range m.net.distances {
		d.Spread(o.Context)
	}
	if m.kv, err = kv.NewPool(spec, kv.Options{Type: o.KV, Pages: o.KVPages, Context: o.Context, States: o.States}); err != nil {
		return nil, err
	}
	sizes := scratchSizes(spec, &o)
	mem, mapping, err := batch.Reserve(sizes.Floats())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("scratch: %w", err), m.kv.Close())
	}
	m.scratch = mapping
	if o.Beside != nil {
		m.pool = o.Beside.pool
	} else {
		m.pool = pool.New(max(o.ThreadsPrefill, o.ThreadsDecode))
	}
	m.step = batch.New(&batch.Setup{
		K:         m.k,
		P:         o.Precision,
		Pool:      m.pool,
		Cache:     m.kv,
		Ropes:     m.net.ropes,
		Vocab:     spec.Vocab,
		HeadScale: m.net.headScale,
		HeadCap:   m.net.headCap,
		Streams:   spec.Streams(),
		PerRow:    len(spec.Layers) * spec.Embed.PerLayer.Width,
	}, &sizes, mem)
	m.embed.m, m.narrow.m = m, m
	m.info = m.net.info
	m.info.Arch, m.info.Layers, m.info.Width = spec.Family, len(spec.Layers), spec.Width
	m.info.VocabRows, m.info.Context, m.info.TrainContext = spec.Vocab, o.Context, spec.Context
	m.info.PageBytes, m.info.ScratchBytes = kv.PageBytes(spec, o.KV), sizes.Total()
	m.info.StateBytes = kv.StateBytes(spec)
	m.info.Precision, m.info.KV, m.info.MaxRows = o.Precision, o.KV, o.MaxRows
	m.info.ThreadsPrefill = min(o.ThreadsPrefill, m.pool.Threads())
	m.info.ThreadsDecode = min(o.ThreadsDecode, m.pool.Threads())
	return m, nil
}

// Info describes the model.
func (m *Model) Info() Info { return m.info }

// Close ends the worker threads and frees the cache and the scratch. Sequences and adapters of m must not be used
// afterwards. Later calls do nothing.
func (m *Model) Close() error {
	if m.closed {
		return nil
	}
	m.closed = true
	if m.opt.Beside == nil {
		m.pool.Close()
	}
	return errors.Join(m.kv.Close(), m.scratch.Close())
}
