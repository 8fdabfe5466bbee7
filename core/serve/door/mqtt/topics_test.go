package mqtt

import (
	"testing"
)

func TestParseTopic(t *testing.T) {
	wrong := "the last level of the topic, CLIENT, must match [A-Za-z0-9._-]{1,64}"
	tests := []struct {
		topic   string
		want    input
		problem string
		ok      bool
	}{
		{"edged/pi/ask", input{level: "ask"}, "", true},
		{"edged/pi/ask/shed", input{level: "ask", name: "shed"}, "", true},
		{"edged/pi/request", input{level: "request"}, "", true},
		{"edged/pi/request/c", input{level: "request", name: "c"}, "", true},
		{"edged/pi/request/", input{level: "request"}, wrong, true},
		{"edged/pi/request/a/b", input{level: "request", name: "a/b"}, wrong, true},
		{"edged/pi/request/ü", input{level: "request", name: "ü"}, wrong, true},
		{"edged/pi/ask/a b", input{level: "ask", name: "a b"}, "the last level of the topic, TAG, must match [A-Za-z0-9._-]{1,64}", true},
		{"edged/pi/cancel/c", input{level: "cancel", name: "c"}, "", true},
		{"edged/pi/embed", input{level: "embed"}, "", true},
		{"edged/pi/score/c", input{level: "score", name: "c"}, "", true},
		{"edged/@g/request/c", input{level: "request", name: "c", group: "g"}, "", true},
		{"edged/@g/cancel", input{level: "cancel", group: "g"}, "", true},
		{"edged/@g/ask", input{}, "", false},
		{"edged/@h/request", input{level: "request", group: "h"}, "", true}, // of a group that was left
		{"edged/@h/status", input{}, "", false},
		{"edged/@h", input{}, "", false},
		{"edged/@a b/request", input{}, "", false},
		{"edged/@/request", input{}, "", false},
		{"edged/pi/response/a", input{}, "", false},
		{"edged/pi/requests", input{}, "", false},
		{"edged/pi", input{}, "", false},
		{"edged/pi2/ask", input{}, "", false},
		{"other", input{}, "", false},
	}
	for _, test := range tests {
		got, problem, ok := testTopics.parse(test.topic)
		if got != test.want || problem != test.problem || ok != test.ok {
			t.Errorf("%s: %+v, %q, %v", test.topic, got, problem, ok)
		}
	}
}
