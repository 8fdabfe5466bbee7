package service

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
	"edged/core/config"
)

func (a *app) configCommand() *cobra.Command {
	var f cli.ConfigFlags
	var all, asJSON bool
	c := &cobra.Command{
		Use:     "config [--all]",
		GroupID: "service",
		Short:   "Show the settings that hold, and where each comes from",
		Long: `Prints the settings that differ from the defaults, each with the file and line, the variable or the flag that set it. The form
is that of a configuration file, so what is printed can be used as one. With --all the defaults are printed too.

Settings are read from the configuration file, then from config.d/*.toml beside it in the order of their names, then from EDGED_…
variables, then from --set; what comes later wins.`,
		Example: `  edged config
  edged config --all --config config.toml
  edged config --set mqtt.broker=tcp://192.168.1.2:1883`,
		Args: cobra.NoArgs,
		RunE: a.Do(func(context.Context, []string) error {
			list, err := config.Explain(f.File(), f.Set, os.Environ())
			if err != nil {
				return err
			}
			if !all {
				list = changed(list)
			}
			if asJSON {
				return cli.Encoder(a.Out).Encode(list)
			}
			return printSettings(a.Out, list)
		}),
	}
	f.Register(c)
	c.Flags().BoolVar(&all, "all", false, "print the defaults too")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON list of {key, value, origin}; the origin of a default is empty")
	return c
}

// changed keeps what somebody has set.
func changed(list []config.Setting) []config.Setting {
	kept := []config.Setting{}
	for _, s := range list {
		if s.Origin != "" {
			kept = append(kept, s)
		}
	}
	return kept
}

// printSettings writes settings as a configuration file would, with their origins as comments.
func printSettings(w io.Writer, list []config.Setting) error {
	var b strings.Builder
	if len(list) == 0 {
		b.WriteString("# Nothing is set: all defaults hold.\n")
	}
	last := ""
	for _, s := range list {
		section, key, _ := strings.Cut(s.Key, ".")
		if section != last {
			if last != "" {
				b.WriteByte('\n')
			}
			fmt.Fprintf(&b, "[%s]\n", section)
			last = section
		}
		origin := s.Origin
		if origin == "" {
			origin = "default"
		}
		fmt.Fprintf(&b, "%s = %s  # %s\n", key, s.Value, origin)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
