// Package loader opens models: it plans their memory from headers, maps and requantises weights, lays out
// tiles for the kernels, measures how many threads compute fastest, and opens the model that drafts tokens
// beside them.
//
// What comes out is ready to compute and does not run: it knows no request and no batch. Nothing here may be
// called while the model it opened computes, but for Plan.
package loader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"edged/core/infer/engine/compute"
	"edged/core/infer/transformer"
	"edged/core/model/arch"
	"edged/core/model/mmap"
	"edged/core/model/weights"
	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/quant"
	"edged/quant/kernel"
	"edged/quant/tile"
)

// Options say what a model is opened with.
type Options struct {
	Kernels     kernel.Kernels
	Log         *slog.Logger
	BufferPages int // pages that a prefix cache on disk holds in buffers, beside the pool
}

// Model is a model that is open, with all memory that computing it takes.
type Model struct {
	File    *weights.Model
	Hash    string // of the weights, with what was requantised
	Info    backend.ModelInfo
	Compute *compute.Transformer // the decoder of an encoder-decoder
	Sizes   compute.Sizes        // of Compute
	Encoder *transformer.Model   // that of an encoder-decoder; nil: the model has one stack
	Logits  []float32            // (Sizes.Logits, Sizes.Rows) off the Go heap
	// The model that drafts tokens for speculation, and its bounds; nil: there is none.
	Draft      *compute.Transformer
	DraftSizes compute.Sizes
	Tiled      bool // weights have tiles
	Pages      int  // of the pool

	draftFile *weights.Model
	logits    *mmap.Mapping // of Logits; nil: not yet
	tiles     *tile.File    // nil: none
}

// Close frees the model. Nothing may compute any more.
func (m *Model) Close() error {
	var errs []error
	if m.Draft != nil {
		errs = append(errs, m.Draft.Close())
	}
	if m.draftFile != nil {
		errs = append(errs, m.draftFile.Close())
	}
	if m.Encoder != nil {
		errs = append(errs, m.Encoder.Close())
	}
	if m.Compute != nil {
		errs = append(errs, m.Compute.Close())
	}
	if m.logits != nil {
		errs = append(errs, m.logits.Close())
	}
	if m.tiles != nil {
		errs = append(errs, m.tiles.Close())
	}
	return errors.Join(append(errs, m.File.Close())...)
}

// Open maps and prepares the model of a request, in stages that progress is told of; nil: nobody asks.
// Between them ctx is looked at.
func (o Options) Open(ctx context.Context, req backend.LoadRequest, progress func(backend.LoadProgress)) (m *Model, err error) {
	stage := func(name string, done, total int64) error {
		if progress != nil {
			progress(backend.LoadProgress{Stage: name, Done: done, Total: total})
		}
		return ctx.Err()
	}
	if err := stage("plan", 0, 0); err != nil {
		return nil, err
	}
	l, err := o.layout(req)
	if err != nil {
		return nil, err
	}
	if !l.plan.Fits && !req.IgnorePlan {
		return nil, fmt.Errorf("engine: %w: %s", protocol.ErrNoMemory, figures(l.plan))
	}
	if err := stage("open", 0, l.plan.Weights); err != nil {
		return nil, err
	}
	file, err := weights.Open(req.Path)
	if err != nil {
		return nil, fmt.Errorf("engine: %w: %w", protocol.ErrModel, err)
	}
	m = &Model{File: file}
	// Before anything else reads the file: huge pages of a file are those that are read after the advice. On
	// a machine with two cores and AVX-512 the plain sum over a file that was cold reads 10 % faster with
	// them.
	_ = file.Advise(mmap.HugePage)
	file.AdviseTables()
	defer func() {
		if err != nil {
			_ = m.Close() // err says more
			m = nil
		}
	}()
	if l.head != quant.FormatInvalid || l.linear != quant.FormatInvalid {
		if err := stage("pack", 0, l.plan.Derived); err != nil {
			return m, err
		}
		if err := l.requantize(file); err != nil {
			return m, fmt.Errorf("engine: %w: %w", protocol.ErrModel, err)
		}
	}
	if m.Hash, err = hashOf(file, req.CacheDir); err != nil {
		return m, fmt.Errorf("engine: %w: %w", protocol.ErrModel, err)
	}
	if err := stage("map", 0, l.plan.Weights); err != nil {
		return m, err
	}
	if m.tiles, err = o.tiles(ctx, file, &l, req, m.Hash, stage); err != nil {
		return m, err
	}
	if l.plan.Fits && m.tiles == nil { // else reading ahead would only push out what was read before
		if err := file.Populate(func(done, total int64) error { return stage("map", done, total) }); err != nil {
			return m, err
		}
	}
	var t *transformer.Model
	if file.Spec.Encoder != nil {
		m.Encoder, t, err = transformer.NewPair(file, l.options)
	} else {
		t, err = transformer.New(file, l.options)
	}
	if err != nil {
		return m, fmt.Errorf("engine: %w: %w", protocol.ErrModel, err)
	}
	m.Compute = compute.New(t)
	if err := stage("tune", 0, 0); err != nil {
		return m, err
	}
	if file.Spec.Kind == arch.Decoder { // of others nothing is measured: threads are as the request says, or all
		if err := o.tune(ctx, t, req, m.Hash); err != nil {
			return m, err
		}
	}
	info := t.Info()
	m.Sizes, m.Tiled, m.Pages = m.Compute.Sizes(l.logitRows, l.sequences), m.tiles != nil, l.options.KVPages
	if err := m.reserveLogits(); err != nil {
		return m, fmt.Errorf("engine: %w: %w", protocol.ErrNoMemory, err)
	}
	if parts := file.Towers(); len(parts) > 0 {
		o.Log.InfoContext(
			ctx,
			"the text part is served; the parts of the model that see or hear are passed over",
			"path",
			req.Path,
			"parts",
			parts,
		)
	}
	if file.Drafts() {
		o.Log.InfoContext(ctx, "the model's layers that guess further tokens (multi-token prediction) are passed over", "path", req.Path)
	}
	for _, note := range file.Notes() {
		o.Log.WarnContext(ctx, "model files disagree", "path", req.Path, "note", note)
	}
	m.Info = backend.ModelInfo{
		Arch: info.Arch, Name: modelName(file), Hash: m.Hash, Format: strings.ToUpper(info.Format.String()),
		Layers: info.Layers, Width: info.Width, VocabRows: info.VocabRows,
		Context: info.Context, TrainContext: info.TrainContext, Parameters: info.Parameters, WeightBytes: info.WeightBytes,
		HasTokenizer: hasTokenizer(req.Path), Plan: l.plan, Precision: precisionName(info.Precision), KVType: kvName(info.KV),
		ThreadsDecode: info.ThreadsDecode, ThreadsPrefill: info.ThreadsPrefill,
		Kind: file.Spec.Kind.String(), Tasks: file.Spec.Tasks(), VectorLen: file.Spec.VectorLen(),
	}
	if l.draft != nil {
		if err := m.openDraft(req.DraftModel, l, t); err != nil {
			return m, err
		}
	}
	return m, stage("ready", l.plan.Weights, l.plan.Weights)
}

