package http

import (
	"net/http"
	"slices"
	"strings"

	"edged/core/serve/dispatch"
)

// route describes one path.
type route struct {
	form    form
	methods []string
	open    bool // without a credential
	serve   func(d *Door, w http.ResponseWriter, r *http.Request)
}

// routes maps paths. OpenAI's have the prefix /v1, which some clients leave out.
func (d *Door) routes(path string) (route, bool) {
	get, post := []string{http.MethodGet, http.MethodHead}, []string{http.MethodPost}
	v1 := strings.TrimPrefix(path, "/v1")
	if path == "/v1" {
		v1 = "/"
	}
	if id, ok := strings.CutPrefix(v1, "/models/"); ok && id != "" {
		return route{openAI, get, false, func(d *Door, w http.ResponseWriter, _ *http.Request) { d.oneModel(w, id) }}, true
	}
	switch v1 {
	case "/chat/completions":
		return route{openAI, post, false, (*Door).chat}, true
	case "/completions":
		return route{openAI, post, false, (*Door).completion}, true
	case "/responses":
		return route{openAI, post, false, (*Door).responses}, true
	case "/embeddings":
		return route{openAI, post, false, (*Door).embeddings}, true
	case "/rerank":
		return route{openAI, post, false, (*Door).rerank}, true
	case "/models":
		return route{openAI, get, false, (*Door).models}, true
	case "/health":
		return route{openAI, get, true, (*Door).health}, true
	}
	if d.o.Config.Page {
		switch path {
		case "/page.js", "/page.css":
			return route{openAI, get, true, (*Door).pageFile}, true
		case "/edged/node":
			return route{openAI, get, false, (*Door).node}, d.o.State != nil
		}
	}
	if name, ok := strings.CutPrefix(path, "/edged/adapters/"); ok && d.o.Upload != nil {
		return route{openAI, post, false, func(d *Door, w http.ResponseWriter, r *http.Request) { d.upload(w, r, name) }}, true
	}
	if path == "/edged/prompts" {
		return route{openAI, get, false, (*Door).prompts}, d.o.Shown != nil
	}
	switch path {
	case "/":
		return route{ollama, get, true, (*Door).root}, true
	case "/api/chat":
		return route{ollama, post, false, (*Door).ollamaChat}, true
	case "/api/generate":
		return route{ollama, post, false, (*Door).ollamaGenerate}, true
	case "/api/embed":
		return route{ollama, post, false, (*Door).ollamaEmbed}, true
	case "/api/embeddings":
		return route{ollama, post, false, (*Door).ollamaEmbedding}, true
	case "/api/tags":
		return route{ollama, get, false, (*Door).ollamaTags}, true
	case "/api/ps":
		return route{ollama, get, false, (*Door).ollamaPS}, true
	case "/api/show":
		return route{ollama, post, false, (*Door).ollamaShow}, true
	case "/api/pull":
		return route{ollama, post, false, (*Door).ollamaPull}, true
	case "/api/version":
		return route{ollama, get, false, (*Door).ollamaVersion}, true
	}
	return route{}, false
}

// ServeHTTP answers a request.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	path := r.URL.Path
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	to, ok := d.routes(path)
	f := to.form
	if strings.HasPrefix(path, "/api/") {
		f = ollama
	}
	if !d.admitted(w, r, f, to.open || r.Method == http.MethodOptions) {
		return
	}
	switch {
	case !ok:
		refuse(w, f, http.StatusNotFound, &dispatch.Error{Code: codeNotFound, Message: "there is nothing at this path: docs/http.md lists what there is"})
	case r.Method == http.MethodOptions:
		// No Access-Control header: a browser asks this before it sends a page's request, and is to be told nothing.
		h.Set("Allow", strings.Join(append(slices.Clone(to.methods), http.MethodOptions), ", "))
		w.WriteHeader(http.StatusNoContent)
	case !slices.Contains(to.methods, r.Method):
		h.Set("Allow", strings.Join(append(slices.Clone(to.methods), http.MethodOptions), ", "))
		refuse(w, f, http.StatusMethodNotAllowed, &dispatch.Error{Code: codeMethod, Message: "this path answers to " + to.methods[0]})
	default:
		to.serve(d, w, r)
	}
}

// health tells whether requests are answered now.
func (d *Door) health(w http.ResponseWriter, _ *http.Request) {
	if len(d.o.Node.Models()) == 0 {
		refuse(w, openAI, http.StatusServiceUnavailable, &dispatch.Error{Code: dispatch.CodeBackendUnavailable, Message: "the model is being loaded"})
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}
