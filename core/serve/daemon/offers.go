package daemon

import (
	"context"
	"path/filepath"
	"regexp"
	"strings"

	httpdoor "edged/core/serve/door/http"
	"edged/core/serve/door/mqtt"
)

// offers tells the HTTP door what a request's model may name.
type offers struct{ d *daemon }

// Models lists the model, and the adapters that are served on it.
func (o offers) Models() []httpdoor.Model {
	_, tok := o.d.plugins.tokenizer.Snapshot()
	_, back := o.d.plugins.backend.Snapshot()
	if tok.tokenizer == nil || back.backend == nil {
		return nil
	}
	m := back.info
	model := httpdoor.Model{
		ID: modelName(o.d.c.Model.Path), Title: m.Name, Arch: m.Arch, Format: m.Format, Digest: m.Hash,
		Context: m.Context, Trained: m.TrainContext, Parameters: m.Parameters, Bytes: m.Plan.Weights, Template: tok.info.ChatTemplate, Since: o.d.began,
	}
	list := []httpdoor.Model{model}
	for _, a := range o.d.folder.States() {
		if a.Served() && a.Name != model.ID {
			on := model
			on.ID, on.Adapter, on.Digest = a.Name, a.Name, a.SHA256
			list = append(list, on)
		}
	}
	return list
}

// part is what the name of a file of a split model ends with.
var part = regexp.MustCompile(`-[0-9]+-of-[0-9]+$`)

// modelName is the name of a model's file or folder, as clients write it.
func modelName(path string) string {
	name := part.ReplaceAllString(strings.TrimSuffix(filepath.Base(path), ".gguf"), "")
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
			return r
		}
		return '-'
	}, name)
	return name
}

// shown is what the page shows: what is published on MQTT, at this moment.
func (d *daemon) shown(ctx context.Context) any {
	type adapter struct {
		Name string `json:"name"`
		mqtt.Adapter
	}
	list := []adapter{}
	for _, a := range d.folder.States() {
		list = append(list, adapter{a.Name, adapterOf(a)})
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
	return map[string]any{"status": status, "stats": stats, "adapters": list}
}
