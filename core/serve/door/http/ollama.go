package http

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"edged/core/serve/dispatch"
	"edged/core/serve/door/fields"
)

// apiVersion is the version of Ollama's API that is served. Clients compare it with the one that they need.
const apiVersion = "0.12.0"

// machineOptions say how a server is to compute and not what it is to answer: here the configuration says it.
// Clients set them from their own settings (Home Assistant always sends num_ctx), so they are taken and mean
// nothing.
var machineOptions = []string{ //nolint:gochecknoglobals // a table
	"num_ctx", "num_keep", "num_gpu", "main_gpu", "num_thread", "num_batch", "numa", "low_vram", "use_mmap", "use_mlock", "vocab_only", "f16_kv",
}

// neutralOptions are options that cannot be served, with the value that switches each off.
var neutralOptions = map[string]float64{"mirostat": 0, "tfs_z": 1, "penalize_newline": 1} //nolint:gochecknoglobals // a table

// ollamaDraft is a request in Ollama's form while it is read.
type ollamaDraft struct {
	*draft

	system string
	raw    bool
	prompt string
	load   bool // nothing is asked: the model is to be loaded, or let go
}

func newOllamaDraft() *ollamaDraft {
	d := &ollamaDraft{draft: newDraft(dispatch.Generate, "")}
	d.stream, d.req.Stream = true, true
	return d
}

// field reads what chat and generate have in common.
func (d *ollamaDraft) field(key string, raw []byte) (known bool, err *fields.Error) {
	switch key {
	case "model":
		d.name, err = fields.Text(raw, maxName)
	case "stream":
		d.stream, err = fields.Bool(raw)
		d.req.Stream = d.stream
	case "options":
		err = fields.Object(raw, func(key string, raw []byte) *fields.Error {
			if isNull(raw) {
				return nil
			}
			if err := d.option(key, raw); err != nil {
				return err.In(key)
			}
			return nil
		})
	case "format":
		err = d.format(raw)
	case "keep_alive": // the model stays loaded
	case "think":
		err = d.thinking(raw)
	case "adapter":
		d.req.Adapters, err = fields.Adapters(raw)
	default:
		return false, nil
	}
	return true, err
}

// option reads one of the options.
func (d *ollamaDraft) option(key string, raw []byte) *fields.Error {
	o := &d.req.Options
	switch {
	case slices.Contains(machineOptions, key):
		return nil
	case key == "num_predict":
		n, err := fields.Int(raw, -2, 1<<22)
		if err == nil && n > 0 {
			o.MaxTokens = new(int)
			*o.MaxTokens = int(n)
		}
		if err == nil && n == 0 {
			err = fields.Bad("", "0 asks for no answer")
		}
		return err // below 0: until the node's own limit
	case key == "seed" && raw[0] == '-', key == "stop" && isEmptyList(raw):
		return nil
	}
	if off, ok := neutralOptions[key]; ok {
		if v, err := number(raw); err != nil || v != off {
			return fields.Bad("", "cannot be served")
		}
		return nil
	}
	switch key {
	case "temperature", "top_k", "top_p", "min_p", "typical_p", "repeat_penalty", "presence_penalty", "frequency_penalty", "seed", "stop":
		_, err := fields.Option(o, key, raw)
		return err
	case "repeat_last_n":
		return fields.Bad("", "is the node's: sampling.penalty_last_n")
	}
	return fields.Bad("", "is not an option that this node can serve")
}

// number reads a number; true is 1.
func number(raw []byte) (float64, *fields.Error) {
	if string(raw) == "true" {
		return 1, nil
	}
	f, err := fields.Float(raw, -math.MaxFloat32, math.MaxFloat32)
	return float64(f), err
}

