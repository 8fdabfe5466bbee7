package broker

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"
)

// The kinds of packets (MQTT 5.0, section 2.1.2).
const (
	kindConnect     = 1
	kindConnack     = 2
	kindPublish     = 3
	kindPuback      = 4
	kindPubrec      = 5
	kindPubrel      = 6
	kindPubcomp     = 7
	kindSubscribe   = 8
	kindSuback      = 9
	kindUnsubscribe = 10
	kindUnsuback    = 11
	kindPingreq     = 12
	kindPingresp    = 13
	kindDisconnect  = 14
)

// reason is a reason code of MQTT 5 (section 2.4), and an error where the connection ends with it.
type reason byte

const (
	reasonSuccess          reason = 0x00
	reasonWithWill         reason = 0x04
	reasonNoSubscribers    reason = 0x10
	reasonNoSubscription   reason = 0x11
	reasonMalformed        reason = 0x81
	reasonProtocol         reason = 0x82
	reasonVersion          reason = 0x84
	reasonClientID         reason = 0x85
	reasonCredentials      reason = 0x86
	reasonNotAuthorized    reason = 0x87
	reasonBusy             reason = 0x89
	reasonShutdown         reason = 0x8B
	reasonAuthMethod       reason = 0x8C
	reasonTakenOver        reason = 0x8E
	reasonFilter           reason = 0x8F
	reasonTopic            reason = 0x90
	reasonUnknownID        reason = 0x92
	reasonReceiveMaximum   reason = 0x93
	reasonTopicAlias       reason = 0x94
	reasonTooLarge         reason = 0x95
	reasonQuota            reason = 0x97
	reasonRefusedOfVersion reason = 0x80 // what 3.1.1 knows as the failure of a subscription
)

// Error says it in words, for the log.
func (r reason) Error() string {
	switch r {
	case reasonMalformed:
		return "a packet is malformed"
	case reasonProtocol:
		return "a packet breaks the protocol"
	case reasonVersion:
		return "this version of MQTT is not spoken here"
	case reasonClientID:
		return "the client id is not usable"
	case reasonNotAuthorized:
		return "this client id is the node's own"
	case reasonCredentials:
		return "the user name or the password is wrong"
	case reasonBusy:
		return "there are too many clients"
	case reasonShutdown:
		return "the broker ends"
	case reasonAuthMethod:
		return "this way to authenticate is not known"
	case reasonTakenOver:
		return "another connection has the same client id"
	case reasonReceiveMaximum:
		return "too many messages of QoS 2 are unfinished"
	case reasonTopicAlias:
		return "topic aliases are not offered"
	case reasonTooLarge:
		return "a packet is too large"
	case reasonQuota:
		return "it holds too much of the broker's memory"
	}
	return "it ended"
}

// reader takes a packet's body apart. After the first thing that is not there, all that follows is zero and bad is set.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad = true
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) u8() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// varint reads a variable byte integer: four bytes at most.
func (r *reader) varint() int {
	n := 0
	for shift := 0; shift < 28; shift += 7 {
		b := r.u8()
		n |= int(b&0x7f) << shift
		if b < 0x80 {
			return n
		}
	}
	r.bad = true
	return 0
}

// bytes reads a length and as many bytes, which still lie in the packet.
func (r *reader) bytes() []byte { return r.take(int(r.u16())) }

// text reads a string. It is a copy: a filter of three bytes must not keep a packet of a megabyte alive.
func (r *reader) text() string {
	b := r.bytes()
	if !utf8.Valid(b) || bytes.IndexByte(b, 0) >= 0 {
		r.bad = true
		return ""
	}
	return string(b)
}

// The properties of MQTT 5 (section 2.2.2.2) that a client may send.
const (
	propPayloadFormat   = 0x01
	propMessageExpiry   = 0x02
	propContentType     = 0x03
	propResponseTopic   = 0x08
	propCorrelation     = 0x09
	propSubscriptionID  = 0x0B
	propSessionExpiry   = 0x11
	propAssignedID      = 0x12
	propAuthMethod      = 0x15
	propAuthData        = 0x16
	propProblemInfo     = 0x17
	propWillDelay       = 0x18
	propResponseInfo    = 0x19
	propReasonString    = 0x1F
	propReceiveMaximum  = 0x21
	propAliasMaximum    = 0x22
	propTopicAlias      = 0x23
	propUser            = 0x26
	propMaxPacket       = 0x27
	propSharedAvailable = 0x2A
)

