package engine

import (
	"slices"

	"edged/core/infer/engine/compute"
	"edged/core/model/lora"
)

// boundSpan holds the bound adapters of a job's rows from a position on.
type boundSpan struct {
	from  int
	bound any
}

// activate binds a job's adapters to its rows. One that a text calls (activated LoRA) is on from there; where
// it does not, never. What an answer says calls nothing: a text is looked at once, as PEFT does, so that
// another attempt is the same request.
func (l *loop) activate(j *job) {
	uses := make([]compute.Use, len(j.adapters))
	starts := []int{0}
	for i, a := range j.adapters {
		uses[i] = compute.Use{Adapter: a.bound, Scale: j.Req.Adapters[i].Scale}
		n, token := len(j.Req.PromptIDs), j.Token
		if j.scoring {
			n, token = j.branches[0].History(), j.branches[0].Token
		}
		from := lora.ActiveFrom(a.invocation, n, token)
		j.active = append(j.active, from)
		starts = append(starts, from)
	}
	slices.Sort(starts)
	for _, from := range slices.Compact(starts) {
		var on []compute.Use
		for i, u := range uses {
			if j.active[i] <= from {
				on = append(on, u)
			}
		}
		if from < lora.Never {
			j.spans = append(j.spans, boundSpan{from: from, bound: l.model.Bind(on)})
		}
	}
}

// boundAt returns the bound adapters of the row at a position.
func (j *job) boundAt(pos int) any {
	for _, span := range slices.Backward(j.spans) {
		if span.from <= pos {
			return span.bound
		}
	}
	return nil
}
