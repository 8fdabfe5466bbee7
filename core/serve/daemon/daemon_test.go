package daemon_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"edged/core/config"
	"edged/core/protocol"
	"edged/core/serve/daemon"
	"edged/core/serve/door/mqtt"
	"edged/core/serve/pluginhost"
)

// lines is a log that a test can read.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// node is a daemon that runs, and a client beside it.
type node struct {
	daemon.Address
	model  string
	log    *lines
	client paho.Client
	got    chan paho.Message
	stop   func() error // ends it and returns what Run returned
}

// configure makes a configuration over the fake plugins. troubles are files that tell them to misbehave.
func configure(t *testing.T, troubles ...string) *config.Config {
	t.Helper()
	dir := t.TempDir()
	c := config.Default()
	c.Node.Name, c.Node.ShutdownGrace = "n", 4*time.Second
	c.MQTT.Listen = "127.0.0.1:0"
	c.MQTT.StatsInterval = time.Second
	c.Model.Path = filepath.Join(dir, "model")
	c.Backend.Name = "fake"
	c.Adapters.Dir = filepath.Join(dir, "adapters")
	c.Plugins.Dir = pluginsDir(t)
	c.State.Dir = filepath.Join(dir, "state")
	for _, file := range append(troubles, "model") {
		touch(t, filepath.Join(dir, file))
	}
	for _, name := range []string{"good", "bad"} {
		dropAdapter(t, c, name, 1)
	}
	c.Adapters.Settle = 50 * time.Millisecond
	return c
}

// dropAdapter writes an adapter of rank 1 all whose bytes are value.
func dropAdapter(t *testing.T, c *config.Config, name string, value byte) {
	t.Helper()
	folder := filepath.Join(c.Adapters.Dir, name)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	const header = `{"base_model.model.q.lora_A.weight":{"dtype":"F32","shape":[1,4],"data_offsets":[0,16]},` +
		`"base_model.model.q.lora_B.weight":{"dtype":"F32","shape":[4,1],"data_offsets":[16,32]}}`
	tensors := append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)
	tensors = append(tensors, bytes.Repeat([]byte{value}, 32)...)
	for file, data := range map[string][]byte{
		"adapter_config.json": []byte(`{"peft_type":"LORA","r":1,"lora_alpha":1,"target_modules":["q"]}`), "adapter_model.safetensors": tensors,
	} {
		if err := os.WriteFile(filepath.Join(folder, file), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func touch(t *testing.T, file string) {
	t.Helper()
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// start runs a daemon and waits until it is online.
func start(t *testing.T, c *config.Config) *node {
	t.Helper()
	return startWith(t, c, slog.LevelInfo)
}

func startWith(t *testing.T, c *config.Config, level slog.Level) *node {
	t.Helper()
	n := &node{model: c.Model.Path, log: &lines{}, got: make(chan paho.Message, 10_000)}
	ctx, cancel := context.WithCancel(t.Context())
	online := make(chan daemon.Address, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- daemon.Run(ctx, daemon.Options{
			Config: c, Log: slog.New(slog.NewTextHandler(n.log, &slog.HandlerOptions{Level: level})), Online: func(a daemon.Address) { online <- a },
		})
	}()
	n.stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(10 * time.Second):
			return errors.New("Run did not return within 10 s")
		}
	})
	t.Cleanup(func() {
		if err := n.stop(); err != nil {
			t.Errorf("run: %v", err)
		}
		if t.Failed() {
			t.Log(n.log)
		}
	})
	select {
	case n.Address = <-online:
	case err := <-ended:
		ended <- err
		t.Fatalf("run: %v\n%s", err, n.log)
	case <-time.After(60 * time.Second):
		t.Fatalf("not online after 20 s\n%s", n.log)
	}
	n.client = paho.NewClient(paho.NewClientOptions().AddBroker(n.Broker).SetClientID("test"))
	n.do(t, n.client.Connect())
	n.do(t, n.client.Subscribe("edged/#", 1, func(_ paho.Client, m paho.Message) { n.got <- m }))
	return n
}

