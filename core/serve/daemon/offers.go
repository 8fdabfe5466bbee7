package daemon

import (
	"context"
	"slices"
	"strings"

	"edged/core/serve/adapters"
	httpdoor "edged/core/serve/door/http"
	"edged/core/serve/door/mqtt"
	"edged/core/serve/models"
)

// offers tells the HTTP door what a request's model may name.
type offers struct{ d *daemon }

// Models lists the default model, the adapters that are served on it, and the other models.
func (o offers) Models() []httpdoor.Model {
	main, ok := o.model(models.State{Name: o.d.main, State: models.Available})
	if !ok {
		return nil // it has not been loaded yet
	}
	list := []httpdoor.Model{main}
	for _, a := range o.d.folder.States() {
		if a.Served() && a.Name != main.ID {
			on := main
			on.ID, on.Adapter, on.Digest = a.Name, a.Name, a.SHA256
			list = append(list, on)
		}
	}
	for _, s := range o.d.catalogue.States() {
		if s.Name == main.ID || s.State != models.Available {
			continue
		}
		m, _ := o.model(s)
		at := slices.IndexFunc(list, func(l httpdoor.Model) bool { return l.ID == s.Name })
		if at >= 0 { // a model goes before an adapter of its name
			list[at] = m
			continue
		}
		list = append(list, m)
	}
	return list
}

// Why says why a model of the catalogue, or an adapter of the default one, is not served.
func (o offers) Why(name string) string {
	if why := o.d.catalogue.Why(name); why != "" {
		return why
	}
	states := o.d.folder.States()
	i := slices.IndexFunc(states, func(a adapters.State) bool { return a.Name == name && !a.Served() })
	switch {
	case i < 0:
		return ""
	case states[i].State == adapters.Rejected:
		return "this adapter was rejected: " + states[i].Error
	case states[i].State == adapters.Draining:
		return "this adapter was removed"
	default:
		return "this adapter is not ready yet: it is " + states[i].State
	}
}

// model is a model as its backend tells of it, or as its headers do where it is not loaded.
func (o offers) model(s models.State) (m httpdoor.Model, loaded bool) {
	if p := o.d.pair(s.Name); p != nil {
		_, tok := p.tokenizer.Snapshot()
		_, back := p.backend.Snapshot()
		if tok.tokenizer != nil && back.backend != nil {
			i := back.info
			m = httpdoor.Model{
				ID:         s.Name,
				Title:      i.Name,
				Arch:       i.Arch,
				Kind:       i.Kind,
				Tasks:      i.Tasks,
				Format:     i.Format,
				Digest:     i.Hash,
				Loaded:     o.d.pool.Holding(s.Name).State == models.Loaded,
				Context:    i.Context,
				Trained:    i.TrainContext,
				Parameters: i.Parameters,
				Bytes:      i.Plan.Weights,
				Template:   tok.info.ChatTemplate,
				Since:      o.d.began,
			}
			if p.main {
				o.d.mainModel.Store(&m)
			} else {
				m.Model = s.Name
			}
			return m, true
		}
	}
	if last := o.d.mainModel.Load(); last != nil && s.Name == o.d.main {
		m = *last
		m.Loaded = false
		return m, true
	}
	return httpdoor.Model{
		ID:         s.Name,
		Model:      s.Name,
		Title:      s.Title,
		Arch:       s.Family,
		Kind:       s.Kind,
		Tasks:      strings.Split(s.Tasks, ", "),
		Format:     s.Format,
		Context:    s.Context,
		Trained:    s.Context,
		Parameters: s.Parameters,
		Bytes:      s.Bytes,
		Since:      o.d.began,
	}, false
}

// shown returns the state for the page: what MQTT publishes, as of now.
func (d *daemon) shown(ctx context.Context) any {
	type adapter struct {
		Name string `json:"name"`
		mqtt.Adapter
	}
	list := []adapter{}
	for _, a := range d.folder.States() {
		list = append(list, adapter{a.Name, adapterOf(a)})
	}
	type model struct {
		Name string `json:"name"`
		mqtt.Model
	}
	there := []model{}
	for _, s := range d.catalogue.States() {
		there = append(there, model{s.Name, d.modelOf(s)})
	}
	status := mqtt.Status{State: mqtt.StateStarting, Version: d.o.Version}
	if last := d.status.last.Load(); last != nil {
		status = *last
	}
	status.API, status.Node = 1, d.c.Node.Name
	if status.Adapters == nil {
		status.Adapters = []mqtt.StatusAdapter{}
	}
	stats := statsOf(d.figures(ctx), d.folder.Counts(), 0)
	stats.Node = d.c.Node.Name
	return map[string]any{"status": status, "stats": stats, "adapters": list, "models": there, "upload": d.c.HTTP.Upload}
}
