package quantize

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"edged/core/model/gguf"
	"edged/quant"
)

// Activations gathers what a model's matrices are multiplied with, and makes an importance matrix of it. The
// zero value but for Dataset and ChunkSize is ready.
type Activations struct {
	Dataset   string // name of the text
	ChunkSize int    // tokens of a piece of the text
	Chunks    int    // pieces so far
	byName    map[string]*activations
}

// activations are those of one tensor.
type activations struct {
	squares []float64 // (matrices, columns), summed
	counts  []int64   // (matrices): inputs that each met
}

// Add adds squares (matrices, columns), summed over so many inputs of each matrix of the tensor name. A stack
// may grow, as not every piece of text asks every expert.
func (a *Activations) Add(name string, squares []float32, counts []int64) error {
	if len(counts) == 0 || len(squares)%len(counts) != 0 {
		return fmt.Errorf("quantize: %w: %s: %d values for %d matrices", ErrImportance, name, len(squares), len(counts))
	}
	for i, v := range squares {
		if !(v >= 0) || math.IsInf(float64(v), 1) {
			return fmt.Errorf("quantize: %w: %s: the squares of column %d add up to %v: the model's values overflow", ErrImportance, name, i, v)
		}
	}
	if a.byName == nil {
		a.byName = map[string]*activations{}
	}
	x := a.byName[name]
	if x == nil {
		x = &activations{}
		a.byName[name] = x
	}
	if n := len(x.counts); n > 0 && len(x.squares)/n != len(squares)/len(counts) {
		return fmt.Errorf("quantize: %w: %s: %d columns after %d", ErrImportance, name, len(squares)/len(counts), len(x.squares)/n)
	}
	for len(x.squares) < len(squares) {
		x.squares = append(x.squares, 0)
	}
	for len(x.counts) < len(counts) {
		x.counts = append(x.counts, 0)
	}
	for i, v := range squares {
		x.squares[i] += float64(v)
	}
	for i, n := range counts {
		x.counts[i] += n
	}
	return nil
}

