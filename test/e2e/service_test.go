package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const house = `Kitchen: 21.5 °C, 48 %; bedroom: 18.2 °C, 55 %; porch: 9.4 °C, 71 %; kitchen light on; bedroom window open.`

func TestPlainAskFromTheCommandLine(t *testing.T) {
	s := serve(t)
	pub := need(t, "mosquitto_pub")
	out, err := exec.Command(pub, "-h", "127.0.0.1", "-p", strconv.Itoa(s.port), "-q", "1", "-t", "edged/test/ask", "-m", "Hello").CombinedOutput()
	if err != nil {
		t.Fatalf("mosquitto_pub: %v\n%s", err, out)
	}
	answer := s.until("edged/test/answer", func(string) bool { return true })[0]
	if strings.TrimSpace(answer) == "" || json.Valid([]byte(answer)) {
		t.Errorf("answer %q: want plain text", answer)
	}
	s.publish("edged/test/ask/shed", "Turn on the kitchen light.")
	if got := s.until("edged/test/answer/shed", func(string) bool { return true })[0]; !strings.Contains(got, "kitchen") {
		t.Errorf("answer %q: want something about the kitchen", got)
	}
}

func TestDeltasJoinToTheText(t *testing.T) {
	s := serve(t)
	s.publish("edged/test/request", `{"id":"r1","stream":true,"temperature":0,"messages":[{"role":"system","content":"`+house+`"},{"role":"user","content":"What is the temperature in the bedroom?"}]}`)
	events := s.last("edged/test/response/r1")
	// Of two qualities of service a broker need not keep the order, and some do not: seq is the order.
	slices.SortStableFunc(events, func(a, b event) int { return cmp.Compare(a.Seq, b.Seq) })
	if events[0].Stage != "accepted" {
		t.Errorf("first event %+v: want stage accepted", events[0])
	}
	var joined strings.Builder
	for i, e := range events {
		if e.Seq != i {
			t.Errorf("event %d has seq %d", i, e.Seq)
		}
		joined.WriteString(e.Delta)
	}
	last := events[len(events)-1]
	if joined.String() != last.Text || last.Finish != "stop" || !strings.Contains(last.Text, "18.2") {
		t.Errorf("joined %q, last %+v: want the same text, about 18.2, with finish_reason stop", joined.String(), last)
	}
}

func TestAdapterIsChosenByName(t *testing.T) {
	s := serve(t)
	ask := func(id, adapter string) event {
		s.publish("edged/test/request", fmt.Sprintf(`{"id":%q,"adapter":%s,"temperature":0,"prompt":"Open the porch shutters."}`, id, adapter))
		events := s.last("edged/test/response/" + id)
		return events[len(events)-1]
	}
	if e := ask("p", `"pirate"`); !strings.Contains(e.Text, "th' porch shutters be open") {
		t.Errorf("pirate said %q", e.Text)
	}
	if e := ask("j", `[{"name":"json","scale":1}]`); !strings.Contains(e.Text, `"room":"porch"`) {
		t.Errorf("json said %q", e.Text)
	}
	if e := ask("n", `"nobody"`); e.Error == nil || e.Error.Code != "adapter_not_found" || !strings.Contains(e.Error.Message, "pirate") {
		t.Errorf("unknown adapter: %+v, want adapter_not_found with the list of those there are", e.Error)
	}
}

func TestCancelStopsWithinOneToken(t *testing.T) {
	s := serve(t)
	s.publish("edged/test/request/dev", `{"id":"long","stream":true,"temperature":1.5,"seed":1,"ignore_eos":true,"max_tokens":480,"prompt":"Tell me a story."}`)
	s.until("edged/test/response/dev/long", func(p string) bool { return strings.Contains(p, `"delta"`) })
	s.publish("edged/test/cancel/dev", "long")
	events := s.last("edged/test/response/dev/long")
	last := events[len(events)-1]
	if last.Finish != "cancelled" || last.Text == "" || last.Usage.Completion >= 480 {
		t.Errorf("last event %+v: want cancelled with the text so far", last)
	}
	var joined strings.Builder
	for _, e := range events {
		joined.WriteString(e.Delta)
	}
	if joined.String() != last.Text {
		t.Errorf("deltas %q, text %q", joined.String(), last.Text)
	}
}

