package service

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edged/cmd/edged/cli"
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
	write("echo LoadState=loaded; echo User=edged; echo ProtectHome=yes; echo MemoryMax=infinity; echo StateDirectory=edged; echo StateDirectoryMode=0750; echo Environment=EDGED_LOG_LEVEL=debug\n")
	unit := readUnit(t.Context())
	args := runArguments(unit)
	for _, want := range []string{"--property=User=edged", "--property=ProtectHome=yes", "--property=StateDirectoryMode=0750", "--property=Environment=EDGED_LOG_LEVEL=debug", "--setenv=" + insideVariable + "=1"} {
		if !slices.Contains(args, want) {
			t.Errorf("%s is missing in %q", want, args)
		}
	}
	if slices.ContainsFunc(args, func(a string) bool { return strings.Contains(a, "MemoryMax") }) {
		t.Errorf("a limit that is none is passed on: %q", args)
	}
}

// TestCredentials: each is handed on, as the unit's files and drop-ins say together, and read where the check sees it.
func TestCredentials(t *testing.T) {
	bin := t.TempDir()
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	const units = `# /lib/systemd/system/edged.service
[Service]
# LoadCredential=shown:/etc/edged/shown
LoadCredential=old:/etc/edged/old
# /etc/systemd/system/edged.service.d/override.conf
[Service]
LoadCredential=
LoadCredential=mqtt:/etc/edged/mqtt password
LoadCredential = http:/etc/edged/http
LoadCredentialEncrypted=key:/etc/edged/key
`
	if err := os.WriteFile(filepath.Join(bin, "systemctl"), []byte("#!/bin/sh\n[ \"$1\" = cat ] && cat <<'END'\n"+units+"END\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	want := []string{"--property=LoadCredential=mqtt:/etc/edged/mqtt password", "--property=LoadCredential=http:/etc/edged/http", "--property=LoadCredentialEncrypted=key:/etc/edged/key"}
	if got := readCredentials(t.Context()); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	c := config.Default()
	c.MQTT.PasswordFile, c.HTTP.TokenFile = "/run/credentials/edged.service/mqtt", "/etc/edged/token"
	seeCredentials(c)
	if c.MQTT.PasswordFile != "/run/credentials/edged.service/mqtt" {
		t.Errorf("outside of the service's view: %s", c.MQTT.PasswordFile)
	}
	t.Setenv(insideVariable, "1")
	t.Setenv("CREDENTIALS_DIRECTORY", "/run/credentials/run-u1.service")
	seeCredentials(c)
	if c.MQTT.PasswordFile != "/run/credentials/run-u1.service/mqtt" || c.HTTP.TokenFile != "/etc/edged/token" {
		t.Errorf("%s, %s", c.MQTT.PasswordFile, c.HTTP.TokenFile)
	}
}

// TestServiceView: what the unit hides is a problem with a way out.
func TestServiceView(t *testing.T) {
	c := config.Default()
	c.File, c.Model.Path = cli.SystemConfig, "/home/pi/m.gguf"
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