// format reads what the answer is held to: "json", or a schema.
func (d *ollamaDraft) format(raw []byte) *fields.Error {
	switch {
	case string(raw) == `""`:
	case string(raw) == `"json"`:
		d.req.Options.ResponseFormat = json.RawMessage(`{"type":"json_object"}`)
	case raw[0] == '{':
		d.req.Options.ResponseFormat = json.RawMessage(`{"type":"json_schema","schema":` + string(raw) + `}`)
	default:
		return fields.Bad("", `wants "json" or a schema, not %s`, fields.KindOf(raw))
	}
	return nil
}

// thinking reads whether the model is to think.
func (d *ollamaDraft) thinking(raw []byte) *fields.Error {
	switch string(raw) {
	case "true", "false":
		return d.thinkingSwitch(raw)
	case `"low"`, `"medium"`, `"high"`:
		return fields.Effort(&d.req.Options, raw)
	}
	return fields.Bad("", "%s is none of true, false, \"low\", \"medium\", \"high\"", clip(string(raw)))
}

// finish resolves what was read.
func (d *ollamaDraft) finish(door *Door, err *fields.Error) *dispatch.Error {
	if err == nil && d.name == "" {
		err = fields.Bad("model", "is missing")
	}
	if err != nil {
		return invalid(err)
	}
	d.settleThinking()
	d.looks = d.looks || d.load
	return d.resolve(door)
}

// ollamaChatBody reads the body of a chat.
func (d *Door) ollamaChatBody(body []byte) (*ollamaDraft, *dispatch.Error) {
	dr := newOllamaDraft()
	err := dr.read(body, func(key string, raw []byte) (known bool, err *fields.Error) {
		switch key {
		case "messages":
			if isEmptyList(raw) {
				return true, nil
			}
			var clean []byte
			if clean, err = messages(raw, true); err == nil {
				dr.req.Chat, err = fields.Messages(clean)
			}
		case "tools":
			dr.req.Tools, err = tools(raw)
		default:
			return dr.field(key, raw)
		}
		return true, err
	})
	dr.load = len(dr.req.Chat) == 0
	return dr, dr.finish(d, err)
}

// ollamaGenerateBody reads the body of a generate.
func (d *Door) ollamaGenerateBody(body []byte) (*ollamaDraft, *dispatch.Error) {
	dr := newOllamaDraft()
	err := dr.read(body, func(key string, raw []byte) (known bool, err *fields.Error) {
		switch key {
		case "prompt":
			dr.prompt, err = fields.Text(raw, math.MaxInt32)
		case "system":
			dr.system, err = fields.Text(raw, math.MaxInt32)
		case "raw":
			dr.raw, err = fields.Bool(raw)
		case "suffix", "template":
			var text string
			if text, err = fields.Text(raw, math.MaxInt32); err == nil && text != "" {
				err = fields.Bad("", "cannot be served")
			}
		case "images", "context":
			if !isEmptyList(raw) {
				err = fields.Bad("", "cannot be served")
			}
		default:
			return dr.field(key, raw)
		}
		return true, err
	})
	if err == nil && dr.raw && dr.system != "" {
		err = fields.Bad("system", "cannot stand beside raw")
	}
	dr.load = dr.prompt == ""
	switch {
	case dr.raw:
		dr.req.Prompt, dr.req.Raw = dr.prompt, true
	case dr.system != "":
		dr.req.Chat = []byte(`[{"role":"system","content":` + string(jsonOf(dr.system)) + `},{"role":"user","content":` + string(jsonOf(dr.prompt)) + `}]`)
	default:
		dr.req.Prompt = dr.prompt
	}
	return dr, dr.finish(d, err)
}

// ollamaAnswer is an answer, or a line of one.
type ollamaAnswer struct {
	Model    string         `json:"model"`
	Created  string         `json:"created_at"`
	Message  *ollamaMessage `json:"message,omitempty"`  // of a chat
	Response *string        `json:"response,omitempty"` // of a generate
	Thought  string         `json:"thinking,omitempty"` // likewise
	Done     bool           `json:"done"`
	Reason   string         `json:"done_reason,omitempty"`
	*ollamaFigures
}

