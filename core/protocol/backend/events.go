package backend

import (
	"errors"
	"fmt"
	"io"
	"time"

	"edged/core/protocol"
	"edged/core/protocol/edgedpb"
	"edged/core/protocol/internal/parts"
)

// sendRequest sends a request in parts: everything but the long lists and the grammar in the first.
func sendRequest(r Request, send func(*edgedpb.GenerateRequest) error) error {
	part := &edgedpb.GenerateRequest{
		Id: r.ID, Adapters: usesTo(r.Adapters), Sampling: samplingTo(r.Sampling), MaxTokens: int64(r.MaxTokens),
		StopIds: r.StopIDs, IgnoreEos: r.IgnoreEOS, N: narrow(r.N), BestOf: narrow(r.BestOf), Logprobs: r.Logprobs,
		TopLogprobs: narrow(r.TopLogprobs), Priority: narrow(r.Priority), Client: r.Client, Stream: r.Stream, Pin: r.Pin,
		NumBeams: beamsTo(r.Search.Beams), LengthPenalty: r.Search.LengthPenalty, EarlyStopping: r.Search.EarlyStopping,
	}
	if t := r.Thinking; t != nil {
		part.Thinking = &edgedpb.Thinking{
			Open: []byte(
				t.Open,
			),
			Close:    []byte(t.Close),
			Again:    []byte(t.Again),
			Begun:    t.Begun,
			Never:    t.Never,
			Must:     t.Must,
			Budget:   int64(t.Budget),
			CloseIds: t.CloseIDs,
			ThenIds:  t.ThenIDs,
		}
	}
	for _, s := range r.Stop {
		part.Stop = append(part.Stop, []byte(s))
	}
	room := protocol.PartBytes
	flush := func() error {
		err := send(part)
		part, room = &edgedpb.GenerateRequest{}, protocol.PartBytes
		return err
	}
	// take gives how many items of the given size fit, sending what is full.
	take := func(n, size int) (int, error) {
		if room < size {
			if err := flush(); err != nil {
				return 0, err
			}
		}
		n = min(n, room/size)
		room -= n * size
		return n, nil
	}
	for _, list := range []struct {
		ids []int32
		dst func() *[]int32
	}{
		{r.PromptIDs, func() *[]int32 { return &part.PromptIds }},
		{r.Borders, func() *[]int32 { return &part.Borders }},
		{r.GeneratedIDs, func() *[]int32 { return &part.GeneratedIds }},
		{r.ForcedIDs, func() *[]int32 { return &part.ForcedIds }},
	} {
		for ids := list.ids; len(ids) > 0; {
			n, err := take(len(ids), idBytes)
			if err != nil {
				return err
			}
			*list.dst() = ids[:n:n]
			ids = ids[n:]
		}
	}
	for grammar := []byte(r.Grammar); len(grammar) > 0; {
		n, err := take(len(grammar), 1)
		if err != nil {
			return err
		}
		part.Grammar = grammar[:n:n]
		grammar = grammar[n:]
	}
	return flush()
}

// receiveRequest puts a request together.
func receiveRequest(recv func() (*edgedpb.GenerateRequest, error)) (Request, error) {
	var r Request
	var grammar []byte
	total := 0
	for first := true; ; first = false {
		part, err := recv()
		if errors.Is(err, io.EOF) {
			if first {
				return Request{}, fmt.Errorf("backend: %w: a generation without a request", protocol.ErrInvalid)
			}
			r.Grammar = string(grammar)
			return r, nil
		}
		if err != nil {
			return Request{}, err
		}
		if first {
			r = Request{
				ID: part.Id, Adapters: usesFrom(part.Adapters), Sampling: samplingFrom(part.Sampling),
				MaxTokens: wide(part.MaxTokens), IgnoreEOS: part.IgnoreEos, N: int(part.N), BestOf: int(part.BestOf),
				Logprobs: part.Logprobs, TopLogprobs: int(part.TopLogprobs), Priority: int(part.Priority), Client: part.Client,
				Stream: part.Stream, Pin: part.Pin,
				Search: Search{Beams: int(part.GetNumBeams()), LengthPenalty: part.LengthPenalty, EarlyStopping: part.EarlyStopping},
			}
			if t := part.Thinking; t != nil {
				r.Thinking = &Thinking{
					Open: string(
						t.Open,
					),
					Close:    string(t.Close),
					Again:    string(t.Again),
					Begun:    t.Begun,
					Never:    t.Never,
					Must:     t.Must,
					Budget:   wide(t.Budget),
					CloseIDs: t.CloseIds,
					ThenIDs:  t.ThenIds,
				}
			}
			for _, s := range part.Stop {
				r.Stop = append(r.Stop, string(s))
			}
		}
		total += 4*(len(part.PromptIds)+len(part.Borders)+len(part.GeneratedIds)+len(part.ForcedIds)+len(part.StopIds)) + len(part.Grammar)
		if total > protocol.MaxValue {
			return Request{}, parts.TooLarge()
		}
		r.PromptIDs = append(r.PromptIDs, part.PromptIds...)
		r.Borders = append(r.Borders, part.Borders...)
		r.GeneratedIDs = append(r.GeneratedIDs, part.GeneratedIds...)
		r.ForcedIDs = append(r.ForcedIDs, part.ForcedIds...)
		r.StopIDs = append(r.StopIDs, part.StopIds...)
		grammar = append(grammar, part.Grammar...)
	}
}

