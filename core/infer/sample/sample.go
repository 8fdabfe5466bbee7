// Package sample turns a row of logits into a token: bias, penalties, masks, temperature, truncation, the draw, and the
// log-probabilities that a client may ask for.
//
// It must not know models, text, grammars or requests: a grammar reaches it as a Mask. The functions are
// pure; a Sampler holds scratch and belongs to one goroutine.
//
// # Order of the steps
//
//  1. logit bias is added;
//  2. the repetition penalty, then the frequency and presence penalties;
//  3. tokens outside the mask are removed;
//  4. temperature ≤ 0: the largest logit wins, the lowest id among equals; nothing below applies;
//  5. temperature divides the logits;
//  6. top-k, 7. top-p, 8. min-p, 9. typical-p, each on what the one before has left, renormalised;
//  10. the draw: one uniform number walks the cumulative sum of what is left, in ascending order of id.
//
// Steps 4 to 9 stand in the order of Hugging Face transformers' logits warpers. llama.cpp applies temperature
// last: there top_p 0.9 means the same set at every temperature, here it means 90 % of what is really drawn
// from.
//
// # The penalties' window
//
// The window is the last PenaltyLastN tokens of the prompt followed by what was generated. The repetition
// penalty counts both, as llama.cpp, transformers and vLLM do. The presence and frequency penalties count
// generated tokens only, as their inventor OpenAI words it (tokens "in the text so far") and vLLM does it.
//
// # The same bits everywhere
//
// Everything that decides is computed in float64 with products rounded explicitly (Go fuses multiply and add on arm64)
// and with exp and log of this package (those of package math are assembly on some architectures), so that a seed gives
// the same ids on every machine, as far as the logits are equal.
package sample

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
)

// ErrLogits means that the logits hold NaN or +Inf, or leave no token to choose.
var ErrLogits = errors.New("sample: unusable logits")

// ErrNone is the ErrLogits of a step that has no token to choose, which bias and mask can bring about.
var ErrNone = fmt.Errorf("%w: no token is left to choose", ErrLogits)

// Bias is added to the logit of one token.
type Bias struct {
	ID    int32
	Value float32 // -Inf forbids the token
}

// Params are the settings of a request. The zero value is greedy with no penalty.
type Params struct {
	Temperature      float32 // ≤ 0: greedy
	TopK             int     // 0: off
	TopP             float32 // 0 or ≥ 1: off
	MinP             float32 // relative to the most likely token; 0: off
	TypicalP         float32 // 0 or ≥ 1: off
	RepeatPenalty    float32 // 0 or 1: off
	PresencePenalty  float32
	FrequencyPenalty float32
	PenaltyLastN     int // 0: 64; -1: all
	Bias             []Bias
	Seed             uint64
}

// DefaultPenaltyLastN is the window of the penalties where a request names none. It is llama.cpp's.
const DefaultPenaltyLastN = 64

// Validate says which field is out of range. Ids of Bias must be below limit.
func (p *Params) Validate(limit int) error {
	for _, f := range []struct {
		name  string
		value float32
		min   float32
		max   float32
	}{
		{"temperature", p.Temperature, -math.MaxFloat32, math.MaxFloat32},
		{"top_p", p.TopP, 0, math.MaxFloat32},
		{"min_p", p.MinP, 0, 1},
		{"typical_p", p.TypicalP, 0, math.MaxFloat32},
		{"repeat_penalty", p.RepeatPenalty, 0, math.MaxFloat32},
		{"presence_penalty", p.PresencePenalty, -math.MaxFloat32, math.MaxFloat32},
		{"frequency_penalty", p.FrequencyPenalty, -math.MaxFloat32, math.MaxFloat32},
	} {
		if !(f.value >= f.min && f.value <= f.max) { // also refuses NaN
			return fmt.Errorf("sample: %s: %v is out of range", f.name, f.value)
		}
	}
	if p.TopK < 0 {
		return fmt.Errorf("sample: top_k: %d is negative", p.TopK)
	}
	if p.PenaltyLastN < -1 {
		return fmt.Errorf("sample: penalty_last_n: %d is below -1", p.PenaltyLastN)
	}
	for _, b := range p.Bias {
		if b.ID < 0 || int(b.ID) >= limit {
			return fmt.Errorf("sample: logit_bias: token %d is outside the vocabulary of %d", b.ID, limit)
		}
		if b.Value != b.Value || b.Value > math.MaxFloat32 {
			return fmt.Errorf("sample: logit_bias: token %d: %v is not a bias", b.ID, b.Value)
		}
	}
	return nil
}