// Fit gives what was gathered the names and shapes of a file's tensors: a tensor of queries, keys and values
// in one has the queries' input, and a stack whose last experts were never asked has all of them. What the
// file has no tensor for is dropped; the number of tensors that are left comes back.
func (a *Activations) Fit(path string) (n int, err error) {
	f, err := gguf.Open(path)
	if err != nil {
		return 0, fmt.Errorf("quantize: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	fitted := map[string]*activations{}
	for i := range f.Tensors() {
		t := &f.Tensors()[i]
		x := a.byName[t.Name]
		if x == nil {
			x = a.byName[strings.Replace(t.Name, "attn_qkv.weight", "attn_q.weight", 1)]
		}
		if x == nil || len(t.Dims) < 2 {
			continue
		}
		cols, stack := int(t.Dims[0]), 1
		if len(t.Dims) > 2 {
			stack = int(t.Dims[2])
		}
		if len(x.squares)/len(x.counts) != cols || len(x.counts) > stack {
			continue
		}
		y := &activations{squares: make([]float64, cols*stack), counts: make([]int64, stack)}
		copy(y.squares, x.squares)
		copy(y.counts, x.counts)
		fitted[t.Name] = y
	}
	a.byName = fitted
	return len(fitted), nil
}

// Importance is the matrix, under a name for messages.
func (a *Activations) Importance(path string) *Importance {
	m := &Importance{Path: path, Dataset: a.Dataset, Chunks: a.Chunks, byName: map[string][]float32{}}
	for name, x := range a.byName {
		values := make([]float32, len(x.squares))
		for i, v := range x.squares {
			values[i] = 1 // an expert that was never asked
			if n := x.counts[i/(len(x.squares)/len(x.counts))]; n > 0 {
				values[i] = float32(v) / float32(n)
			}
		}
		m.byName[name] = values
	}
	return m
}

// WriteFile writes the matrix as llama-imatrix does, in the older format where path ends in .dat and as GGUF
// otherwise. The file appears whole or not at all.
func (a *Activations) WriteFile(path string) (err error) {
	names := slices.Sorted(maps.Keys(a.byName))
	if len(names) == 0 {
		return fmt.Errorf("quantize: %s: %w: nothing was measured", path, ErrImportance)
	}
	var b bytes.Buffer
	if strings.HasSuffix(path, ".dat") {
		a.old(&b, names)
	} else if err := a.gguf(&b, names); err != nil {
		return fmt.Errorf("quantize: %s: %w", path, err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.part")
	if err != nil {
		return fmt.Errorf("quantize: %w", err)
	}
	_, err = tmp.Write(b.Bytes())
	if err == nil {
		err = tmp.Chmod(0o644)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if closed := tmp.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name()) // the first error counts
		return fmt.Errorf("quantize: %w", err)
	}
	return nil
}

// gguf writes the format that readGGUF reads.
func (a *Activations) gguf(b *bytes.Buffer, names []string) error {
	var w gguf.Writer
	w.Put("general.type", "imatrix")
	w.Put("imatrix.datasets", []string{a.Dataset})
	w.Put("imatrix.chunk_count", uint32(a.Chunks))
	w.Put("imatrix.chunk_size", uint32(a.ChunkSize))
	for _, name := range names {
		x := a.byName[name]
		n := int64(len(x.counts))
		var sums, counts []byte
		for _, v := range x.squares {
			sums = binary.LittleEndian.AppendUint32(sums, math.Float32bits(float32(v)))
		}
		for _, v := range x.counts {
			counts = binary.LittleEndian.AppendUint32(counts, math.Float32bits(float32(v)))
		}
		w.Add(name+".in_sum2", quant.F32, []int64{int64(len(x.squares)) / n, n}, sums)
		w.Add(name+".counts", quant.F32, []int64{1, n}, counts)
	}
	_, err := w.WriteTo(b)
	return err
}

// old writes the format that readOld reads.
func (a *Activations) old(b *bytes.Buffer, names []string) {
	number := func(n int) { b.Write(binary.LittleEndian.AppendUint32(nil, uint32(int32(n)))) }
	number(len(names))
	for _, name := range names {
		x := a.byName[name]
		number(len(name))
		b.WriteString(name)
		// Means times the number of pieces, which readers divide by.
		size := int64(max(a.ChunkSize, 1))
		calls := (slices.Max(x.counts) + size - 1) / size
		number(int(calls))
		number(len(x.squares))
		for i, v := range x.squares {
			mean := float32(1)
			if n := x.counts[i/(len(x.squares)/len(x.counts))]; n > 0 {
				mean = float32(v) / float32(n)
			}
			b.Write(binary.LittleEndian.AppendUint32(nil, math.Float32bits(mean*float32(calls))))
		}
	}
	number(a.Chunks)
	number(len(a.Dataset))
	b.WriteString(a.Dataset)
}

// Divergence compares what two models would go on with, position by position: the second's perplexity and its
// Kullback-Leibler divergence from the first, over the same tokens.
type Divergence struct {
	Tokens int
	first  float64 // sums of negative log-probabilities
	second float64
	kl     float64 // summed
	kl2    float64 // squares summed
	same   int     // positions whose likeliest tokens agree
	logp   []float64
	MaxKL  float64 // of a position
	delta2 float64 // changes of the probability of the token that came, squares summed
}

// Add takes a position: the logits of both models and the token that came.
func (d *Divergence) Add(p, q []float32, token int32) error {
	if len(p) != len(q) || token < 0 || int(token) >= len(p) {
		return fmt.Errorf("quantize: %w: %d and %d logits: the models have different vocabularies", ErrUnsupported, len(p), len(q))
	}
	if len(d.logp) < 2*len(p) {
		d.logp = make([]float64, 2*len(p))
	}
	a, b := d.logp[:len(p)], d.logp[len(p):2*len(p)]
	topP, topQ := logSoftmax(a, p), logSoftmax(b, q)
	kl := a[0] - a[0] + b[0] - b[0] // 0, or not a number where a logit is none
	for i, x := range a {
		if w := math.Exp(x); w > 0 {
			kl += w * (x - b[i])
		}
	}
	if kl-kl != 0 {
		return fmt.Errorf("quantize: %w: a model's logits are not finite", ErrUnsupported)
	}
	d.Tokens++
	d.kl += kl
	d.kl2 += kl * kl
	d.MaxKL = max(d.MaxKL, kl)
	d.first -= a[token]
	d.second -= b[token]
	delta := math.Exp(b[token]) - math.Exp(a[token])
	d.delta2 += delta * delta
	if topP == topQ {
		d.same++
	}
	return nil
}

// logSoftmax makes log-probabilities y of logits x and returns the place of the largest.
func logSoftmax(y []float64, x []float32) (top int) {
	for i, v := range x {
		if v > x[top] {
			top = i
		}
	}
	sum := 0.0
	for _, v := range x {
		sum += math.Exp(float64(v) - float64(x[top]))
	}
	norm := float64(x[top]) + math.Log(sum)
	for i, v := range x {
		y[i] = float64(v) - norm
	}
	return top
}

// Perplexities are those of both models: exp of the mean negative log-probability of the tokens that came.
func (d *Divergence) Perplexities() (first, second float64) {
	n := float64(max(d.Tokens, 1))
	return math.Exp(d.first / n), math.Exp(d.second / n)
}

// KL is the mean divergence in nats, and the standard error of that mean.
func (d *Divergence) KL() (mean, deviation float64) {
	n := float64(max(d.Tokens, 1))
	mean = d.kl / n
	if d.Tokens > 1 {
		deviation = math.Sqrt(max(d.kl2/n-mean*mean, 0) / (n - 1))
	}
	return mean, deviation
}

// Same is the share of positions whose likeliest tokens agree.
func (d *Divergence) Same() float64 { return float64(d.same) / float64(max(d.Tokens, 1)) }

// Delta is the root of the mean square by which the probability of the token that came changed.
func (d *Divergence) Delta() float64 { return math.Sqrt(d.delta2 / float64(max(d.Tokens, 1))) }
