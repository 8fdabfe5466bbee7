package daemon

import (
	"context"
	"os"
	"time"

	"edged/core/machine"
	"edged/core/serve/adapters"
	"edged/core/serve/dispatch"
	"edged/core/serve/door/mqtt"
	"edged/core/serve/monitor"
	"edged/core/serve/pluginhost"
)

// statsTime is how long the backend may take to give its counters; it never waits for a turn.
const statsTime = 2 * time.Second

// figures gathers what there is to know at this moment, for edged/NODE/stats and for the metrics listener.
func (d *daemon) figures(ctx context.Context) monitor.Figures {
	pairs := d.pairs()
	var tokenizers, backends []int // process ids
	lives := map[string]int{"tokenizer": 0, "backend": 0}
	for _, p := range pairs {
		t, _ := p.tokenizer.Snapshot()
		b, _ := p.backend.Snapshot()
		tokenizers, backends = append(tokenizers, t.Pid), append(backends, b.Pid)
		lives["tokenizer"] += t.Lives
		lives["backend"] += b.Lives
	}
	f := monitor.Figures{
		Adapters: d.folder.Counts().Served, Requests: d.work.Stats(), Online: d.door.Online(), StartedAt: d.began,
		Lives: lives,
		Resident: map[string]int64{
			"daemon": machine.Resident(os.Getpid()), "tokenizer": machine.Resident(tokenizers...), "backend": machine.Resident(backends...),
		},
	}
	state, reason := d.status.judge()
	switch {
	case state != mqtt.StateReady:
		f.Reason = reason
	case !f.Online:
		f.Reason = "there is no connection to the broker"
	default:
		f.Ready = true
	}
	for _, p := range pairs { // of the default model, or of the first that answers
		b, life := p.backend.Snapshot()
		if b.Phase != pluginhost.Ready || life.backend == nil {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, statsTime)
		s, err := life.backend.Stats(ctx)
		cancel()
		if err == nil { // one that does not answer has no figures; its supervisor acts
			f.Threads, f.Backend = life.info.ThreadsDecode, &s
			break
		}
	}
	if c, ok := machine.Temperature(); ok {
		f.CPUTempC = &c
	}
	if p, ok := machine.CPUPower(); ok {
		f.Power = &p
	}
	return f
}

// statsOf writes figures as the MQTT API has them.
func statsOf(f monitor.Figures, n adapters.Counts, tokensPerS float64) mqtt.Stats {
	w := f.Requests
	out := mqtt.Stats{
		UptimeS: int64(time.Since(f.StartedAt).Seconds()),
		Waiting: w.Waiting, Running: w.Running,
		Accepted: w.Accepted, Finished: w.Finished, Failed: w.Failed, Cancelled: w.Cancelled,
		PromptTokens: w.PromptTokens, Tokens: w.Tokens,
		FirstTokenMS: milliseconds(w.FirstToken), DecodeTPS: w.DecodeTPS, TokensPerS: tokensPerS,
		CPUTempC: f.CPUTempC,
		Adapters: mqtt.StatsAdapters{
			Served: n.Served, Rejected: n.Rejected, Draining: n.Draining, Swaps: n.Swaps, Loaded: n.Loaded, Bytes: n.Bytes,
		},
		FirstToken: mqtt.StatsHistogram{
			BoundsMS: make([]float64, len(dispatch.FirstTokenBounds)), Counts: w.FirstTokens.Counts[:], SumMS: milliseconds(w.FirstTokens.Sum),
		},
	}
	for i, b := range dispatch.FirstTokenBounds {
		out.FirstToken.BoundsMS[i] = milliseconds(b)
	}
	for _, n := range f.Resident {
		out.MemoryBytes += n
	}
	if p := f.Power; p != nil {
		limited, voltage := p.Any(), p.UnderVoltage
		out.Throttled, out.UnderVoltage = &limited, &voltage
	}
	if b := f.Backend; b != nil {
		out.Backend = &mqtt.StatsBackend{
			KVPages: b.KVPages, KVPagesUsed: b.KVPagesUsed, KVPagesCached: b.KVPagesCached,
			PrefixHits: b.PrefixHits, PrefixTokens: b.PrefixTokens,
			DiskTokens: b.PrefixDiskTokens, DiskBytes: b.PrefixDiskBytes, Drafted: b.DraftedTokens, Accepted: b.AcceptedTokens,
			Adapters: b.Adapters, AdapterBytes: b.AdapterBytes,
			Steps: b.Steps, ThreadsDecode: b.ThreadsDecode,
		}
	}
	return out
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// powerOf says in the status that the processor is held down; nil where it is not.
func powerOf(f monitor.Figures) *mqtt.StatusPower {
	if f.Power == nil || !f.Power.Any() {
		return nil
	}
	out := &mqtt.StatusPower{Reasons: f.Power.Reasons()}
	if b := f.Backend; b != nil && b.ThreadsDecode > 0 {
		out.ThreadsDecode, out.ThreadsTuned = b.ThreadsDecode, f.Threads
	}
	return out
}
