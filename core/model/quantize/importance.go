package quantize

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"

	"edged/core/model/gguf"
	"edged/quant"
)

// Importance says for every column of a matrix how large the activations are that it meets: their mean square over a
// calibration text. Both of llama.cpp's formats are read, GGUF (general.type imatrix) and the older .dat:
//
//	entries i32; of each: length of name i32, name, calls i32, values i32, values × f32 (sums of a call's means);
//	then chunks i32, length i32, name of the text
type Importance struct {
	Path    string
	Dataset string // name of the text, where the file tells
	Chunks  int    // pieces of the text
	byName  map[string][]float32
}

// maxImportance bounds a file: that of a 1000-billion-parameter mixture of experts has some 300 MB.
const maxImportance = 1 << 30

// ReadImportance reads a file.
func ReadImportance(path string) (*Importance, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("quantize: %w", err)
	}
	if info.Size() > maxImportance {
		return nil, fmt.Errorf("quantize: %s: %w: %d bytes are more than one has", path, ErrImportance, info.Size())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("quantize: %w", err)
	}
	return parseImportance(path, data)
}

func parseImportance(path string, data []byte) (*Importance, error) {
	m := &Importance{Path: path, byName: map[string][]float32{}}
	read := m.readOld
	if bytes.HasPrefix(data, []byte("GGUF")) {
		read = m.readGGUF
	}
	if err := read(data); err != nil {
		return nil, fmt.Errorf("quantize: %s: %w: %w", path, ErrImportance, err)
	}
	for name, values := range m.byName {
		for i, v := range values {
			if !(v >= 0) || math.IsInf(float64(v), 1) {
				return nil, fmt.Errorf("quantize: %s: %w: value %d of %s is %v", path, ErrImportance, i, name, v)
			}
		}
	}
	return m, nil
}

// readGGUF reads NAME.in_sum2 (columns, matrices) and NAME.counts (1, matrices).
func (m *Importance) readGGUF(data []byte) error {
	f, err := gguf.Parse(m.Path, data)
	if err != nil {
		return err
	}
	if kind, err := f.String("general.type"); err != nil || kind != "imatrix" {
		return errors.New("it is a GGUF file, but general.type is not imatrix")
	}
	if sets, err := f.Strings("imatrix.datasets"); err == nil && len(sets) > 0 {
		m.Dataset = sets[0]
	}
	if n, err := f.Uint("imatrix.chunk_count"); err == nil {
		m.Chunks = int(min(n, math.MaxInt32))
	}
	for i := range f.Tensors() {
		t := &f.Tensors()[i]
		name, ok := strings.CutSuffix(t.Name, ".in_sum2")
		if !ok {
			continue
		}
		counts := f.Tensor(name + ".counts")
		if counts == nil {
			return fmt.Errorf("tensor %s.counts is missing", name)
		}
		if t.Type.Format() != quant.F32 || counts.Type.Format() != quant.F32 {
			return fmt.Errorf("the tensors of %s are not F32", name)
		}
		values, n := make([]float32, t.Elements()), make([]float32, counts.Elements())
		quant.Decode(quant.F32, values, t.Data)
		quant.Decode(quant.F32, n, counts.Data)
		if len(values)%len(n) != 0 {
			return fmt.Errorf("%s has %d values for %d counts", name, len(values), len(n))
		}
		cols := len(values) / len(n)
		for j, count := range n {
			part := values[j*cols : (j+1)*cols]
			for i := range part {
				if count = float32(math.Round(float64(count))); count > 0 {
					part[i] /= count
				} else {
					part[i] = 1 // an expert that was never asked
				}
			}
		}
		m.byName[name] = values
	}
	if len(m.byName) == 0 {
		return errors.New("it has no tensors NAME.in_sum2")
	}
	return nil
}

// readOld reads the older format, whose values are means summed over calls.
func (m *Importance) readOld(data []byte) error {
	number := func() (int, error) {
		if len(data) < 4 {
			return 0, errors.New("it is cut off, or no importance matrix")
		}
		v := int32(binary.LittleEndian.Uint32(data))
		data = data[4:]
		return int(v), nil
	}
	text := func() (string, error) {
		n, err := number()
		if err != nil {
			return "", err
		}
		if n < 0 || n > len(data) || n > 4096 {
			return "", fmt.Errorf("a name of %d bytes: it is damaged, or no importance matrix", n)
		}
		s := string(data[:n])
		data = data[n:]
		return s, nil
	}
	entries, err := number()
	if err != nil {
		return err
	}
	if entries < 1 || entries > len(data)/12 {
		return fmt.Errorf("%d entries: it is damaged, or no importance matrix", entries)
	}
	for range entries {
		name, err := text()
		if err != nil {
			return err
		}
		calls, err := number()
		if err != nil {
			return err
		}
		n, err := number()
		if err != nil {
			return err
		}
		if n < 1 || n > len(data)/4 {
			return fmt.Errorf("%d values of %s: it is cut off or damaged", n, name)
		}
		values := make([]float32, n)
		quant.Decode(quant.F32, values, data[:4*n])
		data = data[4*n:]
		for i := range values {
			if calls > 0 {
				values[i] /= float32(calls)
			}
		}
		m.byName[name] = values
	}
	if len(data) > 0 {
		if m.Chunks, err = number(); err != nil {
			return err
		}
		m.Dataset, err = text()
	}
	return err
}
