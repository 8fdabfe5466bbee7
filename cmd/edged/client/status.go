package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
	"edged/core/serve/door/mqtt"
	"edged/core/serve/door/mqtt/askclient"
)

func (a *app) statusCommand() *cobra.Command {
	var f clientFlags
	var asJSON, stats bool
	var timeout time.Duration
	c := &cobra.Command{
		Use:     "status [--stats]",
		GroupID: "client",
		Short:   "Show the state of a running service",
		Long: `Reads over MQTT what a node publishes about itself: whether it is online, its state, model, backend, limits and adapters.
With --stats it also waits for the node's next figures, which come every mqtt.stats_interval: requests, tokens, speed, memory, temperature.

The exit code is 0 where the node is online and ready, and 1 where it is not.`,
		Example: `  edged status
  edged status --stats --node attic --broker tcp://192.168.1.2:1883`,
		Args: cobra.NoArgs,
		RunE: a.Do(func(ctx context.Context, _ []string) error {
			client, err := f.dial(ctx)
			if err != nil {
				return err
			}
			defer client.Close()
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			state, err := client.State(ctx, stats)
			switch {
			case errors.Is(err, context.DeadlineExceeded) && stats && state.Status != nil:
				return fmt.Errorf("no figures came within %v: is mqtt.stats_interval of the node longer, or 0?", timeout)
			case err != nil:
				return err
			}
			var s mqtt.Status
			if err := json.Unmarshal(state.Status, &s); err != nil {
				return fmt.Errorf("the node's status cannot be read: %w", err)
			}
			if asJSON {
				err = cli.Encoder(a.Out).Encode(state)
			} else {
				err = printState(a.Out, state, s)
			}
			if err == nil && (state.Availability != "online" || s.State != mqtt.StateReady) {
				err = cli.ErrReported
			}
			return err
		}),
	}
	f.ConfigFlags.Register(c)
	c.Flags().StringVar(&f.broker, "broker", "", "URL of the broker, for example tcp://192.168.1.2:1883 (default: the configuration's)")
	c.Flags().StringVar(&f.node, "node", "", "name of the node (default: the configuration's)")
	c.Flags().BoolVar(&stats, "stats", false, "wait for the next figures too")
	c.Flags().DurationVar(&timeout, "timeout", time.Minute, "wait no longer than this")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object: what the node has published")
	return c
}

// printState writes a state for people: a word and what it is, a line each.
func printState(w io.Writer, state askclient.State, s mqtt.Status) error {
	var b strings.Builder
	line := func(what, format string, args ...any) {
		fmt.Fprintf(&b, "%-9s %s\n", what, printable(fmt.Sprintf(format, args...)))
	}
	word := s.State
	if s.Reason != "" {
		word += ": " + s.Reason
	}
	availability := state.Availability
	if availability == "" {
		availability = "availability unknown"
	}
	line("node", "%s, %s", s.Node, availability)
	line("state", "%s, since %s", word, s.Since)
	line("version", "%s", s.Version)
	if m := s.Model; m != nil {
		line("model", "%s, %s, %s, context %d", m.Name, m.Arch, m.Format, m.Context)
	}
	if k := s.Backend; k != nil {
		line("backend", "%s, kernels %s, %s", k.Name, k.Kernels, k.Precision)
	}
	line("queue", "%d at the same time, %d may wait", s.Queue.Running, s.Queue.Size)
	if p := s.Power; p != nil {
		threads := ""
		if p.ThreadsDecode > 0 {
			threads = fmt.Sprintf("; %d of %d threads decode", p.ThreadsDecode, p.ThreadsTuned)
		}
		line("power", "the processor's clock is held down (%s)%s", strings.Join(p.Reasons, ", "), threads)
	}
	for _, name := range slices.Sorted(maps.Keys(state.Adapters)) {
		var ad mqtt.Adapter
		if json.Unmarshal(state.Adapters[name], &ad) != nil {
			continue // a later version's
		}
		if ad.Error != "" {
			line("adapter", "%s: %s: %s", name, ad.State, ad.Error)
			continue
		}
		line("adapter", "%s: %s, generation %d", name, ad.State, ad.Generation)
	}
	if state.Stats != nil {
		var t mqtt.Stats
		if err := json.Unmarshal(state.Stats, &t); err != nil {
			return fmt.Errorf("the node's figures cannot be read: %w", err)
		}
		printStats(line, t)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func printStats(line func(what, format string, args ...any), t mqtt.Stats) {
	line("up", "%v", time.Duration(t.UptimeS)*time.Second)
	line("requests", "%d run, %d wait; since the start %d accepted, %d answered, %d failed, %d cancelled",
		t.Running, t.Waiting, t.Accepted, t.Finished, t.Failed, t.Cancelled)
	line("tokens", "%d read, %d written, %.1f a second now; the latest answer: first token after %.0f ms, then %.1f a second",
		t.PromptTokens, t.Tokens, t.TokensPerS, t.FirstTokenMS, t.DecodeTPS)
	if k := t.Backend; k != nil {
		line("cache", "%d of %d pages used, %d cached; %d requests found %d tokens computed already",
			k.KVPagesUsed, k.KVPages, k.KVPagesCached, k.PrefixHits, k.PrefixTokens)
	}
	machine := "memory " + cli.BytesText(t.MemoryBytes)
	if t.CPUTempC != nil {
		machine += fmt.Sprintf(", processor at %.1f °C", *t.CPUTempC)
	}
	if t.UnderVoltage != nil && *t.UnderVoltage {
		machine += ", UNDER-VOLTAGE"
	}
	if t.Throttled != nil && *t.Throttled {
		machine += ", clock held down"
	}
	line("machine", "%s", machine)
}

// printable keeps what came over the network from moving a terminal's cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '�'
		}
		return r
	}, s)
}
