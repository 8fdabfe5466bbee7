package engine

import (
	"edged/core/pluginlog"
	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// Serve is the one call of a backend plugin's main: it serves an engine until the daemon says stop or is gone. It sets
// Options.Log. The error is for the terminal.
//
// The collector needs no tuning: weights, keys and values, scratch and logits are off the Go heap, which holds requests,
// the vocabulary and the sampler's scratch, a few megabytes that no model size changes.
func Serve(o Options) error {
	o.Log = pluginlog.New()
	e := New(o)
	err := protocol.ServePlugin(protocol.ServeConfig{Name: protocol.PluginBackend, Plugin: backend.Plugin{Impl: e}, Log: o.Log})
	if err != nil {
		return err
	}
	return e.Close()
}