// think adds what a model thinks before it answers.
func (a *ollamaAnswer) think(text string) {
	if a.Message != nil {
		a.Message.Thought = text
	} else {
		a.Thought = text
	}
}

// ollamaFigures are counts and durations in nanoseconds.
type ollamaFigures struct {
	Total       int64 `json:"total_duration"`
	Load        int64 `json:"load_duration"`
	PromptCount int   `json:"prompt_eval_count"`
	Prompt      int64 `json:"prompt_eval_duration"`
	Count       int   `json:"eval_count"`
	Eval        int64 `json:"eval_duration"`
}

type ollamaMessage struct {
	Role    string       `json:"role"`
	Content string       `json:"content"`
	Thought string       `json:"thinking,omitempty"`
	Calls   []ollamaCall `json:"tool_calls,omitempty"`
}

type ollamaCall struct {
	Function ollamaFunction `json:"function"`
}

type ollamaFunction struct {
	Index     int             `json:"index"`
	Name      string          `json:"name"`
	Arguments json.RawMessage `json:"arguments"` // an object
}

// ollamaShape writes answers of a chat or of a generate.
type ollamaShape struct {
	d    *ollamaDraft
	chat bool
	from time.Time
}

func (s *ollamaShape) line(text string) *ollamaAnswer {
	// The name as it was asked for: Home Assistant finds its model by it.
	a := &ollamaAnswer{Model: s.d.name, Created: time.Now().UTC().Format(time.RFC3339Nano)}
	if s.chat {
		a.Message = &ollamaMessage{Role: "assistant", Content: text}
	} else {
		a.Response = &text
	}
	return a
}

func (s *ollamaShape) begin(*out) {}

func (s *ollamaShape) text(o *out, _ int, text string) { o.json(s.line(text)) }

func (s *ollamaShape) thought(o *out, _ int, text string) {
	a := s.line("")
	a.think(text)
	o.json(a)
}

func (s *ollamaShape) end(o *out, l *dispatch.Last) {
	if calls := s.calls(l); len(calls) > 0 {
		a := s.line("")
		a.Message.Calls = calls
		o.json(a)
	}
	o.json(s.last("", l))
}

func (s *ollamaShape) fail(o *out, err *dispatch.Error) {
	o.json(bodyOf(ollama, statusOf(err.Code), err))
}

func (s *ollamaShape) calls(l *dispatch.Last) []ollamaCall {
	var out []ollamaCall
	for i, c := range s.d.callsOf(l, 0) {
		out = append(out, ollamaCall{ollamaFunction{i, c.Name, c.Arguments}})
	}
	return out
}

// last is the line that ends an answer.
func (s *ollamaShape) last(text string, l *dispatch.Last) *ollamaAnswer {
	a := s.line(text)
	a.Done, a.Reason = true, "stop"
	if l.Finish == "length" {
		a.Reason = "length"
	}
	a.ollamaFigures = &ollamaFigures{
		Total: time.Since(s.from).Nanoseconds(), PromptCount: l.Usage.PromptTokens, Prompt: l.Timings.Prefill.Nanoseconds(),
		Count: l.Usage.CompletionTokens, Eval: l.Timings.Decode.Nanoseconds(),
	}
	return a
}

// ollamaChat answers POST /api/chat.
func (d *Door) ollamaChat(w http.ResponseWriter, r *http.Request) {
	d.ollamaAnswer(w, r, d.ollamaChatBody, true)
}

// ollamaGenerate answers POST /api/generate.
func (d *Door) ollamaGenerate(w http.ResponseWriter, r *http.Request) {
	d.ollamaAnswer(w, r, d.ollamaGenerateBody, false)
}