func (n *node) do(t *testing.T, token paho.Token) {
	t.Helper()
	if !token.WaitTimeout(10*time.Second) || token.Error() != nil {
		t.Fatalf("MQTT: %v", token.Error())
	}
}

func (n *node) publish(t *testing.T, topic, payload string) {
	t.Helper()
	n.do(t, n.client.Publish(topic, 1, false, payload))
}

// until reads messages until one satisfies want, and returns it.
func (n *node) until(t *testing.T, what string, want func(topic string, payload []byte) bool) paho.Message {
	t.Helper()
	timeout := time.After(60 * time.Second)
	for {
		select {
		case m := <-n.got:
			if want(m.Topic(), m.Payload()) {
				return m
			}
		case <-timeout:
			t.Fatalf("no %s after 20 s\n%s", what, n.log)
		}
	}
}

// answer reads the events of a request and returns its last one, and its deltas of the last attempt joined.
func (n *node) answer(t *testing.T, id string) (last mqtt.Event, deltas string) {
	t.Helper()
	attempt := 0
	n.until(t, "last event of "+id, func(topic string, payload []byte) bool {
		if topic != n.Topics.Response("", id) {
			return false
		}
		var ev mqtt.Event
		if err := json.Unmarshal(payload, &ev); err != nil {
			t.Fatalf("%s: %v", payload, err)
		}
		if ev.Attempt != attempt {
			attempt, deltas = ev.Attempt, ""
		}
		deltas += ev.Delta
		last = ev
		return ev.Done
	})
	return last, deltas
}

func TestServes(t *testing.T) {
	c := configure(t)
	c.HTTP.Listen = "127.0.0.1:0"
	n := start(t, c)
	n.publish(t, "edged/n/ask", "hello")
	m := n.until(t, "answer", func(topic string, _ []byte) bool { return topic == "edged/n/answer" })
	if want := shouted("hello", 512); string(m.Payload()) != want {
		t.Errorf("ask: %.40q…, want %.40q…", m.Payload(), want)
	}

	n.publish(t, "edged/n/request", `{"id":"a","prompt":"abc","max_tokens":20,"stream":true,"adapter":"good"}`)
	last, deltas := n.answer(t, "a")
	if last.Error != nil || *last.Text != shouted("abc", 20) || deltas != *last.Text || last.Model != "model" || last.Adapters[0].Name != "good" {
		t.Errorf("request: %+v, deltas %q", last, deltas)
	}
	n.publish(t, "edged/n/request", `{"id":"b","prompt":"abc","adapter":"bad"}`)
	if last, _ := n.answer(t, "b"); last.Error == nil || last.Error.Code != "adapter_not_found" || !strings.Contains(last.Error.Message, "no such module") {
		t.Errorf("a rejected adapter: %+v", last)
	}
	ask, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+n.HTTP+"/v1/completions", strings.NewReader(`{"model":"bad","prompt":"abc"}`))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(ask)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusNotFound || !strings.Contains(string(body), "this adapter was rejected: ") || !strings.Contains(string(body), "no such module") {
		t.Errorf("a rejected adapter over HTTP: %d: %s", resp.StatusCode, body)
	}
	n.publish(t, "edged/n/request", `{"id":"c","prompt":"abc","max_tokens":9000,"stream":true}`)
	n.until(t, "delta", func(topic string, payload []byte) bool { return bytes.Contains(payload, []byte(`"delta"`)) })
	n.publish(t, "edged/n/cancel", "c")
	if last, _ := n.answer(t, "c"); last.Finish != "cancelled" || !strings.HasPrefix(shouted("abc", 9000), *last.Text) || *last.Text == "" {
		t.Errorf("cancelled: %+v", last)
	}
	n.until(t, "stats", func(topic string, payload []byte) bool {
		return topic == "edged/n/stats" && bytes.Contains(payload, []byte(`"cancelled":1`))
	})
}

