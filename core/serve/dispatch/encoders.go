package dispatch

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
	"edged/core/serve/pairs"
)

// encodeTexts makes of the texts of an embedding what the model reads.
func (j *job) encodeTexts(ctx context.Context, life TokenizerLife) error {
	texts := j.req.Texts
	if len(texts) == 0 {
		texts = []string{j.req.Prompt}
	}
	if long := cmp.Or(j.model.VectorLen, j.model.Width); long > 0 && j.req.Dims > long {
		return fail(CodeInvalidRequest, "dimensions: %d is more than the %d of this model's vectors", j.req.Dims, long)
	}
	prompt, err := promptOf(&life.Info, j.req.Task)
	if err != nil {
		return err
	}
	if prompt != "" {
		texts = slices.Clone(texts)
		for i, t := range texts {
			texts[i] = prompt + t
		}
	}
	most := pairs.Limit(&j.model, &life.Info)
	flags := tokenizer.Flags{AddSpecial: true, MaxTokens: most}
	if j.req.Whole {
		flags.MaxTokens = 0
	}
	if j.lists, err = life.Tokenizer.Encode(ctx, texts, flags); err != nil {
		return err
	}
	for i, ids := range j.lists {
		if most > 0 && len(ids) > most {
			return fail(CodeContextLength, "input[%d]: has %d tokens, and the model's longest text is %d", i, len(ids), most)
		}
	}
	return nil
}

// promptOf returns the prefix that a model's files prescribe for texts of a task; "" is their default task.
func promptOf(info *tokenizer.Info, task string) (string, error) {
	if task == "" {
		return info.Prompt, nil
	}
	if text, there := info.Prompts[task]; there {
		return text, nil
	}
	if len(info.Prompts) == 0 {
		return "", fail(CodeUnsupported, "task: the files of this model have no prompts, neither for %.80q nor for another task", task)
	}
	return "", fail(
		CodePromptNotFound,
		"task: %.80q is none of this model's: %s",
		task,
		strings.Join(slices.Sorted(maps.Keys(info.Prompts)), ", "),
	)
}

// shortened is the beginning of a vector, scaled to length 1: what models that were trained for it
// (Matryoshka) can be cut to.
func shortened(v []float32, n int) ([]float32, error) {
	if n > len(v) {
		return nil, fail(CodeInvalidRequest, "dimensions: %d is more than the %d of this model's vectors", n, len(v))
	}
	if n == len(v) {
		return v, nil
	}
	sum := 0.0
	for _, x := range v[:n] {
		sum += float64(x) * float64(x)
	}
	if !(sum > 0) {
		return nil, fail(CodeInvalidRequest, "dimensions: the first %d values of a vector are all 0, which has no direction", n)
	}
	norm := math.Sqrt(sum)
	out := make([]float32, n)
	for i, x := range v[:n] {
		out[i] = float32(float64(x) / norm)
	}
	return out, nil
}

// embed runs one attempt of an Embed.
func (d *Dispatcher) embed(ctx context.Context, j *job, life BackendLife) (*Last, error) {
	e, ok := life.Backend.(backend.Embedder)
	if !ok {
		return nil, fail(CodeUnsupported, "model: this backend makes no embeddings")
	}
	j.rec.model = life.Info.Name
	began := time.Now()
	vectors, err := e.Embed(ctx, j.lists)
	if err != nil {
		return nil, err
	}
	if n := j.req.Dims; n > 0 {
		for i, v := range vectors {
			if vectors[i], err = shortened(v, n); err != nil {
				return nil, err
			}
		}
	}
	last := d.last(j)
	last.Finish = string(backend.FinishStop)
	last.Vectors = vectors
	j.read(last, began)
	return last, nil
}

// read says in an answer that all of a job's texts were read since then.
func (j *job) read(last *Last, began time.Time) {
	for _, ids := range j.lists {
		last.Usage.PromptTokens += len(ids)
	}
	last.Timings.Prefill, last.Timings.PrefillTokens = time.Since(began), last.Usage.PromptTokens
}

// encodeRank makes of the query and the documents what the model reads.
func (j *job) encodeRank(ctx context.Context, life TokenizerLife) error {
	e, err := pairs.New(ctx, life.Tokenizer, &j.model, &life.Info)
	if err != nil {
		return err
	}
	// What stands in the texts is theirs who wrote them: control tokens are none there.
	if j.rank, err = e.Encode(ctx, j.req.Instruct, j.req.Query, j.req.Texts, false); err != nil {
		return err
	}
	j.lists = j.rank.Lists
	return nil
}

// ranked runs one attempt of a Rank.
func (d *Dispatcher) ranked(ctx context.Context, j *job, life BackendLife) (*Last, error) {
	r, ok := life.Backend.(backend.Ranker)
	if !ok {
		return nil, fail(CodeUnsupported, "model: this backend ranks nothing")
	}
	j.rec.model = life.Info.Name
	began := time.Now()
	ranks, err := r.Rank(ctx, j.rank)
	if err != nil {
		return nil, err
	}
	if len(ranks) != len(j.req.Texts) {
		return nil, fmt.Errorf("dispatch: the backend ranked %d documents instead of %d", len(ranks), len(j.req.Texts))
	}
	last := d.last(j)
	last.Finish = string(backend.FinishStop)
	for i, x := range ranks {
		if !finite(x.Logit) || !finite(x.Score) {
			return nil, fail(CodeInternal, "documents[%d]: the model's logit for it is no number", i)
		}
		last.Ranks = append(last.Ranks, Ranked{Index: i, Score: x.Score, Logit: x.Logit})
	}
	// By the logit: scores of distant logits may be the same float.
	slices.SortStableFunc(last.Ranks, func(a, b Ranked) int { return cmp.Compare(b.Logit, a.Logit) })
	if n := j.req.Best; n > 0 && n < len(last.Ranks) {
		last.Ranks = last.Ranks[:n]
	}
	j.read(last, began)
	return last, nil
}
