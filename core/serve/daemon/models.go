package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"edged/core/config"
	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/core/serve/dispatch"
	"edged/core/serve/door/mqtt"
	"edged/core/serve/models"
	"edged/core/serve/pluginhost"
)

// MainModel is the path of the model of requests that name none: model.path, or models.default of models.dir.
func MainModel(c *config.Config) (string, error) {
	if c.Models.Default == "" {
		return c.Model.Path, nil
	}
	if c.Model.Path != "" && models.Name(c.Model.Path) == c.Models.Default {
		return c.Model.Path, nil
	}
	path, err := models.Find(c.Models.Dir, c.Models.Default)
	if err != nil {
		return "", fmt.Errorf("models.default: %w", err)
	}
	return path, nil
}

// openModels makes the catalogue of models and the pool of those that are loaded.
func (d *daemon) openModels(ctx context.Context) error {
	path, err := MainModel(d.c)
	if err != nil {
		return err
	}
	d.main = models.Name(path)
	fixed := []models.State{{Name: d.main, Path: path}}
	if p := d.c.Model.Path; p != "" && p != path {
		fixed = append(fixed, models.State{Name: models.Name(p), Path: p})
	}
	d.catalogue = models.New(models.Options{
		Dir: d.c.Models.Dir, Fixed: fixed, Settle: d.c.Models.Settle, Rescan: d.c.Models.Rescan,
		Read: d.readModel, Log: d.log, Notify: d.modelsChanged,
	})
	o := models.PoolOptions[*plugins]{
		Several: d.several, Pinned: d.c.Models.Pinned, Keep: d.wantedModels, Log: d.log, Notify: d.status.changed,
		Make: func(w models.Wanted, limit int64) *plugins { return newPlugins(d, w, limit) },
	}
	shared := d.c.Models.Dir != "" || len(fixed) > 1
	if shared {
		// What is free now, before anything is loaded, is what there is for models.
		if plan, err := d.plan(ctx, path, int64(d.c.Backend.MemoryLimit)); err == nil && !d.c.Backend.IgnorePlan {
			d.budget = plan.Available
			o.Budget = d.budget
		} // an error comes again with the loading, which tells it
	}
	d.pool = models.NewPool(o)
	d.catalogue.Open(ctx)
	for _, s := range fixed {
		if !shared {
			break
		}
		facts, err := d.readModel(ctx, s.Path)
		if err == nil || errors.Is(err, models.ErrTooLarge) {
			d.catalogue.Tell(s.Name, facts)
		}
	}
	return ctx.Err()
}

// several says whether there is more than one model that requests may name.
func (d *daemon) several() bool {
	n := 0
	for _, s := range d.catalogue.States() {
		if s.State != models.Rejected {
			n++
		}
	}
	return n > 1
}

// wantedModels are the default model and those that are pinned, as far as they are there.
func (d *daemon) wantedModels() (out []models.State) {
	for _, name := range append([]string{d.main}, d.c.Models.Pinned...) {
		if s, _, err := d.catalogue.Lookup(
			name,
		); err == nil &&
			!slices.ContainsFunc(out, func(o models.State) bool { return o.Name == s.Name }) {
			out = append(out, s)
		}
	}
	return out
}

// crowded returns a sentence about the models for which pinned models leave no memory; "" if there are none.
func (d *daemon) crowded() string {
	var main models.State
	var pinned []models.State
	for _, s := range d.wantedModels() {
		if s.Name == d.main {
			main = s
		}
		if slices.Contains(d.c.Models.Pinned, s.Name) {
			pinned = append(pinned, s)
		}
	}
	return models.Crowded(d.budget, main, pinned)
}

// modelsChanged is told by the catalogue: what is loaded and there no longer leaves.
func (d *daemon) modelsChanged() {
	now := d.crowded()
	if was := d.crowd.Swap(&now); now != "" && (was == nil || *was != now) {
		d.log.Warn("pinned models leave too little memory", "what", now)
	}
	for name := range d.pool.Pairs() {
		if _, _, err := d.catalogue.Lookup(name); err != nil {
			d.pool.Forget(name)
		}
	}
	d.status.changed()
}