// A run of output is cut where it would make a message large: so many ids, with their log-probabilities, and bytes.
const (
	runIDs   = 4 << 10
	runAlts  = 16 << 10 // alternatives of all ids of a run
	runBytes = protocol.PartBytes / 2
)

// run cuts the first run off an output. Where log-probabilities do not match the ids, they go with the last one.
func run(ids []int32, text []byte, lps []TokenLogprob) (nIDs, nText, nLps int) {
	nIDs, nText, nLps = min(len(ids), runIDs), min(len(text), runBytes), min(len(lps), runIDs)
	alts := 0
	for i := range nLps {
		if alts += len(lps[i].Top); alts > runAlts && i > 0 {
			return min(nIDs, i), nText, i
		}
	}
	return nIDs, nText, nLps
}

// sendEvent sends an event in as many messages as it needs.
func sendEvent(e Event, send func(*edgedpb.GenerateEvent) error) error {
	if e.Prefill != nil {
		return send(&edgedpb.GenerateEvent{Event: &edgedpb.GenerateEvent_Prefill{
			Prefill: &edgedpb.Prefill{Done: int64(e.Prefill.Done), Of: int64(e.Prefill.Of)},
		}})
	}
	if !e.Done || len(e.IDs) > 0 || e.Text != "" || len(e.Logprobs) > 0 {
		if err := sendDelta(e, send); err != nil {
			return err
		}
	}
	if !e.Done {
		return nil
	}
	for i := range e.Choices {
		if err := sendChoice(&e.Choices[i], send); err != nil {
			return err
		}
	}
	return send(&edgedpb.GenerateEvent{Event: &edgedpb.GenerateEvent_Done{Done: &edgedpb.Done{
		Usage: &edgedpb.Usage{
			PromptTokens: int64(e.Usage.PromptTokens), CachedTokens: int64(e.Usage.CachedTokens),
			CompletionTokens: int64(e.Usage.CompletionTokens), VirtualTokens: int64(e.Usage.VirtualTokens),
		},
		Timings: &edgedpb.Timings{
			QueueNs: e.Timings.Queue.Nanoseconds(), FirstTokenNs: e.Timings.FirstToken.Nanoseconds(),
			PrefillNs: e.Timings.Prefill.Nanoseconds(), DecodeNs: e.Timings.Decode.Nanoseconds(),
		},
	}}})
}

func sendDelta(e Event, send func(*edgedpb.GenerateEvent) error) error {
	ids, text, lps := e.IDs, []byte(e.Text), e.Logprobs
	for {
		i, t, l := run(ids, text, lps)
		d := &edgedpb.Delta{Index: narrow(e.Index), Ids: ids[:i], Text: text[:t], Logprobs: logprobsTo(lps[:l])}
		ids, text, lps = ids[i:], text[t:], lps[l:]
		d.More = len(ids)+len(text)+len(lps) > 0
		if err := send(&edgedpb.GenerateEvent{Event: &edgedpb.GenerateEvent_Delta{Delta: d}}); err != nil || !d.More {
			return err
		}
	}
}

func sendChoice(c *Choice, send func(*edgedpb.GenerateEvent) error) error {
	ids, text, lps := c.IDs, []byte(c.Text), c.Logprobs
	for {
		i, t, l := run(ids, text, lps)
		p := &edgedpb.ChoicePart{Index: narrow(c.Index), Ids: ids[:i], Text: text[:t], Logprobs: logprobsTo(lps[:l])}
		ids, text, lps = ids[i:], text[t:], lps[l:]
		if len(ids)+len(text)+len(lps) == 0 {
			p.Last, p.Finish, p.EndId, p.Score = true, string(c.Finish), c.End, c.Score
		}
		if err := send(&edgedpb.GenerateEvent{Event: &edgedpb.GenerateEvent_Choice{Choice: p}}); err != nil || p.Last {
			return err
		}
	}
}

func logprobsTo(lps []TokenLogprob) []*edgedpb.TokenLogprob {
	var out []*edgedpb.TokenLogprob
	for _, l := range lps {
		p := &edgedpb.TokenLogprob{Id: l.ID, Logprob: l.Logprob}
		for _, a := range l.Top {
			p.TopIds = append(p.TopIds, a.ID)
			p.TopLogprobs = append(p.TopLogprobs, a.Logprob)
		}
		out = append(out, p)
	}
	return out
}

// errBroken is the refusal of events that stand within each other.
var errBroken = errors.New("backend: the plugin sent an event before it ended the one before")

