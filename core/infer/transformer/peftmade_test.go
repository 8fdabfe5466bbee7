package transformer

import (
	"encoding/binary"
	"encoding/json"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"edged/core/model/safetensors"
)

// madeKinds writes adapters, of random values, of kinds that the oracle has no folder of: changes of one matrix of llama-tied each, whose
// key projections are (128, 256). What they compute is held against PEFT in package kinds; here they stand beside others.
func madeKinds(t *testing.T) []string {
	t.Helper()
	const out, in, r = 128, 256, 4
	type part struct {
		name  string
		shape []int64 // nil: rows and columns of so many values, none of them twice
	}
	root := t.TempDir()
	var paths []string
	for _, k := range []struct {
		kind   string
		config map[string]any
		parts  []part
		shared []part
	}{
		{kind: "BEFT", parts: []part{{"beft_bias", []int64{1, out}}}},
		{kind: "DEFT", config: map[string]any{"decomposition_method": "qr"}, parts: []part{{"deft_P", []int64{out, r}}, {"deft_R", []int64{r, in}}}},
		{kind: "DELORA", parts: []part{{"delora_A", []int64{r, in}}, {"delora_B", []int64{out, r}}, {"delora_lambda", []int64{1}}, {"delora_w_norm", []int64{in}}}},
		{kind: "GLORA", parts: []part{{"glora_A.Xd", []int64{out, r}}, {"glora_A.Xu", []int64{r, in}}, {"glora_B.X", []int64{out, 1}}}},
		{kind: "GRALORA", config: map[string]any{"alpha": 4, "gralora_k": 2}, parts: []part{{"gralora_A", []int64{2, in / 2, r}}, {"gralora_B", []int64{2, r, out / 2}}}},
		{kind: "HIRA", parts: []part{{"hira_A", []int64{r, in}}, {"hira_B", []int64{out, r}}}},
		{kind: "OSF", parts: []part{{"osf_svd_params.U_low", []int64{out, r}}, {"osf_svd_params.S_low", []int64{r}}, {"osf_svd_params.V_low", []int64{r, in}}}},
		{kind: "PEANUT", config: map[string]any{"depth": 1}, parts: []part{{"peanut_A", []int64{r, out}}, {"peanut_B", []int64{out, r}}, {"peanut_encoders.0", []int64{r, r}}, {"peanut_decoders.0", []int64{r, r}}}},
		{kind: "PVERA", config: map[string]any{"projection_prng_key": 3}, parts: []part{{"pvera_lambda_b", []int64{out}}, {"pvera_lambda_d", []int64{2 * r}}}},
		{kind: "SHIRA", parts: []part{{"shira_weight", []int64{out}}, {"shira_indices", nil}}},
		{kind: "TINYLORA", parts: []part{{"tinylora_A", []int64{r, in}}, {"tinylora_B", []int64{out, r}}, {"tinylora_P", []int64{3, r, r}}}, shared: []part{{"tinylora_v.0", []int64{3}}}},
		{
			kind: "FROD", parts: []part{{"frod_lambda_l", []int64{in}}, {"frod_lambda_s_values", []int64{out}}},
			shared: []part{{"frod_V.self_attn_k_proj", []int64{in, in}}, {"frod_s_indices.self_attn_k_proj", nil}},
		},
	} {
		rng := rand.New(rand.NewPCG(1, uint64(len(paths))))
		var tensors []safetensors.Tensor
		add := func(prefix string, p part) {
			x := safetensors.Tensor{Name: prefix + p.name, DType: safetensors.F32, Shape: p.shape}
			if p.shape == nil {
				x.DType, x.Shape = safetensors.I32, []int64{2, out}
				for i := range 2 * out {
					x.Data = binary.LittleEndian.AppendUint32(x.Data, uint32(i%out))
				}
				tensors = append(tensors, x)
				return
			}
			n := int64(1)
			for _, d := range p.shape {
				n *= d
			}
			for range n {
				x.Data = binary.LittleEndian.AppendUint32(x.Data, math.Float32bits(float32(rng.NormFloat64())/2))
			}
			tensors = append(tensors, x)
		}
		for _, p := range k.parts {
			add("base_model.model.model.layers.0.self_attn.k_proj.", p)
		}
		for _, p := range k.shared {
			add("base_model.", p)
		}
		config := map[string]any{"peft_type": k.kind, "r": r, "target_modules": []string{"k_proj"}}
		maps.Copy(config, k.config)
		dir := filepath.Join(root, k.kind)
		text, err := json.Marshal(config)
		if err == nil {
			err = os.Mkdir(dir, 0o700)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "adapter_config.json"), text, 0o600)
		}
		if err == nil {
			err = safetensors.WriteFile(filepath.Join(dir, "adapter_model.safetensors"), tensors, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, dir)
	}
	return paths
}
