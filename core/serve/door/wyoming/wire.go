package wyoming

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"

	"edged/core/serve/door/fields"
)

// An event on the wire is a line of JSON, and what it announces:
//
//	{"type": "transcript", "version": "1.10.2", "data_length": 41, "payload_length": 0}\n
//	{"text": "Is the light on?", "language": "en"}     data_length bytes
//	…                                                  payload_length bytes, which no event here needs
//
// Data may stand in the line, too, as "data".

// Bounds of an event. A payload is sound, which is read away.
const (
	maxLine    = 16 << 10
	maxData    = 64 << 10
	maxPayload = 1 << 20
)

// protocolVersion is the version of Wyoming that this package implements.
const protocolVersion = "1.10.2"

// event is one message.
type event struct {
	kind string
	data map[string]json.RawMessage
}

var errTooLong = errors.New("wyoming: a line or the data of an event is too long")

// readEvent reads one event.
func readEvent(r *bufio.Reader) (event, error) {
	line, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return event{}, errTooLong
	}
	if err != nil {
		return event{}, err
	}
	if bad := fields.Check(line); bad != nil {
		return event{}, fmt.Errorf("wyoming: a header: %s", bad.Error())
	}
	var head struct {
		Type    string                     `json:"type"`
		Data    map[string]json.RawMessage `json:"data"`
		Length  int                        `json:"data_length"`
		Payload int                        `json:"payload_length"`
	}
	if err := json.Unmarshal(line, &head); err != nil {
		return event{}, fmt.Errorf("wyoming: a header: %w", err)
	}
	if head.Length < 0 || head.Length > maxData || head.Payload < 0 || head.Payload > maxPayload {
		return event{}, errTooLong
	}
	e := event{kind: head.Type, data: head.Data}
	if head.Length > 0 {
		raw := make([]byte, head.Length)
		if _, err := io.ReadFull(r, raw); err != nil {
			return event{}, err
		}
		if bad := fields.Check(raw); bad != nil {
			return event{}, fmt.Errorf("wyoming: the data of %q: %s", fields.Short(head.Type), bad.Error())
		}
		var more map[string]json.RawMessage
		if err := json.Unmarshal(raw, &more); err != nil {
			return event{}, fmt.Errorf("wyoming: the data of %q: %w", fields.Short(head.Type), err)
		}
		if e.data == nil {
			e.data = map[string]json.RawMessage{}
		}
		maps.Copy(e.data, more)
	}
	if _, err := io.CopyN(io.Discard, r, int64(head.Payload)); err != nil {
		return event{}, err
	}
	return e, nil
}

// text is a text of an event's data; "" where there is none.
func (e event) text(key string) string {
	var s string
	if json.Unmarshal(e.data[key], &s) != nil {
		return ""
	}
	return s
}

// encode writes an event.
func encode(kind string, data any) ([]byte, error) {
	head := struct {
		Type    string `json:"type"`
		Version string `json:"version"`
		Length  int    `json:"data_length,omitempty"`
	}{Type: kind, Version: protocolVersion}
	var body []byte
	if data != nil {
		var err error
		if body, err = fields.Encode(data); err != nil {
			return nil, err
		}
		head.Length = len(body)
	}
	line, err := fields.Encode(head)
	if err != nil {
		return nil, err
	}
	return append(append(line, '\n'), body...), nil
}
