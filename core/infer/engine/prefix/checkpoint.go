package prefix

import (
	"slices"

	"edged/core/infer/engine/compute"
)

// Checkpoints of fixed states, see package kv: where a prompt ends, so that the same prompt, and one that
// goes on, find it; at the borders that its template shows, where others that begin alike go on otherwise;
// where it parts from what is known already, since what came twice comes again; at the last page end, where
// no border is near; and every checkpointPages pages. A turn's rows of a sequence end where one is due, since
// the state of a position is there only until the next row. The end of an answer is one too (Retire).

// checkpointPages is the number of pages between checkpoints of a long text.
const checkpointPages = 16

// lastPage is the last page end within a prompt before its last token.
func (c *Cache) lastPage(p *Prompt) int { return (len(p.IDs) - 1) / c.page * c.page }

// lay lays down where checkpoints of a prompt are due, and which of them are written to disk though nobody
// came back to them yet.
func (c *Cache) lay(p *Prompt) {
	if !c.model.Fixed() || c.tree == nil || p.Private {
		return
	}
	end, page, grid := len(p.IDs)-1, c.page, checkpointPages*c.page
	last := c.lastPage(p)
	var borders []int
	for _, b := range p.Borders {
		if n := int(b); n >= page && n < end && (len(borders) == 0 || n > borders[len(borders)-1]) {
			borders = append(borders, n)
		}
	}
	p.points, p.lasting = p.points[:0], p.lasting[:0]
	k := len(borders)
	for i, n := range borders {
		// The first ones are shared by most prompts, the last ones by the next turns of a conversation.
		if i < 2 || i >= k-3 || n-p.points[len(p.points)-1] >= grid {
			p.points = append(p.points, n)
		}
	}
	// What stays when the process ends is where the last message begins, and what the first border is behind.
	if k > 1 && borders[k-2] >= end/2 {
		p.lasting = append(p.lasting, borders[k-2])
	} else {
		p.lasting = append(p.lasting, last)
	}
	if k > 1 {
		p.lasting = append(p.lasting, borders[0])
	}
	if k == 0 || borders[k-1] < last-page || slices.Contains(p.lasting, last) || p.Pin != "" {
		p.points = append(p.points, last)
	}
	near := func(n, before int) bool { // a border serves as well
		return slices.ContainsFunc(p.points, func(x int) bool { return x > n-before && x <= n })
	}
	for n := grid; n < end; n += grid {
		if !near(n, grid/2) {
			p.points = append(p.points, n)
		}
	}
	slices.Sort(p.points)
	if n := c.tree.Common(p.set(p.Scaling), p, end); n >= page && !near(n, page) {
		i, _ := slices.BinarySearch(p.points, n)
		p.points = slices.Insert(p.points, i, n)
	}
	p.points = slices.Compact(append(p.points, end))
}

// nextPoint returns the position of the next checkpoint of a request's tokens beyond the first n.
func (c *Cache) nextPoint(p *Prompt, n int) int {
	if i, _ := slices.BinarySearch(p.points, n+1); i < len(p.points) {
		return p.points[i]
	}
	grid := checkpointPages * c.page
	return (n/grid + 1) * grid
}

// UntilCheckpoint is the number of rows of a sequence from one position to another, up to the next
// checkpoint: a turn's rows end where one is due, since the state of a position is there only until the next
// row.
func (c *Cache) UntilCheckpoint(p *Prompt, from, to int) int {
	if !c.model.Fixed() || c.tree == nil || p.Private {
		return to - from
	}
	return min(to, c.nextPoint(p, from)) - from
}

// Checkpoint keeps the state of a sequence behind a turn where one is due.
func (c *Cache) Checkpoint(p *Prompt, s compute.Seq) {
	if !c.model.Fixed() || c.tree == nil {
		return
	}
	if !p.Private && s.Len() > 0 && c.nextPoint(p, s.Len()-1) == s.Len() {
		s.Checkpoint()
	}
}

// reserveStates evicts the states that the rows' sequences need beyond the free ones, and reports whether
// these are enough now.
func (c *Cache) reserveStates(rows []compute.Row) bool {
	if !c.model.Fixed() {
		return true
	}
	need := 0
	for i, r := range rows {
		if (i == 0 || rows[i-1].Seq != r.Seq) && r.Seq.NeedState() {
			need++
		}
	}
	if c.tree != nil {
		c.tree.EvictStates(need)
	}
	return c.model.FreeStates() >= need
}

// StatesFor reports whether so many sequences find a state each, whatever checkpoints there are: those are evicted.
func (c *Cache) StatesFor(sequences int) bool {
	held := len(c.pins)
	if c.disk != nil {
		held += len(c.disk.held)
	}
	return !c.model.Fixed() || sequences <= c.model.TotalStates()-held
}
