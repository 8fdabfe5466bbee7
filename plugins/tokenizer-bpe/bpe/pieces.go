package bpe

import "strings"

// pieces decodes every token: control and added tokens are their text, byte tokens their byte. decode appends. All pieces
// share one array.
func pieces(v *vocabulary, decode func(dst []byte, s string) []byte) [][]byte {
	size := 0
	for _, s := range v.text {
		size += len(s)
	}
	all := make([]byte, 0, size+len(v.text)/8)
	ends := make([]int, len(v.text))
	for id, s := range v.text {
		switch v.kind[id] {
		case control, unknown, userDefined:
			all = append(all, s...)
		case byteToken:
			if b, ok := parseByte(s); ok {
				all = append(all, b)
			} else {
				all = decode(all, s)
			}
		case unused:
		default:
			all = decode(all, s)
		}
		ends[id] = len(all)
	}
	out := make([][]byte, len(v.text))
	start := 0
	for id, end := range ends {
		out[id] = all[start:end:end]
		start = end
	}
	return out
}

// unblank decodes SentencePiece's blanks.
func unblank(dst []byte, s string) []byte { return append(dst, strings.ReplaceAll(s, blank, " ")...) }

// wholeWords indexes the decoded texts of tokens.
func wholeWords(v *vocabulary, chars *byteChars) *index {
	texts := make([]string, len(v.text))
	var buf []byte
	for id, s := range v.text {
		var ok bool
		buf, ok = chars.decode(buf[:0], s)
		if ok && !v.kind[id].special() {
			texts[id] = string(buf)
		}
	}
	return indexAll(texts)
}
