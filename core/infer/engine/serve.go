package engine

import (
	"fmt"
	"os"
	"runtime/pprof"

	"edged/core/pluginlog"
	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// Serve is the one call of a backend plugin's main: it serves an engine until the daemon says stop or is gone. It sets
// Options.Log. The error is for the terminal.
//
// The collector needs no tuning: weights, keys and values, scratch and logits are off the Go heap, which
// holds requests, the vocabulary and the sampler's scratch, a few megabytes that no model size changes.
func Serve(o Options) error {
	o.Log = pluginlog.New()
	stop, err := profile(os.Getenv(EnvProfile))
	if err != nil {
		return err
	}
	defer stop()
	e := New(o)
	err = protocol.ServePlugin(protocol.ServeConfig{Name: protocol.PluginBackend, Plugin: backend.Plugin{Impl: e}, Log: o.Log})
	if err != nil {
		return err
	}
	return e.Close()
}

// EnvProfile names a file that a CPU profile of the plugin's whole life is written to, for its developers.
// Plugins do not inherit it from the daemon; the offline commands pass it on.
const EnvProfile = "EDGED_CPUPROFILE"

// profile starts a CPU profile where a path is given; stop ends it.
func profile(path string) (stop func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("engine: %s: %w", EnvProfile, err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, fmt.Errorf("engine: %s: %w", EnvProfile, err)
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close() // a profile that is cut off says so when it is read
	}, nil
}
