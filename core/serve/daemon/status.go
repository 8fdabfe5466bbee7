package daemon

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"edged/core/machine"
	"edged/core/serve/adapters"
	"edged/core/serve/door/mqtt"
	"edged/core/serve/models"
	"edged/core/serve/pluginhost"
	"edged/core/serve/prompts"
)

// status publishes what the node is about: its state and its adapters, retained, and figures from time to time.
type status struct {
	last    atomic.Pointer[mqtt.Status] // as it was published; nil: nothing was yet
	d       *daemon
	wake    chan struct{}
	power   *mqtt.StatusPower // as it was looked at last
	model   *mqtt.StatusModel // the default one, as it was loaded last
	backend *mqtt.StatusBackend
	state   string
	since   time.Time
	end     atomic.Pointer[string] // the state of a node that ends; nil: it does not
	known   map[string]bool        // adapters whose topics are set
	named   map[string]bool        // and models
}

func newStatus(d *daemon) *status {
	return &status{d: d, wake: make(chan struct{}, 1), known: map[string]bool{}, named: map[string]bool{}}
}

// changed says that something may have changed. It never blocks.
func (s *status) changed() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// ends says that the node stops, or has stopped.
func (s *status) ends(state string) {
	s.end.Store(&state)
	s.changed()
}

// run publishes until ctx ends, and then once more: how the node ended.
func (s *status) run(ctx context.Context) error {
	var tick <-chan time.Time
	if every := s.d.c.MQTT.StatsInterval; every > 0 {
		t := time.NewTicker(every)
		defer t.Stop()
		tick = t.C
	}
	look := time.NewTicker(powerEvery)
	defer look.Stop()
	told, tokens := time.Now(), uint64(0)
	s.publish()
	for {
		select {
		case <-s.wake:
			s.publish()
		case <-look.C:
			s.look(ctx)
		case <-tick:
			f := s.d.figures(ctx)
			written := f.Requests.Tokens
			rate := float64(written-tokens) / time.Since(told).Seconds()
			told, tokens = time.Now(), written
			s.d.door.PublishStats(statsOf(f, s.d.folder.Counts(), rate))
		case <-ctx.Done():
			s.publish()
			return nil
		}
	}
}

// powerEvery is how often it is looked whether the processor is held down.
const powerEvery = 10 * time.Second

// look publishes the state where what holds the processor down, or what the backend makes of it, has changed.
// Where nothing does, that costs reading a few files.
func (s *status) look(ctx context.Context) {
	var now *mqtt.StatusPower
	if p, known := machine.CPUPower(); known && p.Any() {
		now = powerOf(s.d.figures(ctx))
	}
	if reflect.DeepEqual(now, s.power) {
		return
	}
	switch {
	case now == nil:
		s.d.log.InfoContext(ctx, "the processor is no longer held down")
	case s.power == nil:
		s.d.log.WarnContext(ctx, "the processor's clock is held down: check the cooling and the power supply", "reasons", now.Reasons)
	}
	s.power = now
	s.publish()
}

// publish sets the retained topics.
func (s *status) publish() {
	d := s.d
	state, reason := s.judge()
	if state != s.state {
		s.state, s.since = state, time.Now()
	}
	out := mqtt.Status{
		State: state, Reason: reason, Version: d.o.Version, Since: s.since.Format(time.RFC3339),
		Queue: mqtt.StatusQueue{Size: d.c.Queue.Size, Running: d.c.Backend.MaxSequences}, Power: s.power,
	}
	if p := d.pair(d.main); p != nil {
		s.describe(p)
	}
	out.Model, out.Backend = s.model, s.backend
	s.publishModels()
	now := map[string]bool{}
	for _, a := range d.folder.States() {
		now[a.Name] = true
		if a.Served() {
			out.Adapters = append(out.Adapters, mqtt.StatusAdapter{Name: a.Name, Generation: a.Generation, SHA256: a.SHA256})
		}
		shown := adapterOf(a)
		d.door.SetAdapter(a.Name, &shown)
	}
	for name := range s.known {
		if !now[name] {
			d.door.SetAdapter(name, nil)
		}
	}
	s.known = now
	out.Prompts = promptsOf(d.prompts.States())
	out.Default = d.work.DefaultAdapter()
	if d.c.Home.Discovery {
		s.announce(out)
	}
	s.last.Store(&out)
	d.door.SetStatus(out)
}

