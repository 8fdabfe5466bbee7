// Package probe tries what an MQTT broker does for a node: whether it grants the subscriptions, brings back
// what a group's node publishes for itself, delivers large payloads, and keeps retained messages. A check of
// a configuration reports it before the node runs.
//
// It must not know what the topics mean. Nothing is left at the broker.
package probe

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"edged/core/serve/door/mqtt/link"
)

// probeWait is how long a probe's message may take from the broker back to its sender.
const probeWait = 2 * time.Second

// Shortcoming is something that edged could use and that the broker lacks. Both are sentences for a person.
type Shortcoming struct {
	Text    string
	Fix     string // "": nothing need be done
	Grave   bool   // the configuration as it is does not work
	Untried bool   // it could not be found out
}

// Options say what a node needs of its broker.
type Options struct {
	Settings   link.Settings
	ClientID   string          // of the probe, and the beginning of another's
	Filters    map[string]byte // the node's subscriptions, with their QoS
	Topic      string          // below which the probe publishes
	All        string          // the filter of all probes, for messages
	Log, Group string          // of the node's group: the topic that its nodes write and read, and what all of its topics begin with; "": no group
	MaxPayload int             // bytes that the node takes and sends
	Answer     time.Duration   // that the broker has for an acknowledgement
	// Refused puts a refusal of subscriptions into a sentence.
	Refused func(err error) error
}

// Run tries it. The error says why the node would not come online; the shortcomings say what it would lack on
// this broker.
func Run(ctx context.Context, o Options) ([]Shortcoming, error) {
	p, err := dial(ctx, o, o.ClientID)
	if err != nil {
		return nil, err
	}
	defer p.close()
	if err := p.subscribe(ctx, o.Filters); err != nil {
		return nil, err
	}
	var found []Shortcoming
	if o.Log != "" {
		s, err := p.group(ctx)
		if err != nil {
			return nil, err
		}
		found = append(found, s...)
	}
	for _, try := range []func(context.Context) ([]Shortcoming, error){p.limit, p.retain} {
		s, err := try(ctx)
		if found = append(found, s...); err != nil { // the node would come online all the same
			found = append(found, Shortcoming{Text: "what the broker takes could not be tried to the end: " + err.Error(), Untried: true})
			break
		}
	}
	return found, nil
}

// prober is a connection that sends messages to itself.
type prober struct {
	o      Options
	id     string // of the client
	client link.Client
	got    chan *link.Received
	lost   chan error
	stop   func() bool
}

// dial connects with a clean session.
func dial(ctx context.Context, o Options, id string) (*prober, error) {
	p := &prober{o: o, id: id, got: make(chan *link.Received, 16), lost: make(chan error, 1)}
	client, err := o.Settings.Dial(ctx, link.Dialling{
		ID: id, Clean: true,
		OnMessage: func(m *link.Received) {
			m.Ack()
			select {
			case p.got <- m:
			default: // not one of a probe's few
			}
		},
		OnLost: func(err error) { p.lost <- err },
	})
	if err != nil {
		return nil, err
	}
	p.client = client
	p.stop = context.AfterFunc(ctx, client.Cut)
	return p, nil
}

func (p *prober) close() {
	p.stop()
	p.client.Close()
}

// wait waits for the broker's answer to something, which f asks for.
func (p *prober) wait(ctx context.Context, what string, f func(context.Context) error) error {
	asking, stop := context.WithTimeout(ctx, p.o.Answer)
	defer stop()
	err := f(asking)
	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case asking.Err() != nil:
		return fmt.Errorf("mqtt: broker %s: %s: no answer within %v", p.o.Settings.URL, what, p.o.Answer)
	}
	return p.o.Settings.Explain(err)
}

// publish publishes, and waits for the acknowledgement. That the broker refuses a message is no error here:
// it does not come back then.
func (p *prober) publish(ctx context.Context, m link.Message) error {
	err := p.wait(ctx, "publishing", func(ctx context.Context) error { return await(ctx, p.client.Publish(m)) })
	var reason *link.ReasonError
	if errors.As(err, &reason) && reason.Packet == "PUBACK" {
		return nil
	}
	return err
}

// errRefused says that the broker answers a SUBSCRIBE with a refusal.
var errRefused = errors.New("refused")

// subscribe subscribes, and fails unless all is granted.
func (p *prober) subscribe(ctx context.Context, filters map[string]byte) error {
	err := p.wait(ctx, "subscribing", func(ctx context.Context) error { return p.client.Subscribe(ctx, filters) })
	if _, ok := errors.AsType[*link.RefusedError](err); ok {
		return &refusedError{p.o.Refused(err).Error()}
	}
	return err
}

// refusedError is errRefused in a sentence of its own.
type refusedError struct{ text string }

func (e *refusedError) Error() string { return e.text }
func (e *refusedError) Unwrap() error { return errRefused }

