package transformer

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"edged/core/model/arch"
	"edged/plugins/backend-generic/x86"
	"edged/quant"
	"edged/quant/kernel"
)

// memory is a model in memory, of random weights.
type memory struct {
	arch string
	h    Hyper
	m    map[string]*quant.Matrix
	v    map[string][]float32
	rng  *rand.Rand
	over map[string][]float64 // what the reference takes in the place of matrices
}

func (s *memory) Matrix(name string) *quant.Matrix      { return s.m[name] }
func (s *memory) Vector(name string) ([]float32, error) { return s.v[name], nil }

func (s *memory) values(name string) (w []float64, cols int) {
	if w := s.over[name]; w != nil {
		return w, s.m[name].Cols
	}
	return widen(s.m[name])
}

func (s *memory) open(tb testing.TB, o Options) *Model {
	tb.Helper()
	return s.openErr(tb, o, "")
}

func (s *memory) openErr(tb testing.TB, o Options, want string) *Model {
	tb.Helper()
	if o.Kernels == nil {
		o.Kernels = x86.Best()
	}
	m, err := newModel(s, s.h.spec(s.arch), o)
	if want != "" {
		wantError(tb, err, want)
		return nil
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := m.Close(); err != nil {
			tb.Error(err)
		}
	})
	return m
}

// newMemory makes a model of the architecture with all the tensors it has.
func newMemory(family string, h Hyper) *memory {
	s := &memory{arch: family, h: h, m: map[string]*quant.Matrix{}, v: map[string][]float32{}, rng: rand.New(rand.NewPCG(1, uint64(len(family))))}
	s.matrix("token_embd.weight", h.VocabRows, h.Width, 1)
	s.matrix("output.weight", h.VocabRows, h.Width, 1)
	s.vector("output_norm.weight", h.Width, 1)
	gpt2 := family == "gpt2"
	if gpt2 {
		s.matrix("position_embd.weight", h.Context, h.Width, 0.5)
		s.vector("output_norm.bias", h.Width, 0)
	}
	q, kv := h.Heads*h.HeadDim, h.KVHeads*h.HeadDim
	for i := range h.Layers {
		n := func(part string) string { return arch.LayerName(i, part) }
		s.vector(n("attn_norm.weight"), h.Width, 1)
		s.vector(n("ffn_norm.weight"), h.Width, 1)
		s.linear(n("attn_q"), q, h.Width, gpt2 || family == "qwen2")
		s.linear(n("attn_k"), kv, h.Width, gpt2 || family == "qwen2")
		s.linear(n("attn_v"), kv, h.Width, gpt2 || family == "qwen2")
		s.linear(n("attn_output"), h.Width, q, gpt2)
		switch {
		case gpt2:
			s.vector(n("attn_norm.bias"), h.Width, 0)
			s.vector(n("ffn_norm.bias"), h.Width, 0)
			s.linear(n("ffn_up"), h.FFN, h.Width, true)
			s.linear(n("ffn_down"), h.Width, h.FFN, true)
		case family == "mixtral":
			s.linear(n("ffn_gate_inp"), h.Experts, h.Width, false)
			for e := range h.Experts {
				s.linear(n(fmt.Sprintf("ffn_gate.%d", e)), h.FFN, h.Width, false)
				s.linear(n(fmt.Sprintf("ffn_up.%d", e)), h.FFN, h.Width, false)
				s.linear(n(fmt.Sprintf("ffn_down.%d", e)), h.Width, h.FFN, false)
			}
		default:
			if family == "qwen3" {
				s.vector(n("attn_q_norm.weight"), h.HeadDim, 1)
				s.vector(n("attn_k_norm.weight"), h.HeadDim, 1)
			}
			s.linear(n("ffn_gate"), h.FFN, h.Width, false)
			s.linear(n("ffn_up"), h.FFN, h.Width, false)
			s.linear(n("ffn_down"), h.Width, h.FFN, false)
		}
	}
	return s
}

func (s *memory) linear(name string, out, in int, bias bool) {
	s.matrix(name+".weight", out, in, 2/math.Sqrt(float64(in)))
	if bias {
		s.vector(name+".bias", out, 0)
	}
}

func (s *memory) matrix(name string, rows, cols int, scale float64) {
	s.m[name] = randomMatrix(s.rng, name, rows, cols, scale)
}

func randomMatrix(rng *rand.Rand, name string, rows, cols int, scale float64) *quant.Matrix {
	data := make([]byte, 0, 4*rows*cols)
	for range rows * cols {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(scale*rng.NormFloat64())))
	}
	return &quant.Matrix{Name: name, Format: quant.F32, Rows: rows, Cols: cols, Data: data}
}