// properties are those that the broker acts on. What it only passes on stays as it came, in pass.
type properties struct {
	pass           []byte // payload format, content type, response topic, correlation data and user properties, encoded
	messageExpiry  uint32
	hasExpiry      bool
	sessionExpiry  uint32
	hasSession     bool
	willDelay      uint32
	receiveMaximum uint16
	maxPacket      uint32
	subscriptionID int
	hasAlias       bool
	authMethod     bool
}

// properties reads a block of properties. pass is in the packet's memory.
func (r *reader) properties() properties {
	var p properties
	block := reader{b: r.take(r.varint()), bad: r.bad}
	var seen [64]bool
	// In place: what is passed on is never longer than what was read.
	p.pass = block.b[:0]
	for len(block.b) > 0 && !block.bad {
		whole := block.b
		id := block.u8()
		if int(id) >= len(seen) || seen[id] && id != propUser && id != propSubscriptionID {
			r.bad = true // none but these may stand twice
			return p
		}
		seen[id] = true
		pass := false
		switch id {
		case propPayloadFormat:
			block.u8()
			pass = true
		case propContentType, propResponseTopic:
			block.skipText()
			pass = true
		case propCorrelation:
			block.bytes()
			pass = true
		case propUser:
			block.skipText()
			block.skipText()
			pass = true
		case propMessageExpiry:
			p.messageExpiry, p.hasExpiry = block.u32(), true
		case propSubscriptionID:
			p.subscriptionID = block.varint()
		case propSessionExpiry:
			p.sessionExpiry, p.hasSession = block.u32(), true
		case propAuthMethod:
			block.skipText()
			p.authMethod = true
		case propAuthData:
			block.bytes()
		case propProblemInfo, propResponseInfo:
			block.u8()
		case propWillDelay:
			p.willDelay = block.u32()
		case propReasonString:
			block.skipText()
		case propReceiveMaximum:
			if p.receiveMaximum = block.u16(); p.receiveMaximum == 0 {
				block.bad = true
			}
		case propAliasMaximum:
			block.u16()
		case propTopicAlias:
			block.u16()
			p.hasAlias = true
		case propMaxPacket:
			if p.maxPacket = block.u32(); p.maxPacket == 0 {
				block.bad = true
			}
		default:
			block.bad = true
		}
		if pass && !block.bad {
			p.pass = append(p.pass, whole[:len(whole)-len(block.b)]...)
		}
	}
	r.bad = r.bad || block.bad
	return p
}

// skipText reads a string that is only passed on.
func (r *reader) skipText() {
	b := r.bytes()
	if !utf8.Valid(b) || bytes.IndexByte(b, 0) >= 0 {
		r.bad = true
	}
}

// connectPacket is a CONNECT.
type connectPacket struct {
	version       byte // 3, 4 or 5
	clean         bool
	keepAlive     uint16
	id            string
	will          *message
	willDelay     uint32
	username      []byte
	hasUser       bool
	password      []byte
	properties    properties
	sessionExpiry uint32 // seconds
}

// decodeConnect reads a CONNECT. The error is a reason.
func decodeConnect(body []byte) (*connectPacket, error) {
	r := &reader{b: body}
	name, version := string(r.bytes()), r.u8()
	p := &connectPacket{version: version}
	switch {
	case r.bad:
		return p, reasonMalformed
	case name == "MQTT" && (version == 4 || version == 5), name == "MQIsdp" && version == 3:
	case name == "MQTT" || name == "MQIsdp":
		p.version = 4 // so that any client understands the answer
		return p, reasonVersion
	default:
		return p, reasonProtocol
	}
	flags := r.u8()
	p.clean = flags&0x02 != 0
	hasWill, willQoS, willRetain := flags&0x04 != 0, flags>>3&3, flags&0x20 != 0
	hasPassword, hasUser := flags&0x40 != 0, flags&0x80 != 0
	if flags&1 != 0 || willQoS > 2 || !hasWill && (willQoS != 0 || willRetain) {
		return p, reasonProtocol
	}
	p.keepAlive = r.u16()
	if version == 5 {
		p.properties = r.properties()
		p.sessionExpiry = p.properties.sessionExpiry
	} else if !p.clean {
		p.sessionExpiry = 1<<32 - 1
	}
	p.id = r.text()
	if hasWill {
		var w properties
		if version == 5 {
			w = r.properties()
		}
		m := &message{topic: r.text(), qos: willQoS, retain: willRetain, props: bytes.Clone(w.pass)}
		m.payload = bytes.Clone(r.bytes())
		m.lives, m.mortal = w.messageExpiry, w.hasExpiry
		p.will, p.willDelay = m, w.willDelay
	}
	if hasUser {
		p.username, p.hasUser = r.bytes(), true
	}
	if hasPassword {
		p.password = r.bytes()
	}
	switch {
	case r.bad || len(r.b) > 0:
		return p, reasonMalformed
	case p.will != nil && !validTopic(p.will.topic):
		return p, reasonTopic
	case p.properties.authMethod:
		return p, reasonAuthMethod
	case p.id == "" && version < 5 && !p.clean:
		return p, reasonClientID
	}
	return p, nil
}

