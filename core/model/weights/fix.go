package weights

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"edged/core/model/arch"
	"edged/quant"
)

// place adds a tensor of the container under its canonical name, after what the Spec says its bytes need: a
// (rows, cols) matrix, or with rows == 0 a vector of cols.
func (b *builder) place(name string, f quant.Format, rows, cols int, data []byte) error {
	module, suffix := cutSuffix(name)
	pattern, numbers := arch.SplitNumbers(module)
	if x := b.m.Spec.ExpandOf(pattern); x != nil && suffix == ".weight" && rows > 0 {
		return b.expand(x, numbers, f, rows, cols, data)
	}
	if rows == 1 && b.wantsVector(name) { // some are saved with a dimension of 1 before them
		rows = 0
	}
	if stack := b.m.Spec.StackOf(pattern); stack != nil && suffix == ".bias" && rows > 0 {
		return b.stack(stack, numbers, suffix, f, rows, cols, 1, data)
	}
	if rows > 0 && suffix == ".weight" && b.folder && b.m.Spec.Transposed(pattern) {
		var err error
		if data, err = b.transposed(f, data, rows, cols); err != nil {
			return fmt.Errorf("weights: %s: tensor %s: %w", b.m.Path, b.say(name), err)
		}
		rows, cols = cols, rows
	}
	if split := b.m.Spec.SplitOf(pattern); split != nil {
		return b.split(split, numbers, suffix, f, rows, cols, data)
	}
	if rows > 0 {
		return b.matrix(name, f, rows, cols, data)
	}
	if suffix == ".weight" && b.folder && b.m.Spec.JoinOf(pattern) {
		module, number, _ := cutLast(module)
		if b.rows == nil {
			b.rows = map[string][]joined{}
		}
		b.rows[module] = append(b.rows[module], joined{number, f, cols, data})
		return nil
	}
	if suffix == ".weight" && b.folder && b.m.Spec.OneAdded(pattern) {
		var err error
		if data, err = b.oneAdded(f, cols, data); err != nil {
			return fmt.Errorf("weights: %s: tensor %s: %w", b.m.Path, b.say(name), err)
		}
		f = quant.F32
	}
	return b.vector(name, f, cols, data)
}

// joined is a row of a matrix that stands row by row.
type joined struct {
	number int
	format quant.Format
	cols   int
	data   []byte
}

// join makes the matrices that stand row by row, in float32.
func (b *builder) join() error {
	for _, module := range slices.Sorted(maps.Keys(b.rows)) {
		rows := b.rows[module]
		slices.SortFunc(rows, func(x, y joined) int { return x.number - y.number })
		cols := rows[0].cols
		data, err := b.m.arena.Alloc(4 * len(rows) * cols)
		if err != nil {
			return fmt.Errorf("weights: %s: tensor %s: %w", b.m.Path, b.say(module+".weight"), err)
		}
		x := make([]float32, cols)
		for i, r := range rows {
			if r.number != i || r.cols != cols {
				return b.fail(ErrInvalid, "tensor %s: its rows are not %d of one length", b.say(module+".weight"), len(rows))
			}
			quant.Decode(r.format, x, r.data)
			for c, v := range x {
				binary.LittleEndian.PutUint32(data[4*(i*cols+c):], math.Float32bits(v))
			}
		}
		if err := b.matrix(module+".weight", quant.F32, len(rows), cols, data); err != nil {
			return err
		}
	}
	return nil
}

// cutLast divides a name that ends in a number.
func cutLast(name string) (rest string, number int, ok bool) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return name, 0, false
	}
	n, err := strconv.Atoi(name[i+1:])
	return name[:i], n, err == nil
}

// cutSuffix divides a tensor's name into the module's and ".weight" or ".bias".
func cutSuffix(name string) (module, suffix string) {
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		return name[:i], name[i:]
	}
	return name, ""
}

