package pluginhost

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// family records the processes that this one has started, to tell them from orphans that plugins leave to it.
type family struct {
	mu      sync.RWMutex // read: while one of its own is being born; written: while strangers are looked for
	adopts  bool
	members sync.Map // pid → *process
}

var ours family //nolint:gochecknoglobals // a fact about the process: the kernel has one parent for all hosts in it

// Adopt makes this process the parent of what its plugins leave behind: a process that left its plugin's
// group, and lost its parent, is then killed when a plugin ends, and at KillAll. Only for a process that
// starts nothing but plugins, since whatever else it started would be taken for a plugin's.
//
// Without it, and after a kill -9 of this process, such a process lives on; under systemd the unit's cgroup ends it.
func Adopt() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("pluginhost: what plugins leave behind cannot be adopted: %w", err)
	}
	ours.mu.Lock()
	defer ours.mu.Unlock()
	ours.adopts = true
	return nil
}

// KillAll kills every plugin of this process at once, and what they left behind. It waits for nothing but the
// kernel, a second at most: it is for a process that ends because something in it does not.
func KillAll() {
	ours.members.Range(func(pid, _ any) bool {
		if pid, ok := pid.(int); ok {
			_ = unix.Kill(-pid, unix.SIGKILL)
		}
		return true
	})
	ours.orphans()
}

// born runs a start, whose child is not to be taken for a stranger before it is a member.
func (f *family) born(start func() (pid int, err error), p *process) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	pid, err := start()
	if err == nil {
		f.members.Store(pid, p)
	}
	return err
}

func (f *family) died(pid int) { f.members.Delete(pid) }

// orphans kills and reaps the children of this process that it has not started. What they started comes to it in turn.
func (f *family) orphans() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.adopts {
		return
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Second); time.Now().Before(end); <-tick.C {
		strangers := 0
		for _, pid := range children() {
			if _, member := f.members.Load(pid); member || f.living(pid) {
				continue
			}
			strangers++
			_ = unix.Kill(pid, unix.SIGKILL)
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
		}
		if strangers == 0 {
			return
		}
	}
}

// living says that a stranger was left by a plugin that runs, and is that one's until it ends. One that hides
// where it comes from is nobody's.
func (f *family) living(pid int) bool {
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return false
	}
	for kv := range bytes.SplitSeq(environ, []byte{0}) {
		if mark, ok := bytes.CutPrefix(kv, []byte(envPlugin+"=")); ok {
			found := false
			f.members.Range(func(_, p any) bool {
				if p, ok := p.(*process); ok && p.mark == string(mark) {
					found = true
				}
				return !found
			})
			return found
		}
	}
	return false
}

// envPlugin marks what a plugin starts with the life that started it.
const envPlugin = "EDGED_PLUGIN_LIFE"

// reap takes leave of what ended and was left to this process, so that it does not stay in the list of processes.
func (f *family) reap() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.adopts {
		return
	}
	for _, pid := range children() {
		if _, member := f.members.Load(pid); !member {
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
		}
	}
}

// children are the processes whose parent is this one.
func children() (out []int) {
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		return nil
	}
	for _, path := range lists {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended, and its children are another's
		}
		for field := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil {
				out = append(out, pid)
			}
		}
	}
	return out
}