func (p *Params) penalises() bool {
	return p.RepeatPenalty != 0 && p.RepeatPenalty != 1 || p.PresencePenalty != 0 || p.FrequencyPenalty != 0
}

// Mask is a set of allowed token ids, 64 to a word. Nil allows all; ids beyond its end are not allowed.
type Mask []uint64

// Has reports whether the mask allows id.
func (m Mask) Has(id int32) bool {
	if m == nil {
		return true
	}
	w := int(id) >> 6
	return w < len(m) && m[w]>>(uint(id)&63)&1 != 0
}

// run is the next run of allowed ids from an id on, lo to hi-1, below n; lo is n where there is none. A loop
// over runs and the ids in them passes over what is forbidden 64 ids at a time.
func (m Mask) run(from, n int) (lo, hi int) {
	if m == nil {
		return min(from, n), n
	}
	w := from >> 6
	if from >= n || w >= len(m) {
		return n, n
	}
	bit := m[w] >> (uint(from) & 63) << (uint(from) & 63)
	for bit == 0 {
		if w++; w >= len(m) {
			return n, n
		}
		bit = m[w]
	}
	lo = w<<6 + bits.TrailingZeros64(bit)
	if lo >= n {
		return n, n
	}
	bit = ^m[w] >> (uint(lo) & 63) << (uint(lo) & 63)
	for bit == 0 {
		if w++; w >= len(m) {
			return lo, min(n, w<<6)
		}
		bit = ^m[w]
	}
	return lo, min(n, w<<6+bits.TrailingZeros64(bit))
}

// Step is one choice of a token.
type Step struct {
	Logits    []float32 // (rows) as the model gave them; not changed
	Peaks     []float32 // (⌈rows/PeakLen⌉) of Logits, see Peaks; nil: they are looked for here
	Limit     int       // ids from Limit on are never chosen; at most rows
	Params    *Params
	Prompt    []int32
	Generated []int32
	Choice    int  // which of n answers
	Index     int  // the position in the answer, from 0
	Mask      Mask // nil: every id
}

// Sampler holds the scratch that all requests of one loop share. It grows to the vocabulary's size once; from then on a
// step allocates nothing.
type Sampler struct {
	work   []float32   // (limit) logits after steps 1 and 2
	peaks  []float32   // (⌈limit/PeakLen⌉) of work, or of the logits, and after step 3 of what the mask allows of them
	count  []int32     // (limit) all zero between steps
	cands  []candidate // what is left to draw from, in ascending order of id
	ranked []ranked    // for top-p and typical-p
}

// candidate is a token that may still be drawn.
type candidate struct {
	id     int32
	logit  float32
	weight float64 // exp((logit - largest) / temperature): 1 for the largest
}

// Next chooses a token. The error is ErrLogits.
func (s *Sampler) Next(st *Step) (int32, error) {
	logits := st.Logits[:st.Limit]
	p := st.Params
	peaks := s.scan(st)
	if err := usable(logits, peaks); err != nil {
		return 0, err
	}
	if len(p.Bias) > 0 || p.penalises() {
		logits = s.adjust(st)
	}
	forbid(peaks, logits, st.Mask)
	best := greedy(logits, peaks, st.Mask)
	if best < 0 {
		return 0, ErrNone
	}
	if p.Temperature <= 0 || p.TopK == 1 {
		return best, nil
	}
	k := len(logits)
	if p.TopK > 0 {
		k = min(k, p.TopK)
	}
	s.cands = topK(s.cands[:0], logits, peaks, st.Mask, k)
	c := s.cands
	temper(c, logits[best], p.Temperature)
	if p.TopP > 0 && p.TopP < 1 {
		c, s.ranked = topP(c, float64(p.TopP), s.ranked)
	}
	if p.MinP > 0 {
		c = minP(c, float64(p.MinP))
	}
	if p.TypicalP > 0 && p.TypicalP < 1 {
		c, s.ranked = typicalP(c, float64(p.TypicalP), logits[best], p.Temperature, s.ranked)
	}
	return draw(c, uniform(p.Seed, st.Choice, st.Index)), nil
}

