// Package quant defines the block formats in which weights are stored: their layout, their exact decoding to float32
// and, where edged writes them, their encoding. It is the portable reference that every accelerated kernel is held to.
//
// It must not know files, models or threads. All functions are pure and may be called concurrently.
package quant

// Format is a storage format of weights.
type Format uint8

// The formats. Names are those that GGUF and bitsandbytes use.
//
//nolint:staticcheck // Q4_K is how everybody writes it
const (
	FormatInvalid Format = iota
	F32
	F16
	BF16
	Q8_0
	Q4_0
	Q4_1
	Q5_0
	Q5_1
	Q2_K
	Q3_K
	Q4_K
	Q5_K
	Q6_K
	IQ4_NL
	IQ4_XS
	MXFP4
	IQ1_S
	IQ1_M
	IQ2_XXS
	IQ2_XS
	IQ2_S
	IQ3_XXS
	IQ3_S
	NVFP4
	TQ1_0
	TQ2_0
	Q1_0
	Q2_0
	Q8_1
	Q8_K
	Group2 // 2-bit codes in groups, see Group
	Group4 // 4-bit codes
	Group8 // 8-bit codes
	NF4    // bitsandbytes, plain or with nested absmax
	FP4    // bitsandbytes, plain or with nested absmax
)

// Matrix is a weight matrix (Rows, Cols), row-major, in one format. Data is usually a read-only mapping and is owned by
// the opener of the model; a Matrix never outlives it.
type Matrix struct {
	Name   string // for messages
	Format Format
	Rows   int
	Cols   int
	Data   []byte    // Rows × RowBytes for block formats; ceil(Rows × Cols / 2) packed nibbles for NF4 and FP4
	BnB    *BnBScale // set for NF4 and FP4
	Group  *Group    // set for Group2, Group4 and Group8
	Tile   Tile      // optional copy in another order, see package tile
}

// Tile is a copy of a matrix in groups of Rows rows, see package tile. Data nil: none.
type Tile struct {
	Rows int
	Data []byte
}

// BnBScale holds the block scales of a bitsandbytes matrix: blocks of BlockSize consecutive weights of the
// flattened matrix. With nested (double) quantisation absmax[j] = NestedMap[AbsmaxQ[j]] ×
// NestedAbsmax[j/NestedBlock] + NestedOffset.
type BnBScale struct {
	BlockSize    int         // usually 64
	Code         [16]float32 // value of each nibble (quant_map)
	Absmax       []float32   // plain; nil where nested. May alias the mapping.
	AbsmaxQ      []byte      // nested
	NestedMap    []float32   // 256 values
	NestedAbsmax []float32
	NestedBlock  int // usually 256
	NestedOffset float32
}
