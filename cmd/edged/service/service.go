// Package service has the commands for the machine that edged serves on: running the service, setting it up,
// checking it, showing its settings and its prompts, and fetching models for it.
//
// It must not ask a running service for more than a first answer; package client has what does.
package service

import (
	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
)

// app embeds the state that all commands share.
type app struct{ *cli.App }

// Commands are this package's.
func Commands(shared *cli.App) []*cobra.Command {
	a := &app{shared}
	return []*cobra.Command{a.setupCommand(), a.runCommand(), a.checkCommand(), a.configCommand(), a.pullCommand(), a.promptsCommand()}
}
