package engine

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"edged/core/infer/engine/compute"
	"edged/core/infer/engine/pace"
	"edged/core/infer/kv/pagestore"
	"edged/core/infer/transformer"
	"edged/core/model/arch"
	"edged/core/model/mmap"
	"edged/core/model/weights"
	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/quant"
	"edged/quant/kernel"
)

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

func (e *Engine) load(ctx context.Context, req backend.LoadRequest, progress func(backend.LoadProgress)) (m *loaded, err error) {
	stage := func(name string, done, total int64) error {
		if progress != nil {
			progress(backend.LoadProgress{Stage: name, Done: done, Total: total})
		}
		return ctx.Err()
	}
	if err := stage("plan", 0, 0); err != nil {
		return nil, err
	}
	l, err := e.layout(req)
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
	m = &loaded{file: file}
	// Before anything else reads the file: huge pages of a file are those that are read after the advice. On a machine with
	// two cores and AVX-512 the plain sum over a file that was cold reads 10 % faster with them.
	_ = file.Advise(mmap.HugePage)
	file.AdviseTables()
	defer func() {
		if err != nil {
			_ = m.abandon()
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
	hash, err := hashOf(file, req.CacheDir)
	if err != nil {
		return m, fmt.Errorf("engine: %w: %w", protocol.ErrModel, err)
	}
	if err := stage("map", 0, l.plan.Weights); err != nil {
		return m, err
	}
	if m.tiles, err = e.tiles(ctx, file, &l, req, hash, stage); err != nil {
		return m, err
	}
	if l.plan.Fits && m.tiles == nil { // else reading ahead would only push out what was read before
		if err := file.Populate(func(done, total int64) error { return stage("map", done, total) }); err != nil {
			return m, err
		}
	}
	var t *transformer.Model
	if file.Spec.Encoder != nil {
		var encoder *transformer.Model
		if encoder, t, err = transformer.NewPair(file, l.options); err == nil {
			m.crossed = newCrossed(encoder, t, file.Generation)
		}
	} else {
		t, err = transformer.New(file, l.options)
	}
	if err != nil {
		return m, fmt.Errorf("engine: %w: %w", protocol.ErrModel, err)
	}
	m.model = compute.New(t)
	if err := stage("tune", 0, 0); err != nil {
		return m, err
	}
	if file.Spec.Kind == arch.Encoder {
		m.encoder = t
	} else if m.crossed != nil {
		// Nothing is measured: threads are as the request says, or all.
	} else if err := e.tune(ctx, t, req, hash); err != nil {
		return m, err
	}
	info := t.Info()
	m.size = sizes{
		Sizes:   m.model.(*compute.Transformer).Sizes(l.logitRows, l.sequences),
		waiting: e.opt.MaxWaiting, forgets: req.NoPrefixCache, lookup: !req.NoLookup,
	}
	logits, err := m.reserveLogits()
	if err != nil {
		return m, fmt.Errorf("engine: %w: %w", protocol.ErrNoMemory, err)
	}
	if parts := file.Towers(); len(parts) > 0 {
		e.opt.Log.InfoContext(ctx, "the text part is served; the parts of the model that see or hear are passed over", "path", req.Path, "parts", parts)
	}
	if file.Drafts() {
		e.opt.Log.InfoContext(ctx, "the model's layers that guess further tokens (multi-token prediction) are passed over", "path", req.Path)
	}
	for _, note := range file.Notes() {
		e.opt.Log.WarnContext(ctx, "model files disagree", "path", req.Path, "note", note)
	}
	m.headEOG = file.EOG
	m.info = backend.ModelInfo{
		Arch: info.Arch, Name: modelName(file), Hash: hash, Format: strings.ToUpper(info.Format.String()),
		Layers: info.Layers, Width: info.Width, VocabRows: info.VocabRows,
		Context: info.Context, TrainContext: info.TrainContext, Parameters: info.Parameters, WeightBytes: info.WeightBytes,
		HasTokenizer: hasTokenizer(req.Path), Plan: l.plan, Precision: precisionName(info.Precision), KVType: kvName(info.KV),
		ThreadsDecode: info.ThreadsDecode, ThreadsPrefill: info.ThreadsPrefill,
		Kind: file.Spec.Kind.String(), Tasks: file.Spec.Tasks(), VectorLen: file.Spec.VectorLen(),
	}
	if err := stage("ready", l.plan.Weights, l.plan.Weights); err != nil {
		return m, err
	}
	m.loop = newLoop(m.model, m.size, logits, e.opt.Log)
	if m.crossed != nil {
		m.crossed.do = m.loop.do
	}
	if l.draft != nil {
		if err := m.openDraft(req.DraftModel, l, t); err != nil {
			return m, err
		}
	}
	if onDisk(req) && m.encoder == nil && m.crossed == nil {
		e.openDisk(m, req, hash)
	}
	m.loop.count.ThreadsDecode = info.ThreadsDecode
	if e.opt.Limited != nil && req.ThreadsDecode == 0 {
		m.loop.governor = pace.NewGovernor(info.ThreadsDecode, e.opt.Limited, func(n int) {
			t.SetThreads(info.ThreadsPrefill, n)
			m.loop.count.ThreadsDecode = n
		}, e.opt.Log)
	}
	go m.loop.run()
	e.opt.Log.InfoContext(ctx, "model loaded", "model", m.info.Name, "arch", m.info.Arch, "format", m.info.Format, "path", req.Path,
		"context", m.info.Context, "kv", m.info.KVType, "kv_pages", l.options.KVPages, "prefix_cache", !req.NoPrefixCache, "tiles", m.tiles != nil, "kernels", e.opt.Kernels.Name(),
		"precision", string(m.info.Precision), "threads_decode", m.info.ThreadsDecode, "threads_prefill", m.info.ThreadsPrefill)
	return m, nil
}

// openDisk gives the loop its pages on disk. Where that fails, prefixes do not outlive the process, and nothing else changes.
func (e *Engine) openDisk(m *loaded, req backend.LoadRequest, hash string) {
	dir := filepath.Join(req.CacheDir, "prefixes")
	s, err := pagestore.Open(pagestore.Options{Dir: dir, Format: pageFormat, Bytes: req.PrefixDiskBytes, Daily: req.PrefixDiskDaily, Log: e.opt.Log})
	if err == nil {
		if err = m.loop.attach(s, e.pageKey(m, hash), cmp.Or(req.PrefixDiskTokens, defaultDiskTokens)); err != nil {
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

// pageFormat names what a page's bytes mean and how its name is made: to be raised with the layout of the arena, with pageKey and
// describe, with what arch.Spec.Canonical tells, and with every change of the arithmetic that changes a bit of a key or a value, where the
// version of the build does not tell. Format 1 had names made of a Go struct as Go prints it.
const pageFormat = "edged pages 2"

// pageKey is what the bits of a page depend on beside adapters and tokens, a line each: the model with what was requantised, the
// types, all that its Spec says, RoPE's settings among it, and the build. Kernels are not in it: all of them give the same bits. It is
// given as a hash, since a Spec's text is long and every request's names begin with it.
func (e *Engine) pageKey(m *loaded, hash string) string {
	text := fmt.Sprintf("%s\nbuild %q\nweights %q\nkv %q\nprecision %q\npositions %d\nspec %s\n",
		pageFormat, e.opt.Version, hash, m.info.KVType, m.info.Precision, m.size.Page, m.file.Spec.Canonical())
	return fmt.Sprintf("%x", sha256.Sum256([]byte(text)))
}

// openDraft maps the model that guesses; it computes in turns with t, on its threads.
func (m *loaded) openDraft(path string, l layout, t *transformer.Model) error {
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
	c := compute.New(small)
	m.draft = c
	m.loop.drafter = newDrafter(c, c.Sizes(0, l.sequences))
	return nil
}

// abandon frees what a failed load has.
func (m *loaded) abandon() error {
	if m.model == nil {
		if m.tiles != nil {
			_ = m.tiles.Close() // a mapping of a file that can be made again
		}
		return m.file.Close()
	}
	return m.close()
}

// reserveLogits takes the buffer of logits off the Go heap, where it would be counted twice before the next collection.
func (m *loaded) reserveLogits() ([]float32, error) {
	n := m.size.Logits * m.size.Rows
	mem, err := mmap.Anonymous(4 * n)
	if err != nil {
		return nil, err
	}
	m.logits = mem
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(mem.Bytes()))), n), nil
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
	return fmt.Sprintf("the plan is %d MiB (weights %d, requantised %d, KV cache %d, scratch %d, adapters %d, draft model %d) and %d MiB are free: "+
		"take a smaller model, a shorter context, fewer sequences or another KV type, or load it regardless",
		mb(p.Total), mb(p.Weights), mb(p.Derived), mb(p.KV), mb(p.Scratch), mb(p.Adapters), mb(p.Draft), p.Available>>20)
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