func (d *Door) ollamaAnswer(w http.ResponseWriter, r *http.Request, read func([]byte) (*ollamaDraft, *dispatch.Error), chat bool) {
	dr := post(d, w, r, ollama, read)
	if dr == nil {
		return
	}
	s := &ollamaShape{d: dr, chat: chat, from: time.Now()}
	switch {
	case dr.load:
		a := s.line("")
		a.Done, a.Reason = true, "load"
		writeJSON(w, http.StatusOK, a)
		return
	case dr.stream:
		d.stream(w, r, ollama, dr.req, mayCall(dr.req), s)
		return
	}
	l, err := d.wait(w, r, dr.req)
	switch {
	case err != nil:
		refuseError(w, ollama, err)
	case l != nil && len(l.Choices) > 0:
		a := s.last(contentOf(l, 0), l)
		if chat {
			a.Message.Calls = s.calls(l)
		}
		a.think(thoughtOf(l, 0))
		writeJSON(w, http.StatusOK, a)
	}
}

// ollamaEmbedBody reads the body of an embed, or of its older form, whose text is a prompt.
func (d *Door) ollamaEmbedBody(field string) func(body []byte) (*wanted, *dispatch.Error) {
	return func(body []byte) (*wanted, *dispatch.Error) {
		dr, want := newOllamaDraft(), &wanted{}
		err := dr.read(body, func(key string, raw []byte) (known bool, err *fields.Error) {
			switch key {
			case field:
				want.texts, err = inputs(raw)
			case "truncate", "dimensions":
				return fields.EmbedOption(&want.how, key, raw)
			case "model", "options", "keep_alive":
				return dr.field(key, raw)
			default:
				return false, nil
			}
			return true, err
		})
		if err == nil && len(want.texts) == 0 {
			err = fields.Bad(field, "is missing")
		}
		dr.req.Kind = dispatch.Embed
		failed := dr.finish(d, err)
		want.model = dr.model
		return want, failed
	}
}

// ollamaEmbed answers POST /api/embed.
func (d *Door) ollamaEmbed(w http.ResponseWriter, r *http.Request) {
	from := time.Now()
	if want, vectors, tokens := d.ollamaVectors(w, r, "input"); vectors != nil {
		writeJSON(w, http.StatusOK, map[string]any{
			"model": want.model.ID, "embeddings": vectors, "total_duration": time.Since(from).Nanoseconds(), "load_duration": 0, "prompt_eval_count": tokens,
		})
	}
}

// ollamaEmbedding answers POST /api/embeddings, the older form with one text.
func (d *Door) ollamaEmbedding(w http.ResponseWriter, r *http.Request) {
	if _, vectors, _ := d.ollamaVectors(w, r, "prompt"); len(vectors) > 0 {
		writeJSON(w, http.StatusOK, map[string]any{"embedding": vectors[0]})
	}
}

func (d *Door) ollamaVectors(w http.ResponseWriter, r *http.Request, field string) (*wanted, [][]float32, int) {
	want := post(d, w, r, ollama, d.ollamaEmbedBody(field))
	if want == nil {
		return nil, nil, 0
	}
	vectors, tokens, err := d.embedded(w, r, want)
	if err != nil {
		refuseError(w, ollama, err)
	}
	return want, vectors, tokens
}

// ollamaModel is a model in Ollama's lists.
type ollamaModel struct {
	Name     string        `json:"name"`
	Model    string        `json:"model"`
	Modified string        `json:"modified_at,omitempty"`
	Size     int64         `json:"size"`
	Digest   string        `json:"digest"`
	Details  ollamaDetails `json:"details"`
	Expires  string        `json:"expires_at,omitempty"` // of those that are loaded
	VRAM     *int64        `json:"size_vram,omitempty"`
	Context  int           `json:"context_length,omitempty"`
}

type ollamaDetails struct {
	Parent       string   `json:"parent_model"`
	Format       string   `json:"format"`
	Family       string   `json:"family"`
	Families     []string `json:"families"`
	Parameters   string   `json:"parameter_size"`
	Quantization string   `json:"quantization_level"`
}

