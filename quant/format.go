package quant

import (
	"fmt"
	"strings"
)

// A layout is one line of the format table: blocks of size weights take bytes bytes.
type layout struct {
	name  string
	size  int
	bytes int
}

// superBlock is the number of weights in a K-quant or IQ4_XS block.
const superBlock = 256

// layouts follows ggml's block structures (ggml-common.h of llama.cpp) and bitsandbytes' packed nibbles. The
// byte counts are written as the sum of a block's fields, in their order in memory; a test holds them to the
// published sizes.
//
//nolint:gochecknoglobals // a table
var layouts = [...]layout{
	F32:     {"f32", 1, 4},
	F16:     {"f16", 1, 2},
	BF16:    {"bf16", 1, 2},
	Q8_0:    {"q8_0", 32, 2 + 32},                                                                   // d, qs
	Q4_0:    {"q4_0", 32, 2 + 16},                                                                   // d, qs
	Q4_1:    {"q4_1", 32, 2 + 2 + 16},                                                               // d, m, qs
	Q5_0:    {"q5_0", 32, 2 + 4 + 16},                                                               // d, qh, qs
	Q5_1:    {"q5_1", 32, 2 + 2 + 4 + 16},                                                           // d, m, qh, qs
	Q2_K:    {"q2_k", superBlock, superBlock/16 + superBlock/4 + 2 + 2},                             // scales, qs, d, dmin
	Q3_K:    {"q3_k", superBlock, superBlock/8 + superBlock/4 + 12 + 2},                             // hmask, qs, scales, d
	Q4_K:    {"q4_k", superBlock, 2 + 2 + 12 + superBlock/2},                                        // d, dmin, scales, qs
	Q5_K:    {"q5_k", superBlock, 2 + 2 + 12 + superBlock/8 + superBlock/2},                         // d, dmin, scales, qh, qs
	Q6_K:    {"q6_k", superBlock, superBlock/2 + superBlock/4 + superBlock/16 + 2},                  // ql, qh, scales, d
	IQ4_NL:  {"iq4_nl", 32, 2 + 16},                                                                 // d, qs
	IQ4_XS:  {"iq4_xs", superBlock, 2 + 2 + superBlock/64 + superBlock/2},                           // d, scales_h, scales_l, qs
	MXFP4:   {"mxfp4", 32, 1 + 16},                                                                  // e, qs
	IQ1_S:   {"iq1_s", superBlock, 2 + superBlock/8 + superBlock/16},                                // d, qs, qh
	IQ1_M:   {"iq1_m", superBlock, superBlock/8 + superBlock/16 + superBlock/32},                    // qs, qh, scales with d
	IQ2_XXS: {"iq2_xxs", superBlock, 2 + superBlock/4},                                              // d, qs
	IQ2_XS:  {"iq2_xs", superBlock, 2 + superBlock/4 + superBlock/32},                               // d, qs, scales
	IQ2_S:   {"iq2_s", superBlock, 2 + superBlock/8 + superBlock/8 + superBlock/32 + superBlock/32}, // d, qs, signs, qh, scales
	IQ3_XXS: {"iq3_xxs", superBlock, 2 + superBlock/4 + superBlock/8},                               // d, qs, scales and signs
	IQ3_S:   {"iq3_s", superBlock, 2 + superBlock/4 + superBlock/32 + superBlock/8 + superBlock/64}, // d, qs, qh, signs, scales
	NVFP4:   {"nvfp4", 64, 4 + 32},                                                                  // d, qs
	TQ1_0:   {"tq1_0", superBlock, 48 + 4 + 2},                                                      // qs, qh, d
	TQ2_0:   {"tq2_0", superBlock, superBlock/4 + 2},                                                // qs, d
	Q1_0:    {"q1_0", 128, 2 + 16},                                                                  // d, qs
	Q2_0:    {"q2_0", 64, 2 + 16},                                                                   // d, qs
	Q8_1:    {"q8_1", 32, 2 + 2 + 32},                                                               // d, sum, qs
	Q8_K:    {"q8_k", superBlock, 4 + superBlock + superBlock/8},                                    // d f32, qs, sums
	Group2:  {"group2", 4, 1},                                                                       // codes; scales in Group
	Group4:  {"group4", 2, 1},                                                                       // codes; scales in Group
	Group8:  {"group8", 1, 1},                                                                       // codes; scales in Group
	NF4:     {"nf4", 2, 1},                                                                          // two nibbles; scales in BnBScale
	FP4:     {"fp4", 2, 1},                                                                          // two nibbles; scales in BnBScale
}

// String is the lower-case name of f, as in config.toml.
func (f Format) String() string {
	if !f.Valid() {
		return fmt.Sprintf("format(%d)", uint8(f))
	}
	return layouts[f].name
}

// Valid reports whether f is one of the formats of this package.
func (f Format) Valid() bool { return f > FormatInvalid && int(f) < len(layouts) }

// ParseFormat finds a format by its name in any case.
func ParseFormat(name string) (Format, error) {
	for f := F32; f.Valid(); f++ {
		if strings.EqualFold(name, layouts[f].name) {
			return f, nil
		}
	}
	return FormatInvalid, fmt.Errorf("quant: format %q: not one of %s", name, Names())
}

// Names lists all formats, for messages.
func Names() string { return namesOf(Format.Valid) }

func namesOf(want func(Format) bool) string {
	names := make([]string, 0, len(layouts)-1)
	for f := F32; f.Valid(); f++ {
		if want(f) {
			names = append(names, layouts[f].name)
		}
	}
	return strings.Join(names, ", ")
}

// BlockSize is the number of weights in the smallest unit that can be decoded alone: 1 for floats, 2 (one byte) for NF4
// and FP4, whose scales cover BnBScale.BlockSize weights of the flattened matrix instead.
func (f Format) BlockSize() int { return layouts[f].size }

// BlockBytes is the number of bytes of one block of BlockSize weights.
func (f Format) BlockBytes() int { return layouts[f].bytes }

// IsBnB reports whether matrices of f carry their scales in BnBScale.
func (f Format) IsBnB() bool { return f == NF4 || f == FP4 }

// RowBytes is the number of bytes of a row of cols weights. It is not defined for NF4 and FP4, whose rows
// need not start at a byte, and where cols is no multiple of the block size: RowBytes then returns 0.
func (f Format) RowBytes(cols int) int {
	l := layouts[f]
	if f.IsBnB() || cols%l.size != 0 {
		return 0
	}
	return cols / l.size * l.bytes
}

// Bytes is the size of a packed (rows, cols) matrix without BnB scales, or -1 where cols is no multiple of the block
// size. It is computed in 64 bits; rows and cols below 2³¹ cannot overflow it.
func (f Format) Bytes(rows, cols int64) int64 {
	l := layouts[f]
	if f.IsBnB() {
		return (rows*cols + 1) / 2
	}
	if cols%int64(l.size) != 0 {
		return -1
	}
	return rows * (cols / int64(l.size) * int64(l.bytes))
}
