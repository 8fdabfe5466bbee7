package kinds_test

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edged/core/model/lora/kinds"
	"edged/core/model/safetensors"
)

// golden is testdata/peft.json, which testdata/make.py writes.
type golden struct {
	Cases map[string]struct {
		Config  json.RawMessage          `json:"config"`
		Tensors map[string]goldenTensor  `json:"tensors"`
		Modules map[string]*goldenModule `json:"modules"`
	} `json:"cases"`
}

type goldenTensor struct {
	DType string    `json:"dtype"`
	Shape []int64   `json:"shape"`
	Data  []float64 `json:"data"`
}

type goldenModule struct {
	Out      int       `json:"out"`
	In       int       `json:"in"`
	W        []float32 `json:"w"`
	Bias     []float32 `json:"bias"`
	WantW    []float32 `json:"want_w"`
	WantBias []float32 `json:"want_bias"`
}

func (g *goldenTensor) tensor(t *testing.T, name string) *safetensors.Tensor {
	t.Helper()
	out := &safetensors.Tensor{Name: name, Shape: g.Shape}
	for _, v := range g.Data {
		switch g.DType {
		case "float32":
			out.DType, out.Data = safetensors.F32, binary.LittleEndian.AppendUint32(out.Data, math.Float32bits(float32(v)))
		case "int32":
			out.DType, out.Data = safetensors.I32, binary.LittleEndian.AppendUint32(out.Data, uint32(int32(v)))
		case "int64":
			out.DType, out.Data = safetensors.I64, binary.LittleEndian.AppendUint64(out.Data, uint64(int64(v)))
		default:
			t.Fatalf("%s: %s", name, g.DType)
		}
	}
	return out
}

// TestPEFT: the changes of matrices and biases are those that PEFT makes of the same adapters.
func TestPEFT(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "peft.json"))
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	if len(g.Cases) < 20 {
		t.Fatalf("%d cases", len(g.Cases))
	}
	for name, c := range g.Cases {
		t.Run(name, func(t *testing.T) {
			config := struct {
				Type   string   `json:"peft_type"`
				Rank   float64  `json:"r"`
				Alpha  float64  `json:"lora_alpha"`
				Other  *float64 `json:"alpha"`
				RSLoRA bool     `json:"use_rslora"`
				kinds.Options
			}{Options: kinds.Defaults()}
			if err := json.Unmarshal(c.Config, &config); err != nil {
				t.Fatal(err)
			}
			config.Options.Alpha = config.Other
			other := 8.0
			if config.Other != nil {
				other = *config.Other
			}
			switch name {
			case "kasa":
				config.Type = kinds.KaSA
			case "pissa":
				config.Type = kinds.PiSSA
			}
			largest := kinds.Size{}
			for _, m := range c.Modules {
				largest.Out, largest.In = max(largest.Out, m.Out), max(largest.In, m.In)
			}
			r := kinds.NewReader(name, config.Type, config.Options, &largest)
			tensors := map[string]map[string]*safetensors.Tensor{}
			for full, v := range c.Tensors {
				module, part := r.Split(full)
				switch {
				case part == "":
					t.Fatalf("tensor %s is of no part", full)
				case module == "":
					if !r.Share(part, v.tensor(t, full)) {
						t.Fatalf("tensor %s is there twice", full)
					}
				default:
					if tensors[module] == nil {
						tensors[module] = map[string]*safetensors.Tensor{}
						r.Modules = append(r.Modules, module)
					}
					tensors[module][part] = v.tensor(t, full)
				}
			}
			slices.Sort(r.Modules)
			for module, m := range c.Modules {
				change, err := r.Build(kinds.Module{
					Name: module, Tensors: tensors[module], Alpha: config.Alpha, Rank: config.Rank, Lycoris: other, Stabilised: config.RSLoRA,
				})
				if err != nil {
					t.Fatal(err)
				}
				w, bias := apply(t, change, m)
				near(t, module+": weight", w, m.WantW)
				near(t, module+": bias", bias, m.WantBias)
			}
		})
	}
}

