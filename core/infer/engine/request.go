package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"edged/core/infer/engine/compute"
	"edged/core/infer/grammar"
	"edged/core/infer/kv/pagestore"
	"edged/core/infer/sample"
	"edged/core/infer/text"
	"edged/core/model/arch"
	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// Bounds of one request, beyond those that the context sets.
const (
	maxBranches = 64
	maxTop      = 1024
	maxAdapters = 64
	maxPin      = 256 // bytes of a name
)

// job is one request: a generation with one or more branches, or a list to be scored. What stands above the line is fixed
// when it is made; the loop owns the rest.
type job struct {
	req     backend.Request // Sampling and text are taken from here
	params  sample.Params
	vocab   *vocabulary
	limit   int // tokens that a branch may have
	choices int // branches that are answered
	best    bool
	scoring bool
	sum     []float32          // (Width) of an embedding: of the hidden states so far; nil: none
	pool    arch.PoolKind      // which states sum is of
	private bool               // neither finds nor leaves anything in the prefix cache
	single  bool               // nothing is guessed
	watch   bool               // times of its tokens are kept
	decided int                // tokens of the grammar's before it ran
	behind  *grammar.Automaton // of what follows a mark in an answer that is free otherwise; nil: none
	shown   map[int32]bool     // control tokens that are a part of the text
	// What the answer is held to behind a thought; nil: none, or the answer is held from its beginning on.
	afterThought *grammar.Automaton
	out          *mailbox
	arrived      time.Time
	// ---
	order       uint64 // of arrival: the first has 1
	branches    []*branch
	root        compute.Seq // the prompt without its last token, which the branches fork; nil: not there yet, or given away
	forked      bool
	adapters    []*adapter
	spans       []boundSpan // what its rows carry, in order of positions
	active      []int       // the position from which each of adapters is on
	virtual     int         // the first tokens of req.PromptIDs: those of soft prompts
	started     time.Time   // when it first ran
	first       time.Time   // when its first token was drawn
	read        uint64      // number of the last turn that computed a part of its prompt
	reported    int         // prompt tokens of the last progress event
	preemptions int         // how often it was preempted
	set         string      // the adapters as the prefix cache knows them
	stretched   int         // how the prompt is turned, see stretch.go
	points      []int       // where checkpoints of its prompt are due, see lay
	lasting     []int       // which of them are written to disk, where the prompt is long
	hit         bool        // it found something there
	cached      int         // prompt tokens that it did not compute
	drafted     int         // guessed tokens that were computed
	accepted    int         // and those that were drawn
	times       []time.Time // of its tokens, where they are watched

	found      int              // pages of the prompt that were there
	names      []pagestore.Name // of the prompt's full pages; nil: not wanted
	used       int64            // when it named them
	saved      int              // pages that were looked at for the disk
	resumed    int              // where it went on from a state that was there; 0: nowhere
	stateSaved int              // up to where a state of the prompt is on disk, or on its way
	fetching   bool             // it waits for pages from the disk
}

// branch is one choice of a job: prompt and ids are its history, of which seq has computed the first Len tokens.
type branch struct {
	job   *job
	index int
	seq   compute.Seq // nil: none at present
	ids   []int32
	// Of each id: where its text begins, and how much text was certain once it was written.
	begins, certain []int
	text            *text.Stream
	form            *grammar.Matcher       // nil: free
	thought         *thought               // nil: nobody asks what is thought
	tail            []byte                 // of a free text: what may be the beginning of the mark that job.behind has
	logprobs        []backend.TokenLogprob // of the first ids: all of them, but for GeneratedIDs that are not computed yet
	steps           int                    // tokens drawn, those that are no part of the answer included
	total           float64                // sum of their log-probabilities, where best
	released        int                    // ids that no stop string can cut away any more
	ender           *int32                 // of an encoder-decoder: the id that ended it
	score           *float32               // of a search with beams
	finish          backend.FinishReason   // "": not yet
	guess           guess
	served          uint64 // number of the last turn that computed a next token for it
}

