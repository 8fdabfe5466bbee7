// Command edged answers prompts on small machines: a service that speaks MQTT, and the tools around it.
//
// This package is wiring: flags, terminals, exit codes. It must not know how tokens are made or computed; that is the
// plugins' side, and the daemon's.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	os.Exit(execute(context.Background(), streams{in: os.Stdin, out: os.Stdout, err: os.Stderr}, os.Args[1:]))
}

// interruptible ends ctx with the first SIGINT or SIGTERM. A second one ends the program at once.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// streams are where a command reads and writes: out holds exactly what a program reads, err everything for people.
type streams struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

// note writes a line for people. Where it cannot be written, nobody is there to be told.
func (s streams) note(line string) { _, _ = fmt.Fprintln(s.err, line) }

// notef is note with a format.
func (s streams) notef(format string, args ...any) { s.note(fmt.Sprintf(format, args...)) }

// terminal reports whether a stream is a terminal.
func terminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
