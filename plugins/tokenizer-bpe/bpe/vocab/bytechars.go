package vocab

import "unicode/utf8"

// ByteChars is GPT-2's map between bytes and printable characters, in which the tokens of byte-level vocabularies are
// written: a printable byte is itself, the others follow from U+0100 on.
// Source: https://github.com/openai/gpt-2, src/encoder.py, bytes_to_unicode.
type ByteChars struct {
	Char [256]rune
	byte [0x144]int16 // by character; -1: none
}

// NewByteChars builds the map.
func NewByteChars() *ByteChars {
	b := &ByteChars{}
	for r := range b.byte {
		b.byte[r] = -1
	}
	next := rune(256)
	for c := range b.Char {
		switch {
		case c >= '!' && c <= '~', c >= 0xA1 && c <= 0xAC, c >= 0xAE:
			b.Char[c] = rune(c)
		default:
			b.Char[c] = next
			next++
		}
		b.byte[b.Char[c]] = int16(c)
	}
	return b
}

// Encode appends the characters of s's bytes.
func (b *ByteChars) Encode(dst []byte, s string) []byte {
	for i := range len(s) {
		dst = utf8.AppendRune(dst, b.Char[s[i]])
	}
	return dst
}

// Decode appends the bytes that a token's characters stand for; ok is false when some stand for none, and
// then those are appended as they are.
func (b *ByteChars) Decode(dst []byte, s string) (_ []byte, ok bool) {
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

// ParseByte reads the text of a byte token, such as <0x0A>.
func ParseByte(s string) (byte, bool) {
	if len(s) != 6 || s[:3] != "<0x" || s[5] != '>' {
		return 0, false
	}
	hi, lo := HexDigit(s[3]), HexDigit(s[4])
	return byte(hi<<4 | lo), hi >= 0 && lo >= 0
}

// HexDigit is the value of a hexadecimal digit; -1 for any other character.
func HexDigit(c byte) int {
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
