package loader

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// availableBytes is the memory that can be had without swapping: MemAvailable, or less where a control group
// bounds this process, as systemd's MemoryMax does. 0: not known.
func availableBytes() int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	free := memAvailable(text)
	if group, err := os.ReadFile("/proc/self/cgroup"); err == nil {
		if bound := groupBound("/sys/fs/cgroup", string(group)); bound > 0 {
			free = min(free, bound)
		}
	}
	return free
}

// memAvailable reads the line of /proc/meminfo; 0: there is none.
func memAvailable(meminfo []byte) int64 {
	for line := range bytes.Lines(meminfo) {
		if rest, ok := bytes.CutPrefix(line, []byte("MemAvailable:")); ok {
			kb, err := strconv.ParseInt(string(bytes.TrimSuffix(bytes.TrimSpace(rest), []byte(" kB"))), 10, 64)
			if err == nil && kb > 0 && kb < 1<<50 {
				return kb << 10
			}
		}
	}
	return 0
}

// groupBound is the least memory.max of a version 2 control group and those around it; 0: none.
func groupBound(root, self string) int64 {
	path, ok := strings.CutPrefix(strings.TrimSpace(self), "0::")
	if !ok {
		return 0
	}
	var bound int64
	for dir := filepath.Clean("/" + path); ; dir = filepath.Dir(dir) {
		if text, err := os.ReadFile(filepath.Join(root, dir, "memory.max")); err == nil {
			if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && n > 0 && (bound == 0 || n < bound) {
				bound = n
			}
		}
		if dir == "/" {
			return bound
		}
	}
}
