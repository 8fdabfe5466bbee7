package weights

import (
	"slices"
	"unsafe"

	"edged/core/model/arch"
	"edged/core/model/mmap"
	"edged/quant"
)

// populateStep is the number of bytes read between two calls of step: a quarter of a second from an SD card.
const populateStep = 16 << 20

// Populate reads the model's files into memory and maps their pages, in the order in which they lie in the
// files, which is faster than the first token's own order, and tells step how far it is. It is worth it where
// the files fit into memory. Tables of which a token reads one row are left on disk. An error of step ends
// it; the system's own errors do not matter here: what was not read now is read when it is used.
func (m *Model) Populate(step func(done, total int64) error) error {
	var done, total int64
	for i := range m.maps {
		for _, r := range m.resident(i) {
			total += int64(r.hi - r.lo)
		}
	}
	for i, f := range m.maps {
		for _, r := range m.resident(i) {
			for off := r.lo; off < r.hi; off += populateStep {
				n := min(populateStep, r.hi-off)
				_ = f.AdviseRange(off, n, mmap.Populate)
				done += int64(n)
				if err := step(done, total); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// AdviseTables tells the system that of the tables of which a token reads one row nothing is worth reading
// ahead. It is a hint.
func (m *Model) AdviseTables() {
	for i, f := range m.maps {
		for _, r := range m.tables(i) {
			_ = f.AdviseRange(r.lo, r.hi-r.lo, mmap.Random)
		}
	}
}

// extent is a part of a file.
type extent struct{ lo, hi int }

// tables are the parts of file i that hold tables of which a token reads one row, in their order.
func (m *Model) tables(i int) []extent {
	var out []extent
	for name, x := range m.matrices {
		if m.tensors[name].Role != arch.Lookup {
			continue
		}
		if file, r, stored := m.place(x); stored && file == i {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b extent) int { return a.lo - b.lo })
	return out
}

// place finds the file that a matrix is served from, and where in it; false: it was laid out anew.
func (m *Model) place(x *quant.Matrix) (file int, at extent, stored bool) {
	if len(x.Data) == 0 {
		return 0, extent{}, false
	}
	data := uintptr(unsafe.Pointer(unsafe.SliceData(x.Data)))
	for i, f := range m.maps {
		b := f.Bytes()
		start := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
		if data >= start && data-start+uintptr(len(x.Data)) <= uintptr(len(b)) {
			lo := int(data - start)
			return i, extent{lo, lo + len(x.Data)}, true
		}
	}
	return 0, extent{}, false
}

// resident are the other parts, without the pages that they share with a table.
func (m *Model) resident(i int) []extent {
	var out []extent
	at := 0
	for _, r := range m.tables(i) {
		if r.lo > at {
			out = append(out, extent{at, r.lo})
		}
		at = max(at, r.hi)
	}
	if n := m.maps[i].Len(); n > at {
		out = append(out, extent{at, n})
	}
	return out
}
