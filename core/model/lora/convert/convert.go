// Package convert writes a LoRA adapter in another container than it came in: PEFT's folder as a GGUF file, and back.
//
// It must not know how an adapter is read, which is package lora's, nor where files go: it gives tensors and metadata.
package convert

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"edged/core/model/arch"
	"edged/core/model/arch/families"
	"edged/core/model/gguf"
	"edged/core/model/lora"
	"edged/core/model/safetensors"
	"edged/quant"
)

// fail is an error about an adapter that cannot be written.
func fail(a *lora.Adapter, kind error, format string, args ...any) error {
	return fmt.Errorf("lora: %s: %w: %s", a.Path, kind, fmt.Sprintf(format, args...))
}

// plain refuses what neither container has as LoRA: all but factors of matrices and of the embedding.
func plain(a *lora.Adapter) error {
	what := ""
	switch {
	case a.Prompt != nil || a.Prefix != nil || a.Prompts != nil:
		what = "virtual tokens"
	case a.Norms != nil:
		what = "trained norms"
	case a.Embed != nil && a.Embed.Magnitude != nil:
		what = "DoRA of the embedding"
	}
	for _, name := range slices.Sorted(maps.Keys(a.Mods)) {
		switch d := a.Mods[name]; {
		case d.A == nil:
			what = "a change of " + name + " that has no low rank"
		case d.Magnitude != nil:
			what = "DoRA of " + name
		case d.Bias != nil:
			what = "a bias beside " + name
		}
		if what != "" {
			break
		}
	}
	if what != "" {
		return fail(
			a,
			lora.ErrUnsupported,
			"it has %s, which cannot be written as plain LoRA; merge it into the model with PEFT's merge_and_unload",
			what,
		)
	}
	return nil
}

// GGUF writes the adapter as llama.cpp reads it: factors in the type that they are stored in, of each matrix
// and stack of experts of the GGUF model m, whose tensors stored names with their dimensions (nil: it has
// none). Every kind that is of low rank becomes LoRA. llama.cpp knows one alpha for all modules; scales that
// differ, or that rank-stabilised LoRA has, are kept by multiplying B.
func GGUF(a *lora.Adapter, m lora.Base, stored func(name string) []int64) (*gguf.Writer, error) {
	if err := plain(a); err != nil {
		return nil, err
	}
	var w gguf.Writer
	w.Put("general.architecture", families.Stored(m.Network().Family))
	w.Put("general.type", "adapter")
	w.Put("adapter.type", "lora")
	if a.Base != "" {
		w.Put("general.base_model.count", uint32(1))
		w.Put("general.base_model.0.name", a.Base)
	}
	alpha := commonAlpha(a)
	w.Put("adapter.lora.alpha", alpha)
	if len(a.Invocation) > 0 {
		ids := make([]uint32, len(a.Invocation))
		for i, id := range a.Invocation {
			ids[i] = uint32(id)
		}
		w.Put("adapter.alora.invocation_tokens", ids)
	}
	if d := a.Embed; d != nil {
		if stored(arch.EmbedName) == nil {
			return nil, fail(a, lora.ErrMismatch, "the model's file has no %s", arch.EmbedName)
		}
		put(&w, arch.EmbedName, scaled(d, d.A.Cols, alpha), nil)
	}
	stacks, done := map[string][]*lora.Delta{}, map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(a.Mods)) {
		d := a.Mods[name]
		switch fused, whole := fused(a, m, name, stored); {
		case stored(name) != nil:
			put(&w, name, scaled(d, d.A.Rows, alpha), nil)
			continue
		case whole != nil:
			if !done[fused] {
				put(&w, fused, scaled(whole, whole.A.Rows, alpha), nil)
			}
			done[fused] = true
			continue
		}
		stack, expert, count := expertOf(name, stored)
		if stack == "" {
			return nil, fail(
				a,
				lora.ErrUnsupported,
				"it changes %s, which the model's file has not got by itself, but tied to another matrix or as a part of one: llama.cpp has no adapter of it",
				name,
			)
		}
		if stacks[stack] == nil {
			stacks[stack] = make([]*lora.Delta, count)
		}
		stacks[stack][expert] = scaled(d, d.A.Rows, alpha)
	}
	for _, name := range slices.Sorted(maps.Keys(stacks)) {
		put(&w, name, nil, stacks[name])
	}
	return &w, nil
}

// commonAlpha is the one that most modules have: their scale times their rank.
func commonAlpha(a *lora.Adapter) float32 {
	count := map[float32]int{}
	for _, d := range a.Mods {
		count[alphaOf(d, d.A.Rows)]++
	}
	if a.Embed != nil {
		count[alphaOf(a.Embed, a.Embed.A.Cols)]++
	}
	best := float32(1) // of an adapter that changes nothing
	for v, n := range count {
		if v != 0 && (count[best] < n || count[best] == n && v < best) {
			best = v
		}
	}
	return best
}

