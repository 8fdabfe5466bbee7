package http

import (
	"math"
	"net/http"
	"slices"

	"edged/core/serve/dispatch"
	"edged/core/serve/door/fields"
)

// maxTexts bounds the texts of a request for embeddings. They are computed in several requests, one after the
// other, where they are more than one request takes.
const maxTexts = 4096

// embedded asks for the vectors of texts. nil, nil: the client has gone.
func (d *Door) embedded(w http.ResponseWriter, r *http.Request, want *wanted) (vectors [][]float32, tokens int, err *dispatch.Error) {
	for texts := want.texts; len(texts) > 0; {
		n := min(len(texts), dispatch.MaxTexts)
		l, err := d.wait(w, r, &dispatch.Request{Kind: dispatch.Embed, Model: want.model.Model, Texts: texts[:n], Task: want.how.Task, Dims: want.how.Dims, Whole: want.how.Whole})
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
	model Model
	texts []string
	how   dispatch.Request // what else the body says of the vectors
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
		default:
			if known, err := fields.EmbedOption(&want.how, key, raw); known {
				return true, err
			}
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
	vectors, tokens, err := d.embedded(w, r, want)
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
		if want.how.Packed {
			data[i].Embedding = fields.Packed(v)
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"object": "list", "data": data, "model": want.model.ID,
		"usage": map[string]int{"prompt_tokens": tokens, "total_tokens": tokens},
	})
}
