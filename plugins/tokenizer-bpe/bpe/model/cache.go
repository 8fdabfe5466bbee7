package model

import "math/bits"

const (
	cacheBits  = 12
	cacheWord  = 15 // longest word that is cached: 97 % of the words of English text
	cacheCount = 4  // most ids of one
)

// wordCache remembers the ids of short words: ordinary text repeats them. It is direct-mapped, so that it costs no
// bookkeeping, and holds copies, so that no text stays in memory for it. It belongs to one scratch: no locks.
type wordCache struct {
	slots []cacheSlot // nil until the first put
}

type cacheSlot struct {
	word [cacheWord]byte
	size uint8 // of word; 0: free
	ids  [cacheCount]int32
	n    uint8 // of ids
}

func (c *wordCache) get(s string) ([]int32, bool) {
	if c.slots == nil || len(s) > cacheWord {
		return nil, false
	}
	e := &c.slots[cacheHash(s)]
	if int(e.size) != len(s) || string(e.word[:e.size]) != s {
		return nil, false
	}
	return e.ids[:e.n], true
}

func (c *wordCache) put(s string, ids []int32) {
	if len(s) > cacheWord || len(ids) > cacheCount || s == "" {
		return
	}
	if c.slots == nil {
		c.slots = make([]cacheSlot, 1<<cacheBits)
	}
	e := &c.slots[cacheHash(s)]
	e.size, e.n = uint8(copy(e.word[:], s)), uint8(copy(e.ids[:], ids))
}

// cacheHash needs no protection against chosen words: a collision costs one merge.
func cacheHash(s string) uint64 {
	var h uint64
	for i := range len(s) {
		h = (bits.RotateLeft64(h, 5) ^ uint64(s[i])) * 0x9E3779B97F4A7C15
	}
	return h >> (64 - cacheBits)
}
