package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestWaysToDrop drops one adapter by the tools that people have, and swaps it by them: all serve the same bytes.
func TestWaysToDrop(t *testing.T) {
	dir, side := t.TempDir(), t.TempDir()
	s := serve(t, "adapters.dir="+dir, "adapters.settle=100ms")
	ways := map[string]string{ // by the tool that it needs
		"cp":    `cp -r "$FROM" "$DIR/cp"`,
		"mv":    `cp -r "$FROM" "$SIDE/mv" && mv "$SIDE/mv" "$DIR/mv"`,
		"ln":    `ln -sfn "$FROM" "$DIR/ln.next" && mv -T "$DIR/ln.next" "$DIR/ln"`,
		"tar":   `mkdir -p "$DIR/tar" && tar c -C "$FROM" . | tar x -C "$DIR/tar"`,
		"rsync": `rsync -a --delete "$FROM/" "$DIR/rsync/"`,
		"scp":   `mkdir -p "$DIR/scp" && scp -q "$FROM"/* "$DIR/scp/"`,
		"unzip": `mkdir -p "$DIR/unzip" && cd "$FROM" && rm -f "$SIDE/z.zip" && zip -qr "$SIDE/z.zip" . && unzip -qo "$SIDE/z.zip" -d "$DIR/unzip"`,
		"cat":   `mkdir -p "$DIR/cat" && for f in "$FROM"/*; do cat "$f" >"$DIR/cat/${f##*/}.part" && mv "$DIR/cat/${f##*/}.part" "$DIR/cat/${f##*/}"; done`,
	}
	drop := func(name, from string) bool {
		for tool := range strings.FieldsSeq(strings.ReplaceAll(name, "unzip", "unzip zip")) {
			if _, err := exec.LookPath(tool); err != nil {
				t.Logf("%s is not installed", tool)
				return false
			}
		}
		cmd := exec.Command("bash", "-ec", ways[name])
		cmd.Env = append(os.Environ(), "FROM="+filepath.Join(demoAdapters(t), from), "DIR="+dir, "SIDE="+side)
		if name == "cp" || name == "mv" { // which would copy into what is there
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		return true
	}
	sums := map[string]string{} // by adapter
	for i, from := range []string{"pirate", "deutsch"} {
		var dropped []string
		for name := range ways {
			if drop(name, from) {
				dropped = append(dropped, name)
			}
		}
		for _, name := range dropped {
			a := s.adapter(name, func(a adapterState) bool {
				return a.State == "active" && (i == 0 || a.SHA256 != sums["pirate"])
			})
			if sums[from] == "" {
				sums[from] = a.SHA256
			}
			if a.SHA256 != sums[from] {
				t.Errorf("%s of %s: %+v, want the content %s", name, from, a, sums[from])
			}
		}
	}
}
