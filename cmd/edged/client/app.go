// Package client has the commands that ask a running service over MQTT, and those that put adapters into its folder.
//
// It must not know the daemon's side, nor run a model.
package client

import (
	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
)

// app embeds the state that all commands share.
type app struct{ *cli.App }

// Commands are this package's. adapters are further ones below the command adapters.
func Commands(shared *cli.App, adapters ...*cobra.Command) []*cobra.Command {
	a := &app{shared}
	list := a.adaptersCommand()
	list.AddCommand(adapters...)
	return []*cobra.Command{a.askCommand(), a.chatCommand(), a.statusCommand(), a.forgetCommand(), list, a.modelsCommand()}
}