// parts lists what the Spec asks of the tensors that a fused one of total rows holds, and proves that they
// take all of it.
func (b *builder) parts(split *arch.Split, numbers []string, suffix string, total int) ([]arch.Piece, int, error) {
	groups := 1
	if b.folder || split.Stored {
		groups = max(split.Groups, 1)
	}
	fused := arch.JoinNumbers(split.Of, numbers) + suffix
	if len(numbers) > 0 {
		if layer, err := strconv.Atoi(numbers[0]); err != nil || layer >= len(b.m.Spec.Layers) {
			return nil, 0, b.fail(ErrUnsupported, "tensor %s is none that a %s model of %d layers has", b.say(fused), b.m.Spec.Family, len(b.m.Spec.Layers))
		}
	}
	out, sum := b.m.Spec.Pieces(split, numbers), 0
	for _, p := range out {
		if p.Rows == 0 || p.Rows%groups != 0 {
			return nil, 0, b.fail(ErrInvalid, "tensor %s cannot be cut into %d groups of %s", b.say(fused), groups, strings.Join(split.Into, ", "))
		}
		sum += p.Rows
	}
	if sum != total {
		return nil, 0, b.fail(ErrInvalid, "tensor %s has %d rows, but its parts take %d", b.say(fused), total, sum)
	}
	for i := range out {
		out[i].Name += suffix
	}
	return out, groups, nil
}

// split cuts a fused tensor: one group is cut where it lies, of several the rows are gathered off the heap.
func (b *builder) split(split *arch.Split, numbers []string, suffix string, f quant.Format, rows, cols int, data []byte) error {
	total, width := rows, cols
	if rows == 0 {
		total, width = cols, 1
	}
	parts, groups, err := b.parts(split, numbers, suffix, total)
	if err != nil {
		return err
	}
	if rows == 0 && f.BlockSize() != 1 {
		return b.fail(ErrUnsupported, "tensor %s is %s: a vector that is cut must hold floats", b.say(arch.JoinNumbers(split.Of, numbers)+suffix), f)
	}
	pieces, err := b.gather(parts, groups, f.RowBytes(width), data)
	if err != nil {
		return fmt.Errorf("weights: %s: tensor %s: %w", b.m.Path, arch.JoinNumbers(split.Of, numbers)+suffix, err)
	}
	for i, p := range parts {
		if rows == 0 {
			err = b.vector(p.Name, f, p.Rows, pieces[i])
		} else {
			err = b.matrix(p.Name, f, p.Rows, cols, pieces[i])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// gather returns the bytes of each part, rowBytes to a row. Data is nil where only headers are wanted of what
// was laid out anew.
func (b *builder) gather(parts []arch.Piece, groups, rowBytes int, data []byte) ([][]byte, error) {
	out := make([][]byte, len(parts))
	at := 0
	if groups == 1 {
		for i, p := range parts {
			if data != nil {
				out[i] = data[at : at+p.Rows*rowBytes]
			}
			at += p.Rows * rowBytes
		}
		return out, nil
	}
	for i, p := range parts {
		n := p.Rows * rowBytes
		b.m.derived += int64(n)
		if b.m.headersOnly || data == nil {
			continue
		}
		var err error
		if out[i], err = b.m.arena.Alloc(n); err != nil {
			return nil, err
		}
	}
	if b.m.headersOnly || data == nil {
		return out, nil
	}
	for g := range groups {
		for i, p := range parts {
			n := p.Rows / groups * rowBytes
			copy(out[i][g*n:(g+1)*n], data[at:])
			at += n
		}
	}
	return out, nil
}

// oneAdded returns 1 + w as float32.
func (b *builder) oneAdded(f quant.Format, n int, data []byte) ([]byte, error) {
	x := make([]float32, n)
	quant.Decode(f, x, data)
	out, err := b.m.arena.Alloc(4 * n)
	if err != nil {
		return nil, err
	}
	for i, v := range x {
		binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(1+v))
	}
	return out, nil
}
