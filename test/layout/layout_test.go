// Package layout holds the import diagram of the design, so that the tree stays what the documents show.
package layout

import (
	"bytes"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"edged/test/oracle"
)

// allowed says what of the module each package may import. A package that is not in it fails the test: the
// author of one says here where it stands.
var allowed = map[string][]string{
	// Leaves, which any wing may read.
	"core/chat":      {"core/chat/jinja", "core/chat/jinja/value", "core/chat/jinja/variables"},
	"core/config":    {},
	"core/machine":   {},
	"core/pluginlog": {},
	"core/version":   {},

	// Templates: values at the bottom, the interpreter on top.
	"core/chat/jinja":           {"core/chat/jinja/*"},
	"core/chat/jinja/syntax":    {"core/chat/jinja/builtin", "core/chat/jinja/value"},
	"core/chat/jinja/builtin":   {"core/chat/jinja/operator", "core/chat/jinja/value"},
	"core/chat/jinja/operator":  {"core/chat/jinja/value"},
	"core/chat/jinja/variables": {"core/chat/jinja/value"},
	"core/chat/jinja/value":     {},

	// What crosses between the processes.
	"core/protocol":                {"core/pluginlog", "core/version"},
	"core/protocol/edgedpb":        {},
	"core/protocol/internal/parts": {"core/protocol", "core/protocol/edgedpb"},
	"core/protocol/backend":        {"core/protocol", "core/protocol/edgedpb", "core/protocol/internal/parts"},
	"core/protocol/tokenizer":      {"core/protocol", "core/protocol/edgedpb", "core/protocol/internal/parts", "core/protocol/backend"},
	"core/protocol/conformance":    {"core/protocol", "core/protocol/backend", "core/protocol/tokenizer"},

	// The model wing: what a file holds, read by both sides.
	"core/model/mmap":        {},
	"core/model/arch":        {},
	"core/model/arch/keys":   {"core/model/arch"},
	"core/model/arch/family": {"core/model/arch", "core/model/arch/keys"},

	// Families: a group may take up what another has before it.
	"core/model/arch/families":           {"core/model/arch/families/*", "core/model/arch/family"},
	"core/model/arch/families/decoders":  {"core/model/arch", "core/model/arch/keys", "core/model/arch/family"},
	"core/model/arch/families/mixtures":  {"core/model/arch", "core/model/arch/keys", "core/model/arch/family", "core/model/arch/families/decoders"},
	"core/model/arch/families/recurrent": {"core/model/arch", "core/model/arch/keys", "core/model/arch/family", "core/model/arch/families/decoders", "core/model/arch/families/mixtures"},
	"core/model/arch/families/encoders":  {"core/model/arch", "core/model/arch/keys", "core/model/arch/family"},

	// Files of models and adapters.
	"core/model/gguf":         {"core/model/mmap", "quant"},
	"core/model/safetensors":  {"core/model/mmap"},
	"core/model/digest":       {"core/model/mmap"},
	"core/model/hfjson":       {"core/model/arch", "core/model/mmap"},
	"core/model/lora":         {"core/model/lora/*", "core/model/arch", "core/model/arch/*", "core/model/gguf", "core/model/safetensors", "core/model/mmap", "core/model/digest", "core/model/hfjson", "quant"},
	"core/model/lora/*":       {},
	"core/model/lora/convert": {"core/model/lora", "core/model/arch", "core/model/arch/*", "core/model/gguf", "core/model/safetensors", "quant"},
	"core/model/lora/kinds":   {"core/model/lora/spectrum", "core/model/lora/torchrand", "core/model/arch", "core/model/safetensors", "quant"},
	"core/model/quantize":     {"core/model/gguf", "core/model/mmap", "quant"},
	"core/model/weights":      {"core/model/arch", "core/model/arch/*", "core/model/gguf", "core/model/safetensors", "core/model/mmap", "core/model/digest", "core/model/hfjson", "quant"},
	"core/model/weights/*":    {"core/model/gguf", "core/model/safetensors", "quant"},

	// The infer wing: the plugins' processes.
	"core/infer/text":                        {},
	"core/infer/sample":                      {},
	"core/infer/grammar":                     {"core/infer/grammar/gbnf", "core/infer/grammar/network", "core/infer/grammar/expression", "core/infer/grammar/jsonvalue"},
	"core/infer/grammar/grammartest":         {},
	"core/infer/grammar/gbnf":                {"core/infer/grammar/schema", "core/infer/grammar/regex", "core/infer/grammar/expression"},
	"core/infer/grammar/schema":              {"core/infer/grammar/decimal", "core/infer/grammar/regex", "core/infer/grammar/jsonvalue", "core/infer/grammar/expression"},
	"core/infer/grammar/decimal":             {"core/infer/grammar/expression"},
	"core/infer/grammar/regex":               {"core/infer/grammar/expression"},
	"core/infer/grammar/network":             {"core/infer/grammar/expression"},
	"core/infer/grammar/jsonvalue":           {},
	"core/infer/grammar/expression":          {},
	"core/infer/beam":                        {"core/infer/sample", "core/model/arch"},
	"core/infer/kv":                          {"core/infer/kv/*", "core/model/arch", "core/model/mmap", "quant", "quant/kernel"},
	"core/infer/kv/*":                        {},
	"core/infer/speed":                       {"core/infer/transformer/pool", "quant", "quant/kernel", "quant/tile"},
	"core/infer/transformer":                 {"core/infer/transformer/*", "core/infer/sample", "core/infer/kv", "core/infer/speed", "core/model/arch", "core/model/weights", "core/model/lora", "core/model/mmap", "quant", "quant/kernel", "quant/tile"},
	"core/infer/transformer/pool":            {},
	"core/infer/transformer/exactmath":       {},
	"core/infer/transformer/position":        {"core/infer/transformer/exactmath", "core/model/arch", "quant"},
	"core/infer/transformer/parts":           {"core/model/arch", "quant", "quant/kernel"},
	"core/infer/transformer/adapter":         {"core/infer/transformer/exactmath", "core/infer/transformer/parts", "core/model/arch", "core/model/lora", "core/model/mmap", "quant", "quant/kernel"},
	"core/infer/transformer/bind":            {"core/infer/transformer/parts", "core/infer/transformer/position", "core/model/arch", "quant", "quant/kernel"},
	"core/infer/transformer/batch":           {"core/infer/transformer/adapter", "core/infer/transformer/parts", "core/infer/transformer/pool", "core/infer/transformer/position", "core/infer/kv", "core/infer/sample", "core/model/arch", "core/model/mmap", "quant/kernel"},
	"core/infer/transformer/attention":       {"core/infer/transformer/adapter", "core/infer/transformer/batch", "core/infer/transformer/bind", "core/infer/transformer/exactmath", "core/infer/transformer/parts", "core/infer/transformer/position", "core/infer/kv", "core/model/arch", "quant", "quant/kernel"},
	"core/infer/transformer/recurrent":       {"core/infer/transformer/batch", "core/infer/transformer/bind", "core/infer/transformer/exactmath", "core/infer/transformer/parts", "core/infer/kv", "core/model/arch", "quant", "quant/kernel"},
	"core/infer/transformer/feedforward":     {"core/infer/transformer/batch", "core/infer/transformer/bind", "core/infer/transformer/parts", "core/model/arch", "quant/kernel"},
	"core/infer/transformer/streams":         {"core/infer/transformer/batch", "core/infer/transformer/bind", "core/infer/transformer/parts", "core/model/arch", "quant", "quant/kernel"},
	"core/infer/transformer/transformertest": {"core/infer/transformer", "core/model/weights", "core/model/lora", "quant", "quant/kernel", "test/oracle"},
	"core/infer/engine":                      {"core/infer/engine/*", "core/infer/transformer", "core/infer/kv", "core/infer/kv/pagestore", "core/infer/sample", "core/model/arch", "core/model/weights", "core/model/lora", "core/model/digest", "core/protocol", "core/protocol/backend", "core/pluginlog", "quant/kernel"},
	"core/infer/engine/answer":               {"core/infer/grammar", "core/infer/grammar/gbnf", "core/infer/sample", "core/infer/text", "core/protocol", "core/protocol/backend"},
	"core/infer/engine/compute":              {"core/infer/transformer", "core/infer/kv", "core/infer/sample", "core/model/lora", "quant/kernel"},
	"core/infer/engine/encode":               {"core/infer/engine/answer", "core/infer/sample", "core/infer/transformer", "core/model/arch", "core/protocol", "core/protocol/backend"},
	"core/infer/engine/loader":               {"core/infer/engine/compute", "core/infer/engine/pace", "core/infer/speed", "core/infer/transformer", "core/infer/kv", "core/model/arch", "core/model/weights", "core/model/mmap", "core/protocol", "core/protocol/backend", "quant", "quant/kernel", "quant/tile"},
	"core/infer/engine/pace":                 {},
	"core/infer/engine/prefix":               {"core/infer/engine/compute", "core/infer/kv", "core/infer/kv/pagestore", "core/model/arch", "core/model/mmap", "core/protocol/backend"},
	"core/infer/engine/seq2seq":              {"core/infer/beam", "core/infer/engine/answer", "core/infer/kv", "core/infer/sample", "core/infer/transformer", "core/model/arch", "core/protocol", "core/protocol/backend"},
	"core/infer/engine/speculate":            {"core/infer/engine/answer", "core/infer/engine/compute", "core/infer/engine/pace", "core/infer/sample"},

	// The serve wing: the daemon's process.
	"core/serve/inbox":               {},
	"core/serve/pluginhost":          {"core/config", "core/protocol", "core/protocol/backend", "core/protocol/tokenizer", "core/pluginlog", "core/version"},
	"core/serve/pairs":               {"core/protocol", "core/protocol/backend", "core/protocol/tokenizer"},
	"core/serve/languages":           {"core/protocol", "core/protocol/backend", "core/protocol/tokenizer"},
	"core/serve/dispatch":            {"core/serve/dispatch/*", "core/protocol", "core/protocol/backend", "core/protocol/tokenizer", "core/serve/inbox", "core/serve/languages", "core/serve/pairs", "core/infer/grammar"},
	"core/serve/dispatch/*":          {},
	"core/serve/adapters":            {"core/config", "core/serve/watch", "core/model/lora", "core/model/digest", "core/model/gguf", "core/model/safetensors", "core/protocol", "core/protocol/backend"},
	"core/serve/models":              {"core/config", "core/model/gguf", "core/model/weights", "core/serve/watch", "quant"},
	"core/serve/models/hub":          {},
	"core/serve/watch":               {},
	"core/serve/monitor":             {"core/serve/dispatch", "core/machine", "core/protocol/backend"},
	"core/serve/door/home":           {},
	"core/serve/door/stream":         {"core/serve/dispatch"},
	"core/serve/door/wyoming":        {"core/serve/door/fields", "core/serve/door/stream", "core/serve/dispatch", "core/config"},
	"core/serve/door/broker":         {"core/serve/door/wildcard"},
	"core/serve/door/wildcard":       {},
	"core/serve/door/fields":         {"core/serve/dispatch", "core/serve/languages", "core/config"},
	"core/serve/prompts":             {"core/serve/dispatch", "core/serve/door/fields", "core/config"},
	"core/serve/door/mqtt":           {"core/serve/door/mqtt/*", "core/serve/door/fields", "core/serve/door/wildcard", "core/serve/dispatch", "core/config", "core/protocol/backend"},
	"core/serve/door/mqtt/payload":   {"core/serve/dispatch", "core/serve/door/fields", "core/protocol/backend"},
	"core/serve/door/mqtt/probe":     {"core/serve/door/mqtt/link"},
	"core/serve/door/mqtt/link":      {"core/config"},
	"core/serve/door/mqtt/group":     {},
	"core/serve/door/mqtt/group/*":   {"core/serve/door/mqtt/group"},
	"core/serve/door/mqtt/askclient": {"core/serve/door/mqtt", "core/serve/door/mqtt/link", "core/serve/door/wildcard"},
	"core/serve/door/http/upload":    {"core/serve/adapters", "core/serve/dispatch", "core/serve/watch", "core/config"},
	"core/serve/door/http":           {"core/serve/door/http/*", "core/serve/door/fields", "core/serve/door/stream", "core/serve/dispatch", "core/config", "core/protocol/backend"},
	"core/serve/daemon":              {"core/config", "core/machine", "core/protocol", "core/protocol/backend", "core/protocol/tokenizer", "core/serve/adapters", "core/serve/dispatch", "core/serve/door/*", "core/serve/inbox", "core/serve/models", "core/serve/monitor", "core/serve/pluginhost", "core/serve/prompts"},

	// Formats and kernels.
	"quant":                   {},
	"quant/kernel":            {"quant"},
	"quant/kernel/simd":       {"quant", "quant/kernel"},
	"quant/kernel/kerneltest": {"quant", "quant/kernel", "quant/kernel/simd", "quant/tile"},
	"quant/tile":              {"quant", "quant/kernel", "core/model/mmap"},

	// The programs.
	"cmd/edged":                     {"cmd/edged/cli", "cmd/edged/client", "cmd/edged/demo", "cmd/edged/offline", "cmd/edged/service", "core/protocol", "core/version"},
	"cmd/edged/cli":                 {"core/config"},
	"cmd/edged/plugins":             {"cmd/edged/cli", "core/model/mmap", "core/protocol", "core/protocol/*", "core/serve/daemon", "core/serve/pluginhost"},
	"cmd/edged/reply":               {"core/serve/door/mqtt", "core/serve/door/mqtt/askclient"},
	"cmd/edged/client":              {"cmd/edged/cli", "cmd/edged/reply", "core/config", "core/serve/adapters", "core/serve/door/home", "core/serve/door/mqtt", "core/serve/door/mqtt/*"},
	"cmd/edged/service":             {"cmd/edged/cli", "cmd/edged/plugins", "cmd/edged/reply", "core/config", "core/model/gguf", "core/protocol", "core/protocol/backend", "core/serve/*", "core/version"},
	"cmd/edged/offline":             {"cmd/edged/cli", "cmd/edged/plugins", "core/infer/grammar", "core/model/gguf", "core/model/lora", "core/model/lora/convert", "core/model/quantize", "core/model/safetensors", "core/model/weights", "core/protocol", "core/protocol/*", "core/serve/daemon", "core/serve/languages", "core/serve/pairs", "core/version"},
	"cmd/edged/demo":                {"cmd/edged/cli", "cmd/edged/reply", "core/config", "core/protocol/backend", "core/serve/*", "core/version"},
	"plugins/backend-generic":       {"plugins/backend-generic/x86", "core/infer/engine", "core/machine", "core/version"},
	"plugins/backend-neon":          {"plugins/backend-neon/neon", "core/infer/engine", "core/machine", "core/version"},
	"plugins/backend-generic/x86":   {"quant", "quant/kernel", "quant/kernel/simd"},
	"plugins/backend-neon/neon":     {"quant", "quant/kernel", "quant/kernel/simd"},
	"plugins/tokenizer-bpe":         {"plugins/tokenizer-bpe/*", "core/protocol", "core/protocol/tokenizer", "core/pluginlog"},
	"plugins/tokenizer-bpe/service": {"plugins/tokenizer-bpe/*", "core/chat", "core/infer/grammar", "core/model/gguf", "core/model/mmap", "core/protocol", "core/protocol/backend", "core/protocol/tokenizer"},

	// The tokenizer: readers of files over a tokenizer, which runs a model over a vocabulary.
	"plugins/tokenizer-bpe/bpe":               {"plugins/tokenizer-bpe/bpe/model", "plugins/tokenizer-bpe/bpe/split", "plugins/tokenizer-bpe/bpe/vocab"},
	"plugins/tokenizer-bpe/bpe/split":         {},
	"plugins/tokenizer-bpe/bpe/vocab":         {},
	"plugins/tokenizer-bpe/bpe/model":         {"plugins/tokenizer-bpe/bpe/split", "plugins/tokenizer-bpe/bpe/vocab"},
	"plugins/tokenizer-bpe/bpe/tokenizerjson": {"plugins/tokenizer-bpe/bpe/vocab"},
	"plugins/tokenizer-bpe/bpe/normalize":     {"plugins/tokenizer-bpe/bpe/split", "plugins/tokenizer-bpe/bpe/tokenizerjson", "plugins/tokenizer-bpe/bpe/vocab"},
	"plugins/tokenizer-bpe/bpe/pretokenize":   {"plugins/tokenizer-bpe/bpe/split", "plugins/tokenizer-bpe/bpe/tokenizerjson", "plugins/tokenizer-bpe/bpe/vocab"},
	"plugins/tokenizer-bpe/bpe/decode":        {"plugins/tokenizer-bpe/bpe/normalize", "plugins/tokenizer-bpe/bpe/split", "plugins/tokenizer-bpe/bpe/tokenizerjson", "plugins/tokenizer-bpe/bpe/vocab"},
	"plugins/tokenizer-bpe/bpe/transformers":  {"plugins/tokenizer-bpe/bpe/split", "plugins/tokenizer-bpe/bpe/tokenizerjson", "plugins/tokenizer-bpe/bpe/vocab", "core/model/mmap"},
	"plugins/tokenizer-bpe/bpe/sentencepiece": {"plugins/tokenizer-bpe/bpe/vocab"},
	"plugins/tokenizer-bpe/bpe/huggingface":   {"plugins/tokenizer-bpe/bpe", "plugins/tokenizer-bpe/bpe/*", "core/model/mmap"},
	"plugins/tokenizer-bpe/bpe/ggufvocab":     {"plugins/tokenizer-bpe/bpe", "plugins/tokenizer-bpe/bpe/model", "plugins/tokenizer-bpe/bpe/normalize", "plugins/tokenizer-bpe/bpe/pretokenize", "plugins/tokenizer-bpe/bpe/split", "plugins/tokenizer-bpe/bpe/vocab", "core/model/gguf"},
	"plugins/tokenizer-bpe/bpe/bpetest":       {"plugins/tokenizer-bpe/bpe/vocab", "core/model/gguf"},
	"tools/*":                                 {"core/*", "plugins/*", "quant", "quant/*"},
	"systemd":                                 {},
	"test/*":                                  {"test/oracle"},
}

