package service

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edged/cmd/edged/cli"
	"edged/core/config"
)

// fakeManager stands for systemd.
type fakeManager struct {
	fails  error
	reason string
	calls  []string
	member bool
}

func (m *fakeManager) Enable(context.Context) error {
	m.calls = append(m.calls, "enable")
	return m.fails
}

func (m *fakeManager) Reason(context.Context) string { return m.reason }

func (m *fakeManager) Join(_ context.Context, person, group string) (bool, error) {
	m.calls = append(m.calls, "join "+person+" "+group)
	was := m.member
	m.member = true
	return !was, nil
}

// newSetup is a setup in a root of its own, with a model in somebody's home.
func newSetup(t *testing.T, answers string) (s *setup, m *fakeManager, model string, said *bytes.Buffer) {
	t.Helper()
	root := t.TempDir()
	home := filepath.Join(root, "home", "pi")
	if err := os.MkdirAll(home, 0o700); err != nil {
		t.Fatal(err)
	}
	model = filepath.Join(home, "small.gguf")
	if err := os.WriteFile(model, []byte("GGUF weights"), 0o600); err != nil {
		t.Fatal(err)
	}
	said, m = new(bytes.Buffer), &fakeManager{}
	s = &setup{
		a: &app{&cli.App{Streams: cli.Streams{In: strings.NewReader(""), Out: new(bytes.Buffer), Err: said}}}, person: "pi", question: "Hello?",
		configFile: filepath.Join(root, "etc", "edged", "config.toml"), modelsDir: filepath.Join(root, "srv", "edged", "models"), group: "edged",
		manager: m, in: bufio.NewReader(strings.NewReader(answers)), asks: answers != "",
		ask: func(context.Context, *config.Config, string) (string, error) { return "Hello.\n", nil },
	}
	return s, m, model, said
}

func TestSetup(t *testing.T) {
	s, m, model, said := newSetup(t, "")
	s.broker, s.model, s.node = "tcp://192.168.1.2:1883", model, "attic"
	if err := os.MkdirAll(filepath.Dir(s.configFile), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.configFile, []byte("# mine\n[mqtt]\n#broker = \"tcp://192.168.1.2:1883\"\n\n[queue]\nsize = 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(s.configFile, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	placed := filepath.Join(s.modelsDir, "small.gguf")
	if c.MQTT.Broker != "tcp://192.168.1.2:1883" || c.Node.Name != "attic" || c.Model.Path != placed || c.Queue.Size != 7 {
		t.Errorf("settings %+v %+v %+v %+v", c.MQTT, c.Node, c.Model, c.Queue)
	}
	if got, err := os.ReadFile(placed); err != nil || string(got) != "GGUF weights" {
		t.Errorf("the model in its place: %q, %v", got, err)
	}
	if info, err := os.Stat(placed); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("the service could not read it: %v, %v", info.Mode(), err)
	}
	if want := "join pi edged,enable"; strings.Join(m.calls, ",") != want {
		t.Errorf("calls %v, want %s", m.calls, want)
	}
	for _, want := range []string{"log out and in again", "ready", "Hello?", "Hello."} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("%q is not said:\n%s", want, said)
		}
	}
	// Again: the file stays as it is, nothing is copied, nobody is told of a group.
	text, _ := os.ReadFile(s.configFile)
	before, _ := os.Stat(placed)
	said.Reset()
	if err := s.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, _ := os.Stat(placed)
	if now, _ := os.ReadFile(s.configFile); !bytes.Equal(now, text) || !os.SameFile(before, after) {
		t.Errorf("run again it changes something:\n%s", now)
	}
	if strings.Contains(said.String(), "log out") || strings.Contains(said.String(), "copying") {
		t.Errorf("run again it says\n%s", said)
	}
}

