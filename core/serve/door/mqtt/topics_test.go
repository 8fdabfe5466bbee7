package mqtt

import (
	"testing"
)

// TestBase: topics begin with the base of the configuration, and those of the usual one are not the node's then.
func TestBase(t *testing.T) {
	topics := Topics{Base: "house/llm", Node: "pi", Group: "g"}
	for topic, want := range map[string]input{
		"house/llm/pi/ask/shed":     {level: "ask", name: "shed"},
		"house/llm/@g/request/c":    {level: "request", name: "c", group: "g"},
		"edged/pi/ask/shed":         {},
		"edged/@g/request/c":        {},
		"house/pi/ask":              {},
		"house/llm2/pi/ask":         {},
		"house/llm/pi/availability": {},
	} {
		if got, problem, ok := topics.parse(topic); got != want || problem != "" || ok != (want != input{}) {
			t.Errorf("%s: %+v, %q, %v", topic, got, problem, ok)
		}
	}
	for got, want := range map[string]string{
		topics.Response("c", "r1"): "house/llm/pi/response/c/r1",
		topics.Availability():      "house/llm/pi/availability",
		topics.log():               "house/llm/@g/log",
		topics.member("pi"):        "house/llm/@g/members/pi",
		topics.ClientID():          "edged-pi@house/llm",
		testTopics.ClientID():      "edged-pi",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	// Inputs of nodes are no place for answers, here or below the usual base.
	for topic, allowed := range map[string]bool{
		"house/llm/other/request": false, "house/llm/other/answer": true, "edged/other/request": false, "edged/other/response/x": true,
		"house/other/request": true,
	} {
		if why := topics.replyTo(topic, []string{"#"}); (why == "") != allowed {
			t.Errorf("%s: %q", topic, why)
		}
	}
}

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
		{"edged/pi/rerank/c", input{level: "rerank", name: "c"}, "", true},
		{"edged/@g/rerank", input{level: "rerank", group: "g"}, "", true},
		{"edged/@g/request/c", input{level: "request", name: "c", group: "g"}, "", true},
		{"edged/@g/cancel", input{level: "cancel", group: "g"}, "", true},
		{"edged/@g/ask/shed", input{level: "ask", name: "shed", group: "g"}, "", true},
		{"edged/@g/embed", input{level: "embed", group: "g"}, "", true},
		{"edged/@g/log", input{}, "", false},
		{"edged/@g/members/pi", input{}, "", false},
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