// alphaOf is a whole number where it is one but for the rounding of a scale.
func alphaOf(d *lora.Delta, rank int) float32 {
	v := float64(d.Scale) * float64(rank)
	if r := math.Round(v); math.Abs(v-r) <= 1e-6*math.Abs(v) {
		v = r
	}
	return float32(v)
}

// scaled is a change whose B holds what alpha does not say of its scale.
func scaled(d *lora.Delta, rank int, alpha float32) *lora.Delta {
	own := alphaOf(d, rank)
	if own == alpha {
		return d
	}
	b := floatsOf(d.B)
	for i := range b.values {
		b.values[i] = float32(float64(b.values[i]) * float64(own) / float64(alpha))
	}
	return &lora.Delta{A: d.A, B: b.matrix(d.B), Scale: d.Scale}
}

// float32s are the values of a matrix.
type float32s struct{ values []float32 }

func floatsOf(m *quant.Matrix) float32s {
	out := make([]float32, m.Rows*m.Cols)
	for r := range m.Rows {
		quant.Row(out[r*m.Cols:(r+1)*m.Cols], m, r)
	}
	return float32s{out}
}

func (f float32s) matrix(like *quant.Matrix) *quant.Matrix {
	data := make([]byte, 4*len(f.values))
	if err := quant.Encode(quant.F32, data, f.values); err != nil {
		panic(err) // float32 holds every float32
	}
	return &quant.Matrix{Name: like.Name, Format: quant.F32, Rows: like.Rows, Cols: like.Cols, Data: data}
}

// fused is the change of the matrix of the model's file that name is a part of, put together of those of all
// its parts; nil where it is none, or where they do not share their first factor, as those of one adapter of
// the whole do.
func fused(a *lora.Adapter, m lora.Base, name string, stored func(name string) []int64) (string, *lora.Delta) {
	pattern, numbers := arch.SplitNumbers(strings.TrimSuffix(name, ".weight"))
	for _, x := range m.Network().Fixes {
		s, ok := x.(arch.Split)
		whole := arch.JoinNumbers(s.Of, numbers) + ".weight"
		if !ok || !slices.Contains(s.Into, pattern) || stored(whole) == nil || s.Stored && s.Groups > 1 {
			continue
		}
		var first *lora.Delta
		var b []float32
		for _, p := range m.Network().Pieces(&s, numbers) {
			if p.Rows == 0 {
				continue
			}
			d := a.Mods[p.Name+".weight"]
			if d == nil {
				return "", nil
			}
			if first == nil {
				first = d
			}
			if d.Scale != first.Scale || d.A.Rows != first.A.Rows || !slices.Equal(floatsOf(d.A).values, floatsOf(first.A).values) {
				return "", nil
			}
			b = append(b, floatsOf(d.B).values...)
		}
		if first == nil {
			return "", nil
		}
		up := float32s{b}.matrix(&quant.Matrix{Name: whole, Rows: len(b) / first.B.Cols, Cols: first.B.Cols})
		return whole, &lora.Delta{A: first.A, B: up, Scale: first.Scale}
	}
	return "", nil
}

// expertOf is the stack of the model's file that an expert's matrix stands in, its place there, and how many there are.
func expertOf(name string, stored func(name string) []int64) (stack string, expert, count int) {
	at := strings.LastIndexByte(strings.TrimSuffix(name, ".weight"), '.')
	if at < 0 {
		return "", 0, 0
	}
	var n int
	if _, err := fmt.Sscanf(name[at+1:], "%d.weight", &n); err != nil || n < 0 {
		return "", 0, 0
	}
	stack = name[:at] + "_exps.weight"
	dims := stored(stack)
	if len(dims) != 3 || int64(n) >= dims[2] {
		return "", 0, 0
	}
	return stack, n, int(dims[2])
}

