package client

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"edged/core/serve/door/home"
	"edged/core/serve/door/mqtt"
)

func (a *app) forgetCommand() *cobra.Command {
	var f clientFlags
	var timeout time.Duration
	c := &cobra.Command{
		Use:     "forget",
		GroupID: "client",
		Short:   "Remove from the broker what a node that is gone left there",
		Long: `A broker keeps what a node published about itself: its status, its adapters and models, whether it is there, and the device that
Home Assistant shows. This removes all that. A node that is online is left alone: stop it first. One that starts again publishes it anew.

Removing the package does this for the node that its settings name, where the broker can be reached.`,
		Example: `  edged forget
  edged forget --node attic --broker tcp://192.168.1.2:1883`,
		Args: cobra.NoArgs,
		RunE: a.Do(func(ctx context.Context, _ []string) error {
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			settings, err := f.settings()
			if err != nil {
				return err
			}
			client, err := f.connect(ctx, settings)
			if err != nil {
				return err
			}
			defer client.Close()
			// The node may have been announced under other settings than those of now.
			held, err := client.Forget(ctx, home.Topic(settings.Home.Prefix, mqtt.TopicsOf(settings).Unique()))
			if err != nil {
				return err
			}
			for _, topic := range held {
				if _, err := fmt.Fprintln(a.Out, "removed", printable(topic)); err != nil {
					return err
				}
			}
			return nil
		}),
	}
	f.ConfigFlags.Register(c)
	c.Flags().StringVar(&f.broker, "broker", "", "URL of the broker, for example tcp://192.168.1.2:1883 (default: the configuration's)")
	c.Flags().StringVar(&f.node, "node", "", "name of the node (default: the configuration's)")
	c.Flags().DurationVar(&timeout, "timeout", time.Minute, "wait no longer than this")
	return c
}
