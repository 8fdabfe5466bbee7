package mqtt

import (
	"errors"
	"fmt"
	"time"

	"edged/core/serve/dispatch"
	"edged/core/serve/door/mqtt/link"
)

// packetLimit is a broker's limit as observed: it closed connections over a packet of this size.
type packetLimit struct {
	size  int // of topic and payload
	until time.Time
}

// limitFor is how long it is believed: a broker may be given other settings.
const limitFor = time.Hour

// packetSize returns the size that counts for a broker's limit, but for a few bytes.
func (m *outgoing) packetSize() int { return len(m.topic) + len(m.payload) }

// dropRefused deals with messages under which the broker closes the connection: too large for it, or on a topic
// that its access list closes connections over. An answer is replaced by an error once; after that, and
// anything else, is given up.
func (d *Door) dropRefused(refused []*outgoing) {
	for _, m := range refused {
		if m.class == entry {
			d.fleet.lostUnder(m)
			continue
		}
		if !m.last || m.replaced {
			d.log.Error("the broker closes the connection over a message that is given up now: its access list forbids the topic",
				"topic", m.topic, "bytes", len(m.payload))
			continue
		}
		d.log.Error(
			"the broker closes the connection over an answer: it is larger than the broker takes, or its access list forbids the topic",
			"topic",
			m.topic,
			"bytes",
			len(m.payload),
			"request_id",
			m.id,
		)
		d.out.put(&outgoing{
			topic:    m.topic,
			class:    kept,
			payload:  d.standIn(m),
			props:    m.props,
			client:   m.client,
			id:       m.id,
			last:     m.last,
			replaced: true,
			size:     m.packetSize(),
		})
	}
}

// notTaken deals with a message that the broker has refused by a reason code, or that is larger than it has
// said it takes. What may pass is tried again; else it would be so each time, and an answer that is too large
// is replaced by an error, once.
func (d *Door) notTaken(m *outgoing, why error) {
	var reason *link.ReasonError
	if errors.As(why, &reason) && passes(reason.Code) && d.out.postpone(m) {
		d.log.Warn(
			"the broker does not take a message now, which is sent again in a while",
			"topic",
			m.topic,
			"bytes",
			len(m.payload),
			"request_id",
			m.id,
			"err",
			why,
		)
		return
	}
	if m.class == entry {
		d.fleet.notTaken(m, why)
		d.out.acknowledged(m)
		return
	}
	large := errors.Is(why, link.ErrTooLarge) ||
		errors.As(why, &reason) && (reason.Code == link.ReasonPacketLarge || reason.Code == link.ReasonQuota)
	if large && m.last && !m.replaced {
		d.log.Warn("the broker does not take an answer", "topic", m.topic, "bytes", len(m.payload), "request_id", m.id, "err", why)
		d.out.put(&outgoing{
			topic: m.topic, class: kept, payload: d.standIn(m), props: m.props, client: m.client, id: m.id, last: true, replaced: true,
		})
		d.out.acknowledged(m)
		return
	}
	d.log.Error(
		"the broker does not take a message, which is given up",
		"topic",
		m.topic,
		"bytes",
		len(m.payload),
		"request_id",
		m.id,
		"err",
		why,
	)
	d.out.acknowledged(m)
}

// passes reports whether a broker may take later what it refuses with this reason code: for its queues are
// full, or for no reason that it tells.
func passes(code byte) bool {
	return code == link.ReasonQuota || code == link.ReasonUnspecified || code == link.ReasonImplementation || code == link.ReasonPacketID
}

// standIn is the last event in place of one that the broker does not take.
func (d *Door) standIn(m *outgoing) []byte {
	text := fmt.Sprintf("the broker does not take the answer, which has %d bytes", len(m.payload))
	if m.plain || m.event == nil {
		return plainError(&dispatch.Error{Code: dispatch.CodeTooLarge, Message: text})
	}
	return encodeEvent(failed(*m.event, dispatch.CodeTooLarge, text), d.maxPayload())
}

// learn remembers the size of a refused answer when the error in its place has arrived: so it was the size
// and not the topic.
func (d *Door) learn(m *outgoing) {
	if m.size == 0 {
		return
	}
	if r := d.learned.Load(); r != nil && r.size < m.size && time.Now().Before(r.until) {
		return
	}
	d.learned.Store(&packetLimit{size: m.size, until: time.Now().Add(limitFor)})
	d.log.Warn(
		"answers of this size and beyond are replaced by answer_too_large at once from now on, for an hour: raise the broker's packet limit, or lower mqtt.max_payload",
		"bytes",
		m.size,
	)
}

// spare replaces an answer that is as large as one that the broker has refused: finding that out again would
// cost every client of the node a few reconnects.
func (d *Door) spare(m *outgoing) {
	r := d.learned.Load()
	if r == nil || !m.last || m.replaced || m.packetSize() < r.size || !time.Now().Before(r.until) {
		return
	}
	d.log.Warn("an answer is larger than what the broker takes", "topic", m.topic, "bytes", len(m.payload), "request_id", m.id)
	m.payload, m.replaced = d.standIn(m), true
}
