package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"edged/cmd/edged/cli"
	"edged/core/config"
)

// unitName is the service that the packages install.
const unitName = "edged.service"

// insideVariable marks a check that runs as the service would: with its user and its unit's restrictions.
const insideVariable = "EDGED_CHECK_INSIDE"

// credentials is the directory in which the service finds the secrets of LoadCredential=.
const credentials = "/run/credentials/" + unitName + "/"

// restrictions are the properties of the unit that decide what the service may read, write and use, and which
// settings it has from its environment. StateDirectoryMode must be among them: systemd sets a folder's mode
// at each start, and its default lets all read.
func restrictions() []string {
	return []string{
		"User",
		"Group",
		"UMask",
		"NoNewPrivileges",
		"ProtectSystem",
		"ProtectHome",
		"PrivateTmp",
		"PrivateDevices",
		"PrivateUsers",
		"ReadWritePaths",
		"ReadOnlyPaths",
		"InaccessiblePaths",
		"BindPaths",
		"BindReadOnlyPaths",
		"StateDirectory",
		"StateDirectoryMode",
		"MemoryMax",
		"Environment",
	}
}

// readUnit asks systemd for the unit's properties; nil: it is not installed, or there is no systemd.
func readUnit(ctx context.Context) map[string]string {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "systemctl", "show", unitName, "--property=LoadState,"+strings.Join(restrictions(), ","))
	cmd.Stdout = &out
	if cmd.Run() != nil {
		return nil
	}
	unit := map[string]string{}
	for line := range strings.Lines(out.String()) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			unit[name] = value
		}
	}
	if unit["LoadState"] != "loaded" {
		return nil
	}
	return unit
}

// asService runs this check again as the service would run: with its user, its view of the files and its
// credentials. What a person or root may do says nothing about that. It reports whether that was done, and
// how it ended.
func (a *app) asService(ctx context.Context, unit map[string]string, args []string) (done bool, err error) {
	if unit == nil || os.Geteuid() != 0 || os.Getenv(insideVariable) != "" {
		return false, nil
	}
	tool, _ := exec.LookPath("systemd-run")
	if tool == "" {
		return false, nil
	}
	self, err := os.Executable()
	if err != nil {
		return false, err
	}
	run := append(runArguments(unit), readCredentials(ctx)...)
	cmd := exec.CommandContext(ctx, tool, append(run, append([]string{self, "check"}, args...)...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.In, a.Out, a.Err
	err = cmd.Run()
	if _, failed := errors.AsType[*exec.ExitError](err); failed {
		return true, cli.ErrReported // it has said what is wrong
	}
	return true, err
}

// readCredentials are the unit's credentials as arguments of systemd-run. They are read from its files:
// `systemctl show` has no form for them, and says "[unprintable]".
func readCredentials(ctx context.Context) []string {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "systemctl", "cat", unitName)
	cmd.Stdout = &out
	if cmd.Run() != nil {
		return nil
	}
	set := map[string][]string{}
	for line := range strings.Lines(out.String()) {
		name, value, _ := strings.Cut(line, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		switch {
		case name != "LoadCredential" && name != "LoadCredentialEncrypted":
		case value == "":
			set[name] = nil // as in a unit: what stood before does not count
		default:
			set[name] = append(set[name], "--property="+name+"="+value)
		}
	}
	return append(set["LoadCredential"], set["LoadCredentialEncrypted"]...)
}

// seeCredentials has files that are credentials of the service read where a check that runs as the service
// sees its own copies.
func seeCredentials(c *config.Config) {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" || os.Getenv(insideVariable) == "" {
		return
	}
	for _, file := range []*string{&c.MQTT.PasswordFile, &c.MQTT.CAFile, &c.MQTT.CertFile, &c.MQTT.KeyFile, &c.HTTP.TokenFile} {
		if name, ok := strings.CutPrefix(*file, credentials); ok {
			*file = filepath.Join(dir, name)
		}
	}
}

// runArguments are systemd-run's.
func runArguments(unit map[string]string) []string {
	args := []string{"--quiet", "--pipe", "--wait", "--collect", "--setenv=" + insideVariable + "=1"}
	for _, name := range restrictions() {
		value := unit[name]
		if value == "" || value == "infinity" {
			continue
		}
		args = append(args, "--property="+name+"="+value)
	}
	return args
}

// service looks at what the unit and the machine keep from the service, where the unit's settings are the
// ones that are checked.
func (k *checker) service(unit map[string]string) {
	if unit == nil || k.c.File != cli.SystemConfig {
		return
	}
	k.ok("service", "%s runs as user %s, in ProtectHome=%s", unitName, unit["User"], unit["ProtectHome"])
	if home := unit["ProtectHome"]; home == "yes" || home == "tmpfs" {
		for key, path := range map[string]string{"model.path": k.c.Model.Path, "draft.model": k.c.Draft.Model, "adapters.dir": k.c.Adapters.Dir} {
			if hidden(path) {
				k.problem(
					"service",
					fmt.Errorf("%s = %s is below a home directory, which the service does not see", key, path),
					"sudo edged setup --model "+path+" copies a model to /srv/edged/models; or run `sudo systemctl edit edged` and set ProtectHome=read-only below [Service]",
				)
			}
		}
	}
	if limited := unit["MemoryMax"]; limited != "" && limited != "infinity" && !memoryController("/sys/fs/cgroup/cgroup.controllers") {
		k.problem(
			"service",
			errors.New("MemoryMax= of the unit does nothing: this kernel runs without the memory controller, as Raspberry Pi OS starts it"),
			"append cgroup_enable=memory to the line in /boot/firmware/cmdline.txt and restart the machine; or remove the limit",
		)
	}
	if os.Geteuid() != 0 && os.Getenv(insideVariable) == "" {
		k.unseen(
			"service",
			"this check ran as you and not as the service: what the service may read and write is seen by `sudo edged check`",
		)
	}
}

// hidden reports whether ProtectHome=yes hides a path.
func hidden(path string) bool {
	for _, dir := range []string{"/home/", "/root/", "/run/user/"} {
		if strings.HasPrefix(path, dir) {
			return true
		}
	}
	return false
}

// memoryController reports whether control groups can limit memory. Where that cannot be seen, nothing is claimed.
func memoryController(path string) bool {
	list, err := os.ReadFile(path)
	if err != nil {
		return true
	}
	return slices.Contains(strings.Fields(string(list)), "memory")
}

// mayNotSee reports whether a problem is only that the person who checks may not look where the service may.
func (k *checker) mayNotSee(err error) bool {
	return k.c != nil && k.c.File == cli.SystemConfig && errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 &&
		os.Getenv(insideVariable) == ""
}
