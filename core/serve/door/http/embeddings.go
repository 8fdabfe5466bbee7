package http

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"net/http"
	"slices"
	"sort"

	"edged/core/serve/dispatch"
	"edged/core/serve/door/fields"
)

// maxTexts bounds the texts of a request for embeddings. They are computed in several requests, one after the other, where
// they are more than one request takes.
const maxTexts = 4096

// embedded asks for the vectors of texts. nil, nil: the client has gone.
func (d *Door) embedded(w http.ResponseWriter, r *http.Request, texts []string) (vectors [][]float32, tokens int, err *dispatch.Error) {
	for len(texts) > 0 {
		n := min(len(texts), dispatch.MaxTexts)
		l, err := d.wait(w, r, &dispatch.Request{Kind: dispatch.Embed, Texts: texts[:n]})
		if err != nil || l == nil {
			return nil, 0, err
		}
		vectors, tokens, texts = append(vectors, l.Vectors...), tokens+l.Usage.PromptTokens, texts[n:]
	}
	return vectors, tokens, nil
}

// inputs reads texts. Token ids are refused: those that clients make are of another vocabulary than this model's.
func inputs(raw []byte) ([]string, *fields.Error) {
	if raw[0] == '[' {
		if err := fields.Array(raw, func(_ int, raw []byte) *fields.Error {
			if raw[0] != '"' {
				return fields.Bad("", "wants a text, not %s: token ids are of another vocabulary than this model's (with LangChain, set check_embedding_ctx_length=False)", fields.KindOf(raw))
			}
			return nil
		}); err != nil {
			return nil, err
		}
	}
	texts, err := fields.Texts(raw, maxTexts, 1, math.MaxInt32)
	if err == nil && len(texts) == 0 {
		err = fields.Bad("", "holds no text")
	}
	return texts, err
}

// wanted is a request for embeddings, read.
type wanted struct {
	model  Model
	texts  []string
	base64 bool
}

// embeddingsBody reads the body of a request for embeddings.
func (d *Door) embeddingsBody(body []byte) (*wanted, *dispatch.Error) {
	dr, want := newDraft(dispatch.Embed, ""), &wanted{}
	err := dr.read(body, func(key string, raw []byte) (known bool, err *fields.Error) {
		switch key {
		case "model":
			dr.name, err = fields.Text(raw, maxName)
		case "input":
			want.texts, err = inputs(raw)
		case "encoding_format":
			var word string
			if word, err = fields.Text(raw, 64); err == nil && word != "float" && word != "base64" {
				err = fields.Bad("", `%q is neither "float" nor "base64"`, clip(word))
			}
			want.base64 = word == "base64"
		case "dimensions":
			err = fields.Bad("", "vectors have the model's own length")
		default:
			return slices.Contains(silent, key), nil
		}
		return true, err
	})
	if err == nil && len(want.texts) == 0 {
		err = fields.Bad("input", "is missing")
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

// embeddings answers POST /v1/embeddings.
func (d *Door) embeddings(w http.ResponseWriter, r *http.Request) {
	want := post(d, w, r, openAI, d.embeddingsBody)
	if want == nil {
		return
	}
	vectors, tokens, err := d.embedded(w, r, want.texts)
	if err != nil {
		refuseError(w, openAI, err)
		return
	}
	if vectors == nil {
		return
	}
	type item struct {
		Object    string `json:"object"`
		Index     int    `json:"index"`
		Embedding any    `json:"embedding"` // numbers, or their bytes
	}
	data := make([]item, len(vectors))
	for i, v := range vectors {
		data[i] = item{"embedding", i, v}
		if want.base64 {
			data[i].Embedding = packed(v)
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"object": "list", "data": data, "model": want.model.ID,
		"usage": map[string]int{"prompt_tokens": tokens, "total_tokens": tokens},
	})
}

// packed is a vector as base64 of its little-endian float32s.
func packed(v []float32) string {
	b := make([]byte, 0, 4*len(v))
	for _, f := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
	}
	return base64.StdEncoding.EncodeToString(b)
}

// ranked is a request to rank documents, read.
type ranked struct {
	model Model
	texts []string // the query, then the documents
	count int
	top   int
	echo  bool
}

// rerankBody reads the body of a request to rank documents, which has the same form at several servers.
func (d *Door) rerankBody(body []byte) (*ranked, *dispatch.Error) {
	dr, want := newDraft(dispatch.Embed, ""), &ranked{texts: []string{""}, top: maxTexts}
	err := dr.read(body, func(key string, raw []byte) (known bool, err *fields.Error) {
		switch key {
		case "model":
			dr.name, err = fields.Text(raw, maxName)
		case "query":
			if want.texts[0], err = fields.Text(raw, math.MaxInt32); err == nil && want.texts[0] == "" {
				err = fields.Bad("", "is empty")
			}
		case "documents", "texts":
			err = fields.Array(raw, want.document)
		case "top_n":
			var n int64
			n, err = fields.Int(raw, 1, math.MaxInt32)
			want.top = int(n)
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
	case want.count == 0:
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

// document reads one document: a text, or an object with one.
func (k *ranked) document(i int, raw []byte) *fields.Error {
	if i >= maxTexts-1 {
		return fields.Bad("", "more than %d documents are too many", maxTexts-1)
	}
	k.count++
	text := raw
	if raw[0] == '{' {
		text = nil
		if err := fields.Object(raw, func(key string, raw []byte) *fields.Error {
			if key == "text" {
				text = raw
			}
			return nil
		}); err != nil {
			return err
		}
		if text == nil {
			return fields.Bad("text", "is missing")
		}
	}
	s, err := fields.Text(text, math.MaxInt32)
	if err == nil && s == "" {
		err = fields.Bad("", "is empty")
	}
	k.texts = append(k.texts, s)
	return err
}

// rerank answers POST /v1/rerank by the cosine of the embeddings: what a model that was not made for ranking can tell.
func (d *Door) rerank(w http.ResponseWriter, r *http.Request) {
	want := post(d, w, r, openAI, d.rerankBody)
	if want == nil {
		return
	}
	vectors, tokens, err := d.embedded(w, r, want.texts)
	if err != nil {
		refuseError(w, openAI, err)
		return
	}
	if len(vectors) != len(want.texts) {
		return
	}
	type result struct {
		Index    int     `json:"index"`
		Score    float64 `json:"relevance_score"`
		Document any     `json:"document,omitempty"`
	}
	results := make([]result, want.count)
	for i := range results {
		results[i] = result{Index: i, Score: cosine(vectors[0], vectors[i+1])}
		if want.echo {
			results[i].Document = map[string]string{"text": want.texts[i+1]}
		}
	}
	sort.SliceStable(results, func(a, b int) bool { return results[a].Score > results[b].Score })
	writeJSON(w, http.StatusOK, map[string]any{
		"id": newID("rerank-"), "object": "list", "model": want.model.ID, "results": results[:min(want.top, len(results))],
		"usage": map[string]int{"prompt_tokens": tokens, "total_tokens": tokens},
	})
}

// cosine is the cosine of the angle between two vectors; 0 where one of them is none.
func cosine(a, b []float32) float64 {
	var dot, na, nb float64
	for i := range min(len(a), len(b)) {
		x, y := float64(a[i]), float64(b[i])
		dot, na, nb = dot+x*y, na+x*x, nb+y*y
	}
	if na == 0 || nb == 0 {
		return 0
	}
	return dot / math.Sqrt(na*nb)
}
