// Package quantize writes models anew with smaller weights: a GGUF file of 16, 32 or 8 bits to any type that
// package quant encodes, each tensor's type chosen by a mixture of llama.cpp's, weighted by an importance
// matrix where there is one. The result is the file that llama-quantize writes from the same input, byte for
// byte.
//
// It must not know how a model computes. Memory is bounded by the rows in flight, not by the model; the result does not
// depend on the number of threads, and appears under its name whole or not at all.
package quantize

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"edged/core/model/gguf"
	"edged/core/model/mmap"
	"edged/quant"
)

// Errors that callers can act on.
var (
	// ErrUnsupported means that the source cannot be quantised so, and the message says why.
	ErrUnsupported = errors.New("not supported")
	// ErrImportance means that the type needs an importance matrix, or that the one given does not fit.
	ErrImportance = errors.New("importance matrix")
)

// Options say how. The zero value quantises with all cores and without importance.
type Options struct {
	Mixture    Mixture
	Pure       bool                                   // every matrix in the mixture's main type
	Override   func(name string) quant.Format         // a type for a tensor by its name, FormatInvalid for the mixture's; may be nil
	Importance *Importance                            // may be nil
	Threads    int                                    // 0: as many as there are cores
	Again      bool                                   // take weights of fewer than 8 bits as a source, too
	Progress   func(tensor string, done, total int64) // bytes of the source; may be nil, called from one goroutine
}

// Result tells what was written.
type Result struct {
	SourceBytes int64 // of weights
	Bytes       int64 // of weights
	Weights     int64
	Tensors     []TensorResult
}

// BitsPerWeight is the mean over all weights.
func (r *Result) BitsPerWeight() float64 { return float64(r.Bytes) * 8 / float64(max(r.Weights, 1)) }

// TensorResult tells a tensor's types.
type TensorResult struct {
	Name     string
	From, To gguf.Type
	Dims     []int64
}

