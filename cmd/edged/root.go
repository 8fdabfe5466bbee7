package main

import (
	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
	"edged/cmd/edged/client"
	"edged/cmd/edged/demo"
	"edged/cmd/edged/offline"
	"edged/cmd/edged/service"
	"edged/core/version"
)

// root is the command without a name, with all others below it.
func root(a *cli.App) *cobra.Command {
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
	root.AddCommand(service.Commands(a)...)
	root.AddCommand(client.Commands(a, offline.VerifyCommand(a))...)
	root.AddCommand(offline.Commands(a)...)
	root.AddCommand(demo.Command(a), versionCommand(a))
	root.AddCommand(buildCommands(a)...)
	return root
}
