package service

import (
	"regexp"
	"slices"
)

// Borders of a prompt: where others that begin alike may go on otherwise. What a backend keeps of a prompt
// can be of use only up to there for a model whose state leads to no other place.

// clockTime finds a time of day, or a date with one, as people put it into a system message.
var clockTime = regexp.MustCompile(`\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d)?|\b\d{1,2}:\d\d(?::\d\d)?\b`)

// maxClock is how much of a text is searched for a time.
const maxClock = 1 << 16

// withClock adds to the borders of a rendered text where its first message has a time: the next prompt has
// another there.
func withClock(text string, places []int) []int {
	first := text[:min(len(text), maxClock)]
	if len(places) > 0 {
		first = first[:min(len(first), places[0])]
	}
	if at := clockTime.FindStringIndex(first); at != nil && at[0] > 0 {
		return append([]int{at[0]}, places...)
	}
	return places
}

// maxBorders is how many borders a prompt tells: the first ones, which most prompts share, and the last ones.
const maxBorders = 64

// borders makes numbers of ids, each once and within the prompt, of the counts of places.
func borders(counts []int, ids int) []int32 {
	var out []int32
	for _, n := range counts {
		if n > 0 && n < ids {
			out = append(out, int32(n))
		}
	}
	slices.Sort(out)
	if out = slices.Compact(out); len(out) > maxBorders {
		out = slices.Delete(out, maxBorders/2, len(out)-maxBorders/2)
	}
	return out
}
