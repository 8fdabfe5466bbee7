// Package systemd holds no code: its tests let systemd itself judge the files of this folder.
package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// mostExposed is the figure of `systemd-analyze security` that the unit may reach.
const mostExposed = 1.1

// analyze finds systemd-analyze of a version that knows --offline (250).
func analyze(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("systemd-analyze")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("systemd-analyze is not installed: run `make deps`")
		}
		t.Skip("systemd-analyze is not installed: run `make deps`")
	}
	out, err := exec.CommandContext(t.Context(), path, "--version").Output()
	if err != nil {
		t.Skipf("systemd-analyze does not run here: %v", err)
	}
	m := regexp.MustCompile(`^systemd (\d+)`).FindSubmatch(out)
	if m == nil {
		t.Skipf("systemd-analyze says %q", out)
	}
	if v, _ := strconv.Atoi(string(m[1])); v < 250 {
		t.Skipf("systemd %d has no offline analysis", v)
	}
	return path
}

func TestUnitIsConfined(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), analyze(t), "security", "--offline=true", "--no-pager", "edged.service").CombinedOutput()
	m := regexp.MustCompile(`Overall exposure level for edged\.service: ([0-9.]+)`).FindSubmatch(out)
	if err != nil || m == nil {
		t.Fatalf("%v\n%s", err, out)
	}
	exposure, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil || exposure > mostExposed {
		t.Errorf("exposure %s, at most %v is wanted\n%s", m[1], mostExposed, out)
	}
	t.Logf("exposure %v", exposure)
}

// TestUnitIsClean: systemd reads the unit without a complaint. The program and its manual need not be installed here.
func TestUnitIsClean(t *testing.T) {
	tool := analyze(t)
	text, err := os.ReadFile("edged.service")
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(t.TempDir(), "edged.service")
	verify := func(text string) string {
		if err := os.WriteFile(unit, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), tool, "verify", "--man=no", unit).CombinedOutput()
		if err != nil {
			return string(out) + err.Error()
		}
		return string(out)
	}
	installed := strings.ReplaceAll(string(text), "/usr/bin/edged", "/bin/sh")
	if out := verify(installed); out != "" {
		t.Errorf("systemd-analyze verify: %s", out)
	}
	if out := verify(strings.Replace(installed, "WatchdogSec=60", "WatchdogSec=soon", 1)); out == "" {
		t.Error("systemd-analyze verify finds nothing wrong with nonsense")
	}
}
