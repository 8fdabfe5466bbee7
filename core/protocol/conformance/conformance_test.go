package conformance_test

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"edged/core/pluginlog"
	"edged/core/protocol"
	"edged/core/protocol/conformance"
	"edged/core/protocol/tokenizer"
	"edged/core/serve/pluginhost"
	"edged/test/oracle"
)

// The environment says what to try; docs/plugins.md explains it. Without it these tests try this repository's plugins on
// its demo model.
const (
	envBackend   = "EDGED_CONFORMANCE_BACKEND"   // a backend plugin's file
	envTokenizer = "EDGED_CONFORMANCE_TOKENIZER" // a tokenizer plugin's file
	envCommand   = "EDGED_CONFORMANCE_COMMAND"   // prefix of the command line of the plugin that is tried, split at spaces
	envModel     = "EDGED_CONFORMANCE_MODEL"     // a model's file or folder
	envAdapter   = "EDGED_CONFORMANCE_ADAPTER"   // an adapter of that model
)

// setting is a variable's value, or what fallback gives.
func setting(name string, fallback func() string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback()
}

// build compiles one of this repository's plugins.
func build(t *testing.T, name string) string {
	t.Helper()
	root := oracle.Repo(t)
	out := filepath.Join(t.TempDir(), name)
	cmd := exec.Command("go", "build", "-o", out, "./plugins/"+name)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build ./plugins/%s: %v\n%s", name, err, text)
	}
	return out
}

func start(t *testing.T, kind, path string, command []string) *pluginhost.Process {
	t.Helper()
	p, err := pluginhost.Start(t.Context(), pluginhost.Options{
		Kind: kind, Path: path, Command: command, Log: pluginlog.NewAt(t.Output(), slog.LevelWarn),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func model(t *testing.T) string {
	t.Helper()
	return setting(envModel, func() string { return filepath.Join(oracle.Repo(t), "demo", "hf-nf4") })
}

func adapter(t *testing.T) string {
	t.Helper()
	return setting(envAdapter, func() string {
		if os.Getenv(envModel) != "" {
			return "" // the demo's adapters fit the demo's model only
		}
		return filepath.Join(oracle.Repo(t), "demo", "adapters", "pirate")
	})
}

func TestTokenizer(t *testing.T) {
	t.Parallel()
	path := setting(envTokenizer, func() string { return build(t, "tokenizer-bpe") })
	p := start(t, protocol.PluginTokenizer, path, strings.Fields(os.Getenv(envCommand)))
	conformance.Tokenizer(t, p.Tokenizer(), model(t))
}

func TestBackend(t *testing.T) {
	t.Parallel()
	// The backend that is tried needs the vocabulary from a tokenizer.
	path := setting(envTokenizer, func() string { return build(t, "tokenizer-bpe") })
	tok := start(t, protocol.PluginTokenizer, path, nil).Tokenizer()
	if _, err := tok.Load(t.Context(), model(t)); err != nil {
		t.Fatal(err)
	}
	o := conformance.BackendOptions{Model: model(t), Adapter: adapter(t)}
	var err error
	if o.Vocabulary, err = tok.Vocabulary(t.Context()); err != nil {
		t.Fatal(err)
	}
	ids, err := tok.Encode(t.Context(), []string{"Turn on the light in the kitchen, please."}, tokenizer.Flags{AddSpecial: true})
	if err != nil {
		t.Fatal(err)
	}
	o.Prompt = ids[0]
	path = setting(envBackend, func() string { return build(t, "backend-generic") })
	b := start(t, protocol.PluginBackend, path, strings.Fields(os.Getenv(envCommand))).Backend()
	conformance.Backend(t, b, o)
}
