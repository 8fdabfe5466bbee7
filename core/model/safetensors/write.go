package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// Write writes tensors in the given order, with their data aligned as far as their sizes allow (the header is padded to
// a multiple of 8). Metadata may be nil. It is for tests and tools: everything is in memory.
func Write(w io.Writer, tensors []Tensor, metadata map[string]string) error {
	var head bytes.Buffer
	head.WriteByte('{')
	comma := ""
	put := func(key string, v any) error {
		k, err := json.Marshal(key)
		if err != nil {
			return fmt.Errorf("safetensors: write: %w", err)
		}
		b, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("safetensors: write: %w", err)
		}
		head.WriteString(comma)
		head.Write(k)
		head.WriteByte(':')
		head.Write(b)
		comma = ","
		return nil
	}
	if metadata != nil {
		if err := put("__metadata__", metadata); err != nil {
			return err
		}
	}
	pos := int64(0)
	for i := range tensors {
		t := &tensors[i]
		if want := t.Elements() * t.DType.Size(); t.DType.Size() == 0 || want != int64(len(t.Data)) {
			return fmt.Errorf("safetensors: write: tensor %q: %s %v takes %d bytes, not %d", t.Name, t.DType, t.Shape, want, len(t.Data))
		}
		shape := t.Shape
		if shape == nil {
			shape = []int64{}
		}
		end := pos + int64(len(t.Data))
		if err := put(t.Name, map[string]any{"dtype": t.DType, "shape": shape, "data_offsets": []int64{pos, end}}); err != nil {
			return err
		}
		pos = end
	}
	head.WriteByte('}')
	for head.Len()%8 != 0 {
		head.WriteByte(' ')
	}
	parts := [][]byte{binary.LittleEndian.AppendUint64(nil, uint64(head.Len())), head.Bytes()}
	for i := range tensors {
		parts = append(parts, tensors[i].Data)
	}
	for _, p := range parts {
		if _, err := w.Write(p); err != nil {
			return fmt.Errorf("safetensors: write: %w", err)
		}
	}
	return nil
}

// WriteFile writes tensors to path.
func WriteFile(path string, tensors []Tensor, metadata map[string]string) error {
	var b bytes.Buffer
	if err := Write(&b, tensors, metadata); err != nil {
		return err
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("safetensors: write: %w", err)
	}
	return nil
}