// publishPacket is a PUBLISH of a client.
type publishPacket struct {
	m  *message
	id uint16
}

// decodePublish reads a PUBLISH. The message's bytes are those of body, which is its own from now on.
func decodePublish(version, flags byte, body []byte) (publishPacket, error) {
	r := &reader{b: body}
	m := &message{qos: flags >> 1 & 3, retain: flags&1 != 0}
	m.topic = r.text()
	p := publishPacket{m: m}
	if m.qos > 0 {
		p.id = r.u16()
	}
	if version == 5 {
		props := r.properties()
		m.props, m.lives, m.mortal = props.pass, props.messageExpiry, props.hasExpiry
		switch {
		case props.hasAlias:
			return p, reasonTopicAlias
		case props.subscriptionID != 0:
			return p, reasonProtocol
		}
	}
	switch {
	case r.bad:
		return p, reasonMalformed
	case m.qos > 2 || m.qos > 0 && p.id == 0 || !validTopic(m.topic):
		return p, reasonProtocol
	}
	m.payload = r.b
	// A small message must not keep a large packet's memory: properties that are dropped, or a buffer that grew.
	if len(m.payload)+len(m.props) < cap(body)/2 {
		m.payload, m.props = bytes.Clone(m.payload), bytes.Clone(m.props)
	}
	return p, nil
}

// ackPacket is PUBACK, PUBREC, PUBREL or PUBCOMP.
type ackPacket struct {
	id     uint16
	reason reason
}

func decodeAck(version byte, body []byte) (ackPacket, error) {
	r := &reader{b: body}
	p := ackPacket{id: r.u16()}
	if version == 5 && len(r.b) > 0 {
		p.reason = reason(r.u8())
		if len(r.b) > 0 {
			r.properties()
		}
	}
	if r.bad || len(r.b) > 0 {
		return p, reasonMalformed
	}
	return p, nil
}

// asked is one filter of a SUBSCRIBE with its options, or of an UNSUBSCRIBE.
type asked struct {
	filter         string
	qos            byte
	noLocal        bool
	asPublished    bool // the retain flag is kept
	retainHandling byte
}

// filtersPacket is SUBSCRIBE or UNSUBSCRIBE.
type filtersPacket struct {
	id             uint16
	subscriptionID int
	filters        []asked
}

// decodeFilters reads a SUBSCRIBE, or with options false an UNSUBSCRIBE, of at most most filters.
func decodeFilters(version byte, body []byte, options bool, most int) (filtersPacket, error) {
	r := &reader{b: body}
	p := filtersPacket{id: r.u16()}
	if version == 5 {
		p.subscriptionID = r.properties().subscriptionID
	}
	for len(r.b) > 0 && !r.bad {
		if len(p.filters) == most {
			return p, reasonQuota
		}
		a := asked{filter: r.text()}
		if options {
			o := r.u8()
			a.qos = o & 3
			if version == 5 {
				a.noLocal, a.asPublished, a.retainHandling = o&4 != 0, o&8 != 0, o>>4&3
			}
			if a.qos > 2 || a.retainHandling > 2 || version == 5 && o&0xC0 != 0 || version < 5 && o > 2 {
				return p, reasonProtocol
			}
		}
		p.filters = append(p.filters, a)
	}
	switch {
	case r.bad:
		return p, reasonMalformed
	case p.id == 0 || len(p.filters) == 0:
		return p, reasonProtocol
	}
	return p, nil
}

// decodeDisconnect reads a DISCONNECT.
func decodeDisconnect(version byte, body []byte) (reason, properties, error) {
	r := &reader{b: body}
	var code reason
	var p properties
	if version == 5 && len(body) > 0 {
		code = reason(r.u8())
		if len(r.b) > 0 {
			p = r.properties()
		}
	}
	if r.bad || len(r.b) > 0 {
		return code, p, reasonMalformed
	}
	return code, p, nil
}
