package weights

import "edged/core/model/mmap"

// populateStep is what is read between two calls of step: a quarter of a second from an SD card.
const populateStep = 16 << 20

// Populate reads the model's files into memory and maps their pages, in the order in which they lie in the files, which is
// faster than the first token's own order, and tells step how far it is. It is worth it where the files fit into memory. An
// error of step ends it; the system's own errors do not matter here: what was not read now is read when it is used.
func (m *Model) Populate(step func(done, total int64) error) error {
	var done, total int64
	for _, f := range m.maps {
		total += int64(f.Len())
	}
	for _, f := range m.maps {
		for off := 0; off < f.Len(); off += populateStep {
			n := min(populateStep, f.Len()-off)
			_ = f.AdviseRange(off, n, mmap.Populate)
			done += int64(n)
			if err := step(done, total); err != nil {
				return err
			}
		}
	}
	return nil
}