// readModel is models.Options' Read: the headers, and what the backend makes of them.
func (d *daemon) readModel(ctx context.Context, path string) (models.Facts, error) {
	facts, err := models.Headers(path)
	if err != nil {
		return facts, err
	}
	plan, err := d.plan(ctx, path, 1) // the least that it can do with
	switch {
	case errors.Is(err, protocol.ErrModel), errors.Is(err, protocol.ErrUnsupported), errors.Is(err, protocol.ErrInvalid):
		return facts, err
	case err != nil: // the backend did not start, or has died
		return facts, models.Passing(err)
	}
	facts.Needs = plan.Total
	if d.budget > 0 && facts.Needs > d.budget {
		return facts, fmt.Errorf(
			"%w: it needs %d MiB of memory, and this node has %d MiB for models",
			models.ErrTooLarge,
			facts.Needs>>20,
			d.budget>>20,
		)
	}
	return facts, nil
}

// Prospect is the memory that a model would need on this machine, and the speed that it would reach.
type Prospect struct {
	Plan     backend.MemoryPlan // the least memory that it could be served in, beside what there is
	Forecast backend.Forecast   // zero where the backend has none
}

// Foresee asks a backend of its own what a model would need and how fast it would be. Nothing is loaded.
func Foresee(ctx context.Context, c *config.Config, log *slog.Logger, path string) (Prospect, error) {
	var out Prospect
	err := askBackend(ctx, c, log, func(b backend.Backend) error {
		req := LoadRequest(c)
		req.Path, req.DraftModel = path, ""
		req.MemoryLimit = int64(c.Backend.MemoryLimit)
		is, err := b.Plan(ctx, req)
		if err != nil {
			return err
		}
		req.MemoryLimit = 1
		if out.Plan, err = b.Plan(ctx, req); err != nil {
			return err
		}
		out.Plan.Available, out.Plan.Fits = is.Available, is.Available == 0 || out.Plan.Total <= is.Available
		f, ok := b.(backend.Forecaster)
		if !ok {
			return nil
		}
		out.Forecast, err = f.Forecast(ctx, req)
		if errors.Is(err, protocol.ErrUnsupported) { // a backend of somebody else's
			return nil
		}
		return err
	})
	return out, err
}

// plan asks a backend of its own what memory a model would take. Nothing is loaded.
func (d *daemon) plan(ctx context.Context, path string, limit int64) (plan backend.MemoryPlan, err error) {
	err = askBackend(ctx, d.c, d.log, func(b backend.Backend) error {
		req := LoadRequest(d.c)
		req.Path, req.MemoryLimit = path, limit
		if models.Name(path) != d.main {
			req.DraftModel = ""
		}
		var err error
		plan, err = b.Plan(ctx, req)
		return err
	})
	return plan, err
}

// askBackend starts a backend, asks it and ends it.
func askBackend(ctx context.Context, c *config.Config, log *slog.Logger, ask func(backend.Backend) error) error {
	proc, err := pluginhost.Start(ctx, pluginhost.Options{
		Kind: protocol.PluginBackend, Name: c.Backend.Name, Command: c.Backend.Command,
		Dir: c.Plugins.Dir, Pins: c.Plugins.Pins(), Log: log, StopTimeout: time.Second,
	})
	if err != nil {
		return err
	}
	defer proc.Kill()
	err = ask(proc.Backend())
	if errors.Is(err, protocol.ErrPluginDied) {
		select {
		case <-proc.Done():
			if why := proc.Err(); why != nil {
				err = why
			}
		case <-time.After(time.Second):
		}
	}
	return err
}

// acquire waits until a model is loaded and keeps it so.
func (d *daemon) acquire(ctx context.Context, name string, rank models.Rank, wait func()) (*models.Lease[*plugins], error) {
	s, version, err := d.catalogue.Lookup(name)
	if err != nil {
		return nil, err
	}
	lease, err := d.pool.Acquire(ctx, models.Wanted{State: s, Version: version}, rank, wait)
	if err != nil && name != d.main && lasting(err) {
		d.catalogue.Reject(name, version, err)
		return nil, fmt.Errorf("%w: %q cannot be served: %w", models.ErrNotFound, name, err)
	}
	return lease, err
}

