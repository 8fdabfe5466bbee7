package models

import (
	"fmt"
	"slices"
	"strings"
)

// Crowded says what pinned models keep out of a memory of budget bytes: one of themselves, or the default
// model, whose requests are refused once they are loaded. "": nothing, or it is not known. Of each State Name
// and Needs count.
func Crowded(budget int64, main State, pinned []State) string {
	var names []string
	var together int64
	for _, s := range pinned {
		names = append(names, s.Name)
		together += s.Needs
	}
	who := "models.pinned: " + strings.Join(names, ", ")
	needs := map[bool]string{true: "needs", false: "need"}[len(names) == 1]
	switch {
	case budget <= 0 || len(names) == 0:
	case together > budget:
		return fmt.Sprintf(
			"%s %s at least %d MiB of memory, and there are %d MiB for models: not all of them can be loaded",
			who,
			needs,
			together>>20,
			budget>>20,
		)
	case !slices.Contains(names, main.Name) && together+main.Needs > budget:
		return fmt.Sprintf(
			"%s %s at least %d MiB of memory, which of %d MiB for models leaves too little for the default model, %s, with %d MiB: "+
				"once what is pinned is loaded, requests that name no model are refused",
			who,
			needs,
			together>>20,
			budget>>20,
			main.Name,
			main.Needs>>20,
		)
	}
	return ""
}

// spare is how much of the memory a pinned model leaves, where it can do with less, for those that Keep names
// and that are not there yet. p.mu is held.
func (p *Pool[P]) spare(s *slot[P]) (bytes int64) {
	if p.o.Keep == nil || !slices.Contains(p.o.Pinned, s.name) {
		return 0
	}
	for _, k := range p.o.Keep() {
		o := p.slots[k.Name]
		there := o != nil && o.state == Loaded && slices.Contains(p.o.Pinned, k.Name) // it has its part
		if k.Name != s.name && !there {
			bytes += k.Needs
		}
	}
	return bytes
}
