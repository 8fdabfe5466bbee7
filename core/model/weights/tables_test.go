package weights_test

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"edged/core/model/weights"
	"edged/test/oracle"
)

// perLayerModel is the committed tiny model whose layers have rows of their own for each token, of 272 rows of 8 layers by 8 values.
func perLayerModel(t *testing.T) string {
	t.Helper()
	return filepath.Join(oracle.Repo(t), "core", "infer", "transformer", "testdata", "families", "gemma4")
}

// TestTablesStayOnDisk: the table of which a token reads one row counts apart from what must be in memory, and is not read ahead.
func TestTablesStayOnDisk(t *testing.T) {
	const table = 272 * 64 * 2
	folder := perLayerModel(t)
	for _, path := range []string{folder, filepath.Join(folder, "gemma4.gguf")} {
		file := path
		if path == folder {
			file = filepath.Join(folder, "model.safetensors")
		}
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		heads, err := weights.OpenHeaders(path)
		if err != nil {
			t.Fatal(err)
		}
		defer heads.Close()
		m := open(t, path)
		m.AdviseTables()
		f := m.Figures()
		if f != heads.Figures() {
			t.Errorf("%s: %+v; of its headers %+v", path, f, heads.Figures())
		}
		if f.OnDisk != table || f.Total >= info.Size()-table {
			t.Errorf("%s: %+v of a file of %d bytes", path, f, info.Size())
		}
		var read int64
		if err := m.Populate(func(_, total int64) error { read = total; return nil }); err != nil {
			t.Fatal(err)
		}
		if read != info.Size()-table {
			t.Errorf("%s: %d of %d bytes are read ahead, want all but %d", path, read, info.Size(), table)
		}
	}
}

// TestKeptKeys: a folder that holds keys and values of layers which read those of others, as published ones do, is read without them.
func TestKeptKeys(t *testing.T) {
	from, to := perLayerModel(t), t.TempDir()
	write(t, filepath.Join(to, "config.json"), read(t, filepath.Join(from, "config.json")))
	tensors := read(t, filepath.Join(from, "model.safetensors"))
	n := 8 + binary.LittleEndian.Uint64(tensors)
	header := map[string]any{}
	if err := json.Unmarshal(tensors[8:n], &header); err != nil {
		t.Fatal(err)
	}
	data := tensors[n:]
	for _, name := range []string{"self_attn.k_proj.weight", "self_attn.v_proj.weight", "self_attn.k_norm.weight"} {
		shape := []int{8, 32}
		if name == "self_attn.k_norm.weight" {
			shape = []int{8}
		}
		size := 2
		for _, d := range shape {
			size *= d
		}
		header["model.layers.6."+name] = map[string]any{"dtype": "F16", "shape": shape, "data_offsets": []int{len(data), len(data) + size}}
		data = append(slices.Clip(data), make([]byte, size)...)
	}
	text, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	for len(text)%8 != 0 {
		text = append(text, ' ')
	}
	write(t, filepath.Join(to, "model.safetensors"), append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...), data...))
	m := open(t, to)
	if m.Matrix("blk.6.attn_k.weight") != nil || m.Matrix("blk.6.attn_q.weight") == nil || m.Matrix("blk.3.attn_k.weight") == nil {
		t.Error("another layer's keys were passed over")
	}
}