// group tries whether what a node publishes into its group's log comes back to it: all that a group needs of a broker.
func (p *prober) group(ctx context.Context) ([]Shortcoming, error) {
	nonce := "probe " + rand.Text()
	lacks := Shortcoming{
		Text:  "what this node publishes on " + p.o.Log + " does not come back to it: it would take none of the requests of its group",
		Fix:   "let the broker's access list have it read and write " + p.o.Group + "/#, or leave mqtt.share_group empty (docs/fleet.md)",
		Grave: true,
	}
	switch err := p.subscribe(ctx, map[string]byte{p.o.Log: 1}); {
	case errors.Is(err, errRefused):
		return []Shortcoming{lacks}, nil
	case err != nil:
		return nil, err
	}
	if err := p.publish(ctx, link.Message{Topic: p.o.Log, QoS: 1, Payload: []byte(nonce)}); err != nil {
		return nil, err
	}
	timeout := time.NewTimer(probeWait)
	defer timeout.Stop()
	for {
		select {
		case m := <-p.got:
			if string(m.Payload) == nonce {
				return nil, nil
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timeout.C:
			return []Shortcoming{lacks}, nil
		}
	}
}

// Steps of the search for a broker's limit.
const (
	leastProbe  = 512 // bytes; who takes less takes nothing of edged's
	probeHalves = 5   // after the halving: the limit is known to 3 %
)

// limit finds the largest payload that the broker takes and delivers, up to mqtt.max_payload.
func (p *prober) limit(ctx context.Context) ([]Shortcoming, error) {
	if strings.HasPrefix(p.o.Settings.URL, "ws") {
		// mosquitto 2.0.11 stopped answering all over a payload of 1 MiB through TLS and a WebSocket: a check
		// must not do that.
		return nil, nil
	}
	most := p.o.MaxPayload
	passes, err := p.pass(ctx, most)
	if passes || err != nil {
		return nil, err
	}
	if passes, err = p.pass(ctx, 1); !passes || err != nil {
		return []Shortcoming{{
			Text: "which payloads the broker takes could not be tried, since it does not deliver what this node publishes on " + p.o.All,
			Fix:  "let the broker's access list have it read and write that (docs/mqtt.md)", Untried: true,
		}}, err
	}
	good, bad := most/2, most
	for ; good > leastProbe; good, bad = good/2, good {
		if passes, err = p.pass(ctx, good); passes || err != nil {
			break
		}
	}
	for i := 0; i < probeHalves && err == nil; i++ {
		middle := good + (bad-good)/2
		if passes, err = p.pass(ctx, middle); passes {
			good = middle
		} else {
			bad = middle
		}
	}
	if err != nil {
		return nil, err
	}
	return []Shortcoming{
		{
			Text: fmt.Sprintf(
				"the broker delivers payloads of %d bytes and none of %d, and mqtt.max_payload is %d: larger requests never reach this node, and larger answers become answer_too_large or are lost",
				good,
				bad,
				most,
			),
			Fix: fmt.Sprintf("raise the broker's limit, or set mqtt.max_payload to %d", good),
		},
	}, nil
}

// pass reports whether a payload of a size comes back. It has a connection of its own, since brokers close it
// over a packet that is too large for them; mosquitto acknowledges such a one and drops it.
func (p *prober) pass(ctx context.Context, size int) (bool, error) {
	own, err := dial(ctx, p.o, p.id+"-size")
	if err != nil {
		return false, err
	}
	defer own.close()
	topic := p.o.Topic + "/size"
	switch err := own.subscribe(ctx, map[string]byte{topic: 1}); {
	case errors.Is(err, errRefused):
		return false, nil
	case err != nil:
		return false, err
	}
	own.client.Publish(link.Message{Topic: topic, QoS: 1, Payload: make([]byte, size)})
	timeout := time.NewTimer(probeWait + time.Duration(size)*time.Microsecond) // 1 MB/s both ways
	defer timeout.Stop()
	for {
		select {
		case m := <-own.got:
			if m.Topic == topic && len(m.Payload) == size {
				return true, nil
			}
		case <-own.lost: //nolint:errcheck // why does not matter
			return false, ctx.Err()
		case <-timeout.C:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// stored is a broker's way with a retained message.
type stored uint8

const (
	untold   stored = iota // nothing came
	flagged                // it is delivered with the retain flag
	flagless               // it is delivered like any other
)

// retained publishes a retained message, looks how it comes to a later subscription, and removes it.
func (p *prober) retained(ctx context.Context) (stored, error) {
	topic, nonce := p.o.Topic+"/retained", rand.Text()
	if err := p.publish(ctx, link.Message{Topic: topic, QoS: 1, Retained: true, Payload: []byte(nonce)}); err != nil {
		return untold, err
	}
	defer p.client.Publish(link.Message{Topic: topic, Retained: true})
	switch err := p.subscribe(ctx, map[string]byte{topic: 1}); {
	case errors.Is(err, errRefused):
		return untold, nil
	case err != nil:
		return untold, err
	}
	timeout := time.NewTimer(probeWait)
	defer timeout.Stop()
	for {
		select {
		case m := <-p.got:
			switch {
			case m.Topic != topic || string(m.Payload) != nonce:
			case m.Retained:
				return flagged, nil
			default:
				return flagless, nil
			}
		case <-timeout.C:
			return untold, nil
		case <-ctx.Done():
			return untold, ctx.Err()
		}
	}
}

// retain tells what is wrong with the broker's retained messages. Where its access list keeps every probe
// back, limit has told so.
func (p *prober) retain(ctx context.Context) ([]Shortcoming, error) {
	how, err := p.retained(ctx)
	if err != nil {
		return nil, err
	}
	switch how {
	case flagless:
		return []Shortcoming{
			{
				Text: "the broker delivers retained messages without the retain flag: a question or request that was published retained may be answered again at each start",
				Fix:  "publish questions and requests without the retain flag, or use a broker that keeps it (docs/mqtt.md)",
			},
		}, nil
	case untold:
		return []Shortcoming{{
			Text: "whether the broker keeps retained messages could not be seen: none came back on " + p.o.Topic + "/retained",
			Fix:  "let the broker keep retained messages, and its access list have this node read and write " + p.o.All, Untried: true,
		}}, nil
	case flagged:
	}
	return nil, nil
}

// await waits for a token.
func await(ctx context.Context, t link.Token) error {
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return ctx.Err()
	}
}
