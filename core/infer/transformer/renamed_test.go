package transformer

import (
	"encoding/binary"
	"encoding/json"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edged/quant/kernel"
	"edged/test/oracle"
)

// TestRenamed holds families of which no reference model is at hand to models that compute the same by their definition: a DistilBERT is a
// BERT whose positions hold the row of the first token type, and an MPNet whose table of distances is zero is a RoBERTa.
func TestRenamed(t *testing.T) {
	dir := filepath.Join(oracle.Dir(t), "encoders")
	for _, c := range []struct {
		from   string
		names  []string // old, new
		config map[string]any
		more   map[string][]int // shapes of tensors of zeros
	}{
		{
			from: "bert-mean", names: []string{
				"encoder.layer.", "transformer.layer.", "attention.self.query", "attention.q_lin", "attention.self.key", "attention.k_lin",
				"attention.self.value", "attention.v_lin", "attention.output.dense", "attention.out_lin", "attention.output.LayerNorm", "sa_layer_norm",
				"intermediate.dense", "ffn.lin1", "output.dense", "ffn.lin2", "output.LayerNorm", "output_layer_norm",
			},
			config: map[string]any{
				"model_type": "distilbert", "dim": "hidden_size", "n_heads": "num_attention_heads", "n_layers": "num_hidden_layers", "hidden_dim": "intermediate_size",
			},
		},
		{
			from: "roberta-mean", names: []string{
				"attention.self.query", "attention.attn.q", "attention.self.key", "attention.attn.k", "attention.self.value", "attention.attn.v",
				"attention.output.dense", "attention.attn.o", "attention.output.LayerNorm", "attention.LayerNorm",
			},
			config: map[string]any{"model_type": "mpnet"},
			more:   map[string][]int{"encoder.relative_attention_bias.weight": {32, 4}},
		},
	} {
		t.Run(c.config["model_type"].(string), func(t *testing.T) {
			to := t.TempDir()
			config := map[string]any{}
			readJSON(t, filepath.Join(dir, c.from, "hf/config.json"), &config)
			for key, v := range c.config {
				if old, ok := config[v.(string)]; ok {
					v = old
				}
				config[key] = v
			}
			text, err := json.Marshal(config)
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, filepath.Join(to, "config.json"), text)
			writeFile(t, filepath.Join(to, "model.safetensors"), renamed(t, filepath.Join(dir, c.from, "hf/model.safetensors"), c.names, c.more))
			var want encoderCase
			readJSON(t, filepath.Join(dir, c.from, "oracle/enc.json"), &want)
			r, w := openRunner(t, to, Options{Kernels: kernel.Portable{}, Precision: kernel.Exact, MaxRows: 512, Context: 512})
			states := make([]float32, len(want.Lists[0].IDs)*w.Spec.Width)
			if err := r.m.Encode([]Text{{IDs: want.Lists[0].IDs, States: states}}); err != nil {
				t.Fatal(err)
			}
			closeTo(t, "states", states, readNPY(t, filepath.Join(dir, c.from, "oracle/hf.hidden.p0.npy")), w.Spec.Width, 2e-3, 0.99999)
		})
	}
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// renamed is a safetensors file in float32 with other names, with the row of the first token type added to every position, without a
// pooler, and with some tensors of zeros.
func renamed(t *testing.T, path string, names []string, more map[string][]int) []byte {
	t.Helper()
	type entry struct {
		DType   string `json:"dtype"`
		Shape   []int  `json:"shape"`
		Offsets [2]int `json:"data_offsets"`
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := int(binary.LittleEndian.Uint64(file))
	raw, old := map[string]json.RawMessage{}, map[string]entry{}
	if err := json.Unmarshal(file[8:8+n], &raw); err != nil {
		t.Fatal(err)
	}
	for name, v := range raw {
		var e entry
		if name == "__metadata__" {
			continue
		}
		if err := json.Unmarshal(v, &e); err != nil || e.DType != "F32" {
			t.Fatalf("%s: %v, %v", name, e.DType, err)
		}
		old[name] = e
	}
	data := func(name string) []byte {
		e := old[name]
		return slices.Clone(file[8+n+e.Offsets[0] : 8+n+e.Offsets[1]])
	}
	find := func(end string) string {
		for name := range old {
			if strings.HasSuffix(name, end) {
				return name
			}
		}
		t.Fatalf("%s has no %s", path, end)
		return ""
	}
	positions, types := find("position_embeddings.weight"), find("token_type_embeddings.weight")
	head, body := map[string]entry{}, []byte{}
	put := func(name string, shape []int, b []byte) {
		head[name] = entry{"F32", shape, [2]int{len(body), len(body) + len(b)}}
		body = append(body, b...)
	}
	for _, name := range slices.Sorted(maps.Keys(old)) {
		b := data(name)
		switch {
		case name == types, strings.Contains(name, "pooler."):
			continue
		case name == positions:
			row := data(types)[:4*old[types].Shape[1]]
			for at := 0; at < len(b); at += 4 {
				sum := math.Float32frombits(binary.LittleEndian.Uint32(b[at:])) + math.Float32frombits(binary.LittleEndian.Uint32(row[at%len(row):]))
				binary.LittleEndian.PutUint32(b[at:], math.Float32bits(sum))
			}
		}
		put(strings.NewReplacer(names...).Replace(name), old[name].Shape, b)
	}
	for _, name := range slices.Sorted(maps.Keys(more)) {
		put(name, more[name], make([]byte, 4*more[name][0]*more[name][1]))
	}
	text, err := json.Marshal(head)
	if err != nil {
		t.Fatal(err)
	}
	return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...), body...)
}
