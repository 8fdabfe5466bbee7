package loader

import (
	"errors"
	"fmt"

	"edged/core/infer/engine/compute"
	"edged/core/infer/engine/pace"
	"edged/core/infer/kv"
	"edged/core/infer/transformer"
	"edged/core/model/arch"
	"edged/core/model/weights"
	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/quant"
	"edged/quant/kernel"
)

const (
	defaultSequences = 8
	maxSequences     = 256
	defaultContext   = 4096
	// batchRows is the number of rows of one turn. A Pi 4 computes 128 prompt rows of a 1B model in about
	// four seconds, so there pace takes fewer; on a desktop more bring nothing.
	batchRows = 128
	// logitBytes bounds the buffer of logits where it holds more than a row for each sequence: scoring a text wants the
	// logits of every row.
	logitBytes = 16 << 20
	// kvShare is the part of the memory left after everything else that the KV pool takes unless told otherwise.
	kvShare = 0.75
	// Memory reserved for adapters: a sixteenth of the weights (a rank 32 adapter on all linear layers of a
	// 1B model in 4 bits is about that), within bounds.
	minAdapterBytes = 1 << 20
	maxAdapterBytes = 256 << 20
)

// layout holds the sizes that follow from a LoadRequest for one model.
type layout struct {
	options   transformer.Options
	head      quant.Format // FormatInvalid: as stored
	linear    quant.Format
	sequences int
	logitRows int
	plan      backend.MemoryPlan
	draft     *draftLayout // nil: there is no draft model

	bufferPages int // see Options
}

// draftLayout holds the sizes of the draft model.
type draftLayout struct {
	options transformer.Options
	rows    int // of its vocabulary
	bytes   int64
}

// Plan computes the memory that Open would need, from headers only.
func (o Options) Plan(req backend.LoadRequest) (backend.MemoryPlan, error) {
	l, err := o.layout(req)
	return l.plan, err
}

// layout resolves a request's defaults and sizes everything, from the model's headers.
func (o Options) layout(req backend.LoadRequest) (layout, error) {
	l, err := resolve(req)
	if err != nil {
		return l, fmt.Errorf("engine: %w: %w", protocol.ErrInvalid, err)
	}
	l.options.Kernels, l.bufferPages = o.Kernels, o.BufferPages
	m, err := weights.OpenHeaders(req.Path)
	if err != nil {
		return l, fmt.Errorf("engine: %w: %w", protocol.ErrModel, err)
	}
	defer m.Close() //nolint:errcheck // opened for reading: nothing to lose
	// The text's pages and those of its beams.
	if m.Spec.Kind == arch.EncoderDecoder {
		l.sequences = max(l.sequences, m.Generation.Beams+2)
	}
	if req.DraftModel != "" {
		if m.Spec.Kind != arch.Decoder {
			return l, fmt.Errorf("engine: draft_model: %w: the model is an %s, which draws no tokens", protocol.ErrInvalid, m.Spec.Kind)
		}
		if err := l.measureDraft(m.Spec, req); err != nil {
			return l, err
		}
	}
	asIs := m.Figures().Head
	if err := l.requantize(m); err != nil {
		return l, fmt.Errorf("engine: %w: %w", protocol.ErrModel, err)
	}
	if err := l.measure(m.Figures(), m.Spec, req, availableBytes()); err != nil {
		return l, fmt.Errorf("engine: %s: %w", req.Path, err)
	}
	l.plan.HeadSaves = asIs - l.plan.HeadBytes
	return l, nil
}