func ollamaDetailsOf(m Model) ollamaDetails {
	return ollamaDetails{Format: "gguf", Family: m.Arch, Families: []string{m.Arch}, Parameters: sizeText(m.Parameters), Quantization: m.Format}
}

// sizeText is a number of parameters as people say it.
func sizeText(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1fB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1fM", float64(n)/1e6)
	}
	return fmt.Sprintf("%dK", n/1000)
}

// ollamaTags answers GET /api/tags: the models by their names with the tag that clients add.
func (d *Door) ollamaTags(w http.ResponseWriter, _ *http.Request) {
	list := []ollamaModel{}
	for _, m := range d.o.Node.Models() {
		list = append(list, ollamaModel{
			Name: m.ID + latest, Model: m.ID + latest, Modified: m.Since.UTC().Format(time.RFC3339), Size: m.Bytes, Digest: m.Digest, Details: ollamaDetailsOf(m),
		})
	}
	writeJSON(w, http.StatusOK, map[string]any{"models": list})
}

// ollamaPS answers GET /api/ps: what is loaded, which stays.
func (d *Door) ollamaPS(w http.ResponseWriter, _ *http.Request) {
	list := []ollamaModel{}
	never, none := time.Now().AddDate(100, 0, 0).UTC().Format(time.RFC3339), int64(0)
	for _, m := range d.o.Node.Models() {
		if m.Adapter == "" && m.Loaded {
			list = append(list, ollamaModel{
				Name: m.ID + latest, Model: m.ID + latest, Size: m.Bytes, Digest: m.Digest, Details: ollamaDetailsOf(m), Expires: never, VRAM: &none, Context: m.Context,
			})
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"models": list})
}

// named reads a body that names a model, and finds it.
func (d *Door) namedBody(body []byte) (*ollamaDraft, *dispatch.Error) {
	dr := newOllamaDraft()
	err := dr.read(body, func(key string, raw []byte) (known bool, err *fields.Error) {
		switch key {
		case "name", "model":
			dr.name, err = fields.Text(raw, maxName)
		case "verbose", "insecure":
			_, err = fields.Bool(raw)
		case "stream":
			return dr.field(key, raw)
		case "system", "template", "options": // of a show: what would be changed is not looked at
		default:
			return false, nil
		}
		return true, err
	})
	dr.looks = true
	return dr, dr.finish(d, err)
}

// ollamaShow answers POST /api/show.
func (d *Door) ollamaShow(w http.ResponseWriter, r *http.Request) {
	dr := post(d, w, r, ollama, d.namedBody)
	if dr == nil {
		return
	}
	m := dr.model
	abilities := []string{"completion"}
	if strings.Contains(m.Template, "tools") {
		abilities = append(abilities, "tools")
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"modelfile": "", "parameters": "", "template": m.Template, "details": ollamaDetailsOf(m), "capabilities": abilities,
		"modified_at": m.Since.UTC().Format(time.RFC3339),
		"model_info": map[string]any{
			"general.architecture": m.Arch, "general.basename": m.Title, "general.parameter_count": m.Parameters, m.Arch + ".context_length": m.Context,
		},
	})
}

// ollamaPull answers POST /api/pull: what is here is here, and nothing is fetched.
func (d *Door) ollamaPull(w http.ResponseWriter, r *http.Request) {
	dr := post(d, w, r, ollama, d.namedBody)
	if dr == nil {
		return
	}
	o := &out{w: w, control: http.NewResponseController(w), most: d.o.Config.WriteTimeout, form: ollama, gone: func() {}}
	o.open()
	o.json(map[string]string{"status": "success"})
	o.flush()
}

// ollamaVersion answers GET /api/version.
func (d *Door) ollamaVersion(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]string{"version": apiVersion, "edged": d.o.Version})
}
