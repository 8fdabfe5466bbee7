package service

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edged/core/chat"
	"edged/core/config"
	"edged/core/infer/grammar"
	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
	"edged/core/serve/dispatch"
	"edged/core/serve/door/fields"
	httpdoor "edged/core/serve/door/http"
	"edged/test/oracle"
)

// TestPublishedAnswers: what a model of any family writes, its calls and what it thought, is published by the doors and sent
// back as it came, and its template then shows the model the very text that it shows of the decoded message. A family whose
// form has no template here fails the test: put a small one into testdata/families.
//
// The model's answer is what the template itself writes of a message, or where it writes no calls, what the grammar of its
// family allows; all between is real but the model: the dispatcher, the doors and this service.
func TestPublishedAnswers(t *testing.T) {
	files := familyTemplates(t)
	n := newNode(t)
	written, read, thought := map[int]int{}, map[int]int{}, 0
	for i, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		n.use(t, string(source))
		family := slices.IndexFunc(callFormats(), func(f callFormat) bool { return f.in(string(source)) })
		t.Run(strings.TrimSuffix(filepath.Base(file), ".jinja"), func(t *testing.T) {
			for _, a := range n.answers(t, uint64(i)) {
				calls, thinks := n.goesBack(t, a)
				if calls == 0 {
					continue
				}
				written[family]++
				if thinks {
					thought++
				}
				plain := prefixes.Replace(a.text)
				for k, f := range allCallMarks() {
					if strings.Contains(plain, f.begin) {
						read[k]++
					}
				}
			}
		})
	}
	for i, f := range callFormats() {
		if written[i] == 0 {
			t.Errorf("no answer of the family whose templates show %q (a call is %q) was published and sent back", f.shows, f.call)
		}
	}
	for k, f := range allCallMarks() {
		if read[k] == 0 {
			t.Errorf("no answer with %q was published and sent back", f.begin)
		}
	}
	if thought == 0 {
		t.Error("no answer held a thought")
	}
	t.Logf("answers by family: %v, by reader: %v, with a thought: %d", written, read, thought)
}

// familyTemplates are the public templates, where this machine has them, and our own small ones.
func familyTemplates(t *testing.T) []string {
	t.Helper()
	own, err := filepath.Glob(filepath.Join("testdata", "families", "*.jinja"))
	if err != nil || len(own) == 0 {
		t.Fatalf("our own templates: %v", err)
	}
	for _, dir := range []string{filepath.Join("text", "chat", "templates"), filepath.Join("chat", "templates")} {
		public, err := filepath.Glob(filepath.Join(oracle.Path(t, oracle.Dir(t), dir), "*.jinja"))
		if err != nil {
			t.Fatal(err)
		}
		own = append(own, public...)
	}
	return own
}

// publishedTools are what is offered to the model. Values of every type, and texts that look like something else.
const publishedTools = `[
	{"type":"function","function":{"name":"set_light","description":"Switch.","parameters":{"type":"object","properties":{
		"room":{"type":"string","description":"Where."},"on":{"type":"boolean"},"level":{"type":"integer","minimum":1,"maximum":99},
		"code":{"type":"string"},"lamps":{"type":"array","items":{"type":"string"}},
		"where":{"type":"object","properties":{"floor":{"type":"integer"}}}},"required":["room","on"]}}},
	{"type":"function","function":{"name":"get_time","description":"Now.","parameters":{"type":"object","properties":{}}}}]`

// answer is a text that a model of the family may write behind a prompt, and what is in it.
type answer struct {
	name, text string
	decoded    json.RawMessage // the message; nil: unknown
}