// newJob checks a request and makes its job, GeneratedIDs replayed.
func newJob(ctx context.Context, req backend.Request, v *vocabulary, s sizes) (*job, error) {
	refuse := func(format string, args ...any) (*job, error) {
		return nil, fmt.Errorf("engine: %w: %s", protocol.ErrInvalid, fmt.Sprintf(format, args...))
	}
	n, best := max(req.N, 1), max(req.BestOf, req.N, 1)
	switch {
	case len(req.PromptIDs) == 0:
		return refuse("prompt: it holds no tokens")
	case req.N < 0 || req.BestOf < 0:
		return refuse("n: it is negative")
	case req.BestOf > 0 && req.BestOf < n:
		return refuse("best_of: %d is below n, which is %d", req.BestOf, n)
	case best > maxBranches:
		return refuse("best_of: %d choices are more than %d", best, maxBranches)
	case best > 1 && len(req.GeneratedIDs) > 0:
		return refuse("generated_ids: they belong to a request with one choice, and this one has %d", best)
	case req.MaxTokens < 0:
		return refuse("max_tokens: it is negative")
	case req.TopLogprobs < 0 || req.TopLogprobs > maxTop:
		return refuse("top_logprobs: want 0 to %d", maxTop)
	case len(req.Pin) > maxPin:
		return refuse("pin: a name of %d bytes is longer than %d", len(req.Pin), maxPin)
	case len(req.Adapters) > maxAdapters:
		return refuse("adapters: %d are more than %d", len(req.Adapters), maxAdapters)
	case req.Grammar != "" && len(req.ForcedIDs) > 0:
		return refuse("forced_ids: they cannot stand beside a grammar")
	}
	for _, part := range []struct {
		name  string
		ids   []int32
		limit int
	}{{"prompt", req.PromptIDs, s.Rows}, {"generated_ids", req.GeneratedIDs, s.Rows}, {"forced_ids", req.ForcedIDs, s.Rows}} {
		if err := checkIDs(part.name, part.ids, part.limit); err != nil {
			return nil, err
		}
	}
	if err := checkScales(req.Adapters); err != nil {
		return nil, err
	}
	if len(req.PromptIDs) >= s.Context {
		return nil, fmt.Errorf("engine: %w: the prompt has %d tokens, and with at least one for the answer the context holds %d",
			protocol.ErrContextLength, len(req.PromptIDs), s.Context)
	}
	j := &job{
		req:     req,
		params:  samplingParams(req.Sampling),
		vocab:   v,
		limit:   s.Context - len(req.PromptIDs),
		choices: n,
		best:    best > n,
		out:     newMailbox(),
		arrived: time.Now(),
	}
	if req.MaxTokens > 0 {
		j.limit = min(j.limit, req.MaxTokens)
	}
	if err := j.params.Validate(s.Rows); err != nil {
		return nil, fmt.Errorf("engine: %w: %w", protocol.ErrInvalid, err)
	}
	for i := range best {
		t, err := text.New(req.Stop)
		if err != nil {
			return nil, fmt.Errorf("engine: %w: %w", protocol.ErrInvalid, err)
		}
		j.branches = append(j.branches, &branch{job: j, index: i, text: t})
	}
	if req.Grammar != "" {
		if err := j.hold(ctx); err != nil {
			return nil, err
		}
	}
	if err := j.think(); err != nil {
		return nil, err
	}
	if len(req.GeneratedIDs) > 0 {
		if err := j.branches[0].replay(req.GeneratedIDs); err != nil {
			return refuse("generated_ids: %v", err)
		}
	}
	for _, b := range j.branches {
		n, err := b.acceptForced()
		if err != nil {
			return nil, err
		}
		j.decided += n
	}
	return j, nil
}

// newScoring makes the job of one list: the first token is the prompt, the others are known already. A list below two
// tokens has no branches and is not to be run.
func newScoring(list []int32, adapters []backend.AdapterUse, s sizes) (*job, error) {
	if err := checkIDs("list", list, s.Rows); err != nil {
		return nil, err
	}
	if err := checkScales(adapters); err != nil {
		return nil, err
	}
	if len(list) > s.Context {
		return nil, fmt.Errorf("engine: score: %w: the list has %d tokens, the context holds %d", protocol.ErrContextLength, len(list), s.Context)
	}
	j := &job{
		req:     backend.Request{PromptIDs: list[:min(1, len(list))], Adapters: adapters, Logprobs: true},
		scoring: true,
		private: true, // every row's logits are wanted: nothing could be skipped
		out:     newMailbox(),
		arrived: time.Now(),
	}
	if len(list) < 2 {
		return j, nil // nothing to score
	}
	j.branches = []*branch{{job: j, ids: list[1:], logprobs: make([]backend.TokenLogprob, 0, len(list)-1)}}
	return j, nil
}

// newEmbedding makes the job of one list: all of it is the prompt, and nothing is drawn.
func newEmbedding(list []int32, pool arch.PoolKind, width int, s sizes) (*job, error) {
	if err := checkIDs("list", list, s.Rows); err != nil {
		return nil, err
	}
	switch {
	case len(list) == 0:
		return nil, fmt.Errorf("engine: embed: %w: a list holds no tokens", protocol.ErrInvalid)
	case len(list) > s.Context:
		return nil, fmt.Errorf("engine: embed: %w: the list has %d tokens, the context holds %d", protocol.ErrContextLength, len(list), s.Context)
	}
	j := &job{
		req:     backend.Request{PromptIDs: list},
		sum:     make([]float32, width),
		pool:    pool,
		private: true, // every row's hidden state is wanted: nothing could be skipped
		out:     newMailbox(),
		arrived: time.Now(),
	}
	j.branches = []*branch{{job: j}}
	return j, nil
}

