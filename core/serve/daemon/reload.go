package daemon

import (
	"context"
	"log/slog"
	"reflect"

	"edged/core/config"
)

// reloads reads the configuration again when it is asked to. The level of the log takes effect at once; what else has
// changed is named, and waits for a restart.
func (d *daemon) reloads(ctx context.Context) error {
	for {
		select {
		case <-d.o.Reload:
			d.reload(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

func (d *daemon) reload(ctx context.Context) {
	if d.o.Load == nil {
		return
	}
	c, err := d.o.Load()
	if err != nil {
		d.log.ErrorContext(ctx, "the configuration was not reloaded", "err", err)
		return
	}
	if d.o.Level != nil {
		d.o.Level.Set(Level(c.Log.Level))
	}
	var later []string
	for _, s := range []struct {
		name     string
		was, now any
	}{
		{"node", d.c.Node, c.Node},
		{"mqtt", d.c.MQTT, c.MQTT},
		{"model", d.c.Model, c.Model},
		{"models", d.c.Models, c.Models},
		{"backend", d.c.Backend, c.Backend},
		{"adapters", d.c.Adapters, c.Adapters},
		{"sampling", d.c.Sampling, c.Sampling},
		{"prompts", d.c.Prompts, c.Prompts},
		{"queue", d.c.Queue, c.Queue},
		{"prefix_cache", d.c.PrefixCache, c.PrefixCache},
		{"draft", d.c.Draft, c.Draft},
		{"inbox", d.c.Inbox, c.Inbox},
		{"plugins", d.c.Plugins, c.Plugins},
		{"state", d.c.State, c.State},
		{"metrics", d.c.Metrics, c.Metrics},
		{"log", sansLevel(d.c.Log), sansLevel(c.Log)},
	} {
		if !reflect.DeepEqual(s.was, s.now) {
			later = append(later, s.name)
		}
	}
	d.log.InfoContext(ctx, "configuration reloaded", "log_level", c.Log.Level, "needs_restart", later)
}

func sansLevel(l config.Log) config.Log {
	l.Level = ""
	return l
}

// Level turns log.level into a level.
func Level(name string) slog.Level {
	var l slog.Level
	if l.UnmarshalText([]byte(name)) != nil {
		return slog.LevelInfo
	}
	return l
}