// TestSetupKeeps: files that stay where they are are named by their whole paths, and the file of settings keeps its mode.
func TestSetupKeeps(t *testing.T) {
	s, _, model, _ := newSetup(t, "")
	t.Chdir(filepath.Dir(model))
	s.broker, s.model, s.keep, s.node = "embedded", "small.gguf", true, "quo\"te"
	s.username, s.password = "edged", "secret"
	if err := os.MkdirAll(filepath.Dir(s.configFile), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.configFile, nil, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := s.run(t.Context()); err == nil || !strings.Contains(err.Error(), `node.name: "quo\"te" must match`) {
		t.Errorf("a name with a quote: %v", err)
	}
	s.node = "attic"
	if err := s.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(s.configFile, nil, nil)
	if err != nil || c.Model.Path != model {
		t.Errorf("%v, model %q, want %q", err, c.Model.Path, model)
	}
	if want := filepath.Join(filepath.Dir(model), "secret"); c.MQTT.PasswordFile != want {
		t.Errorf("password file %q, want %q", c.MQTT.PasswordFile, want)
	}
	if info, err := os.Stat(s.configFile); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestSetupAsks(t *testing.T) {
	s, _, model, said := newSetup(t, "tcp://broker\n"+"MODEL\n")
	s.in = bufio.NewReader(strings.NewReader("tcp://broker\n" + model + "\n"))
	if err := s.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(s.configFile, nil, nil)
	if err != nil || c.MQTT.Broker != "tcp://broker" || filepath.Base(c.Model.Path) != "small.gguf" {
		t.Errorf("%v, %+v", err, c)
	}
	// Empty answers keep what is set.
	s.broker, s.model, s.in = "", "", bufio.NewReader(strings.NewReader("\n\n"))
	if err := s.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	again, err := config.Load(s.configFile, nil, nil)
	if err != nil || again.MQTT.Broker != c.MQTT.Broker || again.Model.Path != c.Model.Path {
		t.Errorf("%v, %+v", err, again)
	}
	if !strings.Contains(said.String(), "[tcp://broker]") {
		t.Errorf("what is set is not shown:\n%s", said)
	}
}

func TestSetupRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		prove func(s *setup, m *fakeManager, model string)
		want  string
	}{
		{"no model", func(s *setup, _ *fakeManager, _ string) { s.broker = "embedded" }, "a model is needed"},
		{"missing model", func(s *setup, _ *fakeManager, _ string) { s.broker, s.model = "embedded", "/nowhere/m.gguf" }, "/nowhere/m.gguf: no such file"},
		{"bad broker", func(s *setup, _ *fakeManager, model string) { s.broker, s.model = "http://x", model }, "nothing was written: config: "},
		{"service fails", func(s *setup, m *fakeManager, model string) {
			s.broker, s.model = "embedded", model
			m.fails, m.reason = errors.New("exit 1"), "the model is no GGUF"
		}, "the service does not start: the model is no GGUF"},
		{"no answer", func(s *setup, _ *fakeManager, model string) {
			s.broker, s.model = "embedded", model
			s.ask = func(context.Context, *config.Config, string) (string, error) { return "", errors.New("nobody there") }
		}, "the service runs, and did not answer: nobody there"},
		{"drop-in wins", func(s *setup, _ *fakeManager, model string) {
			s.broker, s.model = "embedded", model
			dir := filepath.Join(filepath.Dir(s.configFile), "config.d")
			_ = os.MkdirAll(dir, 0o755)
			_ = os.WriteFile(filepath.Join(dir, "x.toml"), []byte("[model]\npath = \"/other.gguf\"\n"), 0o600)
			_ = os.WriteFile(s.configFile, nil, 0o600)
		}, "config.d sets model.path"},
	} {
		s, m, model, _ := newSetup(t, "")
		c.prove(s, m, model)
		if err := s.run(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// TestSetupCopiesWhole: a folder with links, as a downloader's cache has them, and all parts of a split file.
func TestSetupCopiesWhole(t *testing.T) {
	s, _, model, _ := newSetup(t, "")
	home := filepath.Dir(model)
	folder := filepath.Join(home, "hf")
	for path, text := range map[string]string{
		filepath.Join(home, "blobs", "1"):                    "weights",
		filepath.Join(folder, "config.json"):                 "{}",
		filepath.Join(folder, "sub", "x.jinja"):              "x",
		filepath.Join(folder, ".cache", "lock"):              "",
		filepath.Join(home, "big-00001-of-00002.gguf"):       "one",
		filepath.Join(home, "big-00002-of-00002.gguf"):       "two",
		filepath.Join(home, "big-other-00001-of-00003.gguf"): "not one of them",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../blobs/1", filepath.Join(folder, "model.safetensors")); err != nil {
		t.Fatal(err)
	}
	for from, want := range map[string][]string{
		folder: {"hf/config.json", "hf/model.safetensors", "hf/sub/x.jinja"},
		filepath.Join(home, "big-00001-of-00002.gguf"): {"big-00001-of-00002.gguf", "big-00002-of-00002.gguf"},
	} {
		s.modelsDir = filepath.Join(t.TempDir(), "models")
		got, err := s.place(t.Context(), from)
		if err != nil || got != filepath.Join(s.modelsDir, filepath.Base(from)) {
			t.Fatalf("%s: %v", got, err)
		}
		var have []string
		_ = filepath.Walk(s.modelsDir, func(p string, info os.FileInfo, err error) error {
			if err == nil && info.Mode().IsRegular() {
				rel, _ := filepath.Rel(s.modelsDir, p)
				have = append(have, rel)
			}
			return nil
		})
		if strings.Join(have, " ") != strings.Join(want, " ") {
			t.Errorf("copied %v, want %v", have, want)
		}
	}
	if _, err := s.place(t.Context(), filepath.Join(home, "big-other-00001-of-00003.gguf")); err == nil || !strings.Contains(err.Error(), "part big-other-00002-of-00003.gguf: no such file") {
		t.Errorf("a part is missing: %v", err)
	}
}
