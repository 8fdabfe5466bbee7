package client

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
	"edged/core/serve/door/mqtt"
)

func (a *app) modelsCommand() *cobra.Command {
	var f clientFlags
	var asJSON bool
	c := &cobra.Command{
		Use:     "models",
		GroupID: "client",
		Short:   "List the models of a running service",
		Long: `Asks a running service, over MQTT, which models its node has: that of model.path, and those of the folder models.dir. A line begins
with the state: a loaded model answers at once, an available one is loaded when a request names it, and the line below a rejected one says
why it cannot be served. It asks the broker; the folder need not be on this machine.`,
		Example: `  edged models
  edged models --node attic --broker tcp://192.168.1.2:1883 --json`,
		Args: cobra.NoArgs,
		RunE: a.Do(func(ctx context.Context, _ []string) error { return a.listModels(ctx, &f, asJSON) }),
	}
	f.ConfigFlags.Register(c)
	c.Flags().StringVar(&f.broker, "broker", "", "URL of the broker (default: the configuration's)")
	c.Flags().StringVar(&f.node, "node", "", "name of the node that is asked (default: the configuration's)")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

// namedModel is a model's state as it is printed.
type namedModel struct {
	Name string `json:"name"`
	mqtt.Model
}

// listModels prints what the node says of its models.
func (a *app) listModels(ctx context.Context, f *clientFlags, asJSON bool) error {
	client, err := f.dial(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	var list []namedModel
	err = client.WatchModels(ctx, func(all map[string]mqtt.Model) bool {
		list = []namedModel{}
		for _, name := range slices.Sorted(maps.Keys(all)) {
			list = append(list, namedModel{name, all[name]})
		}
		return true
	})
	if err != nil {
		return err
	}
	if asJSON {
		return cli.Encoder(a.Out).Encode(struct {
			Models []namedModel `json:"models"`
		}{list})
	}
	if len(list) == 0 {
		a.Note("the node tells of no models: it may run an earlier version of edged")
	}
	for _, m := range list {
		if _, err := fmt.Fprintln(a.Out, modelLine(m)); err != nil {
			return err
		}
	}
	return nil
}

// modelLine is a model in a line, and in others why it is not served, and what somebody should know of it.
func modelLine(m namedModel) string {
	var about []string
	add := func(text string) {
		if text != "" {
			about = append(about, text)
		}
	}
	if m.Default {
		add("the default")
	}
	add(m.Family)
	if m.Kind != "decoder" {
		add(m.Kind)
	}
	add(m.Format)
	if m.Bytes > 0 {
		add(cli.BytesText(m.Bytes))
	}
	if m.Memory > 0 {
		add(cli.BytesText(m.Memory) + " of memory set aside")
	} else if m.Needs > 0 {
		add("needs " + cli.BytesText(m.Needs) + " of memory")
	}
	text := printable(fmt.Sprintf("%-9s %s", m.State, m.Name))
	if len(about) > 0 {
		text += printable(": " + strings.Join(about, ", "))
	}
	for _, more := range []string{m.Error, m.Note} {
		if more != "" {
			text += "\n          " + printable(more)
		}
	}
	return text
}
