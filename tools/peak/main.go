// Command peak runs a program and fails where it, or any process below it, has ever held more memory than a limit:
//
//	peak MIB PROGRAM ARGUMENT…
//
// It is what scripts/fuzz asserts the peak memory of every fuzz target with. The figure is the kernel's
// (ru_maxrss), of the largest single process.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: peak MIB PROGRAM ARGUMENT…")
		os.Exit(2)
	}
	limit, err := strconv.ParseInt(os.Args[1], 10, 64)
	if err != nil {
		fmt.Fprintf(os.Stderr, "peak: %q is not a number of MiB\n", os.Args[1])
		os.Exit(2)
	}
	cmd := exec.Command(os.Args[2], os.Args[3:]...) //nolint:gosec // to run what it is told is what it is for
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintf(os.Stderr, "peak: %v\n", err)
		os.Exit(2)
	}
	use, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		fmt.Fprintln(os.Stderr, "peak: this system does not tell how much memory a program took")
		os.Exit(2)
	}
	mib := int64(use.Maxrss) >> 10 //nolint:unconvert // KiB, in 32 bits on machines of 32 bits
	fmt.Printf("peak: %d MiB of %d\n", mib, limit)
	switch {
	case err != nil:
		os.Exit(max(1, cmd.ProcessState.ExitCode()))
	case mib > limit:
		fmt.Fprintf(os.Stderr, "peak: %d MiB are more than %d\n", mib, limit)
		os.Exit(1)
	}
}
