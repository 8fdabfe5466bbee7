package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edged/test/oracle"
)

// TestReportedFiles takes the files that somebody reported through the programs: what each must give stands beside them.
func TestReportedFiles(t *testing.T) {
	cases := oracle.Cases(t)
	tied := oracle.Path(t, oracle.Dir(t), "models", "llama-tied")
	run := func(t *testing.T, args ...string) string {
		t.Helper()
		out, errs, code := edged(t, args...)
		if code != 0 {
			t.Fatalf("%v: exit %d: %s", args, code, errs)
		}
		return out
	}
	// folder is llama-tied's with the files of a case in place of its own.
	folder := func(t *testing.T, files ...string) string {
		t.Helper()
		dir := t.TempDir()
		for _, from := range append([]string{filepath.Join(tied, "hf")}, files...) {
			entries, err := os.ReadDir(from)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				to := filepath.Join(dir, e.Name())
				_ = os.RemoveAll(to)
				if err := os.Symlink(filepath.Join(from, e.Name()), to); err != nil {
					t.Fatal(err)
				}
			}
		}
		return dir
	}

	t.Run("adapters of the head and the embedding", func(t *testing.T) {
		for _, kind := range []string{"head", "embed"} {
			answer := func(name string) string {
				return run(t, "generate", "--model", filepath.Join(tied, "hf"), "--adapter", filepath.Join(cases, "A1", name), "--ids", "1,20,300,44", "--max-tokens", "24", "--output", "ids")
			}
			if plain, written := answer(kind+"-plain"), answer(kind+"-as-peft-writes"); plain != written {
				t.Errorf("%s: %s is not %s", kind, written, plain)
			}
		}
	})
	t.Run("a target that no module has", func(t *testing.T) {
		demo := filepath.Join(oracle.Repo(t), "demo")
		dir := t.TempDir()
		for from, to := range map[string]string{
			filepath.Join(cases, "A2", "adapter_config.json"):                      "adapter_config.json",
			filepath.Join(demo, "adapters", "pirate", "adapter_model.safetensors"): "adapter_model.safetensors",
		} {
			if err := os.Symlink(from, filepath.Join(dir, to)); err != nil {
				t.Fatal(err)
			}
		}
		if out := run(t, "adapters", "verify", "--model", filepath.Join(demo, "hf-nf4"), dir); !strings.HasPrefix(out, "ok") {
			t.Error(out)
		}
	})
	t.Run("a file in two parts", func(t *testing.T) {
		answer := func(path string) string {
			return run(t, "generate", "--model", path, "--ids", "1,20,30,44", "--max-tokens", "24", "--output", "ids")
		}
		whole := answer(oracle.Path(t, oracle.Dir(t), "models", "qwen2", "qwen2-Q8_0.gguf"))
		for _, part := range []string{"q-00001-of-00002.gguf", "q-00002-of-00002.gguf"} {
			if got := answer(filepath.Join(cases, "B1", part)); got != whole {
				t.Errorf("%s: %s is not %s", part, got, whole)
			}
		}
	})
	t.Run("a token of the configuration alone", func(t *testing.T) {
		out := run(t, "tokenize", "--model", folder(t, filepath.Join(cases, "C1")), "--ids", "--parse-special", "hi <|eot_id|> you")
		if !slices.Contains(strings.Split(strings.TrimSpace(out), ","), "511") {
			t.Error(out)
		}
	})
	t.Run("templates with names", func(t *testing.T) {
		talk := filepath.Join(cases, "D1", "talk.json")
		for _, kind := range []string{"list", "files"} {
			out := run(t, "render", "--model", folder(t, filepath.Join(cases, "D1", kind)), "--input", talk)
			if !strings.HasPrefix(strings.TrimPrefix(out, "<|begin_of_text|>"), "TOOLS [") {
				t.Errorf("%s: %q", kind, out)
			}
		}
	})
	t.Run("our own calls", func(t *testing.T) {
		template := oracle.Path(t, oracle.Dir(t), "chat", "templates", "Qwen-Qwen2.5-7B-Instruct.jinja")
		text := run(t, "render", "--template", template, "--input", filepath.Join(cases, "D2", "rt-text.json"))
		object := run(t, "render", "--template", template, "--input", filepath.Join(cases, "D2", "rt-object.json"))
		if text != object || !strings.Contains(text, `"arguments": {"room": "hall", "pct": 10}`) {
			t.Errorf("%s\nis not\n%s", text, object)
		}
	})
	t.Run("a variable of one round", func(t *testing.T) {
		out := run(t, "render", "--template", filepath.Join(cases, "D5", "template.jinja"), "--input", filepath.Join(cases, "D5", "talk.json"))
		if strings.Count(out, "<think>") != 1 {
			t.Errorf("%q", out)
		}
	})
	t.Run("one line of a template", func(t *testing.T) {
		raw := string(oracle.Read(t, cases, "jinja.jsonl"))
		lines := strings.Split(strings.TrimSpace(raw), "\n")
		dir := t.TempDir()
		for i := 0; i < len(lines); i += 13 { // all of them are in core/chat/jinja's tests
			var c struct {
				Template string
				Text     *string
			}
			if err := json.Unmarshal([]byte(lines[i]), &c); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, fmt.Sprint(i, ".jinja"))
			if err := os.WriteFile(path, []byte(c.Template), 0o600); err != nil {
				t.Fatal(err)
			}
			out, errs, code := edged(t, "render", "--template", path, "--input", filepath.Join(cases, "jinja-context.json"))
			if (code == 0) != (c.Text != nil) || c.Text != nil && out != *c.Text {
				t.Errorf("%s gives %q, %s", c.Template, out, errs)
			}
		}
	})
}

