package main

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
	"edged/core/protocol"
	"edged/core/version"
)

func versionCommand(a *cli.App) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this build",
		Long: `Prints the version of this build, and which versions of the plugin protocol and of the MQTT API it speaks. Plugins of another protocol
version are refused when they start.`,
		Args: cobra.NoArgs,
		RunE: a.Do(func(context.Context, []string) error {
			v := struct {
				Version  string `json:"version"`
				Protocol int    `json:"plugin_protocol"`
				API      int    `json:"mqtt_api"`
				Go       string `json:"go"`
				Platform string `json:"platform"`
			}{version.Version, protocol.Version, 1, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			if asJSON {
				return json.NewEncoder(a.Out).Encode(v)
			}
			_, err := fmt.Fprintf(
				a.Out,
				"edged %s (plugin protocol %d, MQTT API %d, %s, %s)\n",
				v.Version,
				v.Protocol,
				v.API,
				v.Go,
				v.Platform,
			)
			return err
		}),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}
