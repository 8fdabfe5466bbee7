package mqtt_test

import (
	"strings"
	"testing"
	"time"

	"edged/core/serve/dispatch"
	"edged/core/serve/door/mqtt"
)

// TestLimitLearned: the first answer beyond the broker's packet limit costs connections, the second none; smaller ones pass.
func TestLimitLearned(t *testing.T) {
	t.Parallel()
	s := startQuirky(t, quirks{maxPacket: 20_480})
	f := &fake{answer: func(req *dispatch.Request, sink dispatch.Sink) error {
		text := "small"
		if strings.Contains(req.Prompt, "large") {
			text = strings.Repeat("x", 30_000+1000*len(req.Prompt))
		}
		sink.Event(req, last(text, 1))
		return nil
	}}
	node := open(t, settings(s.address()), f, true)
	l := listen(t, s.address())
	const tooLarge = "answer_too_large"
	first := func(topic string) string {
		t.Helper()
		return l.until(t, topic, 1, 60*time.Second)[0].payload
	}
	l.publish(t, "edged/pi/request/c", `{"id":"a","prompt":"large"}`)
	if got := first("edged/pi/response/c/a"); !strings.Contains(got, tooLarge) {
		t.Fatalf("%.200s", got)
	}
	cost := s.closings()
	if cost == 0 {
		t.Fatal("the broker took it")
	}
	eventually(t, "the limit is learned, with the acknowledgement of the error", func() bool {
		return strings.Contains(node.log.String(), "replaced by answer_too_large at once")
	})
	l.publish(t, "edged/pi/request/c", `{"id":"b","prompt":"small"}`)
	if got := first("edged/pi/response/c/b"); !strings.Contains(got, "small") {
		t.Errorf("%.200s", got)
	}
	l.publish(t, "edged/pi/request/c", `{"id":"c","prompt":"large"}`)
	if got := first("edged/pi/response/c/c"); !strings.Contains(got, tooLarge) {
		t.Errorf("%.200s", got)
	}
	l.publish(t, "edged/pi/ask", "a large one")
	if got := first("edged/pi/answer"); !strings.HasPrefix(got, "error: "+tooLarge) {
		t.Errorf("%.200s", got)
	}
	if n := s.closings(); n != cost {
		t.Errorf("the later answers cost %d more connections", n-cost)
	}
}

// TestLimitProbed: a check finds the largest payload that passes, whether the broker closes the connection beyond it or drops what it
// has acknowledged.
func TestLimitProbed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		start func(*testing.T) string
		want  string
	}{
		{"closes", func(t *testing.T) string { t.Helper(); return startQuirky(t, quirks{maxPacket: 20_480}).address() }, "set mqtt.max_payload to 19"},
		{"drops", func(t *testing.T) string {
			t.Helper()
			return startMosquitto(t, "allow_anonymous true", "message_size_limit 300000").address()
		}, "set mqtt.max_payload to 29"},
		{"takes all", func(t *testing.T) string { t.Helper(); return startMosquitto(t, "allow_anonymous true").address() }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			found, err := mqtt.Probe(t.Context(), mqtt.Options{Node: "pi", Config: settings(test.start(t))})
			if err != nil {
				t.Fatal(err)
			}
			fix := ""
			for _, f := range found {
				fix += f.Fix
			}
			if !strings.Contains(fix, test.want) || test.want == "" && fix != "" {
				t.Errorf("%+v", found)
			}
		})
	}
}

// TestRetainProbed: a check names a broker that delivers retained messages without the flag, and leaves none there.
func TestRetainProbed(t *testing.T) {
	t.Parallel()
	for name, without := range map[string]bool{"with": false, "without": true} {
		s := startQuirky(t, quirks{noFlag: without})
		found, err := mqtt.Probe(t.Context(), mqtt.Options{Node: "pi", Config: settings(s.address())})
		if err != nil {
			t.Fatal(err)
		}
		if said := len(found) == 1 && strings.Contains(found[0].Text, "without the retain flag"); said != without || !without && len(found) > 0 {
			t.Errorf("%s: %+v", name, found)
		}
		eventually(t, "the retained probe is removed", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return len(s.retained) == 0
		})
	}
}
