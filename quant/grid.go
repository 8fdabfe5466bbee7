package quant

import (
	"encoding/base64"
	"sync"
)

// grids8 are the sets of eight digits, each code spread to a byte a digit (the first digit lowest), and grids4 those of
// four. They are made on first use, since most models have none of these formats: 40 KB and some 50 µs.
type grids struct {
	iq2xxs, iq2xs, iq2s [][8]int8
	iq1                 [][8]int8
	iq3xxs, iq3s        [][4]int8
}

//nolint:gochecknoglobals // tables, made once
var gridTables = sync.OnceValue(func() *grids {
	// The digits of IQ2 stand for 8, 25 and 43, those of IQ1 for -1, 0 and 1 (here times 8: a weight is
	// 8·digit ± 1 of its eighth), of IQ3_XXS for 4 + 8·digit but the last, and of IQ3_S for odd numbers.
	two := func(d uint16) int8 { return [...]int8{8, 25, 43, 0}[d] }
	return &grids{
		iq2xxs: spread8(gridIQ2XXS, two),
		iq2xs:  spread8(gridIQ2XS, two),
		iq2s:   spread8(gridIQ2S, two),
		iq1:    spread8(gridIQ1, func(d uint16) int8 { return int8(d)*8 - 8 }),
		iq3xxs: spread4(gridIQ3XXS, func(d uint16) int8 { return [...]int8{4, 12, 20, 28, 36, 44, 52, 62}[d] }),
		iq3s:   spread4(gridIQ3S, func(d uint16) int8 { return int8(2*d + 1) }),
	}
})

// gridCodes unpacks a table of gridtable.go.
func gridCodes(text string) []uint16 {
	gaps, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		panic("quant: a grid table is damaged: " + err.Error())
	}
	var codes []uint16
	code := uint16(0)
	for _, gap := range gaps {
		code += uint16(gap)
		if gap < 255 {
			codes = append(codes, code)
			code++
		}
	}
	return codes
}

func spread8(text string, value func(digit uint16) int8) [][8]int8 {
	codes := gridCodes(text)
	vectors := make([][8]int8, len(codes))
	for i, c := range codes {
		for j := range 8 {
			vectors[i][j] = value(c >> (2 * j) & 3)
		}
	}
	return vectors
}

func spread4(text string, value func(digit uint16) int8) [][4]int8 {
	codes := gridCodes(text)
	vectors := make([][4]int8, len(codes))
	for i, c := range codes {
		for j := range 4 {
			vectors[i][j] = value(c >> (3 * j) & 7)
		}
	}
	return vectors
}

// evenSigns completes seven sign bits with the eighth that makes their number even: ggml chooses among such
// vectors only, which saves a bit in eight.
func evenSigns(seven uint32) byte {
	b := byte(seven & 127)
	p := b ^ b>>4
	p ^= p >> 2
	p ^= p >> 1
	return b | p&1<<7
}