func checkIDs(name string, ids []int32, rows int) error {
	for i, id := range ids {
		if id < 0 || int(id) >= rows {
			return fmt.Errorf("engine: %w: %s: token %d at %d is outside the model's %d", protocol.ErrInvalid, name, id, i, rows)
		}
	}
	return nil
}

func checkScales(uses []backend.AdapterUse) error {
	for _, u := range uses {
		if u.Scale-u.Scale != 0 {
			return fmt.Errorf("engine: %w: adapter %s: scale %v is not a number", protocol.ErrInvalid, u.ID, u.Scale)
		}
	}
	return nil
}

func samplingParams(s backend.Sampling) sample.Params {
	p := sample.Params{
		Temperature: s.Temperature, TopK: s.TopK, TopP: s.TopP, MinP: s.MinP, TypicalP: s.TypicalP,
		RepeatPenalty: s.RepeatPenalty, PresencePenalty: s.PresencePenalty, FrequencyPenalty: s.FrequencyPenalty,
		PenaltyLastN: s.PenaltyLastN, Seed: s.Seed,
	}
	for id, v := range s.LogitBias {
		p.Bias = append(p.Bias, sample.Bias{ID: id, Value: v})
	}
	slices.SortFunc(p.Bias, func(a, b sample.Bias) int { return cmp.Compare(a.ID, b.ID) })
	return p
}

// replay takes the ids that an earlier attempt gave out. Their text was given out, too, and is not given again.
func (b *branch) replay(ids []int32) error {
	for _, id := range ids {
		if b.finish != "" {
			break
		}
		b.steps++
		if err := b.accept(id); err != nil {
			return err
		}
	}
	b.released = len(b.ids)
	b.text.DeltaTo(b.certainAt(b.released))
	return nil
}

// accept appends a drawn token that is no end of generation, and finds out whether the answer ends with it. The error is
// that of a token which the grammar does not allow.
func (b *branch) accept(id int32) error {
	if b.form != nil {
		if err := b.form.Advance(id, b.job.vocab.written(id)); err != nil {
			return formError(err)
		}
	}
	b.ids = append(b.ids, id)
	b.begins = append(b.begins, b.text.Len())
	stopped := b.text.Write(b.job.piece(id))
	b.certain = append(b.certain, b.text.Certain())
	switch {
	case stopped: // ids whose text is cut away are no part of the answer
		for len(b.ids) > b.released && b.begins[len(b.ids)-1] >= b.text.Len() {
			b.ids = b.ids[:len(b.ids)-1]
		}
		b.logprobs = b.logprobs[:min(len(b.ids), len(b.logprobs))]
		b.end(backend.FinishStop)
	case b.form != nil && b.form.Ended() && b.job.behind == nil:
		b.end(backend.FinishStop)
	case len(b.ids) >= b.job.limit:
		b.end(backend.FinishLength)
	case b.thought != nil:
		thinks := b.thinking()
		if err := b.followThought(id); err != nil {
			return err
		}
		if b.job.behind != nil && !thinks && !b.thinking() { // what a thought says of calls is no call
			b.watch(id)
		}
	case b.job.behind != nil:
		b.watch(id)
	}
	return nil
}

// end finishes the answer.
func (b *branch) end(why backend.FinishReason) {
	b.text.Close()
	b.finish = why
}

// certainAt is the text that was certain once n ids were written. It depends on these ids alone, so that another attempt
// that starts from them knows what was given out.
func (b *branch) certainAt(n int) int {
	if n == 0 {
		return 0
	}
	return b.certain[n-1]
}

// release returns an event with what became certain since the last one, ids and text together; false: nothing did. Ids
// are held back while the text that they began could be cut away.
func (b *branch) release() (backend.Event, bool) {
	n := b.released
	switch {
	case b.finish != "" || b.text.Settled():
		n = len(b.ids)
	default:
		for n < len(b.ids) && b.begins[n] < b.text.Certain() {
			n++
		}
		n = max(b.released, b.thought.whole(n))
	}
	from := b.released
	b.released = n
	if !b.job.req.Stream || b.job.best {
		return backend.Event{}, false
	}
	ev := backend.Event{Index: b.index, IDs: slices.Clone(b.ids[from:n])}
	if b.finish != "" {
		ev.Text = b.text.Delta()
	} else {
		ev.Text = b.text.DeltaTo(b.certainAt(n))
	}
	if b.job.req.Logprobs {
		ev.Logprobs = slices.Clone(b.logprobs[from:n])
	}
	return ev, len(ev.IDs) > 0 || ev.Text != ""
}

