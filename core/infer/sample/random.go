package sample

import "math/bits"

// uniform is the random number of one step, in [0, 1) with 53 bits: a function of its arguments and nothing
// else, so that a request gives the same answer alone, in a batch, after it was interrupted, and when several
// positions are verified at once. It is Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel Random Numbers:
// As Easy as 1, 2, 3; SC 2011) with the seed as key and (step, choice) as counter.
func uniform(seed uint64, choice, step int) float64 {
	s, c := uint64(step), uint64(choice)
	r := philox([4]uint32{uint32(s), uint32(s >> 32), uint32(c), uint32(c >> 32)}, [2]uint32{uint32(seed), uint32(seed >> 32)})
	return float64((uint64(r[1])<<32|uint64(r[0]))>>11) / (1 << 53)
}

// philox is Philox4x32 with ten rounds.
func philox(ctr [4]uint32, key [2]uint32) [4]uint32 {
	for range 10 {
		hi0, lo0 := bits.Mul32(0xD2511F53, ctr[0])
		hi1, lo1 := bits.Mul32(0xCD9E8D57, ctr[2])
		ctr = [4]uint32{hi1 ^ ctr[1] ^ key[0], lo1, hi0 ^ ctr[3] ^ key[1], lo0}
		key[0] += 0x9E3779B9 // golden ratio
		key[1] += 0xBB67AE85 // sqrt(3) - 1
	}
	return ctr
}
