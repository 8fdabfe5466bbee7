package prompts

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edged/core/serve/dispatch"
)

const translation = `
description = "Translates a text."
variables = ["text", "language"]
system = "You translate into {{language}}. {{ braces }}"
user = "{{ text }} -> {{language}}"
temperature = 0
max_tokens = 40
best_of = 3
stop = ["\n\n"]
adapter = "de"

[defaults]
language = "German"

[[examples]]
text = "Hello"
answer = "Hallo"

[[examples]]
text = "Thank you"
language = "French"
answer = "Merci"
`

func parse(t *testing.T, text string) *Preset {
	t.Helper()
	p, err := Parse(t.Context(), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestFill: what a request becomes, by the messages that the model is shown.
func TestFill(t *testing.T) {
	plain := strings.Replace(translation, " {{ braces }}", "", 1)
	few := `{"role":"system","content":"You translate into German."},{"role":"user","content":"Hello -> German"},{"role":"assistant","content":"Hallo"},` +
		`{"role":"user","content":"Thank you -> French"},{"role":"assistant","content":"Merci"},`
	const chain = `
variables = ["input"]
user = "{{input}}"
answer_after = "Answer:"
thinking = { budget = 50 }
[[examples]]
input = "1+1"
reasoning = "One and one are two."
answer = "2"
`
	for name, c := range map[string]struct {
		preset, vars string
		req          dispatch.Request
		want         string
	}{
		"variables": {plain, `{"text":"Good {{text}} \"night\""}`, dispatch.Request{}, `[` + few + `{"role":"user","content":"Good {{text}} \"night\" -> German"}]`},
		"a number":  {plain, `{"text":7,"language":"Dutch"}`, dispatch.Request{}, `[` + strings.Replace(few, "German.", "Dutch.", 1) + `{"role":"user","content":"7 -> Dutch"}]`},
		"messages": {
			plain, "",
			dispatch.Request{Chat: json.RawMessage(`[{"role":"system","content":"Be kind."},{"role":"user","content":"x<y","name":"a"}]`)},
			`[` + strings.Replace(few, "German.", `German.\n\nBe kind.`, 1) + `{"role":"user","content":"x<y","name":"a"}]`,
		},
		"a prompt":           {plain, "", dispatch.Request{Prompt: "Hi"}, `[` + few + `{"role":"user","content":"Hi"}]`},
		"a chain of thought": {chain, "", dispatch.Request{Prompt: "2+2"}, `[{"role":"user","content":"1+1"},{"role":"assistant","content":"One and one are two.\nAnswer: 2"},{"role":"user","content":"2+2"}]`},
	} {
		t.Run(name, func(t *testing.T) {
			req := c.req
			if err := parse(t, c.preset).Fill(&req, []byte(c.vars)); err != nil {
				t.Fatal(err.Error())
			}
			if d := cmp.Diff(c.want, string(req.Chat)); d != "" || req.Prompt != "" {
				t.Error(d, req.Prompt)
			}
		})
	}
}

// TestFillOptions: what a request says itself wins.
func TestFillOptions(t *testing.T) {
	p := parse(t, strings.Replace(translation, " {{ braces }}", "", 1))
	req := dispatch.Request{Prompt: "x", Options: dispatch.Options{MaxTokens: new(7), N: 2}, Adapters: []dispatch.AdapterRef{}}
	if err := p.Fill(&req, nil); err != nil {
		t.Fatal(err.Error())
	}
	o := req.Options
	if *o.MaxTokens != 7 || *o.Temperature != 0 || o.N != 2 || o.BestOf != 0 || !cmp.Equal(o.Stop, []string{"\n\n"}) || len(req.Adapters) != 0 {
		t.Errorf("%+v, adapters %v", o, req.Adapters)
	}
	req = dispatch.Request{Prompt: "x"}
	if err := p.Fill(&req, nil); err != nil {
		t.Fatal(err.Error())
	}
	if o := req.Options; *o.MaxTokens != 40 || o.BestOf != 3 || len(req.Adapters) != 1 || req.Adapters[0].Name != "de" {
		t.Errorf("%+v, adapters %v", o, req.Adapters)
	}
	held := parse(t, `schema = '{"type":"object"}'`)
	req = dispatch.Request{Prompt: "x", Options: dispatch.Options{Grammar: `root ::= "a"`}}
	if err := held.Fill(&req, nil); err != nil || req.Options.ResponseFormat != nil {
		t.Errorf("%+v %v", req.Options, err)
	}
}

func TestFillRefusals(t *testing.T) {
	p := parse(t, strings.Replace(translation, " {{ braces }}", "", 1))
	for want, c := range map[string]struct {
		vars string
		req  dispatch.Request
	}{
		"prompt_vars: text is missing; the prompt's variables are: text, language":  {`{}`, dispatch.Request{}},
		"prompt_vars.txt: is no variable of this prompt, which has: text, language": {`{"txt":"x"}`, dispatch.Request{}},
		"prompt_vars.text: wants a text, not a list":                                {`{"text":["x"]}`, dispatch.Request{}},
		"prompt_name: makes a conversation, and only a plain prompt is translated: leave it out, or source_lang and target_lang": {
			`{"text":"x"}`, dispatch.Request{Options: dispatch.Options{Target: "deu_Latn"}},
		},
		"prompt_name: is for conversations": {`{"text":"x"}`, dispatch.Request{IDs: []int32{1}}},
	} {
		req := c.req
		if err := p.Fill(&req, []byte(c.vars)); err == nil || err.Error() != want {
			t.Errorf("%s: %v", want, err)
		}
	}
	req := dispatch.Request{}
	if err := parse(t, `system = "x"`).Fill(&req, nil); err == nil || !strings.HasPrefix(err.Error(), "messages: is missing") {
		t.Error(err)
	}
}

func TestParseRefusals(t *testing.T) {
	for want, text := range map[string]string{
		"line 2: b: there is no value":                                      "a = 1\nb = ",
		"line 2: user: the text of this line has no closing quotation mark": "n = 1\nuser = \"Say it.\n",
		`line 1: user: the text that begins here with """ has no end`:       "user = \"\"\"\nSay it.\n\nsystem = 'x'\n",
		"schema: its text is not JSON: ":                                    "schema = '{\"type\":'",
		"schema: its text is empty":                                         "schema = ''",
		"schema: ":                                                          "schema = '{\"type\":\"objekt\"}'",
		"response_format: ":                                                 "response_format = {type = 'json_schema', json_schema = {schema = {type = 'objekt'}}}",
		"grammar: ":                                                         "grammar = 'root ::= (((('",
		"system: {{braces}} is not listed":                                  `system = "{{braces}}"`,
		"singing: is not a key of a preset":                                 `singing = true`,
		"user: {{text is not closed: write {{text}}":                        "variables = ['text']\nuser = '{{text'",
		"system: {{b is not closed":                                         "variables = ['a', 'b']\nsystem = '{{b | upper}} {{a}}'\nuser = '{{b}}'",
		"variables: b stands in neither system nor user":                    "variables = ['a', 'b']\nsystem = '{{a}}'\nuser = '{{c'",
		"source_lang: is not a key of a preset":                             "user = 'a'\nsource_lang = 'xx'",
		"target_lang: is not a key of a preset":                             "target_lang = 'deu_Latn'",
		"tool_choice: is not a key":                                         `tool_choice = "auto"`,
		"temperature: ":                                                     `temperature = 1000`,
		"max_tokens: ":                                                      `max_tokens = "many"`,
		"variables: 7 is no name":                                           `variables = [7]`,
		"variables: a-b is no name":                                         `variables = ["a-b"]`,
		"variables: answer is a key of examples":                            `variables = ["answer"]`,
		"variables: a is there twice":                                       `variables = ["a", "a"]`,
		"variables: wants a list":                                           `variables = "a"`,
		"defaults: b is not listed":                                         "variables = [\"a\"]\n[defaults]\nb = \"x\"",
		"examples[0]: answer: is missing":                                   "[[examples]]\nuser = \"a\"",
		"examples[0]: user: is missing":                                     "[[examples]]\nanswer = \"a\"",
		"examples[0]: a: is missing":                                        "variables = [\"a\"]\nuser = \"{{a}}\"\n[[examples]]\nanswer = \"a\"",
		"examples[0]: b: is neither":                                        "user = \"a\"\n[[examples]]\nanswer = \"a\"\nb = \"c\"",
		"best_of: 2 is less than n":                                         "n = 3\nbest_of = 2",
		"thinking: what comes before answer_after":                          "answer_after = \"A:\"\nthinking = \"off\"",
		"grammar: cannot stand beside":                                      "grammar = \"root ::= [a]\"\nschema = \"{}\"",
		"answer_after: has 0 bytes":                                         `answer_after = ""`,
		"adapter: ":                                                         `adapter = "a b"`,
		"the file is empty":                                                 ``,
		"the file is not UTF-8":                                             "a = \"\xff\"",
		"the file has 262145 bytes, and at most 262":                        strings.Repeat("#", MaxFile+1),
	} {
		if _, err := Parse(t.Context(), []byte(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// TestFolder: a prompt appears, changes, breaks and leaves while the folder is watched; a broken one is told, and the earlier one
// serves on.
func TestFolder(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		temporary := filepath.Join(dir, "."+name)
		if err := os.WriteFile(temporary, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(temporary, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	write("a.toml", `system = "one"`)
	write("b b.toml", `system = "one"`)
	write("c.toml", `system = {`)
	write("notes.txt", `system = `)
	write("d.TOML", `system = "one"`)
	if err := os.Mkdir(filepath.Join(dir, "e.toml"), 0o700); err != nil {
		t.Fatal(err)
	}
	changed := make(chan struct{}, 64)
	var log bytes.Buffer // read before Run
	f := Open(t.Context(), Options{Dir: dir, Notify: func() { changed <- struct{}{} }, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if want := `names="d.TOML, e.toml/, notes.txt"`; strings.Count(log.String(), want) != 1 {
		t.Errorf("the log does not say %s once: %s", want, log.String())
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	// until waits for what an event, or a few of them, make of the folder.
	until := func(what string, ok func([]State) bool) {
		t.Helper()
		for {
			if ok(f.States()) {
				return
			}
			select {
			case <-changed:
			case <-t.Context().Done():
				t.Fatalf("%s: %+v", what, f.States())
			}
		}
	}
	system := func(name string) string {
		req := dispatch.Request{Prompt: "x"}
		if err := f.Fill(&req, name, nil); err != nil {
			return err.Error()
		}
		var m []struct{ Content string }
		if err := json.Unmarshal(req.Chat, &m); err != nil {
			t.Fatal(err)
		}
		return m[0].Content
	}
	s := f.States()
	if len(s) != 3 || s[0].Error != "" || !strings.Contains(s[1].Error, "must match") || s[2].Preset != nil || !strings.Contains(s[2].Error, "line 1") {
		t.Fatalf("%+v", s)
	}
	if got := system("x"); got != `prompt_name: "x" is not there; there are: a` {
		t.Error(got)
	}
	if got, want := system("c"), `prompt_name: "c" cannot be used: `+s[2].Error; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	write("a.toml", `system = "two"`)
	until("a change", func([]State) bool { return system("a") == "two" })
	write("a.toml", `system = "three`)
	until("a broken file", func(s []State) bool { return s[0].Error != "" })
	if got := system("a"); got != "two" {
		t.Errorf("while the file is broken %q is served", got)
	}
	write("a.toml", `system = "four"`)
	until("a mended file", func(s []State) bool { return s[0].Error == "" && system("a") == "four" })
	if err := os.Remove(filepath.Join(dir, "a.toml")); err != nil {
		t.Fatal(err)
	}
	until("a removed file", func(s []State) bool { return s[0].Name != "a" })
	if got := system("a"); got != `prompt_name: "a" is not there, and neither is any other` {
		t.Error(got)
	}
	none := Open(t.Context(), Options{})
	if err := none.Fill(&dispatch.Request{}, "a", nil); err == nil || !strings.Contains(err.Error(), "prompts.dir is not set") {
		t.Error(err)
	}
}

// TestExamples: the prompts of examples/ can be read, and each item of their sets fills its own.
func TestExamples(t *testing.T) {
	root := filepath.Join("..", "..", "..", "examples")
	files, err := filepath.Glob(filepath.Join(root, "prompts", "*.toml"))
	if err != nil || len(files) < 7 {
		t.Fatalf("%d prompts: %v", len(files), err)
	}
	for _, file := range files {
		p, _, err := Read(t.Context(), file)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		name := strings.TrimSuffix(filepath.Base(file), Extension)
		data, err := os.ReadFile(filepath.Join(root, "sets", name+".jsonl"))
		if err != nil {
			t.Error(err)
			continue
		}
		items := 0
		for line := range strings.Lines(string(data)) {
			var item struct {
				Vars json.RawMessage `json:"vars"`
				Want json.RawMessage `json:"want"`
			}
			if err := json.Unmarshal([]byte(line), &item); err != nil || len(item.Want) == 0 {
				t.Errorf("%s: %s: %v", name, line, err)
				continue
			}
			req := dispatch.Request{}
			if err := p.Fill(&req, item.Vars); err != nil {
				t.Errorf("%s: %s: %s", name, line, err.Error())
			}
			items++
		}
		if items < 10 {
			t.Errorf("%s: %d items", name, items)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(translation)
	f.Add(`answer_after = "A:"` + "\n[[examples]]\nuser = 'a'\nanswer = 'b'\nreasoning = 'c'")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse(t.Context(), []byte(text))
		if err != nil {
			return
		}
		vars := map[string]string{}
		for _, v := range p.Variables {
			vars[v.Name] = "x" + v.Name
		}
		raw, err := json.Marshal(vars)
		if err != nil {
			t.Fatal(err)
		}
		req := dispatch.Request{Prompt: "x"}
		if err := p.Fill(&req, raw); err != nil {
			return
		}
		if !json.Valid(req.Chat) {
			t.Errorf("%s", req.Chat)
		}
	})
}