// resolve reads what stands in a request.
func resolve(req backend.LoadRequest) (layout, error) {
	l := layout{sequences: req.MaxSequences}
	if l.sequences == 0 {
		l.sequences = defaultSequences
	}
	if l.sequences < 1 || l.sequences > maxSequences {
		return l, fmt.Errorf("max_sequences: %d: want 1 to %d", req.MaxSequences, maxSequences)
	}
	for name, v := range map[string]int64{
		"context": int64(req.Context), "threads_prefill": int64(req.ThreadsPrefill), "threads_decode": int64(req.ThreadsDecode),
		"kv_bytes": req.KVBytes, "memory_limit": req.MemoryLimit, "prefix_disk_bytes": req.PrefixDiskBytes,
		"prefix_disk_daily": req.PrefixDiskDaily, "prefix_disk_tokens": int64(req.PrefixDiskTokens),
	} {
		if v < 0 {
			return l, fmt.Errorf("%s: %d is negative", name, v)
		}
	}
	o := &l.options
	o.Context, o.ThreadsPrefill, o.ThreadsDecode = req.Context, req.ThreadsPrefill, req.ThreadsDecode
	switch req.Precision {
	case backend.Fast, "":
		o.Precision, o.KV = kernel.Fast, kernel.KVF16
	case backend.Exact:
		o.Precision, o.KV = kernel.Exact, kernel.KVF32
	default:
		return l, fmt.Errorf("precision: %q: want fast or exact", req.Precision)
	}
	if req.KVType != "" {
		kv, ok := map[string]kernel.KVType{"f32": kernel.KVF32, "f16": kernel.KVF16, "q8_0": kernel.KVQ8}[req.KVType]
		switch {
		case !ok:
			return l, fmt.Errorf("kv: %q: want f32, f16 or q8_0", req.KVType)
		case o.Precision == kernel.Exact && kv != kernel.KVF32:
			return l, fmt.Errorf("kv: %s: precision exact keeps keys and values in f32", req.KVType)
		}
		o.KV = kv
	}
	var err error
	if l.head, err = recoding("head", req.Head); err != nil {
		return l, err
	}
	l.linear, err = recoding("quantize", req.Quantize)
	return l, err
}

// recoding reads the name of a format that weights can be requantised to.
func recoding(field, name string) (quant.Format, error) {
	switch name {
	case "", "as-is":
		return quant.FormatInvalid, nil
	case "q8_0":
		return quant.Q8_0, nil
	case "q4_0":
		return quant.Q4_0, nil
	}
	return 0, fmt.Errorf("%s: %q: want as-is, q8_0 or q4_0", field, name)
}

// requantize applies head and quantize to a model, or to its headers.
func (l *layout) requantize(m *weights.Model) error {
	if l.linear != quant.FormatInvalid {
		if err := weights.Requantize(m, weights.LinearLayers, l.linear); err != nil {
			return err
		}
	}
	if l.head != quant.FormatInvalid {
		return weights.Requantize(m, weights.OutputHead, l.head)
	}
	return nil
}

// measure sizes the pool and makes the plan.
func (l *layout) measure(f weights.Figures, spec *arch.Spec, req backend.LoadRequest, available int64) error {
	o := &l.options
	if o.Context == 0 {
		o.Context = min(spec.Context, defaultContext)
	}
	rowBytes := 4 * int64(max(spec.Vocab, 1))
	l.logitRows = max(l.sequences, int(min(logitBytes/rowBytes, batchRows)))
	o.MaxRows = max(batchRows, l.sequences+pace.MinChunk)
	if spec.Kind == arch.Encoder { // a whole text is one batch, and nothing of it is kept
		l.sequences, l.logitRows = 1, 1
		o.MaxRows = max(o.Context, batchRows)
	}
	page, scratch, err := transformer.PlanMemory(spec, *o)
	if err != nil {
		return fmt.Errorf("%w: %w", protocol.ErrInvalid, err)
	}
	if spec.Encoder != nil {
		n, err := transformer.PlanEncoder(spec, *o)
		if err != nil {
			return fmt.Errorf("%w: %w", protocol.ErrInvalid, err)
		}
		scratch += n
	}
	p := &l.plan
	p.Available = available
	if req.MemoryLimit > 0 && (available == 0 || req.MemoryLimit < available) {
		p.Available = req.MemoryLimit
	}
	p.Weights, p.Derived, p.OnDisk = f.Total-f.Derived, f.Derived, f.OnDisk
	if l.draft != nil {
		p.Draft = l.draft.bytes
	}
	p.HeadBytes = f.Head
	p.Adapters = min(max(f.Total/16, minAdapterBytes), maxAdapterBytes)
	// The sampler holds up to 48 bytes for every token of the vocabulary while it looks for a nucleus.
	p.Scratch = scratch + int64(l.logitRows)*rowBytes + 48*int64(spec.Vocab)

	if KeepsPrefixes(req) {
		p.Scratch += int64(l.bufferPages) * page
	}

	one := (int64(o.Context) + kernel.BlockPositions - 1) / kernel.BlockPositions
	pages := one * int64(l.sequences)
	switch {
	case page == 0: // all of a sequence is its fixed state: pages only count tokens, also those of remembered prefixes
		pages += min(one*maxCheckpoints, 1<<14)
	case req.KVBytes > 0:
		pages = req.KVBytes / page
		if pages < one {
			return fmt.Errorf("%w: %w: kv_bytes: %d are less than the %d of one context of %d positions",
				protocol.ErrInvalid, errKV, req.KVBytes, one*page, o.Context)
		}
	case p.Available > 0:
		room := p.Available - p.Weights - p.Derived - p.Scratch - p.Adapters - p.Draft
		pages = min(pages, max(one, int64(kvShare*float64(room))/page))
	}
	o.KVPages = int(min(pages, 1<<30))
	p.KV = int64(o.KVPages) * page
	if state := kv.StateBytes(spec); state > 0 {
		o.States = l.states(state)
		p.KV += int64(o.States) * state
	}
	p.Total = p.Weights + p.Derived + p.KV + p.Scratch + p.Adapters + p.Draft
	p.Fits = p.Available == 0 || p.Total <= p.Available
	return nil
}

