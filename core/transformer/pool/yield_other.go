//go:build !linux

package pool

import "runtime"

// yield lets other goroutines run; these systems are for development only.
func yield() { runtime.Gosched() }