// openDraft maps the model that guesses; it computes in turns with t, on its threads.
func (m *Model) openDraft(path string, l layout, t *transformer.Model) error {
	file, err := weights.Open(path)
	if err != nil {
		return fmt.Errorf("engine: draft model: %w: %w", protocol.ErrModel, err)
	}
	m.draftFile = file
	o := l.draft.options
	o.Beside = t
	o.ThreadsDecode, o.ThreadsPrefill = t.Info().ThreadsDecode, t.Info().ThreadsPrefill
	small, err := transformer.New(file, o)
	if err != nil {
		return fmt.Errorf("engine: draft model: %w: %w", protocol.ErrModel, err)
	}
	m.Draft = compute.New(small)
	m.DraftSizes = m.Draft.Sizes(0, l.sequences)
	return nil
}

// reserveLogits takes the buffer of logits off the Go heap, where it would be counted twice before the next collection.
func (m *Model) reserveLogits() error {
	n := m.Sizes.Logits * m.Sizes.Rows
	mem, err := mmap.Anonymous(4 * n)
	if err != nil {
		return err
	}
	m.logits = mem
	m.Logits = unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(mem.Bytes()))), n)
	return nil
}

func hashOf(m *weights.Model, cacheDir string) (string, error) {
	if cacheDir == "" {
		return m.Hash()
	}
	return m.HashCached(cacheDir)
}

// figures says what does not fit, and what can be done.
func figures(p backend.MemoryPlan) string {
	mb := func(n int64) int64 { return (n + 1<<20 - 1) >> 20 }
	return fmt.Sprintf(
		"the plan is %d MiB (weights %d, requantised %d, KV cache %d, scratch %d, adapters %d, draft model %d) and %d MiB are free: "+
			"take a smaller model, a shorter context, fewer sequences or another KV type, or load it regardless",
		mb(p.Total),
		mb(p.Weights),
		mb(p.Derived),
		mb(p.KV),
		mb(p.Scratch),
		mb(p.Adapters),
		mb(p.Draft),
		p.Available>>20,
	)
}

func modelName(m *weights.Model) string {
	if m.Name != "" {
		return m.Name
	}
	base := filepath.Base(filepath.Clean(m.Path))
	return strings.TrimSuffix(base, ".gguf")
}

// hasTokenizer reports whether tokenizer data stand beside the weights. Nearly every GGUF file holds its own; whether
// this one does, its reader finds out.
func hasTokenizer(path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	if !info.IsDir() {
		if strings.HasSuffix(path, ".gguf") {
			return true
		}
		path = filepath.Dir(path)
	}
	_, err = os.Stat(filepath.Join(path, "tokenizer.json"))
	return err == nil
}

func precisionName(p kernel.Precision) backend.Precision {
	if p == kernel.Exact {
		return backend.Exact
	}
	return backend.Fast
}

func kvName(t kernel.KVType) string {
	switch t {
	case kernel.KVF32:
		return "f32"
	case kernel.KVQ8:
		return "q8_0"
	}
	return "f16"
}