func near(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i, v := range got {
		if math.Abs(float64(v-want[i])) > 2e-5 {
			t.Fatalf("%s: value %d is %g, want %g", what, i, v, want[i])
		}
	}
}

// apply makes the changed matrix and bias, as package lora does.
func apply(t *testing.T, c *kinds.Change, m *goldenModule) (w, bias []float32) {
	t.Helper()
	out, in := m.Out, m.In
	if c.Fits != nil {
		if err := c.Fits(out, in); err != nil {
			t.Fatal(err)
		}
	}
	rank := c.B.Cols
	if c.Dense {
		rank = in
	}
	a, b := make([]float32, c.A.Rows*in), make([]float32, out*rank)
	for row := range out {
		own := m.W[row*in : (row+1)*in]
		if c.See != nil {
			c.See(row, own)
		}
		if c.Minus {
			for i, v := range own {
				b[row*in+i] = -v
			}
		}
	}
	if c.Check != nil {
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
	}
	if c.Derive != nil {
		c.Derive(a, b, in)
	}
	w, bias = slices.Clone(m.W), make([]float32, out)
	for row := range out {
		own := m.W[row*in : (row+1)*in]
		if c.Times != nil {
			c.Times(row, own, b[row*rank:(row+1)*rank])
		}
		for i := range in {
			if c.Dense {
				w[row*in+i] += float32(c.Scale) * b[row*in+i]
				continue
			}
			for k := range rank {
				w[row*in+i] += float32(c.Scale) * b[row*rank+k] * a[k*in+i]
			}
		}
		had := float32(0)
		if m.Bias != nil {
			had = m.Bias[row]
		}
		bias[row] = had
		if c.Bias != nil && (m.Bias != nil || !c.BiasOfBias) {
			bias[row] += c.Bias(row, own, had)
		}
	}
	return w, bias
}