// history is the number of tokens of prompt and answer.
func (b *branch) history() int { return len(b.job.req.PromptIDs) + len(b.ids) }

// token is one of them.
func (b *branch) Token(i int) int32 {
	if p := b.job.req.PromptIDs; i < len(p) {
		return p[i]
	}
	return b.ids[i-len(b.job.req.PromptIDs)]
}

// known reports whether no token is to be drawn any more: only log-probabilities are missing, where it is live.
func (b *branch) known() bool { return b.job.scoring || b.job.sum != nil || b.finish != "" }

// live reports whether a branch still has tokens to compute.
func (b *branch) live() bool {
	return !b.known() || b.job.req.Logprobs && len(b.logprobs) < len(b.ids) || b.job.sum != nil && b.finish == ""
}

// target is the number of tokens to compute: all of them, since the last one's logits give the next token; without the
// last one where all tokens are known, but for an embedding.
func (b *branch) target() int {
	if b.known() && b.job.sum == nil {
		return b.history() - 1
	}
	return b.history()
}

// wanted reports whether the logits after token i are wanted: to draw the next one, or to look up the log-probability of
// one that is known already.
func (b *branch) wanted(i int) bool {
	next := i + 1 - len(b.job.req.PromptIDs) // the index in ids of the token that follows
	switch {
	case next == len(b.ids):
		return !b.known()
	case next < 0:
		return false
	}
	return b.job.req.Logprobs && next >= len(b.logprobs)
}

// mean is the mean log-probability of the drawn tokens, by which best_of ranks.
func (b *branch) mean() float64 {
	if b.steps == 0 {
		return math.Inf(-1)
	}
	return b.total / float64(b.steps)
}

// drop frees what a branch has computed.
func (b *branch) drop() {
	b.guess.forget()
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

// before reports whether j takes precedence: by priority, then by arrival.
func (j *job) before(other *job) bool {
	if j.req.Priority != other.req.Priority {
		return j.req.Priority > other.req.Priority
	}
	return j.order < other.order
}

// last makes the last event.
func (j *job) last() backend.Event {
	ev := backend.Event{Done: true, Usage: backend.Usage{PromptTokens: len(j.req.PromptIDs), CachedTokens: j.cached, VirtualTokens: j.virtual}}
	for _, b := range j.branches {
		ev.Usage.CompletionTokens += b.steps
	}
	answers := slices.Clone(j.branches)
	if j.best {
		slices.SortStableFunc(answers, func(a, b *branch) int { return cmp.Compare(b.mean(), a.mean()) })
		answers = answers[:j.choices]
	}
	for i, b := range answers {
		c := backend.Choice{Index: i, IDs: b.ids, Finish: b.finish, End: b.ender, Score: b.score}
		if b.text != nil {
			c.Text = b.text.Text()
		}
		if j.req.Logprobs {
			c.Logprobs = b.logprobs
		}
		ev.Choices = append(ev.Choices, c)
	}
	now := time.Now()
	if !j.started.IsZero() {
		ev.Timings.Queue = j.started.Sub(j.arrived)
	}
	if !j.first.IsZero() {
		ev.Timings.FirstToken = j.first.Sub(j.arrived)
		ev.Timings.Prefill = j.first.Sub(j.started)
		ev.Timings.Decode = now.Sub(j.first)
	}
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
		return i == len(j.req.PromptIDs)-1
	default:
		return true
	}
}

// forget frees what the draft model has computed for a branch.
func (g *guess) forget() {
	if g.seq != nil {
		g.seq.Free()
		g.seq = nil
	}
}

// acceptForced takes the tokens that the grammar, or a thought that must end, leaves no choice about, without computing what the model thinks of them, and
// ends the answer where nothing can follow. Where their log-probabilities are wanted they are drawn, one by one: the ids
// are the same. It returns how many it took.
func (b *branch) acceptForced() (int, error) {
	n := 0
	for b.finish == "" {
		var st grammar.Step
		var err error
		if id, ok := b.thought.decided(); ok {
			st.Only = id
		} else if b.form == nil {
			return n, nil
		} else {
			st, err = b.form.Next()
		}
		switch {
		case err != nil:
			return n, formError(err)
		case st.None && b.job.behind != nil:
			b.form = nil
			return n, nil
		case st.None:
			b.end("stop")
			return n, nil
		case st.Only < 0 || b.job.req.Logprobs || b.job.best:
			return n, nil
		}
		b.steps++
		n++
		if err := b.accept(st.Only); err != nil {
			return n, err
		}
	}
	return n, nil
}
