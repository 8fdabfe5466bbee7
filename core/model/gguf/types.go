package gguf

import (
	"fmt"

	"edged/quant"
)

// Type is ggml's number of a tensor type (enum ggml_type).
type Type uint32

type typeInfo struct {
	name   string
	block  int64 // weights in a block
	bytes  int64 // bytes of a block
	format quant.Format
}

// info knows the types of ggml.h, also those that edged does not compute with (integers, F64): such a file opens, and
// a reader of the tensor can name what it is. ok is false for numbers that ggml never assigned or has removed.
func (t Type) info() (i typeInfo, ok bool) {
	switch t {
	case 0:
		return typeInfo{"F32", 1, 4, quant.F32}, true
	case 1:
		return typeInfo{"F16", 1, 2, quant.F16}, true
	case 2:
		return typeInfo{"Q4_0", 32, 18, quant.Q4_0}, true
	case 3:
		return typeInfo{"Q4_1", 32, 20, quant.Q4_1}, true
	case 6:
		return typeInfo{"Q5_0", 32, 22, quant.Q5_0}, true
	case 7:
		return typeInfo{"Q5_1", 32, 24, quant.Q5_1}, true
	case 8:
		return typeInfo{"Q8_0", 32, 34, quant.Q8_0}, true
	case 9:
		return typeInfo{"Q8_1", 32, 36, quant.Q8_1}, true
	case 10:
		return typeInfo{"Q2_K", 256, 84, quant.Q2_K}, true
	case 11:
		return typeInfo{"Q3_K", 256, 110, quant.Q3_K}, true
	case 12:
		return typeInfo{"Q4_K", 256, 144, quant.Q4_K}, true
	case 13:
		return typeInfo{"Q5_K", 256, 176, quant.Q5_K}, true
	case 14:
		return typeInfo{"Q6_K", 256, 210, quant.Q6_K}, true
	case 15:
		return typeInfo{"Q8_K", 256, 292, quant.Q8_K}, true
	case 16:
		return typeInfo{"IQ2_XXS", 256, 66, quant.IQ2_XXS}, true
	case 17:
		return typeInfo{"IQ2_XS", 256, 74, quant.IQ2_XS}, true
	case 18:
		return typeInfo{"IQ3_XXS", 256, 98, quant.IQ3_XXS}, true
	case 19:
		return typeInfo{"IQ1_S", 256, 50, quant.IQ1_S}, true
	case 20:
		return typeInfo{"IQ4_NL", 32, 18, quant.IQ4_NL}, true
	case 21:
		return typeInfo{"IQ3_S", 256, 110, quant.IQ3_S}, true
	case 22:
		return typeInfo{"IQ2_S", 256, 82, quant.IQ2_S}, true
	case 23:
		return typeInfo{"IQ4_XS", 256, 136, quant.IQ4_XS}, true
	case 24:
		return typeInfo{"I8", 1, 1, 0}, true
	case 25:
		return typeInfo{"I16", 1, 2, 0}, true
	case 26:
		return typeInfo{"I32", 1, 4, 0}, true
	case 27:
		return typeInfo{"I64", 1, 8, 0}, true
	case 28:
		return typeInfo{"F64", 1, 8, 0}, true
	case 29:
		return typeInfo{"IQ1_M", 256, 56, quant.IQ1_M}, true
	case 30:
		return typeInfo{"BF16", 1, 2, quant.BF16}, true
	case 34:
		return typeInfo{"TQ1_0", 256, 54, quant.TQ1_0}, true
	case 35:
		return typeInfo{"TQ2_0", 256, 66, quant.TQ2_0}, true
	case 39:
		return typeInfo{"MXFP4", 32, 17, quant.MXFP4}, true
	case 40:
		return typeInfo{"NVFP4", 64, 36, quant.NVFP4}, true
	case 41:
		return typeInfo{"Q1_0", 128, 18, quant.Q1_0}, true
	case 42:
		return typeInfo{"Q2_0", 64, 18, quant.Q2_0}, true
	default:
		return typeInfo{}, false
	}
}

// unknown says what a number without a type of ggml's means, as far as that is known: forks number their own
// types, some over numbers that ggml has retired, and repacked files once had numbers of their own.
func (t Type) unknown() string {
	switch {
	case t == 4 || t == 5:
		return "Q4_2 or Q4_3, which ggml removed in 2023: make the file anew from the model's 16-bit weights"
	case t >= 31 && t <= 33 || t >= 36 && t <= 38:
		return "rows repacked for one processor (Q4_0_4_4, IQ4_NL_4_4 and the like), which llama.cpp removed, or a type of bitnet.cpp (I2_S, TL1): make the file anew as Q4_0, IQ4_NL or TQ2_0"
	case t >= 133 && t <= 158:
		return "one that only the fork ik_llama.cpp writes (" + t.ikName() + "): make the file anew with a type of llama.cpp's own"
	case t >= 200 && t < 400:
		return "one that only the fork ik_llama.cpp writes (rows interleaved for its kernels): make the file anew with a type of llama.cpp's own"
	default:
		return "a newer type than this edged knows, or none of ggml's"
	}
}

// ikName is the name of a type of ik_llama.cpp.
func (t Type) ikName() string {
	names := [...]string{
		133: "Q6_0", 134: "IQ1_BN", 135: "IQ2_BN", 136: "Q8_K64", 137: "IQ2_K", 138: "IQ3_K", 139: "IQ4_K", 140: "IQ5_K", 141: "IQ6_K",
		144: "IQ4_KS", 145: "IQ2_KS", 146: "IQ4_KSS", 147: "Q8_K16", 148: "Q8_K32", 149: "Q8_KR8", 150: "Q8_K128", 151: "Q8_KV",
		152: "IQ5_KS", 153: "IQ2_KT", 154: "IQ3_KT", 155: "IQ4_KT", 156: "IQ3_KS", 157: "IQ2_KL", 158: "IQ1_KT",
	}
	if int(t) < len(names) && names[t] != "" {
		return names[t]
	}
	return "an unnamed one"
}

// lastType bounds the search of TypeOf.
const lastType Type = 42

// TypeOf is the tensor type of a format; NF4 and FP4 have none.
func TypeOf(f quant.Format) (Type, error) {
	for t := Type(0); t <= lastType; t++ {
		if i, ok := t.info(); ok && i.format == f && f.Valid() {
			return t, nil
		}
	}
	return 0, fmt.Errorf("gguf: format %s has no GGUF type", f)
}

// String is ggml's name of the type.
func (t Type) String() string {
	if i, ok := t.info(); ok {
		return i.name
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// Format is the format that edged computes with, quant.FormatInvalid where it has none.
func (t Type) Format() quant.Format {
	i, _ := t.info()
	return i.format
}

// valueType is GGUF's number of a metadata type.
type valueType uint32

const (
	typeUint8 valueType = iota
	typeInt8
	typeUint16
	typeInt16
	typeUint32
	typeInt32
	typeFloat32
	typeBool
	typeString
	typeArray
	typeUint64
	typeInt64
	typeFloat64
)

func (t valueType) String() string {
	names := [...]string{
		"uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "bool", "string", "array", "uint64", "int64", "float64",
	}
	if int(t) < len(names) {
		return names[t]
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// size is the number of bytes of a scalar, 0 for strings, arrays and unknown types.
func (t valueType) size() uint64 {
	switch t {
	case typeUint8, typeInt8, typeBool:
		return 1
	case typeUint16, typeInt16:
		return 2
	case typeUint32, typeInt32, typeFloat32:
		return 4
	case typeUint64, typeInt64, typeFloat64:
		return 8
	default:
		return 0
	}
}
