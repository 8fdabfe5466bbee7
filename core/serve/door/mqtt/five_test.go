package mqtt_test

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"

	"edged/core/serve/door/mqtt"
	"edged/core/serve/door/mqtt/link"
)

// TestResponseTopic: a client of MQTT 5 that names a response topic gets one message there, with its correlation data; what it may not name
// is said where it is answered otherwise, and the message's expiry is the request's deadline.
func TestResponseTopic(t *testing.T) {
	t.Parallel()
	for name, start := range brokers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			c := settings(s.address())
			c.Version, c.ReplyToAllow = link.Version5, []string{"home/+/answers"}
			f := &fake{}
			open(t, c, f, true)
			got := make(chan *link.Received, 64)
			client, err := link.From(&c, "").Dial(t.Context(), link.Dialling{ID: "asker", Clean: true, OnMessage: func(m *link.Received) {
				m.Ack()
				got <- m
			}})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			filters := map[string]byte{"home/#": 1, "edged/pi/response/#": 1, "edged/pi/answer/#": 1}
			if err := client.Subscribe(t.Context(), filters); err != nil {
				t.Fatal(err)
			}
			for _, test := range []struct {
				topic, payload, response string
				on, text, kind           string // of the one message that comes
				tagged                   bool
			}{
				{"edged/pi/ask", "hello", "home/kitchen/answers", "home/kitchen/answers", "hello", "text/plain; charset=utf-8", true},
				{"edged/pi/ask/shed", "hello", "edged/pi/answer/shed", "edged/pi/answer/shed", "hello", "text/plain; charset=utf-8", true},
				{"edged/pi/request/k", `{"prompt":"hi"}`, "home/kitchen/answers", "home/kitchen/answers", `"text":"hi"`, "application/json", true},
				{"edged/pi/request/k", `{"id":"x","prompt":"hi"}`, "edged/pi/response/k/rr1", "edged/pi/response/k/rr1", `"text":"hi"`, "application/json", true},
				{"edged/pi/request/k", `{"id":"v","prompt":"hi","max_tokens":-1}`, "home/kitchen/answers", "home/kitchen/answers", `"id":"v","attempt":1,"seq":0,"done":true,"error":{"code":"invalid_request"`, "application/json", true},
				{"edged/pi/request/k", `no JSON`, "edged/pi/response/k/rr1", "edged/pi/response/k/rr1", `"code":"invalid_request"`, "application/json", true},
				{"edged/pi/ask", "\xff", "home/kitchen/answers", "home/kitchen/answers", "error: invalid_request: the prompt is not UTF-8", "text/plain; charset=utf-8", true},
				{"edged/pi/request/k", `{"id":"y","prompt":"hi"}`, "edged/pi/response/other/rr1", "edged/pi/response/k/y", "response topic: matches none of mqtt.reply_to_allow", "application/json", true},
				{"edged/pi/request/k", `{"id":"z","prompt":"hi"}`, "edged/pi/ask", "edged/pi/response/k/z", "response topic: is a topic of edged's own", "application/json", true},
			} {
				client.Publish(link.Message{Topic: test.topic, QoS: 1, Payload: []byte(test.payload), Properties: link.Properties{
					ResponseTopic: test.response, Correlation: []byte{0, 1, 255}, Expires: true, Expiry: 90 * time.Second,
				}})
				select {
				case m := <-got:
					if m.Topic != test.on || !strings.Contains(string(m.Payload), test.text) || m.ContentType != test.kind ||
						(string(m.Correlation) == "\x00\x01\xff") != test.tagged {
						t.Errorf("%s with %s: got %+v: %s", test.topic, test.response, m.Message, m.Payload)
					}
					var e mqtt.Event
					if test.kind == "application/json" && (json.Unmarshal(m.Payload, &e) != nil || !e.Done) {
						t.Errorf("%s is not the last event", m.Payload)
					}
				case <-time.After(15 * time.Second):
					t.Fatalf("%s with %s: nothing came", test.topic, test.response)
				}
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			for _, r := range f.requests {
				if r.Deadline <= 0 || r.Deadline > 90*time.Second {
					t.Errorf("a deadline of %v, of a message that expires after 90 s", r.Deadline)
				}
			}
		})
	}
}

// TestMosquittoRR: the request/response client of mosquitto gets the answer, which is the one message that it waits for.
func TestMosquittoRR(t *testing.T) {
	t.Parallel()
	rr, err := exec.LookPath("mosquitto_rr")
	if err != nil {
		t.Skip("mosquitto_rr (mosquitto-clients) is not here")
	}
	m := startMosquitto(t, "allow_anonymous true")
	open(t, settings(m.address()), &fake{}, true)
	host, port, _ := strings.Cut(m.address(), ":")
	for _, test := range []struct{ topic, response, payload, want string }{
		{"edged/pi/ask/me", "edged/pi/answer/me", "Hello", "Hello"},
		{"edged/pi/request/me", "edged/pi/response/me/rr", `{"prompt":"Hello"}`, `"text":"Hello"`},
	} {
		out, err := exec.CommandContext(t.Context(), rr, "-V", "5", "-h", host, "-p", port, "-W", "20", "-q", "1",
			"-t", test.topic, "-e", test.response, "-m", test.payload).CombinedOutput()
		if err != nil || !strings.Contains(string(out), test.want) {
			t.Errorf("%s: %v: %s", test.topic, err, out)
		}
	}
}
