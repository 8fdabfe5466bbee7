package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"edged/core/infer/engine/encode"
	"edged/core/infer/engine/loader"
	"edged/core/infer/engine/pace"
	"edged/core/infer/engine/prefix"
	"edged/core/infer/engine/seq2seq"
	"edged/core/infer/kv/pagestore"
	"edged/core/model/arch"
	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// defaultDiskTokens is the length from which a prompt is written to disk, though perhaps nobody reads it: 8 pages,
// which a Pi 5 computes in several seconds for a 1B model and reads in a tenth of one.
const defaultDiskTokens = 256

// loader returns the options with which models are opened.
func (e *Engine) loader() loader.Options {
	return loader.Options{Kernels: e.opt.Kernels, Log: e.opt.Log, BufferPages: prefix.BufferPages}
}

// Plan computes the memory that Load would need, from headers only.
func (e *Engine) Plan(_ context.Context, req backend.LoadRequest) (backend.MemoryPlan, error) {
	return e.loader().Plan(req)
}

var _ backend.Forecaster = (*Engine)(nil)

// Forecast says how fast a model would be, from headers only.
func (e *Engine) Forecast(_ context.Context, req backend.LoadRequest) (backend.Forecast, error) {
	return e.loader().Forecast(req)
}

// Load maps and prepares a model, once in the life of an engine unless it fails.
func (e *Engine) Load(ctx context.Context, req backend.LoadRequest, progress func(backend.LoadProgress)) (backend.ModelInfo, error) {
	e.mu.Lock()
	switch {
	case e.closed:
		e.mu.Unlock()
		return backend.ModelInfo{}, errClosed
	case e.loading || e.loaded != nil:
		e.mu.Unlock()
		return backend.ModelInfo{}, fmt.Errorf("engine: %w: a model is loaded already", protocol.ErrInvalid)
	}
	e.loading = true
	e.mu.Unlock()

	m, err := e.load(ctx, req, progress)

	e.mu.Lock()
	e.loading = false
	closed := e.closed
	if err == nil && !closed {
		e.loaded = m
	}
	e.mu.Unlock()
	switch {
	case err != nil:
		return backend.ModelInfo{}, err
	case closed:
		m.loop.stop()
		_ = m.close() // nobody is left to tell
		return backend.ModelInfo{}, errClosed
	}
	return m.info, nil
}

// load opens a model and starts its loop.
func (e *Engine) load(ctx context.Context, req backend.LoadRequest, progress func(backend.LoadProgress)) (*loaded, error) {
	o, err := e.loader().Open(ctx, req, progress)
	if err != nil {
		return nil, err
	}
	m := &loaded{
		opened: o, file: o.File, info: o.Info, model: o.Compute, headEOG: o.File.EOG,
		size: sizes{Sizes: o.Sizes, waiting: e.opt.MaxWaiting, forgets: req.NoPrefixCache, lookup: !req.NoLookup},
	}
	t := o.Compute.Network()
	m.loop = newLoop(m.model, m.size, o.Logits, e.opt.Log)
	if o.File.Spec.Kind != arch.EncoderDecoder {
		m.network = &encode.Network{
			Model: t, Spec: o.File.Spec, Rows: m.size.Rows, Context: m.size.Context, Width: m.width(), Do: m.loop.do,
			Computed: func(tokens int) { m.loop.count.PromptTokens += uint64(tokens) },
		}
	}
	switch o.File.Spec.Kind {
	case arch.EncoderDecoder:
		m.pair = seq2seq.New(o.Encoder, t, o.File.Generation, m.loop.do)
	case arch.Decoder:
		if loader.KeepsPrefixes(req) {
			e.openDisk(m, req, o.Hash)
		}
	}
	if o.Draft != nil {
		m.draft = o.Draft
		m.loop.drafts.DraftWith(o.Draft, o.DraftSizes)
	}
	m.loop.count.ThreadsDecode = o.Info.ThreadsDecode
	if e.opt.Limited != nil && req.ThreadsDecode == 0 {
		m.loop.governor = pace.NewGovernor(o.Info.ThreadsDecode, e.opt.Limited, func(n int) {
			t.SetThreads(o.Info.ThreadsPrefill, n)
			m.loop.count.ThreadsDecode = n
		}, e.opt.Log)
	}
	go m.loop.run()
	e.opt.Log.InfoContext(ctx, "model loaded", "model", m.info.Name, "arch", m.info.Arch, "format", m.info.Format, "path", req.Path,
		"context", m.info.Context, "kv", m.info.KVType, "kv_pages", o.Pages, "prefix_cache", !req.NoPrefixCache, "tiles", o.Tiled, "kernels", e.opt.Kernels.Name(),
		"precision", string(m.info.Precision), "threads_decode", m.info.ThreadsDecode, "threads_prefill", m.info.ThreadsPrefill)
	return m, nil
}

// openDisk gives the loop its pages on disk. Where that fails, prefixes do not outlive the process, and
// nothing else changes.
func (e *Engine) openDisk(m *loaded, req backend.LoadRequest, hash string) {
	dir := filepath.Join(req.CacheDir, "prefixes")
	s, err := pagestore.Open(pagestore.Options{Dir: dir, Format: prefix.Format, Bytes: req.PrefixDiskBytes, Daily: req.PrefixDiskDaily, Log: e.opt.Log})
	if err == nil {
		if err = m.loop.cache.Attach(s, e.pageKey(m, hash), cmp.Or(req.PrefixDiskTokens, defaultDiskTokens), m.loop.commands); err != nil {
			err = errors.Join(err, s.Close())
		}
	}
	if err != nil {
		e.opt.Log.Warn("computed prefixes are not kept on disk", "path", dir, "err", err)
		return
	}
	st := s.Stats()
	e.opt.Log.Info("prefix cache on disk", "path", dir, "pages", st.Pages, "bytes", st.Bytes)
}

// pageKey returns a key of everything that the bits of the model's pages depend on.
func (e *Engine) pageKey(m *loaded, hash string) string {
	return prefix.Origin{
		Build: e.opt.Version, Weights: hash, KVType: m.info.KVType, Precision: m.info.Precision, Page: m.size.Page, Spec: m.file.Spec,
	}.Key()
}
