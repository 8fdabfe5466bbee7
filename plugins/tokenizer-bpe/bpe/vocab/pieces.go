package vocab

import "strings"

// Pieces decodes every token: control and added tokens are their text, byte tokens their byte. decode
// appends. All pieces share one array.
func Pieces(v *Vocabulary, decode func(dst []byte, s string) []byte) [][]byte {
	size := 0
	for _, s := range v.Text {
		size += len(s)
	}
	all := make([]byte, 0, size+len(v.Text)/8)
	ends := make([]int, len(v.Text))
	for id, s := range v.Text {
		switch v.Types[id] {
		case Control, Unknown, UserDefined:
			all = append(all, s...)
		case Byte:
			if b, ok := ParseByte(s); ok {
				all = append(all, b)
			} else {
				all = decode(all, s)
			}
		case Unused:
		default:
			all = decode(all, s)
		}
		ends[id] = len(all)
	}
	out := make([][]byte, len(v.Text))
	start := 0
	for id, end := range ends {
		out[id] = all[start:end:end]
		start = end
	}
	return out
}

// Unblank appends the text of a token with SentencePiece's blanks written as spaces.
func Unblank(dst []byte, s string) []byte { return append(dst, strings.ReplaceAll(s, Blank, " ")...) }

// DecodedTexts is an index over what the tokens of a byte-level vocabulary decode to, without control tokens
// and those that are not written in chars.
func DecodedTexts(v *Vocabulary, chars *ByteChars) *Index {
	texts := make([]string, len(v.Text))
	var buf []byte
	for id, s := range v.Text {
		var ok bool
		buf, ok = chars.Decode(buf[:0], s)
		if ok && !v.Types[id].IsSpecial() {
			texts[id] = string(buf)
		}
	}
	return IndexAll(texts)
}
