package models

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"edged/core/model/weights"
	"edged/quant"
)

// Headers reads what the headers of a model say. Weights are not touched. The error of a model that is not
// whole is ErrPassing.
func Headers(path string) (Facts, error) {
	m, err := weights.OpenHeaders(path)
	switch {
	case err != nil && mayCome(path, err):
		return Facts{}, Passing(err)
	case err != nil:
		return Facts{}, err
	}
	facts := Facts{
		Kind:    m.Spec.Kind.String(),
		Family:  m.Spec.Family,
		Tasks:   strings.Join(m.Spec.Tasks(), ", "),
		Title:   m.Name,
		Context: m.Spec.Context,
		Bytes:   m.Figures().Total,
	}
	sizes := map[quant.Format]int64{}
	for _, x := range m.Products() {
		sizes[x.Format] += weights.MatrixBytes(x)
	}
	most := quant.FormatInvalid
	for f, n := range sizes {
		if n > sizes[most] || n == sizes[most] && f < most {
			most = f
		}
	}
	if most != quant.FormatInvalid {
		facts.Format = formatName(most)
	}
	for _, name := range m.Names() {
		if x := m.Matrix(name); x != nil {
			facts.Parameters += int64(x.Rows) * int64(x.Cols)
		}
	}
	return facts, errors.Join(m.Close())
}

// mayCome tells whether bytes or files that are still to come could mend what is wrong with a model. Of a
// folder, whose files come one after the other, only what its configuration says is known before the last one
// is there.
func mayCome(path string, err error) bool {
	if info, failed := os.Stat(path); failed == nil && info.IsDir() {
		return !errors.Is(err, weights.ErrUnsupported)
	}
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, fs.ErrNotExist)
}

// Share is the part of a model's matrices that is stored in one format.
type Share struct {
	Format   string // such as "Q4_0"
	Matrices int    // of a mixture each expert's
	Bytes    int64
}

// Formats says what formats a model's matrices are stored in, the largest part first. Vectors, which are
// norms and biases, are not counted.
func Formats(path string) ([]Share, error) {
	m, err := weights.OpenHeaders(path)
	if err != nil {
		return nil, err
	}
	shares := map[quant.Format]*Share{}
	for _, name := range m.Names() {
		x := m.Matrix(name)
		if x == nil {
			continue
		}
		if shares[x.Format] == nil {
			shares[x.Format] = &Share{Format: formatName(x.Format)}
		}
		shares[x.Format].Matrices++
		shares[x.Format].Bytes += weights.MatrixBytes(x)
	}
	var out []Share
	for _, s := range shares {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b Share) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), strings.Compare(a.Format, b.Format))
	})
	return out, m.Close()
}

// formatName is a format's name as people know it from names of files.
func formatName(f quant.Format) string { return strings.ToUpper(f.String()) }
