package answer

import (
	"math"
	"slices"
	"time"

	"edged/core/infer/grammar"
	"edged/core/infer/sample"
	"edged/core/infer/text"
	"edged/core/protocol/backend"
)

// Choice is one answer of a request: its tokens so far, their text, and what constrains the next one.
//
// An id is given out together with its text, once no stop string can cut that away any more; so a Choice
// knows of each id where its text begins and how much text was certain behind it.
type Choice struct {
	Index    int
	IDs      []int32
	Logprobs []backend.TokenLogprob // of the first ids: all of them, but for GeneratedIDs that are not computed yet
	Steps    int                    // tokens drawn, those that are no part of the answer included
	Finish   backend.FinishReason   // "": not yet
	Ender    *int32                 // of an encoder-decoder: the id that ended it
	Score    *float32               // of a beam search

	Of *Answers
	// Of each id: where its text begins, and how much text was certain once it was written.
	begins, certain []int
	text            *text.Stream     // nil: the ids are known, see NewKnown
	matcher         *grammar.Matcher // nil: any text may follow
	thought         *thought         // nil: thinking is neither bounded nor told apart
	tail            []byte           // of a free text: what may be the beginning of the lazy grammar's trigger
	total           float64          // sum of the tokens' log-probabilities, where Answers.Best
	released        int              // ids that no stop string can cut away any more
}

// replay takes the ids that an earlier attempt gave out. Their text was given out, too, and is not given again.
func (c *Choice) replay(ids []int32) error {
	for _, id := range ids {
		if c.Finish != "" {
			break
		}
		c.Steps++
		if err := c.Accept(id); err != nil {
			return err
		}
	}
	c.released = len(c.IDs)
	c.text.DeltaTo(c.certainAt(c.released))
	return nil
}

// Accept appends a drawn token that is no end of generation, and finds out whether the answer ends with it.
// The error is that of a token which the grammar does not allow.
func (c *Choice) Accept(id int32) error {
	if c.matcher != nil {
		if err := c.matcher.Advance(id, c.Of.Vocab.Written(id)); err != nil {
			return grammarError(err)
		}
	}
	c.IDs = append(c.IDs, id)
	c.begins = append(c.begins, c.text.Len())
	stopped := c.text.Write(c.Of.piece(id))
	c.certain = append(c.certain, c.text.Certain())
	switch {
	case stopped: // ids whose text is cut away are no part of the answer
		for len(c.IDs) > c.released && c.begins[len(c.IDs)-1] >= c.text.Len() {
			c.IDs = c.IDs[:len(c.IDs)-1]
		}
		c.Logprobs = c.Logprobs[:min(len(c.IDs), len(c.Logprobs))]
		c.End(backend.FinishStop)
	case c.matcher != nil && c.matcher.Ended() && c.Of.lazy == nil:
		c.End(backend.FinishStop)
	case len(c.IDs) >= c.Of.Limit:
		c.End(backend.FinishLength)
	case c.thought != nil:
		thinks := c.thinking()
		if err := c.followThought(id); err != nil {
			return err
		}
		if c.Of.lazy != nil && !thinks && !c.thinking() { // what a thought says of calls is no call
			c.watchTrigger(id)
		}
	case c.Of.lazy != nil:
		c.watchTrigger(id)
	}
	return nil
}

// End finishes the answer.
func (c *Choice) End(why backend.FinishReason) {
	c.text.Close()
	c.Finish = why
}

// certainAt is the text that was certain once n ids were written. It depends on these ids alone, so that
// another attempt that starts from them knows what was given out.
func (c *Choice) certainAt(n int) int {
	if n == 0 {
		return 0
	}
	return c.certain[n-1]
}

// Release returns an event with what became certain since the last one, ids and text together; false: nothing did. Ids
// are held back while the text that they began could be cut away.
func (c *Choice) Release() (backend.Event, bool) {
	n := c.released
	switch {
	case c.Finish != "" || c.text.Settled():
		n = len(c.IDs)
	default:
		for n < len(c.IDs) && c.begins[n] < c.text.Certain() {
			n++
		}
		n = max(c.released, c.thought.whole(n))
	}
	from := c.released
	c.released = n
	if !c.Of.Req.Stream || c.Of.Best {
		return backend.Event{}, false
	}
	ev := backend.Event{Index: c.Index, IDs: slices.Clone(c.IDs[from:n])}
	if c.Finish != "" {
		ev.Text = c.text.Delta()
	} else {
		ev.Text = c.text.DeltaTo(c.certainAt(n))
	}
	if c.Of.Req.Logprobs {
		ev.Logprobs = slices.Clone(c.Logprobs[from:n])
	}
	return ev, len(ev.IDs) > 0 || ev.Text != ""
}

// History is the number of tokens of prompt and answer.
func (c *Choice) History() int { return len(c.Of.Req.PromptIDs) + len(c.IDs) }

// Token is one of them.
func (c *Choice) Token(i int) int32 {
	if p := c.Of.Req.PromptIDs; i < len(p) {
		return p[i]
	}
	return c.IDs[i-len(c.Of.Req.PromptIDs)]
}

