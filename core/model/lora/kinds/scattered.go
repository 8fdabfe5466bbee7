package kinds

import (
	"strconv"
	"strings"

	"edged/core/model/arch"
	"edged/core/model/safetensors"
)

// shira adds trained values at the places that the file keeps beside them (Bhardwaj et al. 2024), whatever chose those.
func (r *Reader) shira(module string) (*Change, error) {
	value, s, err := r.tensor(module, "shira_weight", 1)
	if err != nil {
		return nil, err
	}
	place, n, err := r.integers(module, "shira_indices")
	if err != nil {
		return nil, err
	}
	if len(n) != 2 || n[0] != 2 || n[1] != s[0] {
		return nil, r.fail(arch.ErrInvalid, "module %s: shira_weight %v and shira_indices %v do not belong together", module, s, n)
	}
	return &Change{
		Scale: 1,
		Dense: true,
		Fits: func(out, in int) error {
			for i, row := range place[:s[0]] {
				if col := place[s[0]+i]; row < 0 || row >= int64(out) || col < 0 || col >= int64(in) {
					return r.fail(
						arch.ErrMismatch,
						"module %s: shira_indices names (%d, %d), and the model's matrix is (%d, %d): it was trained on another model",
						module,
						row,
						col,
						out,
						in,
					)
				}
			}
			return nil
		},
		Derive: func(_, b []float32, in int) {
			for i, v := range value {
				b[int(place[i])*in+int(place[s[0]+i])] += v
			}
		},
	}, nil
}

// supertuning adds trained values at the places of the file, and LoRA where that was trained beside them.
func (r *Reader) supertuning(module string) (*Change, error) {
	value, s, err := r.tensor(module, "supertuning_values", 1)
	if err != nil {
		return nil, err
	}
	if r.t["supertuning_indices"] == nil {
		return nil, r.fail(
			arch.ErrUnsupported,
			"module %s has no supertuning_indices, and which weights are the largest cannot be told where some are alike: save it with save_precomputed_indices=True",
			module,
		)
	}
	place, n, err := r.integers(module, "supertuning_indices")
	if err != nil {
		return nil, err
	}
	if len(n) != 1 || n[0] != s[0] {
		return nil, r.fail(
			arch.ErrInvalid,
			"module %s: supertuning_values %v and supertuning_indices %v do not belong together",
			module,
			s,
			n,
		)
	}
	var a, b dense
	if r.t["supertuning_lora_A"] != nil {
		if a, b, err = r.factors(module, "supertuning_lora_A", "supertuning_lora_B"); err != nil {
			return nil, err
		}
	}
	alpha := r.of.Alpha
	return &Change{
		A: Shape{Cols: a.cols}, B: Shape{Rows: b.rows}, Scale: 1,
		Dense: true,
		Fits: func(out, in int) error {
			for _, p := range place {
				if p < 0 || p >= int64(out)*int64(in) {
					return r.fail(
						arch.ErrMismatch,
						"module %s: supertuning_indices names value %d, and the model's matrix is (%d, %d): it was trained on another model",
						module,
						p,
						out,
						in,
					)
				}
			}
			return nil
		},
		Derive: func(_, to []float32, in int) {
			if a.x != nil {
				scale := float32(alpha / float64(a.rows))
				for i, v := range b.times(a).x {
					to[i] = v * scale
				}
			}
			for i, p := range place {
				to[p] += value[i]
			}
		},
	}, nil
}

// integers reads a tensor of whole numbers, of a module or of all: its values and its shape.
func (r *Reader) integers(module, part string) ([]int64, []int, error) {
	t := r.t[part]
	if t == nil {
		t = r.shared[part]
	}
	if t == nil {
		return nil, nil, r.fail(arch.ErrInvalid, "module %s has no %s: the file is incomplete; save the adapter anew", module, part)
	}
	size := map[safetensors.DType]int{safetensors.U8: 1, safetensors.I16: 2, safetensors.I32: 4, safetensors.I64: 8}[t.DType]
	if size == 0 {
		return nil, nil, r.fail(arch.ErrInvalid, "tensor %s has type %v: want whole numbers", t.Name, t.DType)
	}
	shape := make([]int, len(t.Shape))
	for i, d := range t.Shape {
		shape[i] = int(d)
	}
	out := make([]int64, len(t.Data)/size)
	for i := range out {
		for b := size - 1; b >= 0; b-- {
			out[i] = out[i]<<8 | int64(t.Data[i*size+b])
		}
	}
	return out, shape, nil
}

// number is a number as names have it.
func number(n int) string { return strconv.Itoa(n) }

// cutLast cuts the last word off a dotted name.
func cutLast(name string) (last, before string) {
	at := strings.LastIndexByte(name, '.')
	return name[at+1:], name[:max(at, 0)]
}

func lastOf(name string) string {
	last, _ := cutLast(name)
	return last
}

func digits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
