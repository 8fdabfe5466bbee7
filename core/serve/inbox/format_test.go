package inbox

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestFolderOfAnotherFormat: what another build wrote is left as it is.
func TestFolderOfAnotherFormat(t *testing.T) {
	dir := t.TempDir()
	d, _, err := OpenDisk(dir, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Accept(t.Context(), Record{Key: Key{ID: "a"}, Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	segments := func() string {
		found, err := filepath.Glob(filepath.Join(dir, "*.log"))
		if err != nil || len(found) != 1 {
			t.Fatalf("%q, %v", found, err)
		}
		data, err := os.ReadFile(found[0])
		if err != nil {
			t.Fatal(err)
		}
		return found[0] + "\n" + string(data)
	}
	before := segments()
	path := filepath.Join(dir, formatFile)
	for _, line := range []string{"edged inbox 2\n", "", "edged inbox 1"} {
		if err := os.WriteFile(path, []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := OpenDisk(dir, Limits{}); !errors.Is(err, ErrFormat) {
			t.Errorf("%q: %v", line, err)
		}
	}
	if after := segments(); after != before {
		t.Error("the segments were changed")
	}
	// Without the file it is a folder from before there was one.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	d, r, err := OpenDisk(dir, Limits{})
	if err != nil || r.Unfinished != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != formatLine {
		t.Errorf("%q, %v", data, err)
	}
}
