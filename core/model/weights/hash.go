package weights

import "edged/core/model/digest"

// Hash identifies what the model computes with: digest.Files over its configuration and weights, and what
// Requantize did. It reads all of the files: HashCached remembers.
func (m *Model) Hash() (string, error) { return digest.Files(m.files, m.requantized()...) }

// HashCached is Hash with the sums of the files memoised in dir.
func (m *Model) HashCached(dir string) (string, error) {
	return digest.Cached(dir, m.files, m.requantized()...)
}

func (m *Model) requantized() []string {
	out := make([]string, len(m.recoded))
	for i, r := range m.recoded {
		out[i] = "requantized " + r
	}
	return out
}
