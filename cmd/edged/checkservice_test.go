package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edged/core/config"
)

// TestReadUnit reads what systemctl prints, from a program of its name.
func TestReadUnit(t *testing.T) {
	bin := t.TempDir()
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(bin, "systemctl"), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("exit 1\n")
	if unit := readUnit(t.Context()); unit != nil {
		t.Errorf("no systemd: %v", unit)
	}
	write("echo LoadState=not-found\n")
	if unit := readUnit(t.Context()); unit != nil {
		t.Errorf("not installed: %v", unit)
	}
	write("echo LoadState=loaded; echo User=edged; echo ProtectHome=yes; echo MemoryMax=infinity; echo LoadCredential=mqtt:/etc/edged/p\n")
	unit := readUnit(t.Context())
	args := runArguments(unit)
	for _, want := range []string{"--property=User=edged", "--property=ProtectHome=yes", "--property=LoadCredential=mqtt:/etc/edged/p", "--setenv=" + insideVariable + "=1"} {
		if !slices.Contains(args, want) {
			t.Errorf("%s is missing in %q", want, args)
		}
	}
	if slices.ContainsFunc(args, func(a string) bool { return strings.Contains(a, "MemoryMax") }) {
		t.Errorf("a limit that is none is passed on: %q", args)
	}
}

// TestServiceView: what the unit hides is a problem with a way out.
func TestServiceView(t *testing.T) {
	c := config.Default()
	c.File, c.Model.Path = systemConfig, "/home/pi/m.gguf"
	k := &checker{quiet: true, c: c}
	k.service(map[string]string{"User": "edged", "ProtectHome": "yes"})
	if !k.failed() || !strings.Contains(fmt.Sprint(k.found), "sudo edged setup --model /home/pi/m.gguf") {
		t.Errorf("%+v", k.found)
	}
	k.found = nil
	k.service(map[string]string{"User": "edged", "ProtectHome": "read-only"})
	if k.failed() {
		t.Errorf("a home that can be read: %+v", k.found)
	}
	k.found = nil
	k.problem("state", fmt.Errorf("open /var/lib/edged: %w", fs.ErrPermission), "fix")
	if root := os.Geteuid() == 0; k.failed() != root {
		t.Errorf("a person's missing right is a problem of the service: %+v (root: %v)", k.found, root)
	}
}

func TestMemoryController(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cgroup.controllers")
	for text, want := range map[string]bool{"cpuset cpu io memory pids\n": true, "cpuset cpu io pids\n": false} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := memoryController(file); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
