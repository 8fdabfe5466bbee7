package speculate

// Bounds of a prompt lookup.
const (
	// minMatch is the least number of tokens that must be repeated before what followed them is a guess.
	minMatch = 2
	// maxMatch ends a comparison: longer matches say no more.
	maxMatch = 16
)

// lookup guesses what comes next in a history of two parts: what followed the last tokens when they stood
// there before, longest match first, the latest of equals (prompt lookup; Saxena 2023, and LLMA of Yang et
// al. 2023). It appends up to n ids to dst and returns the length of the match; 0: there is none.
//
// It looks at every token of the history, every time: 4,000 take 2 µs, a thousandth of what a token of a
// small model takes to compute, and there is no index to keep for a branch that forks, is preempted or starts
// anew.
func lookup(dst, prompt, ids []int32, n int) ([]int32, int) {
	total := len(prompt) + len(ids)
	if total < minMatch+1 || n <= 0 {
		return dst, 0
	}
	at := func(i int) int32 {
		if i < len(prompt) {
			return prompt[i]
		}
		return ids[i-len(prompt)]
	}
	last, before := at(total-1), at(total-2)
	best, where := minMatch-1, -1
	look := func(i int) bool { // the history up to i ends as the whole does, by two tokens at least
		k := minMatch
		for k < maxMatch && k <= i && at(i-k) == at(total-1-k) {
			k++
		}
		if k > best {
			best, where = k, i
		}
		return best == maxMatch
	}
	i := total - 2
	for ; i > len(prompt); i-- {
		if ids[i-len(prompt)] == last && ids[i-len(prompt)-1] == before && look(i) {
			i = -1
		}
	}
	for ; i > 0; i-- {
		if at(i) == last && at(i-1) == before && look(i) {
			break
		}
	}
	if where < 0 {
		return dst, 0
	}
	from := len(dst)
	for k := range n {
		// Beyond the end of the history the guess goes on with itself: a text that repeats a line does so again.
		if j := where + 1 + k; j < total {
			dst = append(dst, at(j))
		} else {
			dst = append(dst, dst[from+j-total])
		}
	}
	return dst, best
}