// File quantises the GGUF file src to dst. dst is replaced when all is written and synchronised; until then
// the work stands in a file beside it, which is removed when ctx ends or something fails.
func File(ctx context.Context, dst, src string, o Options) (res *Result, err error) {
	f, err := gguf.Open(src)
	if err != nil {
		return nil, fmt.Errorf("quantize: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for _, p := range f.Parts() {
		if same, err := sameFile(dst, p.Path); err != nil || same {
			if err == nil {
				err = fmt.Errorf("quantize: %s: %w: source and result are the same file", dst, ErrUnsupported)
			}
			return nil, err
		}
	}
	jobs, err := plan(f, &o)
	if err != nil {
		return nil, err
	}
	tmp, err := os.CreateTemp(filepath.Dir(dst), "."+filepath.Base(dst)+".*.part")
	if err != nil {
		return nil, fmt.Errorf("quantize: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	res, err = write(ctx, tmp, f, jobs, &o)
	if err == nil {
		err = tmp.Chmod(0o644)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return nil, wrap(err)
	}
	if err = os.Rename(tmp.Name(), dst); err != nil {
		return nil, wrap(err)
	}
	return res, nil
}

// wrap names the package once.
func wrap(err error) error {
	if strings.HasPrefix(err.Error(), "quantize: ") {
		return err
	}
	return fmt.Errorf("quantize: %w", err)
}

func sameFile(a, b string) (bool, error) {
	x, err := os.Stat(a)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("quantize: %w", err)
	}
	y, err := os.Stat(b)
	if err != nil {
		return false, fmt.Errorf("quantize: %w", err)
	}
	return os.SameFile(x, y), nil
}

// A job is what becomes of a tensor.
type job struct {
	t   *gguf.Tensor
	to  gguf.Type
	imp []float32 // one row of weights for every matrix of the stack, or nil
}

// plan decides about every tensor, in the order of the result: those of no layer first, then layer by layer, by name.
func plan(f *gguf.File, o *Options) ([]job, error) {
	if kind, err := f.String("general.type"); err == nil && kind != "model" {
		return nil, fmt.Errorf("quantize: %s: %w: general.type is %q: only models are quantised", f.Path, ErrUnsupported, kind)
	}
	jobs := make([]job, 0, len(f.Tensors()))
	for i := range f.Tensors() {
		jobs = append(jobs, job{t: &f.Tensors()[i]})
	}
	slices.SortFunc(jobs, func(a, b job) int {
		if la, lb := layerOf(a.t.Name), layerOf(b.t.Name); la != lb {
			return la - lb
		}
		return strings.Compare(a.t.Name, b.t.Name)
	})
	c := newChooser(f, jobs, o)
	for i := range jobs {
		j := &jobs[i]
		to, err := c.choose(j.t)
		if err != nil {
			return nil, err
		}
		if j.to = to; to == j.t.Type {
			continue
		}
		if err := c.fits(j); err != nil {
			return nil, err
		}
	}
	return jobs, nil
}

// layerOf is the layer in a tensor's name, -1 where there is none.
func layerOf(name string) int {
	rest, ok := strings.CutPrefix(name, "blk.")
	if !ok {
		return -1
	}
	digits, _, ok := strings.Cut(rest, ".")
	n, err := strconv.Atoi(digits)
	if !ok || err != nil || n < 0 {
		return -1
	}
	return n
}

// write writes header and data.
func write(ctx context.Context, out io.Writer, f *gguf.File, jobs []job, o *Options) (*Result, error) {
	var w gguf.Writer
	for _, key := range f.Keys() {
		switch key {
		case "general.quantization_version", "general.file_type", "split.no", "split.count", "split.tensors.count":
		case "general.alignment": // the result is aligned to the default
		default:
			w.Copy(f, key)
		}
	}
	w.Put("general.quantization_version", uint32(2))
	w.Put("general.file_type", o.Mixture.FileType)
	if o.Importance != nil {
		w.Put("quantize.imatrix.file", o.Importance.Path)
		if o.Importance.Dataset != "" {
			w.Put("quantize.imatrix.dataset", o.Importance.Dataset)
		}
		w.Put("quantize.imatrix.entries_count", uint32(len(o.Importance.byName)))
		if o.Importance.Chunks > 0 {
			w.Put("quantize.imatrix.chunks_count", uint32(o.Importance.Chunks))
		}
	}
	res := &Result{}
	var total, done int64
	for _, j := range jobs {
		size := w.Declare(j.t.Name, j.to, j.t.Dims)
		res.Bytes += size
		res.SourceBytes += int64(len(j.t.Data))
		res.Weights += j.t.Elements()
		res.Tensors = append(res.Tensors, TensorResult{j.t.Name, j.t.Type, j.to, j.t.Dims})
	}
	total = res.SourceBytes
	head, err := w.Header()
	if err != nil {
		return nil, err
	}
	b := bufio.NewWriterSize(out, 1<<20)
	if _, err := b.Write(head); err != nil {
		return nil, err
	}
	e := newEncoder(o.Threads)
	for i := range jobs {
		j := &jobs[i]
		report := func(n int64) {
			done += n
			if o.Progress != nil {
				o.Progress(j.t.Name, done, total)
			}
		}
		report(0)
		n, err := e.tensor(ctx, b, f, j, report)
		if err != nil {
			return nil, fmt.Errorf("quantize: %s: tensor %s: %w", f.Path, j.t.Name, err)
		}
		if _, err := b.Write(make([]byte, gguf.Padded(n)-n)); err != nil {
			return nil, err
		}
	}
	return res, b.Flush()
}

// slabBytes bounds what is encoded before it is written, and chunkWeights is what a thread takes at a time.
const (
	slabBytes    = 8 << 20
	chunkWeights = 1 << 16
)

// encoder holds the buffers.
type encoder struct {
	threads int
	out     []byte
	rows    [][]float32 // of a thread
}

func newEncoder(threads int) *encoder {
	if threads <= 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	return &encoder{threads: threads, rows: make([][]float32, threads)}
}

// tensor writes the data of one tensor and returns its size.
func (e *encoder) tensor(ctx context.Context, w io.Writer, f *gguf.File, j *job, report func(n int64)) (int64, error) {
	if j.to == j.t.Type {
		for data := j.t.Data; len(data) > 0; {
			n := min(len(data), slabBytes)
			if _, err := w.Write(data[:n]); err != nil {
				return 0, err
			}
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			forget(f, j.t, len(j.t.Data)-len(data), n)
			report(int64(n))
			data = data[n:]
		}
		return int64(len(j.t.Data)), nil
	}
	cols := int(j.t.Dims[0])
	rows := int(j.t.Elements() / int64(cols))
	from, to := j.t.Type.Format(), j.to.Format()
	in, out := from.RowBytes(cols), to.RowBytes(cols)
	slab := max(1, slabBytes/out)
	if len(e.out) < slab*out {
		e.out = make([]byte, slab*out)
	}
	for r := 0; r < rows; r += slab {
		n := min(slab, rows-r)
		if err := e.slab(j, e.out[:n*out], r, n, cols); err != nil {
			return 0, err
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if _, err := w.Write(e.out[:n*out]); err != nil {
			return 0, err
		}
		forget(f, j.t, r*in, n*in)
		report(int64(n * in))
	}
	return int64(rows) * int64(out), nil
}

// slab encodes rows [first, first+n) with all threads.
func (e *encoder) slab(j *job, dst []byte, first, n, cols int) error {
	from, to := j.t.Type.Format(), j.to.Format()
	in, out := from.RowBytes(cols), to.RowBytes(cols)
	chunk := max(1, chunkWeights/cols)
	perMatrix := int(j.t.Dims[1])
	var next atomic.Int64
	errs := make([]error, e.threads)
	var wg sync.WaitGroup
	for k := range e.threads {
		if len(e.rows[k]) < cols {
			e.rows[k] = make([]float32, cols)
		}
		row := e.rows[k][:cols]
		wg.Go(func() {
			for {
				lo := int(next.Add(1)-1) * chunk
				if lo >= n || errs[k] != nil {
					return
				}
				for i := lo; i < min(lo+chunk, n); i++ {
					r := first + i
					quant.Decode(from, row, j.t.Data[r*in:(r+1)*in])
					var imp []float32
					if j.imp != nil {
						m := r / perMatrix % (len(j.imp) / cols)
						imp = j.imp[m*cols : (m+1)*cols]
					}
					if err := quant.EncodeRow(to, dst[i*out:(i+1)*out], row, imp); err != nil {
						errs[k] = fmt.Errorf("row %d: %w", r, err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// forget lets go of pages of the source that have been read, so that it does not fill the memory. It is a hint.
func forget(f *gguf.File, t *gguf.Tensor, off, n int) {
	if parts := f.Parts(); t.Part < len(parts) {
		_ = parts[t.Part].Mapping.AdviseRange(int(t.Offset)+off, n, mmap.DontNeed)
	}
}
