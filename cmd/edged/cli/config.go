package cli

import (
	"errors"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"edged/core/config"
)

// SystemConfig is the path of the configuration file that packages install.
const SystemConfig = "/etc/edged/config.toml"

// ConfigFlags name a configuration and what overrides it.
type ConfigFlags struct {
	Path string
	Set  []string
}

// Register adds the flags to a command.
func (f *ConfigFlags) Register(c *cobra.Command) {
	c.Flags().StringVarP(&f.Path, "config", "c", "", "configuration file (default: "+SystemConfig+" where it is there)")
	c.Flags().StringArrayVar(
		&f.Set,
		"set",
		nil,
		"KEY=VALUE that overrides the file, for example mqtt.broker=tcp://127.0.0.1:1883; may be repeated",
	)
}

// File is the configuration file: the one that was named, or the system's where it is there; "": none.
func (f *ConfigFlags) File() string {
	if f.Path != "" {
		return f.Path
	}
	if _, err := os.Stat(SystemConfig); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return SystemConfig
}

// Arguments are the flags again, for another run of the same command.
func (f *ConfigFlags) Arguments(asJSON bool) []string {
	var args []string
	if f.Path != "" {
		args = append(args, "--config", f.Path)
	}
	for _, set := range f.Set {
		args = append(args, "--set", set)
	}
	if asJSON {
		args = append(args, "--json")
	}
	return args
}

// Load reads the configuration: the file with its config.d, then EDGED_… variables, then --set.
func (f *ConfigFlags) Load() (*config.Config, error) {
	return config.Load(f.File(), f.Set, os.Environ())
}