// pluginSide is what no package of the daemon's process may reach, however indirectly.
var pluginSide = []string{"core/infer/engine", "core/infer/transformer", "quant/kernel", "core/chat", "plugins/tokenizer-bpe", "plugins/backend-generic", "plugins/backend-neon"}

// daemonSide is what no plugin may reach.
var daemonSide = []string{"core/serve/*", "core/config"}

func goList(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = oracle.Repo(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func matches(list []string, pkg string) bool {
	for _, pattern := range list {
		if prefix, ok := strings.CutSuffix(pattern, "/*"); ok && strings.HasPrefix(pkg, prefix+"/") {
			return true
		}
		if ok, _ := path.Match(pattern, pkg); ok {
			return true
		}
	}
	return false
}

// rule returns what a package may import: its own line, or the line of its folder ("x/*").
func rule(pkg string) (list []string, ok bool) {
	if list, ok = allowed[pkg]; ok {
		return list, true
	}
	for dir := path.Dir(pkg); dir != "."; dir = path.Dir(dir) {
		if list, ok = allowed[dir+"/*"]; ok {
			return list, true
		}
	}
	return nil, false
}

func TestImportsFollowTheDiagram(t *testing.T) {
	module := goList(t, "-m")[0] + "/"
	seen := 0
	for _, line := range goList(t, "-f", "{{.ImportPath}}{{range .Imports}} {{.}}{{end}}", "./...") {
		fields := strings.Fields(line)
		pkg := strings.TrimPrefix(fields[0], module)
		may, ok := rule(pkg)
		if !ok {
			t.Errorf("%s stands in no wing: give it a line in the table of this test", pkg)
			continue
		}
		seen++
		for _, imp := range fields[1:] {
			imp, own := strings.CutPrefix(imp, module)
			if own && !matches(may, imp) {
				t.Errorf("%s imports %s: not an arrow of the diagram", pkg, imp)
			}
		}
	}
	if seen < 40 {
		t.Errorf("only %d packages seen: is the list of packages broken?", seen)
	}
}

// mostLines bounds the code of a package, without tests: a room that an engineer walks through in an afternoon.
const mostLines = 3500

// Packages stay small. Code that a tool writes is nobody's to read.
func TestPackagesAreSmall(t *testing.T) {
	generated := regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)
	module := goList(t, "-m")[0] + "/"
	for _, line := range goList(t, "-f", "{{.ImportPath}}\t{{.Dir}}{{range .GoFiles}}\t{{.}}{{end}}{{range .IgnoredGoFiles}}\t{{.}}{{end}}", "./...") {
		fields := strings.Split(line, "\t")
		lines := 0
		for _, file := range fields[2:] {
			text, err := os.ReadFile(filepath.Join(fields[1], file))
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(file, "_test.go") || generated.Match(text) {
				continue
			}
			lines += bytes.Count(text, []byte("\n"))
		}
		if lines > mostLines {
			t.Errorf("%s has %d lines: divide it below %d", strings.TrimPrefix(fields[0], module), lines, mostLines)
		}
	}
}

func TestProcessesStayApart(t *testing.T) {
	module := goList(t, "-m")[0] + "/"
	for root, forbidden := range map[string][]string{
		"./cmd/edged":               pluginSide,
		"./plugins/tokenizer-bpe":   append([]string{"core/infer/engine", "core/infer/transformer"}, daemonSide...),
		"./plugins/backend-generic": daemonSide,
		"./plugins/backend-neon":    daemonSide,
	} {
		for _, dep := range goList(t, "-deps", root) {
			dep, own := strings.CutPrefix(dep, module)
			if own && matches(forbidden, dep) {
				t.Errorf("%s reaches %s, which runs in another process", root, dep)
			}
		}
	}
}
