package pluginhost

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// dirPrefix begins the name of a folder of sockets; the id of the process that made it follows.
const dirPrefix = "edged-plugin-"

// socketTail is the longest that go-plugin appends to the folder: its own folder and the socket, with random digits.
const socketTail = len("/plugin-dir1234567890/plugin1234567890")

// maxSocket is the longest path of a unix socket on Linux, without its final zero.
const maxSocket = 107

// socketDir makes a folder for one plugin's socket, readable by this user alone, in base or the system's folder for
// temporary files. It removes those that killed processes left there.
func socketDir(base string) (string, error) {
	if base == "" {
		base = os.TempDir()
	}
	base, err := filepath.Abs(base)
	if err != nil {
		return "", fmt.Errorf("pluginhost: socket folder: %w", err)
	}
	sweep(base)
	dir, err := os.MkdirTemp(base, dirPrefix+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		return "", fmt.Errorf("pluginhost: socket folder: %w", err)
	}
	if n := len(dir) + socketTail; n > maxSocket {
		_ = os.Remove(dir)
		return "", fmt.Errorf("pluginhost: socket folder: a socket in %s would have a path of %d bytes and Linux allows %d: use a shorter state.dir or TMPDIR", base, n, maxSocket)
	}
	return dir, nil
}

// sweep removes the folders of processes that are no more. It is best effort: another user's folder stays.
func sweep(base string) {
	stale, err := filepath.Glob(filepath.Join(base, dirPrefix+"*-*"))
	if err != nil {
		return
	}
	for _, dir := range stale {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), dirPrefix), "-")
		pid, err := strconv.Atoi(owner)
		if err != nil || pid <= 0 {
			continue
		}
		if errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			_ = os.RemoveAll(dir)
		}
	}
}
