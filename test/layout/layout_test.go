// Package layout holds the import diagram of the design, so that the tree stays what the documents show.
package layout

import (
	"os/exec"
	"path"
	"strings"
	"testing"

	"edged/test/oracle"
)

// allowed says what of the module each package may import; a package that is not in it may import anything.
var allowed = map[string][]string{
	"core/version":                 {},
	"core/mmap":                    {},
	"core/config":                  {},
	"core/text":                    {},
	"core/sample":                  {},
	"core/grammar":                 {},
	"core/chat":                    {},
	"core/metrics":                 {},
	"core/pluginlog":               {},
	"core/protocol":                {"core/pluginlog", "core/version"},
	"core/protocol/edgedpb":        {},
	"core/protocol/internal/parts": {"core/protocol", "core/protocol/edgedpb"},
	"core/protocol/backend":        {"core/protocol", "core/protocol/edgedpb", "core/protocol/internal/parts"},
	"core/protocol/tokenizer":      {"core/protocol", "core/protocol/edgedpb", "core/protocol/internal/parts", "core/protocol/backend"},
	"core/gguf":                    {"core/mmap", "quant"},
	"core/safetensors":             {"core/mmap"},
	"quant":                        {},
	"quant/kernel":                 {"quant"},
	"quant/kernel/simd":            {"quant", "quant/kernel"},
	"quant/tile":                   {"quant", "quant/kernel", "core/mmap"},
	"core/weights":                 {"core/gguf", "core/safetensors", "core/mmap", "quant"},
	"core/transformer":             {"core/transformer/*", "core/sample", "core/weights", "core/mmap", "quant", "quant/kernel"},
	"core/engine":                  {"core/engine/*", "core/transformer", "core/weights", "core/mmap", "quant", "quant/kernel", "quant/tile", "core/sample", "core/grammar", "core/text", "core/protocol", "core/protocol/backend", "core/pluginlog", "core/version"},
	"core/pluginhost":              {"core/protocol", "core/protocol/backend", "core/protocol/tokenizer", "core/pluginlog", "core/version"},
	"core/inbox":                   {},
	"core/dispatch":                {"core/protocol", "core/protocol/backend", "core/protocol/tokenizer", "core/inbox", "core/grammar"},
	"core/adapters":                {"core/weights", "core/gguf", "core/safetensors", "core/protocol", "core/protocol/backend"},
	"core/mqtt":                    {"core/mqtt/*", "core/dispatch", "core/config", "core/protocol/backend"},
	"core/broker":                  {},
	"core/monitor":                 {"core/dispatch", "core/metrics", "core/protocol/backend"},
	"plugins/backend-generic":      {"plugins/backend-generic/x86", "core/engine", "core/metrics", "core/version"},
	"plugins/backend-neon":         {"plugins/backend-neon/neon", "core/engine", "core/metrics", "core/version"},
	"plugins/backend-generic/x86":  {"quant", "quant/kernel", "quant/kernel/simd"},
	"plugins/backend-neon/neon":    {"quant", "quant/kernel", "quant/kernel/simd"},
	"plugins/tokenizer-bpe":        {"plugins/tokenizer-bpe/*", "core/protocol", "core/protocol/tokenizer", "core/protocol/backend", "core/gguf", "core/chat", "core/grammar", "core/pluginlog", "core/version"},
}

// pluginSide is what no package of the daemon's process may reach, however indirectly.
var pluginSide = []string{"core/engine", "core/transformer", "quant/kernel", "core/chat", "plugins/tokenizer-bpe", "plugins/backend-generic", "plugins/backend-neon"}

// daemonSide is what no plugin may reach.
var daemonSide = []string{"core/daemon", "core/dispatch", "core/mqtt", "core/adapters", "core/pluginhost", "core/inbox", "core/broker", "core/config", "core/monitor"}

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

func TestImportsFollowTheDiagram(t *testing.T) {
	seen := map[string]bool{}
	for _, line := range goList(t, "-f", "{{.ImportPath}}{{range .Imports}} {{.}}{{end}}", "./...") {
		fields := strings.Fields(line)
		pkg := strings.TrimPrefix(fields[0], "edged/")
		rule, ok := allowed[pkg]
		if !ok {
			continue
		}
		seen[pkg] = true
		for _, imp := range fields[1:] {
			imp, own := strings.CutPrefix(imp, "edged/")
			if own && !matches(rule, imp) {
				t.Errorf("%s imports %s: not an arrow of the diagram", pkg, imp)
			}
			if imp == "github.com/mochi-mqtt/server/v2" && pkg != "core/broker" {
				t.Errorf("%s imports the embedded broker, which stands behind core/broker alone", pkg)
			}
		}
	}
	if len(seen) < 20 {
		t.Errorf("only %d packages of the diagram exist: is the table stale?", len(seen))
	}
}

func TestProcessesStayApart(t *testing.T) {
	for root, forbidden := range map[string][]string{
		"./cmd/edged":               pluginSide,
		"./plugins/tokenizer-bpe":   append([]string{"core/engine", "core/transformer"}, daemonSide...),
		"./plugins/backend-generic": daemonSide,
		"./plugins/backend-neon":    daemonSide,
	} {
		for _, dep := range goList(t, "-deps", root) {
			dep, own := strings.CutPrefix(dep, "edged/")
			if own && matches(forbidden, dep) {
				t.Errorf("%s reaches %s, which runs in another process", root, dep)
			}
		}
	}
}
