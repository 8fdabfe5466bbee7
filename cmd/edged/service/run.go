package service

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
	"edged/core/config"
	"edged/core/serve/daemon"
	"edged/core/serve/pluginhost"
	"edged/core/version"
)

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
	var f cli.ConfigFlags
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
		RunE: a.Do(func(ctx context.Context, _ []string) error { return a.run(ctx, &f) }),
	}
	f.Register(c)
	return c
}

func (a *app) run(ctx context.Context, f *cli.ConfigFlags) error {
	c, err := f.Load()
	if err != nil {
		if toJournal(a.Err, os.Getenv("JOURNAL_STREAM")) {
			newLog(&config.Log{}, new(slog.LevelVar), a.Err).ErrorContext(ctx, "the configuration cannot be used", "err", cli.OneSentence(err))
			return cli.ErrReported
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
	log := newLog(&c.Log, level, a.Err)
	if err := pluginhost.Adopt(); err != nil {
		log.WarnContext(ctx, "what plugins leave behind may outlive this process", "err", err)
	}
	err = daemon.Run(ctx, daemon.Options{
		Config: c, Log: log, Level: level, Reload: reload, Load: f.Load, Version: version.Version,
	})
	if err != nil && toJournal(a.Err, os.Getenv("JOURNAL_STREAM")) {
		// Under systemd the reason is a line of the journal like any other, at its level: `journalctl -p err`
		// is where people look.
		log.ErrorContext(ctx, "the service cannot go on", "err", cli.OneSentence(err))
		return cli.ErrReported
	}
	return err
}
