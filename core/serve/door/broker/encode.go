package broker

import "encoding/binary"

// packet puts a header before a body.
func packet(kind, flags byte, body []byte) []byte {
	out := make([]byte, 0, len(body)+5)
	out = append(out, kind<<4|flags)
	out = appendVarint(out, len(body))
	return append(out, body...)
}

func appendVarint(b []byte, n int) []byte {
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

func appendText(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s))) //nolint:gosec // topics and ids are bounded far below
	return append(b, s...)
}

// encodeConnack answers a CONNECT; in MQTT 5 with what the broker holds to.
func encodeConnack(version byte, present bool, code reason, props []byte) []byte {
	var flag byte
	if present {
		flag = 1
	}
	if version < 5 {
		return packet(kindConnack, 0, []byte{flag, connackOf3(code)})
	}
	body := appendVarint([]byte{flag, byte(code)}, len(props))
	return packet(kindConnack, 0, append(body, props...))
}

// connackOf3 is the return code of MQTT 3.1.1 (section 3.2.2.3) for a reason.
func connackOf3(code reason) byte {
	switch code {
	case reasonSuccess:
		return 0
	case reasonVersion:
		return 1
	case reasonClientID:
		return 2
	case reasonCredentials:
		return 4
	case reasonNotAuthorized, reasonTopic:
		return 5
	}
	return 3
}

// encodeAck is PUBACK, PUBREC, PUBREL or PUBCOMP. A reason of success is left out, which both versions read.
func encodeAck(version, kind byte, id uint16, code reason) []byte {
	var flags byte
	if kind == kindPubrel {
		flags = 2
	}
	body := binary.BigEndian.AppendUint16(nil, id)
	if version == 5 && code != reasonSuccess {
		body = append(body, byte(code))
	}
	return packet(kind, flags, body)
}

// encodeFiltersAck is SUBACK or UNSUBACK.
func encodeFiltersAck(version, kind byte, id uint16, codes []byte) []byte {
	body := binary.BigEndian.AppendUint16(nil, id)
	if version == 5 {
		body = append(body, 0)
	}
	if version == 5 || kind == kindSuback {
		body = append(body, codes...)
	}
	return packet(kind, 0, body)
}

// encodeDisconnect encodes the DISCONNECT of MQTT 5, which the broker sends before it closes a connection.
// 3.1.1 has no such packet.
func encodeDisconnect(code reason) []byte {
	return packet(kindDisconnect, 0, []byte{byte(code), 0})
}

// publishHead encodes a PUBLISH up to its payload. left is the remaining message expiry in seconds.
func publishHead(version byte, d *delivery, left uint32) []byte {
	m := d.m
	var flags byte
	if d.retain {
		flags = 1
	}
	flags |= d.qos << 1
	if d.dup {
		flags |= 8
	}
	body := appendText(nil, m.topic)
	if d.qos > 0 {
		body = binary.BigEndian.AppendUint16(body, d.id)
	}
	if version == 5 {
		var own []byte
		if m.mortal {
			own = binary.BigEndian.AppendUint32(append(own, propMessageExpiry), left)
		}
		for _, id := range d.subscriptions {
			own = appendVarint(append(own, propSubscriptionID), id)
		}
		body = appendVarint(body, len(own)+len(m.props))
		body = append(append(body, own...), m.props...)
	}
	head := append(make([]byte, 0, len(body)+5), kindPublish<<4|flags)
	head = appendVarint(head, len(body)+len(m.payload))
	return append(head, body...)
}
