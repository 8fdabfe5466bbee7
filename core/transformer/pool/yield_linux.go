package pool

import "golang.org/x/sys/unix"

// yield gives the core to another thread that waits for it. runtime.Gosched would not do: with a locked thread it
// hands the whole scheduling context away and takes tens of microseconds to come back.
func yield() { _, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
