package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"edged/core/version"
)

// Exit codes.
const (
	exitOK      = 0
	exitProblem = 1
	exitUsage   = 2
)

// errReported is returned by a command that has already said what is wrong.
var errReported = errors.New("reported")

// app is what the commands share.
type app struct {
	streams
	started bool // a command's own code runs: an error is no longer one of usage
}

// execute runs the command line and returns the exit code.
func execute(ctx context.Context, s streams, args []string) int {
	a := &app{streams: s}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errReported):
		return exitProblem
	}
	var usage *usageError
	if !a.started || errors.As(err, &usage) {
		s.notef("edged: %v\nTry 'edged --help', or --help after a command.", err)
		return exitUsage
	}
	if errors.Is(err, context.Canceled) {
		s.note("edged: interrupted")
		return exitProblem
	}
	s.notef("edged: %s", oneSentence(err))
	return exitProblem
}

// usageError is a command line that cannot be meant.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// countSet counts the flags that were given.
func countSet(flags ...string) int {
	n := 0
	for _, f := range flags {
		if f != "" {
			n++
		}
	}
	return n
}

// oneSentence puts an error on one line, whatever a file put into it.
func oneSentence(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

// do wraps a command's code, which SIGINT and SIGTERM interrupt.
func (a *app) do(f func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		a.started = true
		ctx, stop := interruptible(c.Context())
		defer stop()
		return f(ctx, args)
	}
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "edged",
		Short: "Answers prompts on small machines, over MQTT",
		Long: `edged answers prompts on small machines. 'edged run' is the service: it talks MQTT, and runs a 4-bit language model with
its LoRA adapters in plugin processes. The other commands ask that service, or use the same plugins without it.

  edged check --config config.toml                 what is missing before the service can run
  edged run --config config.toml                   the service
  edged ask "What is the time?"                    a prompt to a running service
  edged generate --model m.gguf --prompt "Hello"   a prompt without any service

Exit codes: 0 all is well, 1 something went wrong (one sentence on standard error), 2 the command line cannot be meant.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version.Version,
	}
	root.SetVersionTemplate("edged {{.Version}}\n")
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveDefault)
	root.AddGroup(
		&cobra.Group{ID: "service", Title: "The service:"},
		&cobra.Group{ID: "client", Title: "Asking a running service:"},
		&cobra.Group{ID: "offline", Title: "Without a service:"},
	)
	root.AddCommand(
		a.setupCommand(), a.runCommand(), a.checkCommand(), a.configCommand(), a.demoCommand(),
		a.askCommand(), a.chatCommand(), a.statusCommand(),
		a.generateCommand(), a.translateCommand(), a.tokenizeCommand(), a.detokenizeCommand(), a.renderCommand(), a.scoreCommand(), a.embedCommand(), a.rerankCommand(), a.fillCommand(), a.benchCommand(),
		a.quantizeCommand(),
		a.adaptersCommand(), a.modelsCommand(), a.pullCommand(), a.promptsCommand(), a.versionCommand(),
	)
	root.AddCommand(a.buildCommands()...)
	return root
}
