package sample

import (
	"cmp"
	"math/bits"
	"slices"
)

// ranked is a candidate in the order in which a step takes them: by key, then by id.
type ranked struct {
	key    float64
	weight float64
	id     int32
}

// before reports whether r comes before the candidate with that key and id.
func (r *ranked) before(key float64, id int32) bool {
	return r.key < key || r.key == key && r.id < id
}

// prefix returns the last of the shortest run of r, in order, whose weights sum to want; the last of all
// where they do not. It reorders r. It is a quickselect that looks at sums instead of ranks: nothing is
// sorted, which for the nucleus of a flat distribution over 152k tokens is the difference between 40 ms and 6
// ms. After 2·log2(n) bad pivots it does sort.
func prefix(r []ranked, want float64) ranked {
	have := 0.0 // sum of what is known to be in the run
	for depth := 2 * bits.Len(uint(len(r))); len(r) > 16 && depth > 0; depth-- {
		n := partition(r)
		left := 0.0
		for i := range r[:n] {
			left += r[i].weight
		}
		if have+left >= want {
			r = r[:n]
		} else {
			have += left
			r = r[n:]
		}
	}
	slices.SortFunc(r, func(a, b ranked) int { return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.id, b.id)) })
	for i := range r {
		have += r[i].weight
		if have >= want {
			return r[i]
		}
	}
	return r[len(r)-1]
}

// partition reorders r (at least three) around the median of its first, middle and last element and returns
// n, at least 1 and below len(r): r[:n] comes before r[n:] (Hoare's scheme).
func partition(r []ranked) int {
	lo, mid, hi := 0, len(r)/2, len(r)-1
	less := func(i, j int) bool { return r[i].before(r[j].key, r[j].id) }
	if less(mid, lo) {
		r[mid], r[lo] = r[lo], r[mid]
	}
	if less(hi, mid) {
		r[hi], r[mid] = r[mid], r[hi]
		if less(mid, lo) {
			r[mid], r[lo] = r[lo], r[mid]
		}
	}
	pivot := r[mid]
	i, j := lo, hi
	for {
		for i++; r[i].before(pivot.key, pivot.id); i++ {
		}
		for j--; pivot.before(r[j].key, r[j].id); j-- {
		}
		if i >= j {
			return i
		}
		r[i], r[j] = r[j], r[i]
	}
}
