package normalize

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Charsmap replaces characters and groups of characters by a map that SentencePiece compiled into the model.
//
//	size of the trie in bytes (uint32, little-endian) | trie: a double array of uint32 units | texts, each ended by a zero
//
// A unit of the trie: bits 0 to 7 and 31 its label, bit 8 whether a value hangs below, bits 10 on the offset of its
// children (shifted by 8 more with bit 9 set); a value is an offset in the texts.
// Source: https://github.com/google/sentencepiece, src/normalizer.cc, and its copy of Darts-clone.
type Charsmap struct {
	units []uint32
	texts string
}

// NewCharsmap reads a compiled map. One whose trie is longer than the map is an error; other damage makes
// texts stay as they are.
func NewCharsmap(data []byte) (*Charsmap, error) {
	if len(data) < 4 {
		return nil, errors.New("a character map is shorter than its header")
	}
	size := uint64(binary.LittleEndian.Uint32(data))
	rest := data[4:]
	if size > uint64(len(rest)) || size%4 != 0 {
		return nil, errors.New("a character map has a trie that is longer than the map")
	}
	m := &Charsmap{units: make([]uint32, size/4), texts: string(rest[size:])}
	for i := range m.units {
		m.units[i] = binary.LittleEndian.Uint32(rest[4*i:])
	}
	return m, nil
}

func unitOffset(u uint32) uint32 { return (u >> 10) << ((u & (1 << 9)) >> 6) }

// match walks the trie along s and calls found for each text of the map that s starts with, the shortest first, until
// found returns false.
func (m *Charsmap) match(s string, found func(length int, by string) bool) {
	if len(m.units) == 0 {
		return
	}
	at := unitOffset(m.units[0])
	for i := range len(s) {
		c := uint32(s[i])
		if c == 0 {
			return
		}
		at ^= c
		if uint64(at) >= uint64(len(m.units)) {
			return
		}
		u := m.units[at]
		if u&(1<<31|0xFF) != c {
			return
		}
		at ^= unitOffset(u)
		if u>>8&1 == 0 {
			continue
		}
		if uint64(at) >= uint64(len(m.units)) {
			return
		}
		value := m.units[at] & (1<<31 - 1)
		if uint64(value) > uint64(len(m.texts)) {
			return
		}
		by, _, _ := strings.Cut(m.texts[value:], "\x00")
		if !utf8.ValidString(by) {
			by = strings.ToValidUTF8(by, string(utf8.RuneError))
		}
		if !found(i+1, by) {
			return
		}
	}
}

// shortest returns what the shortest beginning of s that the map holds becomes.
func (m *Charsmap) shortest(s string) (by string, ok bool) {
	m.match(s, func(_ int, to string) bool {
		by, ok = to, true
		return false
	})
	return by, ok
}

// longest returns the longest beginning of s that the map holds, and what it becomes.
func (m *Charsmap) longest(s string) (length int, by string) {
	m.match(s, func(n int, to string) bool {
		length, by = n, to
		return true
	})
	return length, by
}

// byCluster normalises as Hugging Face's library does: a cluster of characters (a letter with its marks) of
// less than six bytes is replaced as a whole by what its shortest beginning becomes; in any other each
// character by its own.
func (m *Charsmap) byCluster(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for s != "" {
		if s[0] < utf8.RuneSelf && (len(s) == 1 || s[1] < utf8.RuneSelf) && s[0] != '\r' {
			// ASCII before ASCII is a cluster of its own.
			if by, ok := m.shortest(s[:1]); ok {
				b.WriteString(by)
			} else {
				b.WriteByte(s[0])
			}
			s = s[1:]
			continue
		}
		n := clusterLength(s)
		cluster := s[:n]
		s = s[n:]
		if n < 6 {
			if by, ok := m.shortest(cluster); ok {
				b.WriteString(by)
				continue
			}
		}
		for cluster != "" {
			_, size := utf8.DecodeRuneInString(cluster)
			if by, ok := m.shortest(cluster[:size]); ok {
				b.WriteString(by)
			} else {
				b.WriteString(cluster[:size])
			}
			cluster = cluster[size:]
		}
	}
	return b.String()
}

