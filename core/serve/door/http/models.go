package http

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"edged/core/protocol/backend"
	"edged/core/serve/dispatch"
)

// latest is the tag that Ollama's clients add to a name without one.
const latest = ":latest"

// find returns the model of a name; "" is the default one.
func (d *Door) find(name string) (Model, *dispatch.Error) {
	models := d.o.Node.Models()
	if len(models) == 0 {
		return Model{}, &dispatch.Error{Code: dispatch.CodeBackendUnavailable, Message: "the model is not loaded at this moment"}
	}
	if name == "" {
		return models[0], nil
	}
	short := strings.TrimSuffix(name, latest)
	var ids []string
	for _, m := range models {
		if m.ID == short || m.Adapter == "" && (m.Title == name || m.ID+".gguf" == short) {
			return m, nil
		}
		ids = append(ids, m.ID)
	}
	const most = 20
	if len(ids) > most {
		ids = append(ids[:most], "…")
	}
	why := d.o.Node.Why(short)
	if why == "" {
		why = d.o.Node.Why(strings.TrimSuffix(short, ".gguf"))
	}
	if why != "" {
		why = ": " + why
	}
	return Model{}, &dispatch.Error{
		Code: dispatch.CodeModelNotFound, Message: fmt.Sprintf("model %q is not served%s; there are: %s", clip(name), why, strings.Join(ids, ", ")),
	}
}

// clip keeps what a message quotes to a line's length.
func clip(s string) string {
	const most = 80
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// fits refuses at once what an encoder is not for, with the path that asks for what it is for. Its backend
// would refuse it too, after the tokenizer has said that there is no chat template.
func (m *Model) fits(kind dispatch.Kind) *dispatch.Error {
	if m.Kind != "encoder" {
		return nil
	}
	embeds, ranks := slices.Contains(m.Tasks, backend.TaskEmbed), slices.Contains(m.Tasks, backend.TaskRank)
	why, instead := "generates no text", ""
	switch {
	case kind == dispatch.Rank, kind == dispatch.Embed && embeds:
		return nil
	case kind == dispatch.Embed && !ranks:
		why = "makes no embeddings: its files name no pooling"
	case kind == dispatch.Embed:
		why = "makes no embeddings"
	}
	switch {
	case ranks:
		instead = "; it ranks documents, at POST /v1/rerank"
	case embeds:
		instead = "; it makes embeddings, at POST /v1/embeddings (Ollama's clients: /api/embed)"
	}
	return &dispatch.Error{Code: dispatch.CodeUnsupported, Message: fmt.Sprintf("model: %s is an encoder, which %s%s", m.ID, why, instead)}
}

// use makes a request one of a model.
func (m *Model) use(req *dispatch.Request) {
	req.Model = m.Model
	if req.Kind == dispatch.Generate && m.Adapter != "" && req.Adapters == nil {
		req.Adapters = []dispatch.AdapterRef{{Name: m.Adapter, Scale: 1}}
	}
}

// listed is a model in OpenAI's list.
type listed struct {
	ID      string     `json:"id"`
	Object  string     `json:"object"` // "model"
	Created int64      `json:"created"`
	OwnedBy string     `json:"owned_by"`
	Parent  *string    `json:"parent"` // of an adapter: its model
	Meta    listedMeta `json:"meta"`
}

// listedMeta has the names that llama.cpp's server uses.
type listedMeta struct {
	Context    int    `json:"n_ctx"`
	Trained    int    `json:"n_ctx_train"`
	Parameters int64  `json:"n_params"`
	Size       int64  `json:"size"`
	Format     string `json:"ftype"`
}

func listedOf(m, base Model) listed {
	l := listed{
		ID: m.ID, Object: "model", Created: m.Since.Unix(), OwnedBy: "edged",
		Meta: listedMeta{m.Context, m.Trained, m.Parameters, m.Bytes, m.Format},
	}
	if m.Adapter != "" {
		l.Parent = &base.ID
	}
	return l
}

// models answers GET /v1/models.
func (d *Door) models(w http.ResponseWriter, _ *http.Request) {
	list := []listed{}
	models := d.o.Node.Models()
	for _, m := range models {
		list = append(list, listedOf(m, models[0]))
	}
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": list})
}

// prompts answers GET /edged/prompts.
func (d *Door) prompts(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, d.o.Shown())
}

// oneModel answers GET /v1/models/ID.
func (d *Door) oneModel(w http.ResponseWriter, id string) {
	m, err := d.find(id)
	if err != nil {
		refuseError(w, openAI, err)
		return
	}
	base, err := d.find("")
	if err != nil {
		refuseError(w, openAI, err)
		return
	}
	writeJSON(w, http.StatusOK, listedOf(m, base))
}
