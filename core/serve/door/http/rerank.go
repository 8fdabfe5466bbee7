package http

import (
	"cmp"
	"math"
	"net/http"
	"slices"

	"edged/core/serve/dispatch"
	"edged/core/serve/door/fields"
)

// toRank is a request to rank documents, read.
type toRank struct {
	model     Model
	query     string
	instruct  string
	documents []string
	most      int
	echo      bool
}

// rerankBody reads the body of a request to rank documents, which has the same form at several servers.
func (d *Door) rerankBody(body []byte) (*toRank, *dispatch.Error) {
	dr, want := newDraft(dispatch.Rank, ""), &toRank{most: maxTexts}
	err := dr.read(body, func(key string, raw []byte) (known bool, err *fields.Error) {
		switch key {
		case "model":
			dr.name, err = fields.Text(raw, maxName)
		case "query":
			if want.query, err = fields.Text(raw, math.MaxInt32); err == nil && want.query == "" {
				err = fields.Bad("", "is empty")
			}
		case "documents", "texts":
			want.documents, err = fields.Documents(raw, maxTexts)
		case "instruct", "instruction":
			want.instruct, err = fields.Text(raw, dispatch.MaxInstruct)
		case "top_n":
			var n int64
			n, err = fields.Int(raw, 1, math.MaxInt32)
			want.most = int(n)
		case "return_documents":
			want.echo, err = fields.Bool(raw)
		default:
			return slices.Contains(silent, key), nil
		}
		return true, err
	})
	switch {
	case err != nil:
	case !dr.given["query"]:
		err = fields.Bad("query", "is missing")
	case len(want.documents) == 0:
		err = fields.Bad("documents", "is missing")
	}
	if err != nil {
		return nil, invalid(err)
	}
	if err := dr.resolve(d); err != nil {
		return nil, err
	}
	want.model = dr.model
	return want, nil
}

// ranked asks how well documents fit. They are ranked in several requests, one after the other, where they
// are more than one request takes: a pair's logit does not depend on the others. nil, nil: the client has
// gone.
func (d *Door) ranked(w http.ResponseWriter, r *http.Request, want *toRank) (ranks []dispatch.Ranked, tokens int, err *dispatch.Error) {
	for at := 0; at < len(want.documents); at += dispatch.MaxTexts {
		texts := want.documents[at:min(at+dispatch.MaxTexts, len(want.documents))]
		l, err := d.wait(w, r, &dispatch.Request{Kind: dispatch.Rank, Model: want.model.Model, Query: want.query, Texts: texts, Instruct: want.instruct})
		if err != nil || l == nil {
			return nil, 0, err
		}
		for _, x := range l.Ranks {
			x.Index += at
			ranks = append(ranks, x)
		}
		tokens += l.Usage.PromptTokens
	}
	slices.SortStableFunc(ranks, func(a, b dispatch.Ranked) int {
		return cmp.Or(cmp.Compare(b.Logit, a.Logit), cmp.Compare(a.Index, b.Index))
	})
	return ranks[:min(want.most, len(ranks))], tokens, nil
}

// rerank answers POST /v1/rerank.
func (d *Door) rerank(w http.ResponseWriter, r *http.Request) {
	want := post(d, w, r, openAI, d.rerankBody)
	if want == nil {
		return
	}
	ranks, tokens, err := d.ranked(w, r, want)
	if err != nil {
		refuseError(w, openAI, err)
		return
	}
	if len(ranks) == 0 {
		return
	}
	type result struct {
		Index    int     `json:"index"`
		Score    float32 `json:"relevance_score"`
		Logit    float32 `json:"logit"`
		Document any     `json:"document,omitempty"`
	}
	results := make([]result, len(ranks))
	for i, x := range ranks {
		results[i] = result{Index: x.Index, Score: x.Score, Logit: x.Logit}
		if want.echo {
			results[i].Document = map[string]string{"text": want.documents[x.Index]}
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"id": newID("rerank-"), "object": "list", "model": want.model.ID, "results": results,
		"usage": map[string]int{"prompt_tokens": tokens, "total_tokens": tokens},
	})
}
