package mqtt

import (
	"context"

	"edged/core/serve/door/mqtt/probe"
)

// byCheck is the prober's part of client ids and topics: a check beside a running service must not push it out.
const byCheck = "check"

// Shortcoming is something that edged could use and that the broker lacks.
type Shortcoming = probe.Shortcoming

// Probe tries what Run would need, under a client id of its own: it connects, subscribes, and publishes on
// edged/NODE/probe/check, where nothing is left. The error says why the node would not come online; the
// shortcomings say what it would lack on this broker.
func Probe(ctx context.Context, o Options) ([]Shortcoming, error) {
	d := New(o)
	p := probe.Options{
		Settings: d.settings, ClientID: d.topics.ClientID() + "-" + byCheck, Filters: d.topics.Filters(), Topic: d.topics.probe(byCheck, ""),
		All: d.topics.probe("", "") + "/#", MaxPayload: d.maxPayload(), Answer: ackTimeout,
		Refused: func(err error) error { return refused(d.settings, err) },
	}
	if d.topics.Group != "" {
		p.Log, p.Group = d.topics.log(), d.topics.root(d.topics.Group)
	}
	return probe.Run(ctx, p)
}
