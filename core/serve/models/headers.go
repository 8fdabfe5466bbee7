package models

import (
	"errors"
	"strings"

	"edged/core/model/weights"
	"edged/quant"
)

// Headers reads what the headers of a model say. Weights are not touched; a model that is not whole is an error.
func Headers(path string) (Facts, error) {
	m, err := weights.OpenHeaders(path)
	if err != nil {
		return Facts{}, err
	}
	facts := Facts{
		Kind: m.Spec.Kind.String(), Family: m.Spec.Family, Title: m.Name, Context: m.Spec.Context, Bytes: m.Figures().Total,
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
		facts.Format = strings.ToUpper(most.String())
	}
	for _, name := range m.Names() {
		if x := m.Matrix(name); x != nil {
			facts.Parameters += int64(x.Rows) * int64(x.Cols)
		}
	}
	return facts, errors.Join(m.Close())
}