// scan returns the peaks of the logits below the limit: those that came with them, but for the last one where
// the limit cuts it.
func (s *Sampler) scan(st *Step) []float32 {
	n := (st.Limit + PeakLen - 1) / PeakLen
	s.peaks = slices.Grow(s.peaks[:0], n)[:n]
	known := 0
	if st.Peaks != nil {
		known = copy(s.peaks, st.Peaks[:st.Limit/PeakLen])
	}
	Peaks(s.peaks[known:], st.Logits[known*PeakLen:st.Limit])
	return s.peaks
}

// adjust copies the logits, applies steps 1 and 2 to the copy, and brings the peaks up to it.
func (s *Sampler) adjust(st *Step) []float32 {
	s.work = append(s.work[:0], st.Logits[:st.Limit]...)
	addBias(s.work, st.Params.Bias)
	if st.Params.penalises() {
		if len(s.count) < len(s.work) {
			s.count = make([]int32, len(s.work))
		}
		penalise(s.work, st.Prompt, st.Generated, st.Params, s.count)
	}
	Peaks(s.peaks, s.work)
	return s.work
}

// usable refuses NaN and +Inf. -Inf is a way to say never.
func usable(logits, peaks []float32) error {
	for i, p := range peaks {
		if p <= math.MaxFloat32 {
			continue
		}
		for j, l := range block(logits, i) {
			if !(l <= math.MaxFloat32) {
				return fmt.Errorf("%w: token %d has %v", ErrLogits, i*PeakLen+j, l)
			}
		}
	}
	return nil
}

// addBias is step 1. Ids outside the logits are passed over.
func addBias(logits []float32, bias []Bias) {
	for _, b := range bias {
		if b.ID >= 0 && int(b.ID) < len(logits) {
			logits[b.ID] += b.Value
		}
	}
}

// penalise is step 2. A token of the window has its logit divided by the repetition penalty where it is
// positive, and multiplied where it is not (Keskar et al., CTRL, 2019); then the frequency penalty is taken
// off once for every time it was generated, and the presence penalty once if it was generated at all. count
// is scratch, (len(logits)), all zero before and after.
func penalise(logits []float32, prompt, generated []int32, p *Params, count []int32) {
	n := p.PenaltyLastN
	switch {
	case n == 0:
		n = DefaultPenaltyLastN
	case n < 0:
		n = len(prompt) + len(generated)
	}
	generated = generated[max(0, len(generated)-n):]
	prompt = prompt[max(0, len(prompt)-(n-len(generated))):]

	valid := func(id int32) bool { return id >= 0 && int(id) < len(logits) }
	if r := p.RepeatPenalty; r != 0 && r != 1 {
		for _, part := range [2][]int32{prompt, generated} {
			for _, id := range part {
				if !valid(id) || count[id] != 0 {
					continue
				}
				count[id] = 1
				if logits[id] > 0 {
					logits[id] /= r
				} else {
					logits[id] *= r
				}
			}
		}
		clearCounts(count, prompt)
		clearCounts(count, generated)
	}
	if p.FrequencyPenalty == 0 && p.PresencePenalty == 0 {
		return
	}
	for _, id := range generated {
		if valid(id) {
			count[id]++
		}
	}
	for _, id := range generated {
		if valid(id) && count[id] != 0 {
			logits[id] -= float32(p.FrequencyPenalty*float32(count[id])) + p.PresencePenalty
			count[id] = 0
		}
	}
}

