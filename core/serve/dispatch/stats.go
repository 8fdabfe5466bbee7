package dispatch

import "time"

// Stats are counters since the start, and what is there now.
type Stats struct {
	Waiting   int
	Running   int
	Accepted  uint64
	Finished  uint64 // with an answer
	Failed    uint64 // with an error
	Cancelled uint64
	Refused   uint64 // not admitted
	Repeats   uint64 // joined or answered from the inbox
	Crashes   uint64 // deaths of the backend under a request, counted once for all that it took along

	PromptTokens uint64
	Tokens       uint64        // generated
	FirstToken   time.Duration // of the latest answer, from its admission
	FirstTokens  Histogram     // of all answers
	DecodeTPS    float64       // tokens a second of the latest answer
}

// Stats returns the counters.
func (d *Dispatcher) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.stats
	s.Running = d.running()
	s.Waiting = len(d.admission.jobs) - s.Running
	return s
}

// count adds the figures of an ended job. d.mu is held.
func (d *Dispatcher) count(j *job, l *Last) {
	switch {
	case l.Error != nil:
		d.stats.Failed++
		return
	case l.Finish == finishCancelled:
		d.stats.Cancelled++
	default:
		d.stats.Finished++
	}
	d.stats.PromptTokens += uint64(l.Usage.PromptTokens)
	d.stats.Tokens += uint64(l.Usage.CompletionTokens)
	if l.Timings.FirstToken > 0 {
		d.stats.FirstToken = l.Timings.FirstToken
		d.stats.FirstTokens.add(l.Timings.FirstToken)
	}
	if l.Timings.Decode > 0 && l.Timings.DecodeTokens > 1 {
		d.stats.DecodeTPS = float64(l.Timings.DecodeTokens-1) / l.Timings.Decode.Seconds()
	}
	if !j.started.IsZero() {
		d.admission.served(time.Since(j.started))
	}
}
