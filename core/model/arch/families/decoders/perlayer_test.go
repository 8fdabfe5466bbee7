package decoders

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"edged/core/model/arch"
	"edged/core/model/arch/keys"
)

// TestSharers: a layer without keys and values of its own reads those of the last layer of its own kind that has some.
func TestSharers(t *testing.T) {
	const s, f = true, false // sliding, full
	for _, c := range []struct {
		kinds  string
		shared int
		want   []int
		err    string
	}{
		{"sfsf", 0, []int{0, 0, 0, 0}, ""},
		{"sfsfsf", 2, []int{0, 0, 0, 0, 3, 4}, ""},
		{"ssssfssssf", 4, []int{0, 0, 0, 0, 0, 0, 6, 6, 6, 5}, ""},
		{"sssf", 1, nil, "layer 3 reads the keys and values of a layer of its kind before layer 3"},
		{"sfsf", 4, nil, "num_kv_shared_layers is 4 of 4 layers"},
		{"sfsf", -1, nil, "num_kv_shared_layers is -1 of 4 layers"},
	} {
		var sliding []bool
		for _, kind := range c.kinds {
			sliding = append(sliding, map[rune]bool{'s': s, 'f': f}[kind])
		}
		k := keys.Config(map[string]any{"num_kv_shared_layers": int64(c.shared)}, func(string) []int { return nil })
		got := sharers(k, sliding)
		switch {
		case c.err != "":
			if k.Err() == nil || !strings.Contains(k.Err().Error(), c.err) {
				t.Errorf("%s, %d: %v, want %q", c.kinds, c.shared, k.Err(), c.err)
			}
		case k.Err() != nil || !slices.Equal(got, c.want):
			t.Errorf("%s, %d: %v, %v; want %v", c.kinds, c.shared, got, k.Err(), c.want)
		}
	}
}

// readGemma4 reads a configuration of four layers with changes.
func readGemma4(change map[string]any) (*arch.Spec, error) {
	config := map[string]any{
		"model_type": "gemma4_text", "hidden_size": json.Number("64"), "num_hidden_layers": json.Number("4"), "num_attention_heads": json.Number("4"),
		"num_key_value_heads": json.Number("2"), "head_dim": json.Number("16"), "intermediate_size": json.Number("96"),
		"hidden_size_per_layer_input": json.Number("8"), "global_head_dim": json.Number("32"), "num_kv_shared_layers": json.Number("2"),
		"layer_types": []any{"sliding_attention", "full_attention", "sliding_attention", "full_attention"},
	}
	maps.Copy(config, change)
	k := keys.Config(config, func(name string) []int {
		if name == arch.PerLayerName {
			return []int{40, 32}
		}
		return nil
	})
	k.SetVocab(40)
	f := gemma4()
	return f.Read(k)
}

// TestSharedTensors: layers that read others' keys and values have no tensors for them and keep none; a folder that holds some all
// the same is read without them.
func TestSharedTensors(t *testing.T) {
	s, err := readGemma4(nil)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	if err := arch.Tensors(s, func(x arch.Tensor) error { names[x.Name] = true; return nil }); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"attn_k.weight", "attn_v.weight", "attn_k_norm.weight"} {
		for layer, own := range []bool{true, true, false, false} {
			name := arch.LayerName(layer, part)
			if names[name] != own || s.Unread(name) == own {
				t.Errorf("%s: listed %v, passed over %v", name, names[name], s.Unread(name))
			}
		}
	}
	for _, name := range []string{"blk.2.attn_q.weight", "blk.2.ffn_up.weight", "blk.9.attn_k.weight", "attn_k.weight", "blk.2.attn_k.0.weight"} {
		if s.Unread(name) {
			t.Errorf("%s is passed over", name)
		}
	}
	if all := arch.Memory(s); len(all) != 2 || all[0].KeyDim != 16 || all[1].KeyDim != 32 || all[1].Window != 0 || all[0].Window != 512 {
		t.Errorf("what is kept of a position: %+v", all)
	}
}

// TestGemma4Spellings: the two ways of saying which heads the layers without a window have mean the same.
func TestGemma4Spellings(t *testing.T) {
	old, err := readGemma4(map[string]any{"attention_k_eq_v": true, "num_global_key_value_heads": json.Number("1")})
	if err != nil {
		t.Fatal(err)
	}
	one := map[string]any{"head_dim": json.Number("32"), "num_key_value_heads": json.Number("1")}
	fresh, err := readGemma4(map[string]any{"attention_k_eq_v": true, "global_head_dim": nil, "per_layer_config": map[string]any{"1": one, "3": one}})
	if err != nil {
		t.Fatal(err)
	}
	if old.Canonical() != fresh.Canonical() {
		t.Errorf("%s\n%s", old.Canonical(), fresh.Canonical())
	}
	if a := old.Layers[1][0].Op.(arch.Attention); a.KVHeads != 1 || !a.KeyValue || a.KeyDim != 32 || old.Layers[0][0].Op.(arch.Attention).KeyValue {
		t.Errorf("%+v", a)
	}
	for want, change := range map[string]map[string]any{
		"use_bidirectional_attention":     {"use_bidirectional_attention": "all"},
		"per_layer_token_embd":            {"hidden_size_per_layer_input": json.Number("9")},
		"keeps none of its sizes":         {"per_layer_config": map[string]any{"1": one, "3": map[string]any{"head_dim": json.Number("16")}}},
		`"gelu" with this family`:         {"hidden_activation": "gelu"},
		"layer_types has \"convolution\"": {"layer_types": []any{"convolution", "full_attention", "sliding_attention", "full_attention"}},
	} {
		if _, err := readGemma4(change); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", change, err, want)
		}
	}
}
