package families

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/models.md anew")

// unjudged are the families for which no reference results are at hand: they were built from the reference's source, and nothing was
// compared. There is none at present.
var unjudged = map[string]bool{}

// identifier finds what only the code names so.
var identifier = regexp.MustCompile(`\barch\.\w+`)

const (
	tableBegin = "<!-- The table is written by: go test ./core/model/arch/families -run TestModelsDocument -update -->\n"
	tableEnd   = "<!-- end -->\n"
)

// TestModelsDocument holds the table of docs/models.md to the families: their names, and what the comment of each says.
func TestModelsDocument(t *testing.T) {
	path := filepath.Join("..", "..", "..", "..", "docs", "models.md")
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(page), tableBegin)
	_, tail, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		t.Fatal("docs/models.md has lost the marks around its table")
	}
	want := head + tableBegin + familyTable(t) + tableEnd + tail
	if want == string(page) {
		return
	}
	if !*update {
		t.Fatal("docs/models.md is not what the families say: run this test with -update")
	}
	if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
		t.Fatal(err)
	}
}

// familyTable is a line for each family, in the order of the groups' lists.
func familyTable(t *testing.T) string {
	t.Helper()
	calls, docs := familySources(t)
	all := families()
	if len(calls) != len(all) {
		t.Fatalf("the groups' lists call %d functions for %d families", len(calls), len(all))
	}
	var b strings.Builder
	b.WriteString("| `model_type` of a folder, architecture of a GGUF file | what it is | compared with the reference |\n|---|---|---|\n")
	for i, f := range all {
		text := strings.Join(strings.Fields(docs[calls[i]]), " ")
		_, text, ok := strings.Cut(text, " is ")
		if !ok {
			t.Errorf("the comment of %s does not say what it is: %q", calls[i], docs[calls[i]])
		}
		if name := identifier.FindString(text); name != "" {
			t.Errorf("the comment of %s says %s, which means nothing to readers of docs/models.md: use the field's word", calls[i], name)
		}
		names := f.Names
		if f.GGUF != "" && f.GGUF != names[0] && !slices.Contains(names, f.GGUF) {
			names = append(slices.Clip(names), f.GGUF)
		}
		compared := "yes"
		if unjudged[f.Names[0]] {
			compared = "no"
		}
		b.WriteString("| `" + strings.Join(names, "`, `") + "` | " + strings.ReplaceAll(text, "|", "\\|") + " | " + compared + " |\n")
	}
	return b.String()
}

// familySources reads which functions the groups' All call, in order, and the comments of all functions.
func familySources(t *testing.T) (calls []string, docs map[string]string) {
	t.Helper()
	docs = map[string]string{}
	for _, group := range []string{"decoders", "mixtures", "recurrent", "encoders"} {
		files, err := filepath.Glob(filepath.Join(group, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range file.Decls {
				f, ok := d.(*ast.FuncDecl)
				if !ok || f.Recv != nil {
					continue
				}
				docs[group+"."+f.Name.Name] = f.Doc.Text()
				if f.Name.Name != "All" {
					continue
				}
				ast.Inspect(f, func(n ast.Node) bool {
					if c, ok := n.(*ast.CallExpr); ok {
						if id, ok := c.Fun.(*ast.Ident); ok {
							calls = append(calls, group+"."+id.Name)
						}
					}
					return true
				})
			}
		}
	}
	return calls, docs
}