// clusterKind classifies characters for finding the bounds of clusters.
type clusterKind uint8

const (
	clusterOther clusterKind = iota
	clusterControl
	clusterExtend // marks that attach to what stands before them
	clusterPrepend
	clusterL // Hangul by parts: leading consonant, vowel, trailing consonant, syllables without and with one
	clusterV
	clusterT
	clusterLV
	clusterLVT
)

func clusterKindOf(r rune) clusterKind {
	switch {
	case r < 0x300:
		if r < ' ' || r >= 0x7F && r < 0xA0 || r == 0xAD {
			return clusterControl
		}
		return clusterOther
	case r >= 0xAC00 && r <= 0xD7A3:
		if (r-0xAC00)%28 == 0 {
			return clusterLV
		}
		return clusterLVT
	case r >= 0x1100 && r <= 0x115F, r >= 0xA960 && r <= 0xA97C:
		return clusterL
	case r >= 0x1160 && r <= 0x11A7, r >= 0xD7B0 && r <= 0xD7C6:
		return clusterV
	case r >= 0x11A8 && r <= 0x11FF, r >= 0xD7CB && r <= 0xD7FB:
		return clusterT
	case r == 0x200D, r == 0x200C, r >= 0x1F3FB && r <= 0x1F3FF, r == 0xE33, r == 0xEB3:
		return clusterExtend
	case unicode.Is(unicode.Prepended_Concatenation_Mark, r), slicesHas(prepended, r):
		return clusterPrepend
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Other_Grapheme_Extend):
		return clusterExtend
	case unicode.Is(unicode.Mc, r) && !slicesHas(noSpacing, r):
		return clusterExtend
	case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp):
		return clusterControl
	}
	return clusterOther
}

// prepended are the letters that belong to what follows them, and noSpacing the spacing marks that stand alone.
// Source: Unicode Standard Annex 29, Grapheme_Cluster_Break.
//
//nolint:gochecknoglobals // tables
var (
	prepended = []rune{
		0xD4E,
		0x111C2,
		0x111C3,
		0x1193F,
		0x11941,
		0x11A3A,
		0x11A84,
		0x11A85,
		0x11A86,
		0x11A87,
		0x11A88,
		0x11A89,
		0x11D46,
		0x11F02,
	}
	noSpacing = []rune{
		0x102B,
		0x102C,
		0x1038,
		0x1062,
		0x1063,
		0x1064,
		0x1067,
		0x1068,
		0x1069,
		0x106A,
		0x106B,
		0x106C,
		0x106D,
		0x1083,
		0x1087,
		0x1088,
		0x1089,
		0x108A,
		0x108B,
		0x108C,
		0x108F,
		0x109A,
		0x109B,
		0x109C,
		0x1A61,
		0x1A63,
		0x1A64,
		0xAA7B,
		0xAA7D,
		0x11720,
		0x11721,
	}
)

func slicesHas(list []rune, r rune) bool {
	return slices.Contains(list, r)
}

// clusterLength is the length of the extended grapheme cluster at the start of s. Emoji that joiners bind and flags are
// not joined: they are longer than what a character map replaces as a whole either way.
func clusterLength(s string) int {
	r, n := utf8.DecodeRuneInString(s)
	if r == '\r' && len(s) > 1 && s[1] == '\n' {
		return 2
	}
	last := clusterKindOf(r)
	if last == clusterControl {
		return n
	}
	for n < len(s) {
		r, size := utf8.DecodeRuneInString(s[n:])
		if r < 0x300 && last != clusterPrepend {
			return n
		}
		next := clusterKindOf(r)
		join := false
		switch {
		case next == clusterControl:
		case next == clusterExtend, last == clusterPrepend:
			join = true
		case last == clusterL:
			join = next == clusterL || next == clusterV || next == clusterLV || next == clusterLVT
		case last == clusterLV, last == clusterV:
			join = next == clusterV || next == clusterT
		case last == clusterLVT, last == clusterT:
			join = next == clusterT
		}
		if !join {
			return n
		}
		last = next
		n += size
	}
	return n
}