// states is the number of fixed states of so many bytes: one for each sequence that runs and one that it goes
// on from, and for checkpoints what fits into a quarter of the room, within bounds.
func (l *layout) states(bytes int64) int {
	n := 2*l.sequences + 2 + maxCheckpoints
	if room := l.plan.Available - l.plan.Weights - l.plan.Derived - l.plan.Scratch - l.plan.Adapters; l.plan.Available > 0 {
		n = min(n, max(compute.MinStates, int(min(room/4/bytes, int64(n)))))
	}
	return n
}

const maxCheckpoints = 32

// draftRows is the number of rows of one turn of the draft model: what it reads of a prompt at a time is a
// wait for everybody.
const draftRows = 64

// measureDraft proves that the draft model has the vocabulary of the model, which computes spec, and sizes it.
func (l *layout) measureDraft(spec *arch.Spec, req backend.LoadRequest) error {
	if err := weights.SameVocabulary(req.Path, req.DraftModel); err != nil {
		return fmt.Errorf("engine: draft model: %w: %w", protocol.ErrModel, err)
	}
	m, err := weights.OpenHeaders(req.DraftModel)
	if err != nil {
		return fmt.Errorf("engine: draft model: %w: %w", protocol.ErrModel, err)
	}
	defer m.Close() //nolint:errcheck // opened for reading: nothing to lose
	for _, s := range []*arch.Spec{spec, m.Spec} {
		if len(arch.States(s)) > 0 {
			return fmt.Errorf(
				"engine: draft model: %w: a %s model keeps a state that cannot be taken back behind a wrong guess; leave the draft model out",
				protocol.ErrInvalid,
				s.Family,
			)
		}
	}
	if m.Spec.Kind != arch.Decoder {
		return fmt.Errorf("engine: draft model: %w: %s is an %s, which draws no tokens", protocol.ErrModel, req.DraftModel, m.Spec.Kind)
	}
	d := &draftLayout{options: l.options, rows: m.Spec.Vocab}
	o := &d.options
	if o.Context == 0 {
		o.Context = min(spec.Context, defaultContext)
	}
	o.Context = min(o.Context, m.Spec.Context)
	if n := m.Spec.Border(); n > 0 { // what it guesses beyond would be computed anew
		o.Context = min(o.Context, n)
	}
	o.MaxRows = max(draftRows, l.sequences)
	one := (int64(o.Context) + kernel.BlockPositions - 1) / kernel.BlockPositions
	o.KVPages = int(min(one*int64(l.sequences), 1<<30))
	page, scratch, err := transformer.PlanMemory(m.Spec, *o)
	if err != nil {
		return fmt.Errorf("engine: draft model: %s: %w: %w", req.DraftModel, protocol.ErrInvalid, err)
	}
	d.bytes = m.Figures().Total + int64(o.KVPages)*page + scratch + 4*int64(l.sequences)*int64(d.rows)
	l.draft = d
	return nil
}

var errKV = errors.New("the KV pool is too small")

// KeepsPrefixes reports whether a request wants prefixes kept on disk.
func KeepsPrefixes(req backend.LoadRequest) bool {
	return req.PrefixDiskBytes > 0 && req.CacheDir != "" && !req.NoPrefixCache
}