// assembler puts events together from messages.
type assembler struct {
	delta   Event
	choices []Choice
	more    bool   // the delta is not ended
	open    bool   // the last choice is not ended
	text    []byte // of the delta or choice that is not ended
	bytes   int    // of the delta, or of all choices: what protocol.MaxValue bounds
}

// grow counts what a message adds.
func (a *assembler) grow(ids []int32, text []byte, lps []*edgedpb.TokenLogprob) error {
	a.bytes += 4*len(ids) + len(text) + 40*len(lps)
	for _, l := range lps {
		a.bytes += 8 * len(l.TopIds)
	}
	if a.bytes > protocol.MaxValue {
		return parts.TooLarge()
	}
	return nil
}

// add takes a message and gives an event when one is whole.
func (a *assembler) add(m *edgedpb.GenerateEvent) (e Event, whole bool, err error) {
	switch m := m.Event.(type) {
	case *edgedpb.GenerateEvent_Prefill:
		return Event{Prefill: &Prefill{Done: wide(m.Prefill.GetDone()), Of: wide(m.Prefill.GetOf())}}, true, nil
	case *edgedpb.GenerateEvent_Delta:
		return a.addDelta(m.Delta)
	case *edgedpb.GenerateEvent_Choice:
		return Event{}, false, a.addChoice(m.Choice)
	case *edgedpb.GenerateEvent_Done:
		if a.open || a.more {
			return Event{}, false, errBroken
		}
		u, t := m.Done.GetUsage(), m.Done.GetTimings()
		return Event{
			Done: true, Choices: a.choices,
			Usage: Usage{
				PromptTokens: wide(u.GetPromptTokens()), CachedTokens: wide(u.GetCachedTokens()),
				CompletionTokens: wide(u.GetCompletionTokens()), VirtualTokens: wide(u.GetVirtualTokens()),
			},
			Timings: Timings{
				Queue: time.Duration(t.GetQueueNs()), FirstToken: time.Duration(t.GetFirstTokenNs()),
				Prefill: time.Duration(t.GetPrefillNs()), Decode: time.Duration(t.GetDecodeNs()),
			},
		}, true, nil
	}
	// A kind of event that a later minor version knows: not for us.
	return Event{}, false, nil
}

func (a *assembler) addDelta(d *edgedpb.Delta) (Event, bool, error) {
	if a.open {
		return Event{}, false, errBroken
	}
	lps, err := logprobsFrom(d.Logprobs)
	if err != nil {
		return Event{}, false, err
	}
	if err := a.grow(d.Ids, d.Text, d.Logprobs); err != nil {
		return Event{}, false, err
	}
	a.delta.Index = int(d.Index)
	a.delta.IDs = append(a.delta.IDs, d.Ids...)
	a.delta.Logprobs = append(a.delta.Logprobs, lps...)
	a.text = append(a.text, d.Text...)
	if a.more = d.More; d.More {
		return Event{}, false, nil
	}
	e := a.delta
	e.Text = string(a.text)
	a.delta, a.text, a.bytes = Event{}, a.text[:0], 0
	return e, true, nil
}

func (a *assembler) addChoice(p *edgedpb.ChoicePart) error {
	if a.more {
		return errBroken
	}
	lps, err := logprobsFrom(p.Logprobs)
	if err != nil {
		return err
	}
	if err := a.grow(p.Ids, p.Text, p.Logprobs); err != nil {
		return err
	}
	if !a.open {
		a.bytes += 128 // a choice costs, even an empty one
		a.choices = append(a.choices, Choice{Index: int(p.Index)})
	}
	c := &a.choices[len(a.choices)-1]
	if c.Index != int(p.Index) {
		return fmt.Errorf("backend: choice %d is not ended where %d begins", c.Index, p.Index)
	}
	c.IDs = append(c.IDs, p.Ids...)
	a.text = append(a.text, p.Text...)
	c.Logprobs = append(c.Logprobs, lps...)
	if a.open = !p.Last; p.Last {
		c.End, c.Score = p.EndId, p.Score
		c.Text, c.Finish = string(a.text), FinishReason(p.Finish)
		a.text = a.text[:0]
	}
	return nil
}

func logprobsFrom(lps []*edgedpb.TokenLogprob) ([]TokenLogprob, error) {
	var out []TokenLogprob
	for _, l := range lps {
		if len(l.TopIds) != len(l.TopLogprobs) {
			return nil, fmt.Errorf("backend: %d alternatives with %d log-probabilities", len(l.TopIds), len(l.TopLogprobs))
		}
		t := TokenLogprob{ID: l.Id, Logprob: l.Logprob}
		for i, id := range l.TopIds {
			t.Top = append(t.Top, Alternative{ID: id, Logprob: l.TopLogprobs[i]})
		}
		out = append(out, t)
	}
	return out, nil
}

// beamsTo is a number of beams on the wire, where 0 is absent.
func beamsTo(n int) *int32 {
	if n == 0 {
		return nil
	}
	out := narrow(n)
	return &out
}