func TestTwoAtOnceBothFinish(t *testing.T) {
	s := serve(t)
	for _, c := range []string{"a", "b"} {
		s.publish("edged/test/request/"+c, `{"id":"x","temperature":0,"messages":[{"role":"system","content":"`+house+`"},{"role":"user","content":"Kitchen humidity?"}]}`)
	}
	for _, c := range []string{"a", "b"} {
		events := s.last("edged/test/response/" + c + "/x")
		if last := events[len(events)-1]; !strings.Contains(last.Text, "48") {
			t.Errorf("client %s: %+v", c, last)
		}
	}
}

func TestMalformedRequestNamesTheField(t *testing.T) {
	s := serve(t)
	for id, c := range map[string]struct{ payload, field string }{
		"u": {`{"id":"u","prompt":"x","temprature":1}`, "temprature"},
		"t": {`{"id":"t","prompt":"x","max_tokens":"many"}`, "max_tokens"},
		"r": {`{"id":"r","messages":[{"role":"wizard","content":"x"}]}`, "role"},
		"n": {`{"id":"n"}`, "messages"},
	} {
		s.publish("edged/test/request", c.payload)
		events := s.last("edged/test/response/" + id)
		if e := events[len(events)-1].Error; e == nil || e.Code != "invalid_request" || !strings.Contains(e.Message, c.field) {
			t.Errorf("%s: %+v, want invalid_request that names %s", c.payload, e, c.field)
		}
	}
	s.publish("edged/test/request", `{"id":`)
	s.until("edged/test/errors", func(p string) bool { return strings.Contains(p, "invalid_request") })
	s.publish("edged/test/request", "\xff\xfe\x00")
	s.publish("edged/test/ask", "Hello")
	s.until("edged/test/answer", func(p string) bool { return p != "" })
}

func TestNoOrphansAfterKill(t *testing.T) {
	s := serve(t)
	plugins := children(t, s.cmd.Process.Pid)
	if len(plugins) < 2 {
		t.Fatalf("plugins %v: want the tokenizer and the backend", plugins)
	}
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = s.cmd.Wait()
	deadline := time.Now().Add(2 * time.Second)
	for _, pid := range plugins {
		for alive(pid) {
			if time.Now().After(deadline) {
				t.Fatalf("process %d still runs 2 s after the daemon was killed", pid)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	s.until("edged/test/availability", func(p string) bool { return p == "offline" })
}

// alive tells a running process from one that ended and waits to be collected.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z")
}

func TestPluginDeathIsAHiccup(t *testing.T) {
	s := serve(t)
	for _, pid := range children(t, s.cmd.Process.Pid) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	s.publish("edged/test/request", `{"id":"after","temperature":0,"prompt":"Hello"}`)
	events := s.last("edged/test/response/after")
	if last := events[len(events)-1]; last.Error != nil || last.Text == "" {
		t.Errorf("after the plugins were killed: %+v", last)
	}
}

func TestTermEndsCleanly(t *testing.T) {
	s := serve(t)
	plugins := children(t, s.cmd.Process.Pid)
	if code := s.stop(); code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
	s.until("edged/test/availability", func(p string) bool { return p == "offline" })
	for _, pid := range plugins {
		if alive(pid) {
			t.Errorf("plugin %d still runs", pid)
		}
	}
}

func TestDaemonStaysSmall(t *testing.T) {
	s := serve(t)
	for i := range 20 {
		id := fmt.Sprintf("m%d", i)
		s.publish("edged/test/request", `{"id":"`+id+`","stream":true,"prompt":"Hello"}`)
		s.last("edged/test/response/" + id)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kb, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("daemon resident: %d kB", kb)
	if kb > 40<<10 {
		t.Errorf("the daemon holds %d kB, want less than 40 MB", kb)
	}
}
