package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"edged/core/infer/engine/answer"
	"edged/core/infer/engine/compute"
	"edged/core/infer/engine/encode"
	"edged/core/infer/engine/prefix"
	"edged/core/infer/engine/speculate"
	"edged/core/model/arch"
	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// job is one request: a generation with one or more branches, a list to be scored, or one whose hidden states
// are wanted. It waits in the scheduler, runs, may be preempted and wait again, and ends with its last event
// or an error in its mailbox. Several branches share the prompt: the root computes it without its last token,
// and they fork it. What stands above the line is fixed when it is made; the loop owns the rest.
type job struct {
	*answer.Answers
	scoring bool
	sum     []float32     // (Width) of an embedding: of the hidden states so far; nil: none
	pool    arch.PoolKind // which states sum is of
	single  bool          // nothing is guessed
	watch   bool          // times of its tokens are kept
	out     *mailbox
	// ---
	prompt      prefix.Prompt // as the prefix cache knows it
	order       uint64        // of arrival: the first has 1
	branches    []*branch
	root        compute.Seq // the prompt without its last token, which the branches fork; nil: not there yet, or given away
	forked      bool
	adapters    []*adapter
	spans       []boundSpan // what its rows carry, in order of positions
	active      []int       // the position from which each of adapters is on
	read        uint64      // number of the last turn that computed a part of its prompt
	reported    int         // prompt tokens of the last progress event
	preemptions int         // how often it was preempted
	drafted     int         // guessed tokens that were computed
	accepted    int         // and those that were drawn
	times       []time.Time // of its tokens, where they are watched
}

// branch is the computing side of one choice of a job: prompt and ids are its history, of which seq has
// computed the first Len tokens.
type branch struct {
	*answer.Choice
	job    *job
	seq    compute.Seq // nil: none at present
	draft  speculate.Draft
	served uint64 // number of the last turn that computed a next token for it
}

// newJob makes the job of a generation.
func newJob(ctx context.Context, req backend.Request, v *answer.Vocabulary, s sizes) (*job, error) {
	a, err := answer.New(ctx, req, v, s.Rows, s.Context)
	if err != nil {
		return nil, err
	}
	return jobOf(a), nil
}

// jobOf makes the job that computes answers, a branch for each choice.
func jobOf(a *answer.Answers) *job {
	j := &job{Answers: a, out: newMailbox()}
	for _, c := range a.Choices {
		j.branches = append(j.branches, &branch{Choice: c, job: j})
	}
	return j
}

// newScoring makes the job of one list: the first token is the prompt, the others are known already. nil:
// there is nothing to score.
func newScoring(list []int32, adapters []backend.AdapterUse, s sizes) (*job, error) {
	if err := answer.CheckIDs("list", list, s.Rows); err != nil {
		return nil, err
	}
	if err := answer.CheckScales(adapters); err != nil {
		return nil, err
	}
	if len(list) > s.Context {
		return nil, fmt.Errorf("engine: score: %w: the list has %d tokens, the context holds %d", protocol.ErrContextLength, len(list), s.Context)
	}
	if len(list) < 2 {
		return nil, nil
	}
	j := jobOf(answer.NewKnown(backend.Request{PromptIDs: list[:1], Adapters: adapters, Logprobs: true}, list[1:]))
	j.scoring, j.prompt.Private = true, true // every row's logits are wanted: nothing could be skipped
	return j, nil
}

// newEmbedding makes the job of one list: all of it is the prompt, and nothing is drawn.
func newEmbedding(list []int32, pool arch.PoolKind, width int, s sizes) (*job, error) {
	if err := encode.CheckList(list, s.Rows, s.Context); err != nil {
		return nil, err
	}
	j := jobOf(answer.NewKnown(backend.Request{PromptIDs: list}, nil))
	j.sum, j.pool, j.prompt.Private = make([]float32, width), pool, true // every row's hidden state is wanted: nothing could be skipped
	return j, nil
}

// known reports whether no token is to be drawn any more: only log-probabilities are missing, where it is live.
func (b *branch) known() bool { return b.job.scoring || b.job.sum != nil || b.Finish != "" }

// live reports whether a branch still has tokens to compute.
func (b *branch) live() bool {
	return !b.known() || b.job.Req.Logprobs && len(b.Logprobs) < len(b.IDs) || b.job.sum != nil && b.Finish == ""
}

// target is the number of tokens to compute: all of them, since the last one's logits give the next token; without the
// last one where all tokens are known, but for an embedding.
func (b *branch) target() int {
	if b.known() && b.job.sum == nil {
		return b.History() - 1
	}
	return b.History()
}

// wanted reports whether the logits after token i are wanted: to draw the next one, or to look up the
// log-probability of one that is known already.
func (b *branch) wanted(i int) bool {
	next := i + 1 - len(b.job.Req.PromptIDs) // the index in ids of the token that follows
	switch {
	case next == len(b.IDs):
		return !b.known()
	case next < 0:
		return false
	}
	return b.job.Req.Logprobs && next >= len(b.Logprobs)
}

// drop frees what a branch has computed.
func (b *branch) drop() {
	b.draft.Forget()
	if b.seq != nil {
		b.seq.Free()
		b.seq = nil
	}
}

// drop frees what a job has computed.
func (j *job) drop() {
	for _, b := range j.branches {
		b.drop()
	}
	if j.root != nil {
		j.root.Free()
		j.root = nil
	}
	j.forked = false
}

// done reports whether every branch is finished.
func (j *job) done() bool {
	return !slices.ContainsFunc(j.branches, (*branch).live)
}

// alive is the number of branches that are not finished.
func (j *job) alive() int {
	n := 0
	for _, b := range j.branches {
		if b.live() {
			n++
		}
	}
	return n
}

// sequences is the number of unfinished branches that have a sequence.
func (j *job) sequences() int {
	n := 0
	for _, b := range j.branches {
		if b.seq != nil && b.live() {
			n++
		}
	}
	return n
}

// before reports whether j takes precedence: by priority, then by arrival.
func (j *job) before(other *job) bool {
	if j.Req.Priority != other.Req.Priority {
		return j.Req.Priority > other.Req.Priority
	}
	return j.order < other.order
}

// last makes the last event.
func (j *job) last() backend.Event {
	ev := j.Last()
	ev.Usage.CachedTokens = j.prompt.Cached
	return ev
}

// errClosed ends requests whose engine is closed.
var errClosed = errors.New("engine: closed")

// pools reports whether the state of token i is wanted for the job's vector.
func (j *job) pools(i int) bool {
	switch {
	case j.sum == nil:
		return false
	case j.pool == arch.PoolCLS:
		return i == 0
	case j.pool == arch.PoolLast:
		return i == len(j.Req.PromptIDs)-1
	default:
		return true
	}
}
