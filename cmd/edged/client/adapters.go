package client

import (
	"context"

	"github.com/spf13/cobra"
)

func (a *app) adaptersCommand() *cobra.Command {
	c := a.adaptersListCommand()
	c.Use, c.GroupID, c.Short = "adapters", "client", "List, add, remove and verify LoRA adapters"
	c.Long = `Adapters are LoRA or QLoRA weights: a PEFT folder (adapter_config.json and adapter_model.safetensors) or a GGUF file. The service takes
them from adapters.dir, under the name of the folder or file, while it runs: dropping a file there by any means does the same as 'add'.

Without a further word it does what 'list' does: it asks a running service which adapters its node has.`
	c.Example = `  edged adapters
  edged adapters --node attic --broker tcp://192.168.1.2:1883 --json`
	c.AddCommand(a.adaptersListCommand(), a.adaptersAddCommand(), a.adaptersRemoveCommand())
	return c
}

func (a *app) adaptersListCommand() *cobra.Command {
	var f clientFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List the adapters of a running service",
		Long: `Asks a running service, over MQTT, which adapters its node has. A line begins with the state: active ones answer
requests, settling and verifying ones are on their way, and the line below a rejected one says why. Behind the name stand how often it
was replaced (generation), what it is made of, and its checksum. It asks the broker; the folder need not be on this machine.`,
		Example: `  edged adapters list
  edged adapters list --node attic --broker tcp://192.168.1.2:1883 --json`,
		Args: cobra.NoArgs,
		RunE: a.Do(func(ctx context.Context, _ []string) error { return a.listAdapters(ctx, &f, asJSON) }),
	}
	f.ConfigFlags.Register(c)
	c.Flags().StringVar(&f.broker, "broker", "", "URL of the broker (default: the configuration's)")
	c.Flags().StringVar(&f.node, "node", "", "name of the node that is asked (default: the configuration's)")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}
