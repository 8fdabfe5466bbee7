package transformer

import (
	"encoding/binary"
	"errors"
	"math"
	"testing"

	"edged/quant"
)

func floats(rows, cols int, value func(i int) float32) *quant.Matrix {
	m := &quant.Matrix{Name: "m", Format: quant.F32, Rows: rows, Cols: cols, Data: make([]byte, 4*rows*cols)}
	for i := range rows * cols {
		binary.LittleEndian.PutUint32(m.Data[4*i:], math.Float32bits(value(i)))
	}
	return m
}

func TestHalves(t *testing.T) {
	t.Parallel()
	a := &Adapter{mods: []*lora{
		nil,
		{a: floats(3, 5, func(i int) float32 { return float32(i) / 8 }), b: floats(7, 3, func(i int) float32 { return -float32(i) }), scale: 2},
		{a: &quant.Matrix{Format: quant.BF16, Rows: 1, Cols: 2, Data: make([]byte, 4)}, b: floats(1, 1, func(int) float32 { return float32(math.Inf(1)) })},
	}}
	if err := a.halve(); err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	l := a.mods[1]
	if l.a.Format != quant.F16 || l.b.Format != quant.F16 || l.scale != 2 || a.mods[0] != nil || a.mods[2].a.Format != quant.BF16 {
		t.Fatalf("%+v", a.mods)
	}
	row := make([]float32, 5)
	quant.Row(row, l.a, 2)
	for i, v := range row {
		if v != float32(10+i)/8 {
			t.Errorf("value %d is %v", i, v)
		}
	}
	row = row[:3]
	quant.Row(row, l.b, 6)
	if row[2] != -20 {
		t.Errorf("%v", row)
	}

	wide := &Adapter{mods: []*lora{{a: floats(1, 2, func(i int) float32 { return float32(i) * 1e6 }), b: floats(1, 1, func(int) float32 { return 1 })}}}
	if err := wide.halve(); !errors.Is(err, errWide) || wide.mods[0].a.Format != quant.F32 || wide.mem != nil {
		t.Errorf("a wide value: %v", err)
	}
}