func clearCounts(count, ids []int32) {
	for _, id := range ids {
		if id >= 0 && int(id) < len(count) {
			count[id] = 0
		}
	}
}

// forbid is step 3: it takes what the mask does not allow out of the peaks. A block of theirs is a word of
// the mask, so that most are left or dropped as a whole, and the logits stay as they are.
func forbid(peaks, logits []float32, mask Mask) {
	if mask == nil {
		return
	}
	never := float32(math.Inf(-1))
	for i := range peaks {
		switch {
		case i >= len(mask) || mask[i] == 0:
			peaks[i] = never
		case mask[i] != math.MaxUint64 && peaks[i] > never:
			top := never
			end := min(len(logits), (i+1)*PeakLen)
			for lo, hi := mask.run(i*PeakLen, end); lo < end; lo, hi = mask.run(hi, end) {
				top = max(top, slices.Max(logits[lo:hi]))
			}
			peaks[i] = top
		}
	}
}

// greedy is step 4: of the ids that the mask allows the one of the largest logit, the lowest id among equals;
// -1 where all are -Inf.
func greedy(logits, peaks []float32, mask Mask) int32 {
	best, top := -1, float32(math.Inf(-1))
	for i, p := range peaks {
		if p > top {
			best, top = i, p
		}
	}
	if best < 0 {
		return -1
	}
	end := min(len(logits), (best+1)*PeakLen)
	for lo, hi := mask.run(best*PeakLen, end); lo < end; lo, hi = mask.run(hi, end) {
		if i := slices.Index(logits[lo:hi], top); i >= 0 {
			return int32(lo + i)
		}
	}
	return -1
}

// temper is step 5: it sets the weights, relative to the largest logit so that nothing overflows.
func temper(c []candidate, largest, temperature float32) {
	for i := range c {
		c[i].weight = exp((float64(c[i].logit) - float64(largest)) / float64(temperature))
	}
}

// topK is step 6: of the ids that the mask allows the k largest logits, lower ids first among equals,
// appended to dst in ascending order of id. Logits of -Inf are never among them. dst must be empty.
func topK(dst []candidate, logits, peaks []float32, mask Mask, k int) []candidate {
	never := float32(math.Inf(-1))
	n := len(logits)
	if k >= n {
		for lo, hi := mask.run(0, n); lo < n; lo, hi = mask.run(hi, n) {
			for i, l := range logits[lo:hi] {
				if l > never {
					dst = append(dst, candidate{id: int32(lo + i), logit: l})
				}
			}
		}
		return dst
	}
	dst = largest(dst, logits, peaks, mask, k)
	sortByID(dst)
	return dst
}

// largest appends the k largest logits that the mask allows to dst, in no particular order. dst must be empty.
//
// It keeps a heap of k. The k-th largest peak is a bound: so many logits are as large, so that no smaller one
// is wanted, and blocks whose peak is smaller are passed over. For k = 40 of 152k logits a few thousand are
// looked at, which takes some 10 µs; all of them took 0.3 ms, and to sort them 30 ms.
func largest(dst []candidate, logits, peaks []float32, mask Mask, k int) []candidate {
	if k == 0 {
		return dst
	}
	never := float32(math.Inf(-1))
	least := never
	if k <= len(peaks) {
		if dst = keepLargest(dst, peaks, 0, k, least); len(dst) == k {
			least = dst[0].logit
		}
		dst = dst[:0]
	}
	for i, p := range peaks {
		if p < least || p == never {
			continue
		}
		end := min(len(logits), (i+1)*PeakLen)
		for lo, hi := mask.run(i*PeakLen, end); lo < end; lo, hi = mask.run(hi, end) {
			dst = keepLargest(dst, logits[lo:hi], lo, k, least)
		}
	}
	return dst
}