func (s *memory) vector(name string, n int, mean float64) {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(mean + 0.3*s.rng.NormFloat64())
	}
	s.v[name] = v
}

// encode stores all matrices but the router in format f, as a quantised file would.
func (s *memory) encode(tb testing.TB, f quant.Format) *memory {
	tb.Helper()
	for name, m := range s.m {
		if m.Cols%f.BlockSize() != 0 || name == "position_embd.weight" {
			continue
		}
		x := make([]float32, m.Rows*m.Cols)
		quant.Decode(quant.F32, x, m.Data)
		data := make([]byte, f.Bytes(int64(m.Rows), int64(m.Cols)))
		if err := quant.Encode(f, data, x); err != nil {
			tb.Fatal(err)
		}
		s.m[name] = &quant.Matrix{Name: name, Format: f, Rows: m.Rows, Cols: m.Cols, Data: data}
	}
	return s
}

// encodeNF4 stores the matrices of the layers as bitsandbytes does, with nested scales.
func (s *memory) encodeNF4() {
	code := [16]float32{-1, -0.6962, -0.5251, -0.3949, -0.2844, -0.1848, -0.0911, 0, 0.0796, 0.1609, 0.2461, 0.3379, 0.4407, 0.5626, 0.7230, 1}
	for name, m := range s.m {
		if !strings.HasPrefix(name, "blk.") || m.Cols%64 != 0 {
			continue
		}
		n := m.Rows * m.Cols
		b := &quant.BnBScale{BlockSize: 64, Code: code, NestedBlock: 256, NestedOffset: 0.25}
		for i := range 256 {
			b.NestedMap = append(b.NestedMap, float32(i-128)/128)
		}
		for range n/64/256 + 1 {
			b.NestedAbsmax = append(b.NestedAbsmax, 0.1)
		}
		data := make([]byte, n/2)
		for i := range data {
			data[i] = byte(s.rng.Uint32())
		}
		for range n / 64 {
			b.AbsmaxQ = append(b.AbsmaxQ, byte(s.rng.Uint32()))
		}
		s.m[name] = &quant.Matrix{Name: name, Format: quant.NF4, Rows: m.Rows, Cols: m.Cols, Data: data, BnB: b}
	}
}

func widen(m *quant.Matrix) ([]float64, int) {
	x := make([]float32, m.Cols)
	out := make([]float64, 0, m.Rows*m.Cols)
	for r := range m.Rows {
		quant.Row(x, m, r)
		for _, v := range x {
			out = append(out, float64(v))
		}
	}
	return out, m.Cols
}

// reference computes the logits of every position in float64, naively and from the definitions: one vector at a time, no
// cache, no blocks. freq are the frequencies of RoPE, amp what multiplies its sines and cosines.
func (s *memory) reference(ids []int32, freq []float64, amp float64) [][]float64 {
	return s.referenceBehind(nil, ids, freq, amp)
}

// referenceBehind is reference with inputs of the first positions given.
func (s *memory) referenceBehind(before [][]float64, ids []int32, freq []float64, amp float64) [][]float64 {
	h := &s.h
	embed, _ := s.values("token_embd.weight")
	x := make([][]float64, len(before)+len(ids))
	for p := range x {
		if p < len(before) {
			x[p] = append([]float64(nil), before[p]...)
		} else {
			id := int(ids[p-len(before)])
			x[p] = append([]float64(nil), embed[id*h.Width:(id+1)*h.Width]...)
		}
		if s.arch == "gpt2" {
			pos, _ := s.values("position_embd.weight")
			addTo(x[p], pos[p*h.Width:(p+1)*h.Width])
		}
	}
	for i := range h.Layers {
		s.refAttention(i, x, freq, amp)
		for p := range x {
			n := s.refNorm(x[p], arch.LayerName(i, "ffn_norm"))
			addTo(x[p], s.refMLP(i, n))
		}
	}
	out := make([][]float64, len(x))
	for p := range x {
		out[p] = s.refLinear("output", s.refNorm(x[p], "output_norm"))
	}
	return out
}

func (s *memory) refLinear(name string, x []float64) []float64 {
	w, cols := s.values(name + ".weight")
	y := make([]float64, len(w)/cols)
	for r := range y {
		for c, v := range x {
			y[r] += w[r*cols+c] * v
		}
		if b := s.v[name+".bias"]; b != nil {
			y[r] += float64(b[r])
		}
	}
	return y
}

