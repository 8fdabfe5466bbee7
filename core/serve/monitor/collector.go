package monitor

import (
	"context"
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"edged/core/serve/dispatch"
)

// collector turns Figures into metrics at each scrape.
type collector struct {
	figures func(context.Context) Figures
	version string
}

// Describe sends nothing: which metrics there are depends on the machine.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect is prometheus.Collector's.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime/2) //nolint:forbidigo // the interface has no ctx
	defer cancel()
	f := c.figures(ctx)
	s := sink{ch}
	s.gauge("edged_build_info", "Version of edged; always 1.", 1, "version", c.version)
	s.gauge("edged_ready", "1 while requests are answered.", truth(f.Ready))
	s.gauge("edged_broker_connected", "1 while the broker is connected.", truth(f.Online))
	s.gauge("edged_start_time_seconds", "When the service started, in seconds since 1970.", float64(f.StartedAt.UnixMilli())/1000)

	r := f.Requests
	s.gauge("edged_requests_running", "Requests in the backend.", float64(r.Running))
	s.gauge("edged_requests_waiting", "Requests in the queue.", float64(r.Waiting))
	s.count("edged_requests_accepted_total", "Requests that were journalled.", r.Accepted)
	for _, e := range []struct {
		result string
		n      uint64
	}{{"answered", r.Finished}, {"failed", r.Failed}, {"cancelled", r.Cancelled}, {"refused", r.Refused}, {"repeated", r.Repeats}} {
		s.count("edged_requests_total", "Requests by how they ended.", e.n, "result", e.result)
	}
	s.count("edged_backend_crashes_total", "Deaths of the backend under requests.", r.Crashes)
	s.count("edged_tokens_total", "Tokens of ended requests.", r.PromptTokens, "kind", "prompt")
	s.count("edged_tokens_total", "Tokens of ended requests.", r.Tokens, "kind", "generated")
	s.gauge("edged_decode_tokens_per_second", "Speed of the latest answer.", r.DecodeTPS)
	s.firstToken(r.FirstTokens)

	for _, p := range sorted(f.Lives) {
		s.count("edged_plugin_starts_total", "Starts of a plugin.", uint64(max(f.Lives[p], 0)), "plugin", p) //nolint:gosec // not negative
	}
	for _, p := range sorted(f.Resident) {
		s.gauge(
			"edged_resident_memory_bytes",
			"Memory of a process that is in RAM, mapped weights included.",
			float64(f.Resident[p]),
			"process",
			p,
		)
	}
	s.gauge("edged_adapters", "Adapters that are served.", float64(f.Adapters))
	c.backend(s, f)
	c.machine(s, f)
}

func (c *collector) backend(s sink, f Figures) {
	b := f.Backend
	s.gauge("edged_backend_up", "1 while the backend answers.", truth(b != nil))
	if b == nil {
		return
	}
	s.gauge("edged_backend_kv_pages", "Pages of the key/value pool by who holds them.", float64(b.KVPagesUsed), "state", "used")
	s.gauge("edged_backend_kv_pages", "Pages of the key/value pool by who holds them.", float64(b.KVPagesCached), "state", "cached")
	s.gauge(
		"edged_backend_kv_pages",
		"Pages of the key/value pool by who holds them.",
		float64(b.KVPages-b.KVPagesUsed-b.KVPagesCached),
		"state",
		"free",
	)
	s.count("edged_backend_prefix_hits_total", "Requests whose beginning was computed already.", b.PrefixHits)
	s.count("edged_backend_prefix_tokens_total", "Prompt tokens that were not computed again.", b.PrefixTokens)
	s.count("edged_backend_prefix_disk_tokens_total", "Prompt tokens whose keys and values were read from disk.", b.PrefixDiskTokens)
	s.count("edged_backend_prefix_disk_written_bytes_total", "Bytes of computed prefixes that were written to disk.", b.PrefixDiskWritten)
	s.count("edged_backend_prefix_disk_damaged_total", "Damaged files of prefixes that were removed.", b.PrefixDiskDamaged)
	s.gauge("edged_backend_prefix_disk_bytes", "Computed prefixes on disk.", float64(b.PrefixDiskBytes))
	s.count("edged_backend_drafted_tokens_total", "Guessed next tokens that were computed.", b.DraftedTokens)
	s.count("edged_backend_accepted_tokens_total", "Guessed next tokens that were right.", b.AcceptedTokens)
	s.gauge("edged_backend_adapter_bytes", "Memory of the loaded adapters.", float64(b.AdapterBytes))
	s.gauge("edged_backend_adapters", "Loaded adapters, earlier generations that are in use included.", float64(b.Adapters))
	s.count("edged_backend_steps_total", "Forward passes.", b.Steps)
	s.count("edged_backend_tokens_total", "Tokens that were computed.", b.PromptTokens, "phase", "prefill")
	s.count("edged_backend_tokens_total", "Tokens that were computed.", b.DecodedTokens, "phase", "decode")
	s.counter("edged_backend_busy_seconds_total", "Time in forward passes.", b.PrefillTime.Seconds(), "phase", "prefill")
	s.counter("edged_backend_busy_seconds_total", "Time in forward passes.", b.DecodeTime.Seconds(), "phase", "decode")
	if b.ThreadsDecode > 0 {
		s.gauge("edged_backend_decode_threads", "Threads that decode now.", float64(b.ThreadsDecode))
	}
}

func (c *collector) machine(s sink, f Figures) {
	if f.CPUTempC != nil {
		s.gauge("edged_cpu_temperature_celsius", "Temperature of the processor.", *f.CPUTempC)
	}
	if p := f.Power; p != nil {
		const help = "1 while this holds the processor's clock down."
		s.gauge("edged_cpu_limited", help, truth(p.UnderVoltage), "reason", "under_voltage")
		s.gauge("edged_cpu_limited", help, truth(p.FrequencyCapped), "reason", "frequency_capped")
		s.gauge("edged_cpu_limited", help, truth(p.Throttled), "reason", "throttled")
		s.gauge("edged_cpu_limited", help, truth(p.SoftLimit), "reason", "soft_temperature_limit")
	}
}

// sink makes constant metrics. labels are names and values in turns.
type sink struct{ ch chan<- prometheus.Metric }

func (s sink) gauge(name, help string, v float64, labels ...string) {
	s.put(name, help, prometheus.GaugeValue, v, labels)
}

func (s sink) count(name, help string, v uint64, labels ...string) {
	s.put(name, help, prometheus.CounterValue, float64(v), labels)
}

func (s sink) counter(name, help string, v float64, labels ...string) {
	s.put(name, help, prometheus.CounterValue, v, labels)
}

func (s sink) put(name, help string, kind prometheus.ValueType, v float64, labels []string) {
	var names, values []string
	for i := 0; i+1 < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	s.ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, names, nil), kind, v, values...)
}

func (s sink) firstToken(h dispatch.Histogram) {
	buckets := map[float64]uint64{}
	var below uint64
	for i, bound := range dispatch.FirstTokenBounds {
		below += h.Counts[i]
		buckets[bound.Seconds()] = below
	}
	below += h.Counts[len(dispatch.FirstTokenBounds)]
	desc := prometheus.NewDesc("edged_first_token_seconds", "From admission to the first token of an answer.", nil, nil)
	s.ch <- prometheus.MustNewConstHistogram(desc, below, h.Sum.Seconds(), buckets)
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