// lasting tells whether a model cannot be loaded for what its files say, and not for want of memory or of a plugin.
func lasting(err error) bool {
	return errors.Is(err, protocol.ErrModel) && !errors.Is(err, protocol.ErrPluginDied) && !errors.Is(err, protocol.ErrNoMemory)
}

// loadMain loads the default model, and keeps it until release.
func (d *daemon) loadMain(ctx context.Context) (release func(), err error) {
	lease, err := d.acquire(ctx, d.main, models.Rank{Priority: math.MaxInt32}, nil)
	if err != nil {
		return nil, err
	}
	return lease.Release, nil
}

// pair is the plugins of a model that is loaded or being loaded; nil: it is neither.
func (d *daemon) pair(name string) *plugins { return d.pool.Pairs()[name] }

// pairs are the plugins of all models that are loaded or being loaded: the default one's first, the others by
// their names.
func (d *daemon) pairs() []*plugins {
	all := d.pool.Pairs()
	var out []*plugins
	if p := all[d.main]; p != nil {
		out = append(out, p)
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if name != d.main {
			out = append(out, all[name])
		}
	}
	return out
}

// library gives the models to the dispatcher.
type library struct{ d *daemon }

// Resolve is dispatch.Models'.
func (l library) Resolve(name string) (served string, main bool, err error) {
	if name == "" {
		name = l.d.main
	}
	if name == l.d.main { // also where it is being replaced: its requests wait
		return name, true, nil
	}
	if _, _, err := l.d.catalogue.Lookup(name); err != nil {
		return "", false, &dispatch.Error{Code: dispatch.CodeModelNotFound, Message: "model: " + err.Error()}
	}
	return name, false, nil
}

// Lease is dispatch.Models'.
func (l library) Lease(ctx context.Context, name string, place dispatch.Place, wait func()) (dispatch.Lease, error) {
	lease, err := l.d.acquire(ctx, name, models.Rank(place), wait)
	switch {
	case errors.Is(err, models.ErrNotFound):
		return nil, &dispatch.Error{Code: dispatch.CodeModelNotFound, Message: "model: " + err.Error()}
	case err != nil:
		return nil, err
	}
	return borrowed{lease.Pair(), lease}, nil
}

// borrowed is dispatch.Lease.
type borrowed struct {
	*plugins

	lease *models.Lease[*plugins]
}

func (b borrowed) Asked() <-chan struct{} { return b.lease.Asked() }
func (b borrowed) Begin() bool            { return b.lease.Begin() }
func (b borrowed) Release()               { b.lease.Release() }

// modelOf is the state of a model as it is published.
func (d *daemon) modelOf(s models.State) mqtt.Model {
	m := mqtt.Model{
		State: s.State, Default: s.Name == d.main, Kind: s.Kind, Family: s.Family, Title: s.Title, Format: s.Format, Context: s.Context,
		Parameters: s.Parameters, Bytes: s.Bytes, Needs: s.Needs, Error: s.Error, Note: s.Note,
	}
	if crowd := d.crowd.Load(); crowd != nil && *crowd != "" && m.Default {
		m.Note = strings.TrimPrefix(m.Note+"; "+*crowd, "; ")
	}
	h := d.pool.Holding(s.Name)
	if h.State != models.Available {
		m.State, m.Memory = h.State, h.Bytes
	}
	if m.Error == "" && h.Err != nil {
		m.Error = "it was not loaded: " + h.Err.Error()
	}
	return m
}

// cacheOf is the folder of what is derived from a model.
func cacheOf(c *config.Config, name string, main bool) string {
	dir := filepath.Join(c.State.Dir, "cache")
	if !main {
		dir = filepath.Join(dir, "models", name)
	}
	return dir
}
