package safetensors_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edged/core/model/safetensors"
)

func sample(tb testing.TB) []byte {
	tb.Helper()
	var b bytes.Buffer
	err := safetensors.Write(&b, []safetensors.Tensor{
		{Name: "a", DType: safetensors.F32, Shape: []int64{2, 3}, Data: bytes.Repeat([]byte{1}, 24)},
		{Name: "empty", DType: safetensors.F16, Shape: []int64{0, 7}},
		{Name: "scalar", DType: safetensors.I64, Data: make([]byte, 8)},
		{Name: "ünï \"q\"", DType: safetensors.U8, Shape: []int64{3}, Data: []byte{7, 8, 9}},
	}, map[string]string{"format": "pt"})
	if err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// raw builds a file from header text.
func raw(header string, body int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, body)...)
}

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	if err := os.WriteFile(path, sample(t), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !cmp.Equal(f.Metadata, map[string]string{"format": "pt"}) || len(f.Tensors()) != 4 {
		t.Errorf("metadata %v, %d tensors", f.Metadata, len(f.Tensors()))
	}
	a, q, scalar := f.Tensor("a"), f.Tensor("ünï \"q\""), f.Tensor("scalar")
	if !cmp.Equal(a.Shape, []int64{2, 3}) || a.Elements() != 6 || len(a.Data) != 24 || a.Data[23] != 1 || a.File != path {
		t.Errorf("a: %+v", a)
	}
	if !bytes.Equal(q.Data, []byte{7, 8, 9}) || scalar.Elements() != 1 || f.Tensor("empty").Elements() != 0 || f.Tensor("b") != nil {
		t.Errorf("q %+v, scalar %+v", q, scalar)
	}
	for range 2 {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestRefuses(t *testing.T) {
	one := func(dtype, shape, offsets string) string {
		return `{"t":{"dtype":"` + dtype + `","shape":` + shape + `,"data_offsets":` + offsets + `}}`
	}
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "0 bytes"},
		{"7 bytes", make([]byte, 7), "cut off"},
		{"huge header", binary.LittleEndian.AppendUint64(nil, 1<<63), "more than the 100000000"},
		{"header beyond the file", append(binary.LittleEndian.AppendUint64(nil, 100), "{}"...), "cut off"},
		{"no JSON", raw("hello", 0), "not valid"},
		{"an array", raw("[]", 0), "not valid"},
		{"half an object", raw(`{"t":`, 0), "not valid"},
		{"no header", raw("", 0), "not valid"},
		{"text behind", raw("{} {}", 0), "follows"},
		{"tensor twice", raw(`{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"t":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2), `"t" appears twice`},
		{"field twice", raw(`{"t":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1), `"dtype" appears twice`},
		{"unknown field", raw(`{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}}`, 1), `"x" is not known`},
		{"missing field", raw(`{"t":{"dtype":"U8","shape":[1]}}`, 1), "data_offsets is missing"},
		{"unknown dtype", raw(one("F4", "[1]", "[0,1]"), 1), `"F4" is not known`},
		{"dtype number", raw(`{"t":{"dtype":1,"shape":[1],"data_offsets":[0,1]}}`, 1), "string was expected"},
		{"shape text", raw(one("U8", `"x"`, "[0,1]"), 1), "expected"},
		{"shape nested", raw(one("U8", `[[1]]`, "[0,1]"), 1), "number was expected"},
		{"negative shape", raw(one("U8", "[-1]", "[0,1]"), 1), "-1"},
		{"fractional shape", raw(one("U8", "[1.5]", "[0,1]"), 1), "1.5"},
		{"too many dimensions", raw(one("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1), "more than 8"},
		{"overflowing shape", raw(one("F32", "[4294967296,4294967296,4]", "[0,0]"), 0), "larger than any file"},
		{"overflowing number", raw(one("U8", "[99999999999999999999]", "[0,1]"), 1), "no size"},
		{"one offset", raw(one("U8", "[1]", "[0]"), 1), "two numbers"},
		{"three offsets", raw(one("U8", "[1]", "[0,1,1]"), 1), "more than 2"},
		{"offsets reversed", raw(one("U8", "[1]", "[1,0]"), 1), "do not span"},
		{"offsets too wide", raw(one("U8", "[1]", "[0,2]"), 2), "do not span the 1 bytes"},
		{"beyond the file", raw(one("U8", "[4]", "[0,4]"), 3), "cut off"},
		{"bytes before", raw(one("U8", "[1]", "[1,2]"), 2), "belong to no tensor"},
		{"bytes behind", raw(one("U8", "[1]", "[0,1]"), 2), "2 bytes of data follow"},
		{"overlap", raw(`{"t":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"u":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, 3), `"t" and "u" overlap`},
		{"metadata number", raw(`{"__metadata__":{"a":1}}`, 0), "string was expected"},
		{"metadata twice", raw(`{"__metadata__":{},"__metadata__":{}}`, 0), "appears twice"},
	} {
		f, err := safetensors.Parse("FILE", c.data)
		if err == nil {
			t.Errorf("%s: accepted: %+v", c.name, f)
			continue
		}
		if !errors.Is(err, safetensors.ErrFormat) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "FILE") {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	for name, data := range map[string][]byte{
		"no tensors": raw("{}", 0), "spaces": raw("{}   \n", 0), "no metadata": raw(one("BOOL", "[2]", "[0,2]"), 2),
	} {
		if _, err := safetensors.Parse("FILE", data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := safetensors.Write(&bytes.Buffer{}, []safetensors.Tensor{{Name: "t", DType: safetensors.F32, Shape: []int64{2}, Data: make([]byte, 7)}}, nil); err == nil {
		t.Error("7 bytes were written as two F32")
	}
}

func TestTruncatedAndFlipped(t *testing.T) {
	data := sample(t)
	for n := range data {
		if _, err := safetensors.Parse("FILE", data[:n]); !errors.Is(err, safetensors.ErrFormat) {
			t.Errorf("cut at %d of %d: %v", n, len(data), err)
		}
	}
	for i := range data {
		for bit := range 8 {
			flipped := bytes.Clone(data)
			flipped[i] ^= 1 << bit
			probe(t, flipped)
		}
	}
}

func probe(tb testing.TB, data []byte) {
	tb.Helper()
	f, err := safetensors.Parse("FILE", data)
	if err != nil {
		if !errors.Is(err, safetensors.ErrFormat) {
			tb.Fatalf("an error of another kind: %v", err)
		}
		return
	}
	sum := 0
	for _, x := range f.Tensors() {
		if int64(len(x.Data)) != x.Elements()*x.DType.Size() {
			tb.Fatalf("tensor %+v", x)
		}
		sum += len(x.Data)
	}
	if head := int(binary.LittleEndian.Uint64(data)); sum != len(data)-8-head {
		tb.Fatalf("tensors hold %d bytes of %d", sum, len(data)-8-head)
	}
}

// writeShards writes a model of one-byte tensors, by shard.
func writeShards(t *testing.T, dir string, shards map[string][]string) {
	t.Helper()
	for file, names := range shards {
		var tensors []safetensors.Tensor
		for i, n := range names {
			tensors = append(tensors, safetensors.Tensor{Name: n, DType: safetensors.U8, Shape: []int64{1}, Data: []byte{byte(i)}})
		}
		if err := safetensors.WriteFile(filepath.Join(dir, file), tensors, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFolder(t *testing.T) {
	const index = `{"metadata":{"total_size":3,"x":[{"y":null}]},"weight_map":{"a":"model-1.safetensors","b":"model-1.safetensors","c":"model-2.safetensors"}}`
	good := map[string][]string{"model-1.safetensors": {"a", "b"}, "model-2.safetensors": {"c"}}
	for _, c := range []struct {
		name   string
		index  string
		shards map[string][]string
		want   string // "": opens
		kind   error
	}{
		{"sharded", index, good, "", nil},
		{"single", "", map[string][]string{"model.safetensors": {"a", "b", "c"}}, "", nil},
		{"nothing", "", nil, "neither model.safetensors nor model.safetensors.index.json", fs.ErrNotExist},
		{"missing shard", index, map[string][]string{"model-1.safetensors": {"a", "b"}}, "shard model-2.safetensors (2 of 2) is missing", fs.ErrNotExist},
		{"missing tensor", index, map[string][]string{"model-1.safetensors": {"a"}, "model-2.safetensors": {"c"}}, `"b" is not in model-1.safetensors`, safetensors.ErrFormat},
		{"tensor elsewhere", index, map[string][]string{"model-1.safetensors": {"a"}, "model-2.safetensors": {"c", "b"}}, `"b" is in model-2.safetensors`, safetensors.ErrFormat},
		{"tensor too many", index, map[string][]string{"model-1.safetensors": {"a", "b", "d"}, "model-2.safetensors": {"c"}}, `"d" is in model-1.safetensors`, safetensors.ErrFormat},
		{"tensor in both", index, map[string][]string{"model-1.safetensors": {"a", "b"}, "model-2.safetensors": {"c", "a"}}, `"a" is in both`, safetensors.ErrFormat},
		{"path up", `{"weight_map":{"a":"../model.safetensors"}}`, good, "same folder", safetensors.ErrFormat},
		{"other file", `{"weight_map":{"a":"passwd"}}`, good, "same folder", safetensors.ErrFormat},
		{"no map", `{"metadata":{}}`, good, "missing or empty", safetensors.ErrFormat},
		{"empty map", `{"weight_map":{}}`, good, "missing or empty", safetensors.ErrFormat},
		{"map twice", `{"weight_map":{"a":"model-1.safetensors"},"weight_map":{}}`, good, "twice", safetensors.ErrFormat},
		{"name twice", `{"weight_map":{"a":"model-1.safetensors","a":"model-2.safetensors"}}`, good, "twice", safetensors.ErrFormat},
		{"no JSON", `{"weight_map"`, good, "index.json", safetensors.ErrFormat},
		{"huge index", strings.Repeat(" ", 17<<20), good, "more than", safetensors.ErrFormat},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			writeShards(t, dir, c.shards)
			if c.index != "" {
				if err := os.WriteFile(filepath.Join(dir, safetensors.IndexName), []byte(c.index), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			f, err := safetensors.OpenFolder(dir)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) || !errors.Is(err, c.kind) || !strings.Contains(err.Error(), dir) {
					t.Fatalf("%v, want %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(f.Names(), ""); got != "abc" || f.Tensor("c") == nil || f.Tensor("d") != nil || (f.Index() != "") != (c.index != "") {
				t.Errorf("tensors %q, index %q", got, f.Index())
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// FuzzSafetensors parses any bytes: an error or a file, with memory in proportion to the input.
func FuzzSafetensors(f *testing.F) {
	f.Add(sample(f))
	f.Add(raw(`{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"u":{"dtype":"BF16","shape":[],"data_offsets":[1,3]}}`, 3))
	f.Add(raw("{"+strings.Repeat(`"":{},`, 50)+"}", 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _ = safetensors.Parse("FILE", data)
		runtime.ReadMemStats(&after)
		// An array of small numbers is boxed token by token.
		if n := after.TotalAlloc - before.TotalAlloc; n > 256*uint64(len(data))+1<<20 {
			t.Errorf("%d bytes allocated for a file of %d", n, len(data))
		}
		probe(t, data)
	})
}

func BenchmarkParse(b *testing.B) {
	var text strings.Builder
	text.WriteString("{")
	const n = 2000
	for i := range n {
		if i > 0 {
			text.WriteString(",")
		}
		k := strconv.Itoa(i)
		text.WriteString(`"model.layers.` + k + `.self_attn.q_proj.weight":{"dtype":"U8","shape":[1],"data_offsets":[` + k + `,` + strconv.Itoa(i+1) + `]}`)
	}
	text.WriteString("}")
	data := raw(text.String(), n)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := safetensors.Parse("FILE", data); err != nil {
			b.Fatal(err)
		}
	}
}
