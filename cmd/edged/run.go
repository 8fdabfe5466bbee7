package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"edged/core/config"
	"edged/core/serve/daemon"
	"edged/core/serve/pluginhost"
	"edged/core/version"
)

// systemConfig is where packages put the configuration.
const systemConfig = "/etc/edged/config.toml"

// configFlags name a configuration and what overrides it.
type configFlags struct {
	path string
	set  []string
}

func (f *configFlags) register(c *cobra.Command) {
	c.Flags().StringVarP(&f.path, "config", "c", "", "configuration file (default: "+systemConfig+" where it is there)")
	c.Flags().StringArrayVar(&f.set, "set", nil, "KEY=VALUE that overrides the file, for example mqtt.broker=tcp://127.0.0.1:1883; may be repeated")
}

// file is the configuration file: the one that was named, or the system's where it is there; "": none.
func (f *configFlags) file() string {
	if f.path != "" {
		return f.path
	}
	if _, err := os.Stat(systemConfig); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return systemConfig
}

// arguments are the flags again, for another run of the same command.
func (f *configFlags) arguments(asJSON bool) []string {
	var args []string
	if f.path != "" {
		args = append(args, "--config", f.path)
	}
	for _, set := range f.set {
		args = append(args, "--set", set)
	}
	if asJSON {
		args = append(args, "--json")
	}
	return args
}

// load reads the configuration: the file with its config.d, then EDGED_… variables, then --set.
func (f *configFlags) load() (*config.Config, error) {
	return config.Load(f.file(), f.set, os.Environ())
}

// newLog makes the service's logger. In journald each line has its level; times are journald's own.
func newLog(c *config.Log, level *slog.LevelVar, w io.Writer) *slog.Logger {
	level.Set(daemon.Level(c.Level))
	o := &slog.HandlerOptions{Level: level}
	handler := func(w io.Writer) slog.Handler {
		if c.Format == "json" {
			return slog.NewJSONHandler(w, o)
		}
		return slog.NewTextHandler(w, o)
	}
	if !toJournal(w, os.Getenv("JOURNAL_STREAM")) {
		return slog.New(handler(w))
	}
	o.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	return slog.New(newJournal(w, handler))
}

func (a *app) runCommand() *cobra.Command {
	var f configFlags
	c := &cobra.Command{
		Use:     "run [--config FILE] [--set KEY=VALUE]...",
		GroupID: "service",
		Short:   "Run the service",
		Long: `Runs the service until SIGTERM or Ctrl-C: it loads the model, connects to the broker, and answers.

Every setting of the configuration file can be overridden for one run with --set, or by an environment variable: EDGED_MQTT_BROKER sets
mqtt.broker. SIGHUP reads the file again; the level of the log changes at once, other changes are named in the log and need a restart.
On SIGTERM nothing new is taken, running requests may finish within node.shutdown_grace, and the exit code is 0.`,
		Example: `  edged run --config config.toml
  edged run --config config.toml --set mqtt.broker=tcp://192.168.1.2:1883 --set log.level=debug`,
		Args: cobra.NoArgs,
		RunE: a.do(func(ctx context.Context, _ []string) error { return a.run(ctx, &f) }),
	}
	f.register(c)
	return c
}

func (a *app) run(ctx context.Context, f *configFlags) error {
	c, err := f.load()
	if err != nil {
		if toJournal(a.err, os.Getenv("JOURNAL_STREAM")) {
			newLog(&config.Log{}, new(slog.LevelVar), a.err).ErrorContext(ctx, "the configuration cannot be used", "err", oneSentence(err))
			return errReported
		}
		return err
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	reload := make(chan struct{})
	go func() {
		for range hup {
			select {
			case reload <- struct{}{}:
			case <-ctx.Done():
				return
			}
		}
	}()
	level := new(slog.LevelVar)
	log := newLog(&c.Log, level, a.err)
	if err := pluginhost.Adopt(); err != nil {
		log.WarnContext(ctx, "what plugins leave behind may outlive this process", "err", err)
	}
	err = daemon.Run(ctx, daemon.Options{
		Config: c, Log: log, Level: level, Reload: reload, Load: f.load, Version: version.Version,
	})
	if err != nil && toJournal(a.err, os.Getenv("JOURNAL_STREAM")) {
		// Under systemd the reason is a line of the journal like any other, at its level: `journalctl -p err` is where people look.
		log.ErrorContext(ctx, "the service cannot go on", "err", oneSentence(err))
		return errReported
	}
	return err
}
