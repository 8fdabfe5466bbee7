package http

import (
	"embed"
	"net/http"
	"strconv"
	"strings"
)

// The page is plain files, as they are served.
//
//go:embed page/index.html page/page.js page/page.css
var page embed.FS

// pageFiles are the files by path, with their types.
var pageFiles = map[string]struct{ file, kind string }{ //nolint:gochecknoglobals // a table
	"/":         {"page/index.html", "text/html; charset=utf-8"},
	"/page.js":  {"page/page.js", "text/javascript; charset=utf-8"},
	"/page.css": {"page/page.css", "text/css; charset=utf-8"},
}

// policy lets the page load its own files and ask this door, and nothing else; no other page may frame it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// root answers GET /: the page for a browser, and for others a sign of life, which Ollama's clients ask for.
func (d *Door) root(w http.ResponseWriter, r *http.Request) {
	if d.o.Config.Page && strings.Contains(r.Header.Get("Accept"), "text/html") {
		d.pageFile(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("edged is running\n")) // the client may have gone
}

// pageFile answers with a file of the page. It holds nothing of the node, so that it needs no credential.
func (d *Door) pageFile(w http.ResponseWriter, r *http.Request) {
	f := pageFiles[r.URL.Path]
	data, err := page.ReadFile(f.file)
	if err != nil {
		http.NotFound(w, r) // every file of the table is embedded
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Content-Length", strconv.Itoa(len(data)))
	h.Set("Cache-Control", "no-cache") // a new version of edged has another page
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "no-referrer")
	_, _ = w.Write(data) // the client may have gone
}

// upload answers POST /edged/adapters/NAME: the files of an adapter as a form.
func (d *Door) upload(w http.ResponseWriter, r *http.Request, name string) {
	size, status, err := d.o.Upload.Receive(w, r, name)
	if err != nil {
		w.Header().Set("Connection", "close") // what is left of the body is not waited for
		refuse(w, openAI, status, err)
		return
	}
	d.log.InfoContext(r.Context(), "an adapter was uploaded", "adapter", name, "bytes", size, "client", client(r))
	writeJSON(w, status, map[string]string{"name": name, "state": "settling"})
}

// node answers GET /edged/node: what the page shows of the node.
func (d *Door) node(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, http.StatusOK, d.o.State(r.Context()))
}