func (s *memory) refNorm(x []float64, name string) []float64 {
	w, b := s.v[name+".weight"], s.v[name+".bias"]
	mean, ms := 0.0, 0.0
	if s.arch == "gpt2" {
		for _, v := range x {
			mean += v / float64(len(x))
		}
	}
	for _, v := range x {
		ms += (v - mean) * (v - mean) / float64(len(x))
	}
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = (v - mean) / math.Sqrt(ms+float64(s.h.NormEps)) * float64(w[i])
		if b != nil {
			y[i] += float64(b[i])
		}
	}
	return y
}

func (s *memory) refAttention(layer int, x [][]float64, freq []float64, amp float64) {
	h := &s.h
	n := func(part string) string { return arch.LayerName(layer, part) }
	var q, k, v [][]float64
	for p := range x {
		y := s.refNorm(x[p], n("attn_norm"))
		q, k, v = append(q, s.refLinear(n("attn_q"), y)), append(k, s.refLinear(n("attn_k"), y)), append(v, s.refLinear(n("attn_v"), y))
		for i, y := range [][]float64{q[p], k[p]} {
			norm := n([]string{"attn_q_norm", "attn_k_norm"}[i])
			for at := 0; at < len(y); at += h.HeadDim {
				head := y[at : at+h.HeadDim]
				if s.arch == "qwen3" {
					copy(head, s.refNorm(head, norm))
				}
				for i, f := range freq {
					a, b := i, i+len(freq)
					if h.Interleaved {
						a, b = 2*i, 2*i+1
					}
					sin, cos := math.Sincos(float64(p) * f)
					head[a], head[b] = amp*(head[a]*cos-head[b]*sin), amp*(head[a]*sin+head[b]*cos)
				}
			}
		}
	}
	for p := range x {
		o := make([]float64, h.Heads*h.HeadDim)
		for head := range h.Heads {
			kv := head / (h.Heads / h.KVHeads)
			lo := 0
			if h.Window > 0 {
				lo = max(0, p-h.Window+1)
			}
			w := make([]float64, p+1)
			sum := 0.0
			for j := lo; j <= p; j++ {
				dot := 0.0
				for c := range h.HeadDim {
					dot += q[p][head*h.HeadDim+c] * k[j][kv*h.HeadDim+c]
				}
				w[j] = math.Exp(dot / math.Sqrt(float64(h.HeadDim)))
				sum += w[j]
			}
			for j := lo; j <= p; j++ {
				for c := range h.HeadDim {
					o[head*h.HeadDim+c] += w[j] / sum * v[j][kv*h.HeadDim+c]
				}
			}
		}
		addTo(x[p], s.refLinear(n("attn_output"), o))
	}
}

func (s *memory) refMLP(layer int, x []float64) []float64 {
	n := func(part string) string { return arch.LayerName(layer, part) }
	switch s.arch {
	case "gpt2":
		y := s.refLinear(n("ffn_up"), x)
		for i, v := range y {
			y[i] = 0.5 * v * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(v+0.044715*v*v*v)))
		}
		return s.refLinear(n("ffn_down"), y)
	case "mixtral":
		p := s.refLinear(n("ffn_gate_inp"), x)
		sum := 0.0
		for e := range p {
			p[e] = math.Exp(p[e])
		}
		// Hugging Face: soft-max over all, the largest ones, normalised.
		out := make([]float64, len(x))
		chosen := map[int]bool{}
		for range s.h.ExpertsUsed {
			best := -1
			for e := range p {
				if !chosen[e] && (best < 0 || p[e] > p[best]) {
					best = e
				}
			}
			chosen[best] = true
			sum += p[best]
		}
		for e := range chosen {
			y := s.refSwiGLU(n(fmt.Sprintf("ffn_gate.%d", e)), n(fmt.Sprintf("ffn_up.%d", e)), n(fmt.Sprintf("ffn_down.%d", e)), x)
			for i := range out {
				out[i] += p[e] / sum * y[i]
			}
		}
		return out
	default:
		return s.refSwiGLU(n("ffn_gate"), n("ffn_up"), n("ffn_down"), x)
	}
}

func (s *memory) refSwiGLU(gate, up, down string, x []float64) []float64 {
	a, b := s.refLinear(gate, x), s.refLinear(up, x)
	for i := range a {
		a[i] = a[i] / (1 + math.Exp(-a[i])) * b[i]
	}
	return s.refLinear(down, a)
}

func addTo(x, d []float64) {
	for i := range x {
		x[i] += d[i]
	}
}

// tiny returns small hyper-parameters for an architecture.
func tiny(arch string) Hyper {
	h := Hyper{
		Layers: 2, Width: 64, Heads: 4, KVHeads: 2, HeadDim: 16, FFN: 96, VocabRows: 70, Context: 1200, NormEps: 1e-5,
		RopeDim: 16, RopeTheta: 10000,
	}
	switch arch {
	case "gpt2":
		h.KVHeads, h.RopeDim, h.RopeTheta = 4, 0, 0
	case "qwen3":
		h.HeadDim, h.RopeDim, h.NormEps = 32, 32, 1e-6 // not Width/Heads
	case "mixtral":
		h.Experts, h.ExpertsUsed = 8, 2
	case "mistral":
		h.Interleaved = true
	}
	return h
}