// put adds the factors of a matrix, or of a stack of which some experts may have none.
func put(w *gguf.Writer, name string, d *lora.Delta, stack []*lora.Delta) {
	if d != nil {
		w.Add(name+".lora_a", d.A.Format, []int64{int64(d.A.Cols), int64(d.A.Rows)}, d.A.Data)
		w.Add(name+".lora_b", d.B.Format, []int64{int64(d.B.Cols), int64(d.B.Rows)}, d.B.Data)
		return
	}
	rank, in, out := 0, 0, 0
	for _, d := range stack {
		if d != nil {
			rank, in, out = max(rank, d.A.Rows), d.A.Cols, d.B.Rows
		}
	}
	a, b := make([]float32, len(stack)*rank*in), make([]float32, len(stack)*out*rank)
	for e, d := range stack {
		if d == nil {
			continue
		}
		// llama.cpp divides alpha by the stack's rank, so a smaller one is made up for in B.
		f := float32(rank) / float32(d.A.Rows)
		copy(a[e*rank*in:], floatsOf(d.A).values)
		for o, row := 0, floatsOf(d.B).values; o < out; o++ {
			for k := range d.A.Rows {
				b[(e*out+o)*rank+k] = row[o*d.A.Rows+k] * f
			}
		}
	}
	for _, t := range []struct {
		name       string
		cols, rows int
		values     []float32
	}{{".lora_a", in, rank, a}, {".lora_b", rank, out, b}} {
		m := float32s{t.values}.matrix(&quant.Matrix{Rows: len(stack) * t.rows, Cols: t.cols})
		w.Add(name+t.name, quant.F32, []int64{int64(t.cols), int64(t.rows), int64(len(stack))}, m.Data)
	}
}

// PEFT is the adapter as PEFT reads it, for the folder m: adapter_config.json, and the tensors of
// adapter_model.safetensors.
func PEFT(a *lora.Adapter, m lora.Base) (config []byte, tensors []safetensors.Tensor, err error) {
	if err := plain(a); err != nil {
		return nil, nil, err
	}
	ranks, alphas, targets := map[string]int{}, map[string]float64{}, map[string]bool{}
	add := func(module, part string, x *quant.Matrix) {
		d, ok := map[quant.Format]safetensors.DType{quant.F32: safetensors.F32, quant.F16: safetensors.F16, quant.BF16: safetensors.BF16}[x.Format]
		if !ok {
			x, d = floatsOf(x).matrix(x), safetensors.F32
		}
		tensors = append(tensors, safetensors.Tensor{
			Name: "base_model.model." + module + part, DType: d, Shape: []int64{int64(x.Rows), int64(x.Cols)}, Data: x.Data,
		})
	}
	note := func(module string, d *lora.Delta, rank int) {
		ranks[module], alphas[module], targets[module[strings.LastIndexByte(module, '.')+1:]] = rank, float64(alphaOf(d, rank)), true
	}
	for _, name := range slices.Sorted(maps.Keys(a.Mods)) {
		d := a.Mods[name]
		module := m.Family().ToHF(m.Network(), strings.TrimSuffix(name, ".weight"))
		if back, ok := m.Family().ToGGUF(module); !ok || back+".weight" != name {
			return nil, nil, fail(
				a,
				lora.ErrUnsupported,
				"it changes %s, which is a part of the module %s: PEFT has no adapter of a part",
				name,
				module,
			)
		}
		note(module, d, d.A.Rows)
		add(module, ".lora_A.weight", d.A)
		add(module, ".lora_B.weight", d.B)
	}
	if d := a.Embed; d != nil {
		module := m.Family().ToHF(m.Network(), strings.TrimSuffix(arch.EmbedName, ".weight"))
		note(module, d, d.A.Cols)
		x := floatsOf(d.A)
		turned := make([]float32, len(x.values))
		for r := range d.A.Rows {
			for c := range d.A.Cols {
				turned[c*d.A.Rows+r] = x.values[r*d.A.Cols+c]
			}
		}
		t := float32s{turned}.matrix(&quant.Matrix{Rows: d.A.Cols, Cols: d.A.Rows})
		add(module, ".lora_embedding_A", t)
		add(module, ".lora_embedding_B", d.B)
	}
	rank, alpha := most(ranks), most(alphas)
	maps.DeleteFunc(ranks, func(_ string, v int) bool { return v == rank })
	maps.DeleteFunc(alphas, func(_ string, v float64) bool { return v == alpha })
	c := map[string]any{
		"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": a.Base, "inference_mode": true, "bias": "none",
		"r": rank, "lora_alpha": alpha, "rank_pattern": ranks, "alpha_pattern": alphas, "target_modules": slices.Sorted(maps.Keys(targets)),
	}
	if len(a.Invocation) > 0 {
		c["alora_invocation_tokens"] = a.Invocation
	}
	config, err = json.MarshalIndent(c, "", "  ")
	if err != nil {
		return nil, nil, fmt.Errorf("lora: %s: %w", a.Path, err)
	}
	return append(config, '\n'), tensors, nil
}

// most is the value that most keys have, the smallest of those that are as many.
func most[T int | float64](m map[string]T) T {
	count := map[T]int{}
	for _, v := range m {
		count[v]++
	}
	var best T
	for v, n := range count {
		if n > count[best] || n == count[best] && v < best {
			best = v
		}
	}
	return best
}