// describe keeps what there is to say about the default model, which may be unloaded later.
func (s *status) describe(p *plugins) {
	_, tok := p.tokenizer.Snapshot()
	_, back := p.backend.Snapshot()
	if back.backend == nil || tok.tokenizer == nil {
		return
	}
	m := back.info
	s.model = &mqtt.StatusModel{Name: p.name, Title: m.Name, Arch: m.Arch, Format: m.Format, Hash: m.Hash, Context: m.Context}
	s.backend = &mqtt.StatusBackend{
		Name: back.about.Name, Version: back.about.Version, Kernels: strings.Join(back.about.Kernels, ","), Precision: string(m.Precision),
	}
}

// publishModels sets the retained topics of the models.
func (s *status) publishModels() {
	now := map[string]bool{}
	for _, m := range s.d.catalogue.States() {
		now[m.Name] = true
		shown := s.d.modelOf(m)
		s.d.door.SetModel(m.Name, &shown)
	}
	for name := range s.named {
		if !now[name] {
			s.d.door.SetModel(name, nil)
		}
	}
	s.named = now
}

// announce tells Home Assistant which adapters can be chosen.
func (s *status) announce(now mqtt.Status) {
	var names []string
	for _, a := range now.Adapters {
		names = append(names, a.Name)
	}
	if now.Default != "" && !slices.Contains(names, now.Default) {
		names = append(names, now.Default)
	}
	payload, err := s.d.announcement(names)
	if err != nil {
		s.d.log.Error("the device cannot be written as JSON", "err", err)
		return
	}
	s.d.door.SetDevice(payload)
}

// adapterOf is the state of an adapter as it is published.
func adapterOf(a adapters.State) mqtt.Adapter {
	return mqtt.Adapter{
		State:      a.State,
		Generation: a.Generation,
		SHA256:     a.SHA256,
		Kind:       a.Kind,
		Rank:       a.Rank,
		Virtual:    a.Virtual,
		Targets:    a.Targets,
		Bytes:      a.Bytes,
		Error:      a.Error,
	}
}

// promptsOf are the prompts as they are published.
func promptsOf(states []prompts.State) []mqtt.StatusPrompt {
	var out []mqtt.StatusPrompt
	for _, s := range states {
		p := mqtt.StatusPrompt{Name: s.Name, Error: s.Error}
		if s.Preset != nil {
			p.Description, p.SHA256 = s.Preset.Description, s.Preset.SHA256
			for _, v := range s.Preset.Variables {
				p.Variables = append(p.Variables, v.Name)
				if v.Default != nil {
					p.Optional = append(p.Optional, v.Name)
				}
			}
		}
		out = append(out, p)
	}
	return out
}

// judge tells the state of the node, and why it is not ready.
func (s *status) judge() (state, reason string) {
	if end := s.end.Load(); end != nil {
		return *end, ""
	}
	state = mqtt.StateReady
	for _, pair := range s.d.pairs() {
		if s.d.pool.Holding(pair.name).State != models.Loaded {
			continue // the other models answer; its own topic tells
		}
		t, _ := pair.tokenizer.Snapshot()
		b, _ := pair.backend.Snapshot()
		of := ""
		if !pair.main {
			of = " of " + pair.name
		}
		for _, p := range []struct {
			name  string
			state pluginhost.State
		}{{"tokenizer" + of, t}, {"backend" + of, b}} {
			switch {
			case p.state.Phase == pluginhost.Ready:
			case p.state.Failures >= degradedAfter:
				return mqtt.StateDegraded, fmt.Sprintf("the %s failed %d times in a row: %v", p.name, p.state.Failures, p.state.Err)
			default:
				state, reason = mqtt.StateStarting, fmt.Sprintf("the %s is %s", p.name, p.state.Phase)
			}
		}
	}
	return state, reason
}
