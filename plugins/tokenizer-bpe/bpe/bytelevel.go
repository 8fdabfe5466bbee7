package bpe

import "unicode/utf8"

// byteChars is GPT-2's map between bytes and printable characters, in which the tokens of byte-level vocabularies are
// written: a printable byte is itself, the others follow from U+0100 on.
// Source: https://github.com/openai/gpt-2, src/encoder.py, bytes_to_unicode.
type byteChars struct {
	char [256]rune
	byte [0x144]int16 // by character; -1: none
}

func newByteChars() *byteChars {
	b := &byteChars{}
	for r := range b.byte {
		b.byte[r] = -1
	}
	next := rune(256)
	for c := range b.char {
		switch {
		case c >= '!' && c <= '~', c >= 0xA1 && c <= 0xAC, c >= 0xAE:
			b.char[c] = rune(c)
		default:
			b.char[c] = next
			next++
		}
		b.byte[b.char[c]] = int16(c)
	}
	return b
}

// encode appends the characters of s's bytes.
func (b *byteChars) encode(dst []byte, s string) []byte {
	for i := range len(s) {
		dst = utf8.AppendRune(dst, b.char[s[i]])
	}
	return dst
}

// decode appends the bytes that a token's characters stand for; ok is false when some stand for none, and then those are
// appended as they are.
func (b *byteChars) decode(dst []byte, s string) (_ []byte, ok bool) {
	ok = true
	for _, r := range s {
		if int(r) < len(b.byte) && b.byte[r] >= 0 {
			dst = append(dst, byte(b.byte[r]))
		} else {
			ok = false
			dst = utf8.AppendRune(dst, r)
		}
	}
	return dst, ok
}

// parseByte reads <0x0A>.
func parseByte(s string) (byte, bool) {
	if len(s) != 6 || s[:3] != "<0x" || s[5] != '>' {
		return 0, false
	}
	hi, lo := hexDigit(s[3]), hexDigit(s[4])
	return byte(hi<<4 | lo), hi >= 0 && lo >= 0
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}