// plainFreq is base^(-2i/dim).
func plainFreq(h *Hyper) []float64 {
	f := make([]float64, h.RopeDim/2)
	for i := range f {
		f[i] = math.Pow(h.RopeTheta, -2*float64(i)/float64(h.RopeDim))
	}
	return f
}

func randomIDs(n, vocab int, seed uint64) []int32 {
	rng := rand.New(rand.NewPCG(seed, 7))
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(rng.IntN(vocab))
	}
	return ids
}

// TestReference holds every architecture, and what no oracle covers (sliding windows within and across spans, heads that
// are wider than Width/Heads, partly rotated heads, YaRN's attention factor), against the float64 definitions.
func TestReference(t *testing.T) {
	type variant struct {
		name, arch string
		n          int
		change     func(h *Hyper)
	}
	for _, v := range []variant{
		{"llama", "llama", 40, nil},
		{"llama long", "llama", 1100, func(h *Hyper) { h.Layers = 1 }},
		{"llama interleaved", "llama", 40, func(h *Hyper) { h.Interleaved = true }},
		{"llama half rotated", "llama", 40, func(h *Hyper) { h.RopeDim = 8 }},
		{"llama yarn", "llama", 70, func(h *Hyper) {
			h.RopeScaling = arch.Scaling{Kind: "yarn", Factor: 4, Original: 32, BetaFast: 32, BetaSlow: 1}
		}},
		{"mistral", "mistral", 40, nil},
		{"mistral window 1", "mistral", 40, func(h *Hyper) { h.Window = 1 }},
		{"mistral window 7", "mistral", 70, func(h *Hyper) { h.Window = 7 }},
		{"mistral window 600", "mistral", 1150, func(h *Hyper) { h.Window, h.Layers = 600, 1 }},
		{"qwen2", "qwen2", 40, nil},
		{"qwen3", "qwen3", 40, nil},
		{"gpt2", "gpt2", 40, nil},
		{"mixtral", "mixtral", 40, nil},
		{"mixtral window", "mixtral", 40, func(h *Hyper) { h.Window, h.ExpertsUsed = 5, 3 }},
	} {
		t.Run(v.name, func(t *testing.T) {
			h := tiny(v.arch)
			if v.change != nil {
				v.change(&h)
			}
			s := newMemory(v.arch, h)
			m := s.open(t, Options{Precision: kernel.Exact, Context: h.Context, MaxRows: 48})
			ids := randomIDs(v.n, h.VocabRows, 3)
			freq, amp := plainFreq(&h), 1.0
			if h.RopeScaling.Kind == "yarn" {
				freq, amp = yarnFormula(&h)
			}
			want := s.reference(ids, freq, amp)
			got, seq := (&runner{t: t, m: m}).logits(ids)
			defer seq.Free()
			worst, at := 0.0, 0
			for p := range want {
				for i, w := range want[p] {
					if e := math.Abs(float64(got[p*h.VocabRows+i]) - w); !(e <= worst) {
						worst, at = e, p
					}
				}
			}
			t.Logf("largest error %.2g at position %d", worst, at)
			if worst > 1e-3 {
				t.Errorf("largest error %g at position %d", worst, at)
			}
		})
	}
}

func wantError(tb testing.TB, err error, want string) {
	tb.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		tb.Errorf("error %v, want one that says %q", err, want)
	}
}

// yarnFormula is the published definition, as transformers' modeling_rope_utils.py has it.
func yarnFormula(h *Hyper) ([]float64, float64) {
	sc := &h.RopeScaling
	dim, base := float64(h.RopeDim), h.RopeTheta
	correction := func(rotations float64) float64 {
		return dim * math.Log(float64(sc.Original)/(rotations*2*math.Pi)) / (2 * math.Log(base))
	}
	low, high := max(math.Floor(correction(sc.BetaFast)), 0), min(math.Ceil(correction(sc.BetaSlow)), dim-1)
	if low == high {
		high += 0.001
	}
	freq := plainFreq(h)
	for i, f := range freq {
		ramp := min(max((float64(i)-low)/(high-low), 0), 1)
		extrapolate := 1 - ramp
		freq[i] = f/sc.Factor*(1-extrapolate) + f*extrapolate
	}
	attention := sc.Amplitude
	if attention == 0 {
		attention = 0.1*math.Log(sc.Factor) + 1
	}
	return freq, attention
}
