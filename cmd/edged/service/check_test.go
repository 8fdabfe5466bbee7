package service

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edged/core/config"
)

// TestCheckLeavesNothing: whether the state can be written is found out without making its folder or leaving a file.
func TestCheckLeavesNothing(t *testing.T) {
	root := t.TempDir()
	there := filepath.Join(root, "there")
	if err := os.Mkdir(there, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(root, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		dir    string
		ok     bool
		detail string
	}{
		{there, true, there + " can be written"},
		{filepath.Join(root, "a", "b", "c"), true, "c can be made"},
		{file, false, "is no folder"},
		{filepath.Join(file, "below"), false, "not a directory"},
	} {
		k := &checker{quiet: true, c: &config.Config{State: config.State{Dir: c.dir}}}
		k.state()
		if len(k.found) != 1 || k.found[0].OK != c.ok || !strings.Contains(k.found[0].Detail, c.detail) {
			t.Errorf("%s: %+v", c.dir, k.found)
		}
	}
	var left []string
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		left = append(left, path)
		return err
	})
	if err != nil || len(left) != 3 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}