// TestReportedRequests publishes requests that somebody reported to a service whose model has Qwen's template.
func TestReportedRequests(t *testing.T) {
	cases := oracle.Cases(t)
	template := oracle.Read(t, oracle.Dir(t), "chat", "templates", "Qwen-Qwen2.5-7B-Instruct.jinja")
	model := filepath.Join(t.TempDir(), "model")
	copyTree(t, filepath.Join(oracle.Repo(t), "demo/hf-nf4"), model)
	path := filepath.Join(model, "tokenizer_config.json")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var settings map[string]any
	if err := json.Unmarshal(raw, &settings); err != nil {
		t.Fatal(err)
	}
	settings["chat_template"] = string(template)
	if raw, err = json.Marshal(settings); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, "model.path="+model)

	type result struct {
		event
		Calls []struct {
			Function struct{ Name, Arguments string }
		} `json:"tool_calls"`
	}
	answer := func(id, request string) (last result) {
		t.Helper()
		s.publish("edged/test/request/t", request)
		topic := "edged/test/response/t/" + id
		for _, p := range s.until(topic, func(p string) bool {
			var e event
			return json.Unmarshal([]byte(p), &e) == nil && e.Done == true
		}) {
			last = result{}
			if err := json.Unmarshal([]byte(p), &last); err != nil && last.Done == true {
				t.Fatal(err)
			}
		}
		if last.Error != nil {
			t.Errorf("%s: %+v", id, last.Error)
		}
		return last
	}
	for _, name := range []string{"F1", "F5"} {
		if last := answer(strings.ToLower(name), string(oracle.Read(t, cases, name, "request.json"))); last.Text == "" {
			t.Errorf("%s: no answer", name)
		}
	}

	// A call without parameters, in every way in which it is written; the model is made to say it.
	var g1 map[string]json.RawMessage
	if err := json.Unmarshal(oracle.Read(t, cases, "G1", "request.json"), &g1); err != nil {
		t.Fatal(err)
	}
	for i, call := range []string{
		`<tool_call>` + "\n" + `{"name": "now"}` + "\n" + `</tool_call>`, `<tool_call>` + "\n" + `{"name": "now", "arguments": ""}` + "\n" + `</tool_call>`,
		`<tool_call>{"name": "now", "arguments": null}</tool_call>`, `<tool_call>{"name": "now", "arguments": {}}</tool_call>`,
		"```json\n" + `{"name": "now", "arguments": null}` + "\n```", `{"name": "now", "parameters": null}`,
	} {
		id := fmt.Sprint("g", i)
		g1["id"] = json.RawMessage(`"` + id + `"`)
		form, err := json.Marshal(map[string]any{"type": "choice", "choices": []string{call}})
		if err != nil {
			t.Fatal(err)
		}
		g1["response_format"] = form
		request, err := json.Marshal(g1)
		if err != nil {
			t.Fatal(err)
		}
		last := answer(id, string(request))
		if len(last.Calls) != 1 || last.Calls[0].Function.Name != "now" || last.Calls[0].Function.Arguments != "{}" {
			t.Errorf("%s: %+v", call, last.Calls)
		}
	}
}

// TestCheckNames: edged check names files that disagree, what is passed over and parts that are missing.
func TestCheckNames(t *testing.T) {
	models, cases := oracle.Path(t, oracle.Dir(t), "models"), oracle.Cases(t)
	// changed is a model's folder with other settings in one of its files.
	changed := func(t *testing.T, from, file string, settings map[string]any) string {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "model")
		copyTree(t, from, dir)
		raw := oracle.Read(t, dir, file)
		var all map[string]any
		if err := json.Unmarshal(raw, &all); err != nil {
			t.Fatal(err)
		}
		maps.Copy(all, settings)
		raw, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	tied := filepath.Join(models, "llama-tied", "hf")
	adapter := t.TempDir()
	if err := os.CopyFS(filepath.Join(adapter, "head"), os.DirFS(filepath.Join(cases, "A1", "head-as-peft-writes"))); err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(t.TempDir(), "q-00002-of-00002.gguf")
	if err := os.Symlink(filepath.Join(cases, "B1", "q-00002-of-00002.gguf"), half); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, model, adapters string
		fails                 bool
		want                  string
	}{
		{"class", changed(t, tied, "tokenizer_config.json", map[string]any{"tokenizer_class": "GPT2Tokenizer"}), "", false, "GPT2Tokenizer builds its own pre_tokenizer"},
		{"head", oracle.Path(t, oracle.Dir(t), "families", "llama-tied-head", "hf"), "", false, "lm_head.weight"},
		{"adapter", tied, adapter, false, "head: tensor base_model.model.lm_head.base_layer.weight is passed over"},
		{"parts", half, "", true, "q-00001-of-00002.gguf"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conf := filepath.Join(t.TempDir(), "edged.toml")
			text := fmt.Sprintf("[node]\nname = \"t\"\n[mqtt]\nbroker = \"tcp://127.0.0.1:1\"\n[model]\npath = %q\n[state]\ndir = %q\n", c.model, filepath.Dir(conf))
			if c.adapters != "" {
				text += fmt.Sprintf("[adapters]\ndir = %q\n", c.adapters)
			}
			if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			out, errs, _ := edged(t, "check", "--config", conf)
			word := "note "
			if c.fails {
				word = "problem "
			}
			found := 0
			for line := range strings.Lines(out) {
				if strings.HasPrefix(line, word) && strings.Contains(line, c.want) {
					found++
				}
			}
			if found != 1 {
				t.Errorf("%d lines say so: %s%s", found, out, errs)
			}
		})
	}
}