// TestRefused: what the files do not say, or say wrongly, is refused by one sentence that names the module.
func TestRefused(t *testing.T) {
	f := func(shape ...int64) *goldenTensor {
		n := int64(1)
		for _, d := range shape {
			n *= d
		}
		g := &goldenTensor{DType: "float32", Shape: shape, Data: make([]float64, n)}
		for i := range g.Data {
			g.Data[i] = 0.5
		}
		return g
	}
	const q, d = "model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.dense"
	for _, c := range []struct {
		name, kind, module, want string
		edit                     func(o *kinds.Options)
		parts                    map[string]*goldenTensor
		shared                   map[string]*goldenTensor
	}{
		{name: "places of other values", kind: "SHIRA", parts: map[string]*goldenTensor{"shira_weight": f(3), "shira_indices": {DType: "int32", Shape: []int64{2, 2}, Data: []float64{0, 1, 0, 1}}}, want: "do not belong together"},
		{name: "no places", kind: "SHIRA", parts: map[string]*goldenTensor{"shira_weight": f(3)}, want: "has no shira_indices"},
		{name: "places in floats", kind: "SHIRA", parts: map[string]*goldenTensor{"shira_weight": f(2), "shira_indices": f(2, 2)}, want: "want whole numbers"},
		{name: "unsaved places", kind: "SUPERTUNING", parts: map[string]*goldenTensor{"supertuning_values": f(3)}, want: "save_precomputed_indices=True"},
		{name: "a decomposition", kind: "DEFT", parts: map[string]*goldenTensor{"deft_P": f(8, 2), "deft_R": f(2, 12)}, edit: func(o *kinds.Options) { o.Decomposition = "svd" }, want: `"svd" of DEFT`},
		{name: "ranks of DEFT", kind: "DEFT", parts: map[string]*goldenTensor{"deft_P": f(8, 2), "deft_R": f(3, 12)}, want: "do not belong together"},
		{name: "an activation", kind: "PEANUT", parts: map[string]*goldenTensor{"peanut_A": f(2, 8), "peanut_B": f(8, 2)}, edit: func(o *kinds.Options) { o.Activation = "mish" }, want: `act_fn "mish"`},
		{name: "too few encoders", kind: "PEANUT", parts: map[string]*goldenTensor{"peanut_A": f(2, 8), "peanut_B": f(8, 2)}, edit: func(o *kinds.Options) { o.Depth = 1 }, want: "has no peanut_encoders.0"},
		{name: "drawn anew", kind: "PVERA", parts: map[string]*goldenTensor{"pvera_lambda_b": f(8), "pvera_lambda_d": f(4)}, edit: func(o *kinds.Options) { o.Sample = true }, want: "sample_at_inference"},
		{name: "an odd mean", kind: "PVERA", parts: map[string]*goldenTensor{"pvera_lambda_b": f(8), "pvera_lambda_d": f(3)}, want: "want an even number"},
		{name: "no projection of TinyLoRA", kind: "TINYLORA", parts: map[string]*goldenTensor{"tinylora_A": f(2, 12), "tinylora_B": f(8, 2)}, want: "save_projection=True"},
		{name: "an order that is not known", kind: "TINYLORA", module: d, parts: map[string]*goldenTensor{"tinylora_A": f(2, 12), "tinylora_B": f(8, 2), "tinylora_P": f(4, 2, 2)}, shared: map[string]*goldenTensor{"tinylora_v.0": f(4)}, want: "in the order of the model's modules"},
		{name: "no vector", kind: "TINYLORA", parts: map[string]*goldenTensor{"tinylora_A": f(2, 12), "tinylora_B": f(8, 2), "tinylora_P": f(4, 2, 2)}, want: "has no tinylora_v.0"},
		{name: "blocks of GraLoRA", kind: "GRALORA", parts: map[string]*goldenTensor{"gralora_A": f(2, 6, 3), "gralora_B": f(2, 3, 4)}, want: "do not belong together"},
		{name: "no projection of FRoD", kind: "FROD", parts: map[string]*goldenTensor{"frod_lambda_l": f(12), "frod_lambda_s_values": f(2)}, want: "has no frod_V.self_attn_q_proj"},
		{name: "all singular values", kind: "OSF", parts: map[string]*goldenTensor{"osf_svd_params.U_low": f(8, 8), "osf_svd_params.S_low": f(8), "osf_svd_params.V_low": f(8, 12)}, want: "do not belong together"},
		{name: "another rank", kind: kinds.PiSSA, parts: map[string]*goldenTensor{"lora_A": f(2, 12), "lora_B": f(8, 2)}, want: "are not of rank 8"},
		{name: "two biases", kind: "BEFT", parts: map[string]*goldenTensor{"beft_bias": f(2, 8)}, want: "want one row"},
		{name: "a path of GLoRA", kind: "GLORA", parts: map[string]*goldenTensor{"glora_A.X": f(8, 2)}, want: "want a number or a column"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := kinds.Defaults()
			if c.edit != nil {
				c.edit(&o)
			}
			module := c.module
			if module == "" {
				module = q
			}
			r := kinds.NewReader("some/path", c.kind, o, &kinds.Size{Out: 8, In: 12})
			r.Modules = []string{module}
			for part, v := range c.shared {
				r.Share(part, v.tensor(t, part))
			}
			tensors := map[string]*safetensors.Tensor{}
			for part, v := range c.parts {
				tensors[part] = v.tensor(t, module+"."+part)
			}
			_, err := r.Build(kinds.Module{Name: module, Tensors: tensors, Alpha: 8, Rank: 8, Lycoris: 8})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), module) && !strings.Contains(err.Error(), "sample_at") && !strings.Contains(err.Error(), "of DEFT") && !strings.Contains(err.Error(), "act_fn") {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
