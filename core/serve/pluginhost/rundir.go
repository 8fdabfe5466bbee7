package pluginhost

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// dirPrefix begins the name of a folder of sockets; the process that made it follows, see owner.
const dirPrefix = "edged-plugin-"

// socketTail is the longest that go-plugin appends to the folder: its own folder and the socket, with random digits.
const socketTail = len("/plugin-dir1234567890/plugin1234567890")

// maxSocket is the longest path of a unix socket on Linux, without its final zero.
const maxSocket = 107

// ownDirs holds the folders that this process has made, which its own sweeps leave alone. Their names cannot tell: an
// emulator of user mode shows a process another start time of its own each time it looks.
var ownDirs sync.Map //nolint:gochecknoglobals // a fact about the process: several hosts in it share one temporary folder

// runtimeDir is the folder that systemd made for the service's run (RuntimeDirectory= of the unit); "": there
// is none. With several in the variable the first is the service's own.
func runtimeDir() string {
	dir, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":")
	return dir
}

// socketDir makes a folder for one plugin's socket, readable by this user alone, in base, else in the unit's
// runtime folder, which is in memory and so never full, else in the system's folder for temporary files. It
// removes those that killed processes left there.
func socketDir(base string) (string, error) {
	if base == "" {
		base = runtimeDir()
	}
	if base == "" {
		base = os.TempDir()
	}
	base, err := filepath.Abs(base)
	if err != nil {
		return "", fmt.Errorf("pluginhost: socket folder: %w", err)
	}
	sweep(base)
	dir, err := os.MkdirTemp(base, dirPrefix+owner(os.Getpid())+"-")
	if err != nil {
		return "", fmt.Errorf("pluginhost: socket folder: %w", err)
	}
	ownDirs.Store(dir, nil)
	if n := len(dir) + socketTail; n > maxSocket {
		_ = os.Remove(dir)
		return "", fmt.Errorf(
			"pluginhost: socket folder: a socket in %s would have a path of %d bytes and Linux allows %d: use a shorter state.dir or TMPDIR",
			base,
			n,
			maxSocket,
		)
	}
	return dir, nil
}

// owner names a process: its id and when it started, in clock ticks since the boot, since ids are given
// again. "": it is no more, or there is no /proc.
func owner(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The second field, the program's name in parentheses, may hold anything; the state is the third.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const state, start = 3, 22
	if len(fields) <= start-state || fields[0] == "Z" {
		return ""
	}
	ticks, err := strconv.ParseUint(fields[start-state], 10, 64)
	if err != nil {
		return ""
	}
	return strconv.Itoa(pid) + "." + strconv.FormatUint(ticks, 36) // short: see maxSocket
}

// sweep removes the folders of processes that are no more. It is best effort: another user's folder stays.
func sweep(base string) {
	stale, err := filepath.Glob(filepath.Join(base, dirPrefix+"*-*"))
	if err != nil {
		return
	}
	for _, dir := range stale {
		made, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), dirPrefix), "-")
		id, _, _ := strings.Cut(made, ".")
		pid, err := strconv.Atoi(id)
		if err != nil || pid <= 0 {
			continue
		}
		if _, own := ownDirs.Load(dir); own {
			continue
		}
		if now := owner(pid); now == "" || made != id && made != now { // one that names an id alone belongs to the process that has it
			_ = os.RemoveAll(dir)
		}
	}
}
