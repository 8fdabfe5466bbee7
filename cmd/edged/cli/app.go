// Package cli holds the parts that all commands of edged share: input and output streams, exit codes, the choice of the
// configuration file, and the formatting of messages for people.
//
// It must not know a command, nor what one does.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// Exit codes.
const (
	exitOK      = 0
	exitProblem = 1
	exitUsage   = 2
)

// ErrReported is returned by a command that has already said what is wrong.
var ErrReported = errors.New("reported")

// Streams holds the input and output of a command. Out gets only output meant for programs, Err all messages
// for people.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// Note writes a line for people. Where it cannot be written, nobody is there to be told.
func (s Streams) Note(line string) { _, _ = fmt.Fprintln(s.Err, line) }

// Notef is Note with a format.
func (s Streams) Notef(format string, args ...any) { s.Note(fmt.Sprintf(format, args...)) }

// Terminal reports whether a stream is a terminal.
func Terminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// App is one run of the program.
type App struct {
	Streams

	Started bool // a command's own code runs: an error is no longer one of usage
}

// Execute runs a command line on the command that root makes, and returns the exit code.
func Execute(ctx context.Context, s Streams, args []string, root func(*App) *cobra.Command) int {
	a := &App{Streams: s}
	c := root(a)
	c.SetArgs(args)
	c.SetIn(s.In)
	c.SetOut(s.Out)
	c.SetErr(s.Err)
	err := c.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, ErrReported):
		return exitProblem
	}
	var usage *usageError
	if !a.Started || errors.As(err, &usage) {
		s.Notef("edged: %v\nTry 'edged --help', or --help after a command.", err)
		return exitUsage
	}
	if errors.Is(err, context.Canceled) {
		s.Note("edged: interrupted")
		return exitProblem
	}
	s.Notef("edged: %s", OneSentence(err))
	return exitProblem
}

// Do wraps a command's code, which SIGINT and SIGTERM interrupt.
func (a *App) Do(f func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		a.Started = true
		ctx, stop := interruptible(c.Context())
		defer stop()
		return f(ctx, args)
	}
}

// interruptible ends ctx with the first SIGINT or SIGTERM. A second one ends the program at once.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// usageError is a command line that cannot be meant.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

// Usagef is the error of a command line that cannot be meant.
func Usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// OneSentence puts an error on one line, whatever a file put into it.
func OneSentence(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