func TestRetainedTopics(t *testing.T) {
	n := start(t, configure(t))
	want := map[string]string{
		"edged/n/availability":  `online`,
		"edged/n/status":        `"state":"ready"`,
		"edged/n/adapters/good": `"state":"` + mqtt.AdapterActive + `"`,
		"edged/n/adapters/bad":  `no such module`,
	}
	n.until(t, "retained topics", func(topic string, payload []byte) bool {
		if text, ok := want[topic]; ok && bytes.Contains(payload, []byte(text)) {
			delete(want, topic)
		}
		return len(want) == 0
	})
	if err := n.stop(); err != nil {
		t.Error(err)
	}
}

func TestBackendKilledMidway(t *testing.T) {
	n := start(t, configure(t))
	pids := n.children(t)
	for round := range 3 {
		id := string(rune('a' + round))
		n.publish(t, "edged/n/request", `{"id":"`+id+`","prompt":"abcdefg","max_tokens":200,"stream":true}`)
		seen := 0
		n.until(t, "deltas", func(topic string, payload []byte) bool {
			if bytes.Contains(payload, []byte(`"delta"`)) {
				seen++
			}
			return seen > 3
		})
		if err := syscall.Kill(pids["backend"], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		last, deltas := n.answer(t, id)
		if last.Error != nil || *last.Text != shouted("abcdefg", 200) || deltas != *last.Text || last.Attempt != 2 {
			t.Fatalf("after a kill: attempt %d, error %+v", last.Attempt, last.Error)
		}
		pids = n.children(t)
	}
	n.publish(t, "edged/n/request", `{"id":"z","prompt":"abc","max_tokens":20}`)
	if err := syscall.Kill(pids["tokenizer"], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	n.publish(t, "edged/n/request", `{"id":"y","prompt":"abc","max_tokens":20}`)
	if last, _ := n.answer(t, "y"); last.Error != nil {
		t.Errorf("after the tokenizer was killed: %+v", last.Error)
	}
}

func TestRequestThatKillsTheTokenizer(t *testing.T) {
	n := start(t, configure(t))
	n.publish(t, "edged/n/request", `{"id":"a","prompt":"kill the tokenizer"}`)
	if last, _ := n.answer(t, "a"); last.Error == nil || last.Error.Code != "quarantined" {
		t.Errorf("%+v", last)
	}
	n.publish(t, "edged/n/request", `{"id":"b","prompt":"abc","max_tokens":3}`)
	if last, _ := n.answer(t, "b"); last.Error != nil || *last.Text != "ABC" {
		t.Errorf("%+v", last)
	}
}

func TestCrashLoopIsDegradedAndAnswersErrors(t *testing.T) {
	c := configure(t)
	n := start(t, c)
	dir := filepath.Dir(c.Model.Path)
	touch(t, filepath.Join(dir, "crash-loop")) // from now on the model cannot be loaded
	if err := syscall.Kill(n.children(t)["backend"], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	n.until(t, "degraded", func(topic string, payload []byte) bool {
		return topic == "edged/n/status" && bytes.Contains(payload, []byte(`"degraded"`))
	})
	n.publish(t, "edged/n/request", `{"id":"a","prompt":"abc","max_tokens":3}`)
	if last, _ := n.answer(t, "a"); last.Error == nil || last.Error.Code != "backend_unavailable" {
		t.Errorf("%+v", last)
	}
	if err := os.Remove(filepath.Join(dir, "crash-loop")); err != nil {
		t.Fatal(err)
	}
	n.until(t, "ready", func(topic string, payload []byte) bool {
		return topic == "edged/n/status" && bytes.Contains(payload, []byte(`"ready"`))
	})
	n.publish(t, "edged/n/request", `{"id":"b","prompt":"abc","max_tokens":3}`)
	if last, _ := n.answer(t, "b"); last.Error != nil {
		t.Errorf("%+v", last)
	}
}

func TestShutdownWithinGrace(t *testing.T) {
	c := configure(t)
	c.Inbox.Store = "memory" // with a journal on disk the long one would be left for the next start instead
	n := start(t, c)
	pids := n.children(t)
	n.publish(t, "edged/n/request", `{"id":"short","prompt":"abc","max_tokens":3}`)
	n.publish(t, "edged/n/request", `{"id":"long","prompt":"abc","max_tokens":9000}`)
	n.until(t, "accepted", func(topic string, payload []byte) bool { return topic == "edged/n/response/long" })
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	// That the long one was cut off shows that the grace ended; when it does is tested in fake time, beside the dispatcher.
	ends := map[string]string{}
	offline := false
	var states []string
	for len(n.got) > 0 {
		m := <-n.got
		var ev mqtt.Event
		if json.Unmarshal(m.Payload(), &ev) == nil && ev.Done {
			ends[ev.ID] = "answered"
			if ev.Error != nil {
				ends[ev.ID] = string(ev.Error.Code)
			}
		}
		offline = offline || m.Topic() == "edged/n/availability" && string(m.Payload()) == "offline"
		var status mqtt.Status
		if m.Topic() == "edged/n/status" && json.Unmarshal(m.Payload(), &status) == nil {
			states = append(states, status.State)
		}
	}
	if n := len(states); n < 2 || states[n-2] != mqtt.StateStopping || states[n-1] != mqtt.StateStopped {
		t.Errorf("states %q: the last two want to be stopping and stopped", states)
	}
	if ends["short"] != "answered" || ends["long"] != "shutting_down" || !offline {
		t.Errorf("ends %v, offline %v", ends, offline)
	}
	for name, pid := range pids {
		if syscall.Kill(pid, 0) == nil {
			t.Errorf("the %s is still there", name)
		}
	}
}

func TestDurableInboxGoesOnAfterARestart(t *testing.T) {
	c := configure(t)
	c.Inbox.Store, c.Node.ShutdownGrace = "disk", 200*time.Millisecond
	n := start(t, c)
	n.publish(t, "edged/n/request", `{"id":"done","prompt":"abc","max_tokens":5}`)
	done, _ := n.answer(t, "done")
	n.publish(t, "edged/n/request", `{"id":"left","prompt":"abcde","max_tokens":400,"stream":true}`)
	n.until(t, "delta", func(_ string, payload []byte) bool { return bytes.Contains(payload, []byte(`"delta"`)) })
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	for len(n.got) > 0 {
		if m := <-n.got; m.Topic() == "edged/n/response/left" && bytes.Contains(m.Payload(), []byte(`"done":true`)) {
			t.Errorf("a journalled request was ended: %s", m.Payload())
		}
	}
	touch(t, filepath.Join(filepath.Dir(c.Model.Path), "slow-start")) // so that the client is there before the answer
	n = start(t, c)
	left, deltas := n.answer(t, "left")
	if left.Error != nil || *left.Text != shouted("abcde", 400) || left.Attempt < 2 || !strings.HasSuffix(*left.Text, deltas) {
		t.Errorf("after the restart: %+v", left)
	}
	n.publish(t, "edged/n/request", `{"id":"done","prompt":"abc","max_tokens":5}`)
	if again, _ := n.answer(t, "done"); again.Error != nil || *again.Text != *done.Text || again.Timings != done.Timings {
		t.Errorf("a repeat got %+v, the first answer was %+v", again, done)
	}
}

func TestModelThatCannotBeServed(t *testing.T) {
	for file, says := range map[string]string{"bad-model": "cut off at byte 7", "no-tokenizer": "no vocabulary", "few-rows": "256 pieces and its embedding only 100 rows"} {
		t.Run(file, func(t *testing.T) {
			c := configure(t, file)
			err := daemon.Run(t.Context(), daemon.Options{Config: c, Log: slog.New(slog.DiscardHandler), Online: func(daemon.Address) { t.Error("online") }})
			if !errors.Is(err, protocol.ErrModel) || !strings.Contains(err.Error(), says) {
				t.Errorf("got %v", err)
			}
		})
	}
	c := configure(t)
	c.Backend.Name = "nonsense"
	if err := daemon.Run(t.Context(), daemon.Options{Config: c, Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "backend-nonsense") {
		t.Errorf("an unknown backend: %v", err)
	}
}

// A plugin that has work and does not get on with it is killed; what ran in it goes on.
func TestStalledPlugins(t *testing.T) {
	c := configure(t)
	c.Plugins.StallTimeout = 4 * time.Second // far beyond what a busy machine takes for a token here
	n := start(t, c)
	dir := filepath.Dir(c.Model.Path)
	touch(t, filepath.Join(dir, "stuck"))
	n.publish(t, "edged/n/request", `{"id":"a","prompt":"abcdefg","max_tokens":20}`)
	if last, _ := n.answer(t, "a"); last.Error != nil || *last.Text != shouted("abcdefg", 20) || last.Attempt < 2 {
		t.Errorf("after a stall: %+v", last)
	}
	if !strings.Contains(n.log.String(), "plugin makes no progress") {
		t.Error("the log does not say why")
	}
	touch(t, filepath.Join(dir, "stuck-tokenizer"))
	n.publish(t, "edged/n/request", `{"id":"b","prompt":"abcdefg","max_tokens":20}`)
	if last, _ := n.answer(t, "b"); last.Error != nil || *last.Text != shouted("abcdefg", 20) {
		t.Errorf("after the tokenizer stalled: %+v", last)
	}
}

// A plugin that says once that it is not available, and lives on, does not end the service.
func TestUnavailableOnce(t *testing.T) {
	c := configure(t)
	n := start(t, c)
	for i, file := range []string{"unavailable", "unavailable-tokenizer"} {
		touch(t, filepath.Join(filepath.Dir(c.Model.Path), file))
		for _, id := range []string{"a", "b"} { // the one that was told so, and the next
			id += strconv.Itoa(i)
			n.publish(t, "edged/n/request", `{"id":"`+id+`","prompt":"abcdefg","max_tokens":20}`)
			if last, _ := n.answer(t, id); last.Error != nil || *last.Text != shouted("abcdefg", 20) {
				t.Errorf("%s, %s: %+v", file, id, last)
			}
		}
	}
}

// More deaths in a row than make a crash loop are none where each life has answered.
func TestDeathsBetweenAnswersAreNoCrashLoop(t *testing.T) {
	n := start(t, configure(t))
	for i := range 8 {
		id := string(rune('a' + i))
		n.publish(t, "edged/n/request", `{"id":"`+id+`","prompt":"abc","max_tokens":3}`)
		if last, _ := n.answer(t, id); last.Error != nil || *last.Text != "ABC" {
			t.Fatalf("round %d: %+v", i, last)
		}
		if err := syscall.Kill(n.children(t)["backend"], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Contains(n.log.String(), "failures=2") {
		t.Error("deaths were counted together")
	}
}

func TestPinnedPlugins(t *testing.T) {
	c := configure(t)
	var pins []string
	for _, name := range []string{"backend-fake", "tokenizer-bpe"} {
		data, err := os.ReadFile(filepath.Join(c.Plugins.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		pins = append(pins, fmt.Sprintf("%s=%x", name, sha256.Sum256(data)))
	}
	c.Plugins.SHA256 = pins
	n := start(t, c)
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(){
		"changed":           func() { c.Plugins.SHA256 = []string{pins[1], pins[0][:len(pins[0])-4] + "0000"} },
		"not among them":    func() { c.Plugins.SHA256 = pins[1:] },
		"not the tokenizer": func() { c.Plugins.SHA256 = pins[:1] },
	} {
		change()
		if err := daemon.Run(t.Context(), daemon.Options{Config: c, Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, pluginhost.ErrChecksum) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// children finds the plugins of this process by what they print of themselves in the log: the latest of each.
func (n *node) children(t *testing.T) map[string]int {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		out := map[string]int{}
		for line := range strings.SplitSeq(n.log.String(), "\n") {
			if !strings.Contains(line, `msg="plugin started"`) {
				continue
			}
			for kind, name := range map[string]string{"backend": "backend-fake", "tokenizer": "tokenizer-bpe"} {
				if _, pid, ok := strings.Cut(line, " pid="); ok && strings.Contains(line, "plugin="+name) {
					out[kind] = atoi(pid)
				}
			}
		}
		if len(out) == 2 && alive(out["backend"]) && alive(out["tokenizer"]) {
			return out
		}
		if time.Now().After(deadline) {
			t.Fatalf("plugins: %v\n%s", out, n.log)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func atoi(s string) int {
	n := 0
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			break
		}
		n = 10*n + int(c-'0')
	}
	return n
}