// node is a dispatcher and a door over this service and a model that says what it is told to.
type node struct {
	url     string
	service *Service
	info    tokenizer.Info

	mu       sync.Mutex
	template string
	compiled *chat.Template
	says     string
	prompt   string          // what the last conversation was rendered to
	switched bool            // the request's own variables reach the template
	request  backend.Request // the last that reached the backend
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{}
	n.service, n.info = load(t, filepath.Join(oracle.Repo(t), "demo", "hf-nf4"))
	d := dispatch.New(dispatch.Config{
		Backends: n, Tokenizers: n, Node: "node", Defaults: dispatch.Defaults{MaxTokens: 1 << 16}, Log: slog.New(slog.DiscardHandler),
		Limits: dispatch.Limits{Coalesce: time.Nanosecond},
	})
	c := config.Default().HTTP
	c.Listen = "127.0.0.1:0"
	ctx, cancel := context.WithCancel(t.Context())
	door, err := httpdoor.Listen(ctx, httpdoor.Options{Config: c, Name: "pi", Dispatcher: d, Node: n})
	if err != nil {
		t.Fatal(err)
	}
	n.url = "http://" + door.Addr()
	var ends sync.WaitGroup
	ends.Go(func() {
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	ends.Go(func() {
		if err := door.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		ends.Wait()
	})
	return n
}

// use makes the node one of another family.
func (n *node) use(t *testing.T, template string) {
	t.Helper()
	compiled, err := chat.Compile(template)
	if err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.template, n.compiled = template, compiled
}

// Models is the one model.
func (n *node) Models() []httpdoor.Model {
	return []httpdoor.Model{{ID: "m", Template: n.template}}
}

// Backend is one that says n.says.
// Why implements httpdoor.Node.
func (n *node) Why(string) string { return "" }

func (n *node) Backend(context.Context, uint64) (dispatch.BackendLife, error) {
	generate := func(_ context.Context, req backend.Request, emit func(backend.Event) error) error {
		n.mu.Lock()
		says := n.says
		n.request = req
		n.mu.Unlock()
		ids := make([]int32, 0, len(says))
		for i := range len(says) {
			ids = append(ids, int32(says[i]))
		}
		if err := emit(backend.Event{IDs: ids, Text: says}); err != nil {
			return err
		}
		return emit(backend.Event{Done: true, Choices: []backend.Choice{{IDs: ids, Text: says, Finish: backend.FinishStop}}, Usage: backend.Usage{PromptTokens: len(req.PromptIDs), CompletionTokens: len(ids)}})
	}
	return dispatch.BackendLife{Backend: &backend.Fake{GenerateFunc: generate}, Life: 1, Info: backend.ModelInfo{Name: "m", Context: 1 << 20, VocabRows: 1 << 20}}, nil
}

// Tokenizer is the service with another template.
func (n *node) Tokenizer(context.Context, uint64) (dispatch.TokenizerLife, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	info := n.info
	info.ChatTemplate = n.template
	encode := func(ctx context.Context, c tokenizer.Chat) (tokenizer.ChatIDs, error) {
		n.mu.Lock()
		c.Template = n.template
		if !n.switched {
			c.Variables = json.RawMessage(publishedNow)
		}
		n.mu.Unlock()
		out, err := n.service.EncodeChat(ctx, c)
		n.mu.Lock()
		n.prompt = out.Text
		n.mu.Unlock()
		return out, err
	}
	return dispatch.TokenizerLife{Life: 1, Info: info, Tokenizer: &tokenizer.Fake{
		EncodeChatFunc: encode, EncodeFunc: n.service.Encode, DecodeFunc: n.service.Decode, ParseToolsFunc: n.service.ParseTools, VocabularyFunc: n.service.Vocabulary,
	}}, nil
}

// render is what the template alone makes of messages whose arguments are objects.
func (n *node) render(messages []json.RawMessage, prompt bool) (string, error) {
	vars, err := json.Marshal(map[string]any{
		"messages": messages, "tools": json.RawMessage(publishedTools), "unk_token": n.service.loaded.Load().tok.Text(n.info.Unknown),
		"pad_token": n.service.loaded.Load().tok.Text(n.info.Pad),
	})
	if err != nil {
		return "", err
	}
	tok := n.service.loaded.Load().tok
	return n.compiled.Render(context.Background(), chat.Input{
		Variables: vars, AddGenerationPrompt: prompt, BOS: tok.Text(n.info.BOS), EOS: tok.Text(n.info.EOS), Now: time.Unix(1767322800, 0).UTC(),
	})
}

const publishedNow = `{"now":1767322800}` // as render has it

func userSays(text string) json.RawMessage {
	return json.RawMessage(`{"role":"user","content":` + string(quote(text)) + `}`)
}

// refusing are templates that end with an error where tools are offered as they are here, and the error that Jinja and transformers give.
var refusing = map[string]string{
	"fireworks-ai-llama-3-firefunction-v2": "functions is undefined",
	"llama-cpp-deepseek-r1":                "Object of type generator is not JSON serializable",
}

// answers are texts with calls that a model of the family may write.
func (n *node) answers(t *testing.T, seed uint64) []answer {
	t.Helper()
	const first = `{"id":"call00001","type":"function","function":{"name":"set_light","arguments":{"room":"the \"hall\" & <door>, é","on":true,"level":3,"code":"007","lamps":["a b","c"],"where":{"floor":1}}}}`
	const second = `{"id":"call00002","type":"function","function":{"name":"get_time","arguments":{}}}`
	before, err := n.render([]json.RawMessage{userSays("Do.")}, true)
	if why := refusing[path.Base(t.Name())]; why != "" {
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Fatalf("%v: want %q", err, why)
		}
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var out []answer
	for _, c := range [][2]string{
		{"a call", `{"role":"assistant","content":"","tool_calls":[` + first + `]}`},
		{"one without any", `{"role":"assistant","content":"","tool_calls":[` + second + `]}`},
		{"two calls", `{"role":"assistant","content":"","tool_calls":[` + first + `,` + second + `]}`},
		{"a thought, a call", `{"role":"assistant","content":"","reasoning_content":"It is dark.\nSo switch it on.","tool_calls":[` + first + `]}`},
		{"text beside a call", `{"role":"assistant","content":"I will see to it.","tool_calls":[` + first + `]}`},
	} {
		name, m := c[0], c[1]
		whole, err := n.render([]json.RawMessage{userSays("Do."), json.RawMessage(m)}, false)
		if err != nil {
			continue // the family has no such messages
		}
		same := 0
		for same < min(len(before), len(whole)) && before[same] == whole[same] {
			same++
		}
		if i := strings.LastIndexByte(whole[:same], '<'); i >= 0 && !strings.Contains(whole[i:same], ">") {
			same = i // both go on with a tag
		}
		if strings.TrimSpace(before[same:]) != "" { // the prompt ends a thought that is empty, and here is one
			for _, open := range []string{"<think>", "<|channel>thought"} {
				same = len(strings.TrimSuffix(strings.TrimSpace(whole[:same]), open))
			}
		}
		text := whole[same:]
		if !strings.Contains(text, "set_light") && !strings.Contains(text, "get_time") {
			continue // the template does not write calls of a history
		}
		out = append(out, answer{name, closed(before, withoutEnd(text)), json.RawMessage(m)})
	}
	tools, err := json.Marshal(json.RawMessage(publishedTools))
	if err != nil {
		t.Fatal(err)
	}
	form, err := callGrammar(n.template, tools, nil)
	if err != nil {
		t.Fatal(err)
	}
	if form != "" {
		for k := range uint64(3) {
			text := walk(t, rand.New(rand.NewPCG(seed, k)), grammar.Whole(form), nil)
			out = append(out, answer{name: fmt.Sprint("as the grammar allows ", k), text: closed(before, text)})
		}
	}
	return out
}

// closed is an answer behind a prompt that may end within a thought: where the template leaves it out of a history, there is
// its end in front.
func closed(prompt, text string) string {
	for open, end := range map[string]string{
		"<think>": "</think>", "<mm:think>": "</mm:think>", "<|open|>think<|sep|>": "<|close|>think<|sep|>", "<|START_THINKING|>": "<|END_THINKING|>",
		"<thought>": "</thought>", "Here are my reasoning steps:": "[BEGIN FINAL RESPONSE]",
	} {
		if strings.HasSuffix(strings.TrimSpace(prompt), open) && !strings.Contains(text, end) {
			return end + "\n\n" + text
		}
	}
	return text
}

// withoutEnd cuts what ends a turn, which a model writes as a token that ends the answer.
func withoutEnd(text string) string {
	at := max(strings.LastIndex(text, "set_light"), strings.LastIndex(text, "get_time"))
	for _, end := range []string{
		"<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "</s>", "<|end|>", "<｜end▁of▁sentence｜>", "[e~[", "<turn|>", "<|eot|>", "<|endoftext|>", "<seed:eos>", "<|end_of_role|>", "<end_of_turn>",
		"<|message_sep|>", "<end_of_sentence>", "<SPECIAL_12>", "<|tool_response>", "<|role_end|>", "</assistant>", "<|close|>message<|sep|>", "<|END_OF_TURN_TOKEN|>",
	} {
		if i := strings.LastIndex(text, end); i > at {
			text = text[:i]
		}
	}
	return text
}

// post sends a request that the node must take, or refuse over its template.
func (n *node) post(t *testing.T, path string, body any) (answered json.RawMessage, refused bool) {
	t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.url+path, bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode == http.StatusBadRequest && (bytes.Contains(got, []byte("chat template")) || bytes.Contains(got, []byte("chat: "))) {
		return got, true
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s", raw, resp.StatusCode, got)
	}
	return got, false
}

func (n *node) lastPrompt() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.prompt
}

// goesBack lets the model write an answer, sends it back in the form in which each door published it, and compares what the
// model is then shown with what its template makes of the decoded message.
func (n *node) goesBack(t *testing.T, a answer) (calls int, thinks bool) {
	t.Helper()
	n.mu.Lock()
	n.says = a.text
	n.mu.Unlock()
	request := func(messages ...json.RawMessage) map[string]any {
		return map[string]any{"model": "m", "messages": messages, "tools": json.RawMessage(publishedTools), "stream": false}
	}
	first := userSays("Do.")
	got, refused := n.post(t, "/v1/chat/completions", request(first))
	if refused {
		t.Fatalf("%s: %s", a.name, got)
	}
	var completion struct {
		Choices []struct{ Message json.RawMessage }
	}
	if err := json.Unmarshal(got, &completion); err != nil {
		t.Fatal(err)
	}
	message := completion.Choices[0].Message
	var m published
	if err := json.Unmarshal(message, &m); err != nil {
		t.Fatal(err)
	}
	if len(m.ToolCalls) == 0 {
		if after, ok := strings.CutPrefix(a.text, "I will see to it."); ok && strings.HasPrefix(after, "[") {
			return 0, false // without a mark before it, this is an answer like any other
		}
		t.Errorf("%s: no call in %.300q: %s", a.name, a.text, message)
		return 0, false
	}
	if a.decoded != nil {
		m.says(t, a)
	}
	result := json.RawMessage(`{"role":"tool","tool_call_id":` + string(quote(m.ToolCalls[0].ID)) + `,"content":"done"}`)
	compare := func(door, got string, refused bool, decoded, result json.RawMessage) {
		t.Helper()
		want, err := n.render([]json.RawMessage{first, decoded, result}, true)
		if refused != (err != nil) {
			t.Errorf("%s, through %s: %.300q\nbecame %s\nis refused: %v, and decoded: %v", a.name, door, a.text, message, refused, err)
			return
		}
		if !refused && got != want {
			at := 0
			for at < min(len(got), len(want)) && got[at] == want[at] {
				at++
			}
			at = max(at-20, 0)
			t.Errorf("%s, through %s: %.300q\nbecame %s\nand is shown as %.300q\nnot as      %.300q", a.name, door, a.text, message, got[at:], want[at:])
		}
	}

	_, refused = n.post(t, "/v1/chat/completions", request(first, message, result))
	compare("OpenAI's door", n.lastPrompt(), refused, m.decoded(`,"content":`+string(quote(m.Content)), true), result)

	// Over MQTT the calls are the same, beside a content of null.
	event := `{"role":"assistant","content":null,"tool_calls":` + string(rawCalls(t, message)) + `}`
	if m.Reasoning != "" {
		event = strings.Replace(event, `"tool_calls"`, `"reasoning":`+string(quote(m.Reasoning))+`,"tool_calls"`, 1)
	}
	shown, bad := fields.Messages([]byte(`[` + string(first) + `,` + event + `,` + string(result) + `]`))
	if bad != nil {
		t.Fatalf("%s: %v", a.name, bad)
	}
	text, err := n.service.Render(t.Context(), tokenizer.Chat{
		Template: n.template, Messages: shown, Tools: json.RawMessage(publishedTools), Variables: json.RawMessage(publishedNow),
	})
	compare("MQTT", text, err != nil, m.decoded("", true), result)

	// Ollama's clients get objects, and no ids.
	got, _ = n.post(t, "/api/chat", request(first))
	var own struct{ Message json.RawMessage }
	if err := json.Unmarshal(got, &own); err != nil {
		t.Fatal(err)
	}
	plain := json.RawMessage(`{"role":"tool","content":"done"}`)
	_, refused = n.post(t, "/api/chat", request(first, own.Message, plain))
	compare("Ollama's door", n.lastPrompt(), refused, m.decoded(`,"content":`+string(quote(m.Content)), false), plain)
	return len(m.ToolCalls), m.Reasoning != ""
}

// published is a message as OpenAI's clients get it.
type published struct {
	Content   string
	Reasoning string `json:"reasoning_content"`
	ToolCalls []struct {
		ID       string
		Function struct{ Name, Arguments string }
	} `json:"tool_calls"`
}

// decoded is the message with objects for arguments.
func (m *published) decoded(content string, ids bool) json.RawMessage {
	var out bytes.Buffer
	out.WriteString(`{"role":"assistant"` + content)
	if m.Reasoning != "" {
		out.WriteString(`,"reasoning_content":` + string(quote(m.Reasoning)))
	}
	out.WriteString(`,"tool_calls":[`)
	for i, c := range m.ToolCalls {
		if i > 0 {
			out.WriteByte(',')
		}
		out.WriteByte('{')
		if ids {
			out.WriteString(`"id":` + string(quote(c.ID)) + `,"type":"function",`)
		}
		out.WriteString(`"function":{"name":` + string(quote(c.Function.Name)) + `,"arguments":` + c.Function.Arguments + `}}`)
	}
	out.WriteString(`]}`)
	return out.Bytes()
}

func rawCalls(t *testing.T, message json.RawMessage) json.RawMessage {
	t.Helper()
	var m struct {
		ToolCalls json.RawMessage `json:"tool_calls"`
	}
	if err := json.Unmarshal(message, &m); err != nil {
		t.Fatal(err)
	}
	return m.ToolCalls
}

// says checks that a message says what the answer was made of.
func (m *published) says(t *testing.T, a answer) {
	t.Helper()
	var want struct {
		Content   string
		Reasoning string `json:"reasoning_content"`
		ToolCalls []struct {
			Function struct {
				Name      string
				Arguments json.RawMessage
			}
		} `json:"tool_calls"`
	}
	if err := json.Unmarshal(a.decoded, &want); err != nil {
		t.Fatal(err)
	}
	for i, c := range m.ToolCalls {
		w := want.ToolCalls[i].Function
		if c.Function.Name != w.Name || !sameJSON(t, []byte(c.Function.Arguments), w.Arguments) {
			t.Errorf("%s: %.300q\nis read as %s %s\nnot as     %s %s", a.name, a.text, c.Function.Name, c.Function.Arguments, w.Name, w.Arguments)
		}
	}
	if strings.Contains(a.text, "get_time") && m.ToolCalls[len(m.ToolCalls)-1].Function.Name != "get_time" {
		t.Errorf("%s: a call is lost: %.300q", a.name, a.text)
	}
	if strings.Contains(a.text, "It is dark.") && m.Reasoning != want.Reasoning {
		t.Errorf("%s: %.300q\nthought %q and said %q", a.name, a.text, m.Reasoning, m.Content)
	}
	// Marks that families have as control tokens and that are no part of an answer's text stand around it here.
	// gpt-oss' template makes a thought of what stands beside a call.
	if strings.Contains(a.text, want.Content) && !strings.Contains(m.Content+m.Reasoning, want.Content) || strings.Contains(m.Content, "set_light") {
		t.Errorf("%s: %.300q\nsaid %q", a.name, a.text, m.Content)
	}
}

func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	if err := json.Unmarshal(a, &x); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &y); err != nil {
		t.Fatal(err)
	}
	return cmp.Equal(x, y)
}