// Constrained reports whether a grammar masks the next token.
func (c *Choice) Constrained() bool { return c.matcher != nil }

// Possible is how many of the guessed ids could follow one after the other by the grammar; all, where there is none.
func (c *Choice) Possible(ids []int32) int {
	if c.matcher == nil {
		return len(ids)
	}
	return c.matcher.Follow(ids, c.Of.Vocab.Written)
}

// Drawer draws tokens. It holds scratch, which the choices of all requests share; it belongs to one goroutine.
type Drawer struct {
	sampler sample.Sampler
	top     []sample.Alternative // scratch
}

// Draw chooses the token of step index from its logits: the forced one, where there is one, or by the
// request's settings. peaks are those of the logits, see sample.Peaks; nil: not known. Errors are those of
// sample.Sampler.Next and of the grammar.
func (d *Drawer) Draw(c *Choice, logits, peaks []float32, index int) (int32, error) {
	a := c.Of
	if index < len(a.Req.ForcedIDs) {
		return a.Req.ForcedIDs[index], nil
	}
	step := sample.Step{
		Logits: logits, Peaks: peaks, Limit: a.Vocab.limit, Params: &a.Params,
		Prompt: a.Req.PromptIDs[a.Virtual:], Generated: c.IDs, Choice: c.Index, Index: index,
	}
	if id, ok := c.thought.decided(); ok {
		return id, nil
	}
	if step.Mask = c.thoughtMask(); c.matcher != nil {
		mask, only, err := c.grammarMask()
		if err != nil || only >= 0 {
			return only, err
		}
		step.Mask = mask
	}
	return d.sampler.Next(&step)
}

// Norm is the logarithm of the sum of exponentials of logits where the request asks for log-probabilities or
// ranks by them, else 0.
func (c *Choice) Norm(logits []float32) (float64, error) {
	if !c.Of.Req.Logprobs && !c.Of.Best {
		return 0, nil
	}
	return sample.LogNorm(logits)
}

// Take appends a token that was drawn from logits of that norm, or ends the answer with it, and takes what
// grammar and thought decide behind it, of which it returns the number.
func (d *Drawer) Take(c *Choice, id int32, logits []float32, norm float64) (decided int, err error) {
	a := c.Of
	if a.Times.First.IsZero() {
		a.Times.First = time.Now()
	}
	c.Steps++
	if a.Best {
		c.total += float64(sample.Logprob(logits[id], norm))
	}
	if ends := !a.Req.IgnoreEOS && a.Vocab.IsEOG(id); ends && c.closes() {
		// The mark is decoded in its place, from here on as if it had been sampled.
	} else if ends || slices.Contains(a.Req.StopIDs, id) {
		c.End(backend.FinishStop)
	} else {
		if a.Req.Logprobs {
			d.AddLogprob(c, id, logits, norm)
		}
		if err := c.Accept(id); err != nil {
			return 0, err
		}
	}
	return c.acceptDecided()
}

// AddLogprob appends the log-probability of a token, with as many alternatives as the request asks for.
func (d *Drawer) AddLogprob(c *Choice, id int32, logits []float32, norm float64) {
	a := c.Of
	out := backend.TokenLogprob{ID: id, Logprob: sample.Logprob(logits[id], norm)}
	if n := a.Req.TopLogprobs; n > 0 {
		d.top = d.sampler.Top(d.top[:0], logits, a.Vocab.limit, n, norm)
		out.Top = make([]backend.Alternative, len(d.top))
		for i, x := range d.top {
			out.Top[i] = backend.Alternative{ID: x.ID, Logprob: x.Logprob}
		}
	}
	c.Logprobs = append(c.Logprobs, out)
}

// mean is the mean log-probability of the drawn tokens, by which best_of ranks.
func (c *Choice) mean() float64 {
	if c.Steps == 0 {
		return math.Inf(-1)
	}
	return c.total / float64(c.Steps)
}

// acceptDecided takes the tokens that the grammar, or a thought that must end, leaves no choice about,
// without logits, and ends the answer where nothing can follow. Where their log-probabilities are wanted they
// are drawn, one by one: the ids are the same. It returns how many it took.
func (c *Choice) acceptDecided() (int, error) {
	n := 0
	for c.Finish == "" {
		var st grammar.Step
		var err error
		if id, ok := c.thought.decided(); ok {
			st.Only = id
		} else if c.matcher == nil {
			return n, nil
		} else {
			st, err = c.matcher.Next()
		}
		switch {
		case err != nil:
			return n, grammarError(err)
		case st.None && c.Of.lazy != nil:
			c.matcher = nil
			return n, nil
		case st.None:
			c.End("stop")
			return n, nil
		case st.Only < 0 || c.Of.Req.Logprobs || c.Of.Best:
			return n, nil
		}
		c.Steps++
		n++
		if err := c.Accept(st.Only); err != nil {
			return n, err
		}
	}
	return n, nil
}