// keepLargest goes on with a heap of the k largest logits, with those of a block that begins at id first;
// what is below least is passed over, and -Inf.
func keepLargest(heap []candidate, logits []float32, first, k int, least float32) []candidate {
	never := float32(math.Inf(-1))
	for i, l := range logits {
		switch {
		case l < least || l == never:
		case len(heap) < k:
			heap = append(heap, candidate{id: int32(first + i), logit: l})
			if len(heap) == k {
				for j := k/2 - 1; j >= 0; j-- {
					siftDown(heap, j)
				}
			}
		case l > heap[0].logit: // an equal one has the higher id, and stays out
			heap[0] = candidate{id: int32(first + i), logit: l}
			siftDown(heap, 0)
		}
	}
	return heap
}

// siftDown restores a heap whose root is the candidate to be dropped first: the smallest logit, among equals the
// highest id.
func siftDown(h []candidate, i int) {
	for {
		m := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(h); c++ {
			if h[c].logit < h[m].logit || h[c].logit == h[m].logit && h[c].id > h[m].id {
				m = c
			}
		}
		if m == i {
			return
		}
		h[i], h[m] = h[m], h[i]
		i = m
	}
}

// topP is step 7, nucleus sampling (Holtzman et al., 2020): the most likely tokens, lower ids first among equals, up to
// and with the one that brings their sum to p.
func topP(c []candidate, p float64, scratch []ranked) ([]candidate, []ranked) {
	total := sum(c)
	// Tokens below this weight sum to less than 1-p, so none of them is in the nucleus, and few are left to be ranked.
	// Half of the bound, because the sums are rounded.
	floor := float64((1-p)*total) / float64(len(c)) / 2
	r := scratch[:0]
	for i := range c {
		if c[i].weight >= floor {
			r = append(r, ranked{key: -c[i].weight, weight: c[i].weight, id: c[i].id})
		}
	}
	last := prefix(r, float64(p*total))
	kept := c[:0]
	for i := range c {
		if !last.before(-c[i].weight, c[i].id) {
			kept = append(kept, c[i])
		}
	}
	return kept, r
}

// minP is step 8 (Nguyen et al., 2024): tokens at least p times as likely as the most likely one.
func minP(c []candidate, p float64) []candidate {
	kept := c[:0]
	for i := range c {
		if c[i].weight >= p { // the most likely token has weight 1, and no step before drops it
			kept = append(kept, c[i])
		}
	}
	return kept
}

// typicalP is step 9, locally typical sampling (Meister et al., 2022): the tokens whose surprise is nearest to the
// entropy, lower ids first among equals, up to and with the one that brings their sum to p.
func typicalP(c []candidate, p float64, largest, temperature float32, scratch []ranked) ([]candidate, []ranked) {
	total := sum(c)
	logTotal := log(total)
	surprise := func(a *candidate) float64 {
		return logTotal - (float64(a.logit)-float64(largest))/float64(temperature)
	}
	entropy := 0.0
	for i := range c {
		if c[i].weight > 0 {
			entropy += float64(c[i].weight / total * surprise(&c[i]))
		}
	}
	r := scratch[:0]
	for i := range c {
		r = append(r, ranked{key: math.Abs(surprise(&c[i]) - entropy), weight: c[i].weight, id: c[i].id})
	}
	last := prefix(r, float64(p*total))
	kept := c[:0]
	for i := range c {
		if !last.before(math.Abs(surprise(&c[i])-entropy), c[i].id) {
			kept = append(kept, c[i])
		}
	}
	return kept, r
}

// draw is step 10: the first id at which the cumulative weight passes u times the total.
func draw(c []candidate, u float64) int32 {
	target, have := float64(u*sum(c)), 0.0
	last := c[0].id
	for i := range c {
		if c[i].weight == 0 {
			continue
		}
		have += c[i].weight
		last = c[i].id
		if have > target {
			break
		}
	}
	return last
}

func sum(c []candidate) float64 {
	total := 0.0
	for i := range c {
		total += c[i].weight
	}
	return total
}

func sortByID(c []candidate) {
	slices.SortFunc(c, func(a, b candidate) int { return cmp.Compare(a.id, b.id) })
}
