package service

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
)

// command runs a command line of this package's commands and returns what it wrote and its exit code.
func command(t *testing.T, in string, args ...string) (out, errs string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	code = cli.Execute(t.Context(), cli.Streams{In: strings.NewReader(in), Out: &o, Err: &e}, args, func(a *cli.App) *cobra.Command {
		root := &cobra.Command{Use: "edged", SilenceErrors: true, SilenceUsage: true}
		root.AddGroup(&cobra.Group{ID: "service"}, &cobra.Group{ID: "client"})
		root.AddCommand(Commands(a)...)
		return root
	})
	return o.String(), e.String(), code
}
