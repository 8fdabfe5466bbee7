package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// question is a request as a client publishes it.
type question struct {
	name    string
	id      string
	payload []byte
}

// demoAdapters are those of the demo's folder.
var demoAdapters = []string{"pirate", "deutsch", "json"}

// compareServices asks both services the same questions. Each is killed when it has answered them and asked
// again: then the answers are those that its journal kept. At last the new one takes over the old one's state
// folder, and is asked once more.
func compareServices(ctx context.Context, s settings, old, fresh string, r *report) error {
	questions, err := drawQuestions(s)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "edged-same-answers-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	oldState, freshState := filepath.Join(dir, "old"), filepath.Join(dir, "new")

	want, err := answersOf(ctx, s, old, oldState, questions)
	if err != nil {
		return fmt.Errorf("the old service: %w", err)
	}
	for _, round := range []struct {
		name, programs, state string
	}{
		{"answered", fresh, freshState},
		{"journalled by the old build", old, oldState},
		{"journalled by the new build", fresh, freshState},
		{"journalled by the old build, read by the new one", fresh, oldState},
	} {
		got, err := answersOf(ctx, s, round.programs, round.state, questions)
		if err != nil {
			return fmt.Errorf("%s: %w", round.name, err)
		}
		r.compare(prefixed("service, "+round.name, want), prefixed("service, "+round.name, got))
	}
	return nil
}

// drawQuestions draws from the demo's held-out sets.
func drawQuestions(s settings) ([]question, error) {
	files, err := filepath.Glob(filepath.Join(s.shared, "demo", "eval", "*.jsonl"))
	if err != nil {
		return nil, err
	}
	type line struct {
		Messages json.RawMessage `json:"messages"`
		Prompt   string          `json:"prompt"`
	}
	var lines []line
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		for sc := bufio.NewScanner(f); sc.Scan(); {
			var l line
			if err := json.Unmarshal(sc.Bytes(), &l); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			lines = append(lines, l)
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("%s: the demo's questions (eval/*.jsonl) are not there", s.shared)
	}
	rng := rand.New(rand.NewPCG(s.seed, 0)) //nolint:gosec // to be the same again is what it is for
	var out []question
	for i := range s.journal {
		l := lines[rng.IntN(len(lines))]
		q := map[string]any{
			"id":           fmt.Sprintf("q%d", i),
			"max_tokens":   1 + rng.IntN(40),
			"seed":         rng.Uint64() >> 12,
			"logprobs":     true,
			"top_logprobs": rng.IntN(4),
		}
		if l.Messages != nil {
			q["messages"] = l.Messages
		} else {
			q["prompt"] = l.Prompt
		}
		if rng.IntN(2) == 0 {
			q["temperature"] = 0.7
		}
		if adapter := append(demoAdapters, "")[rng.IntN(len(demoAdapters)+1)]; adapter != "" {
			q["adapter"] = adapter
		}
		if rng.IntN(4) == 0 {
			q["n"] = 2
		}
		if rng.IntN(4) == 0 {
			q["response_format"] = map[string]string{"type": "json_object"}
		}
		if rng.IntN(4) == 0 {
			q["stop"] = []string{"."}
		}
		payload, err := json.Marshal(q)
		if err != nil {
			return nil, err
		}
		out = append(out, question{fmt.Sprintf("question %d", i), fmt.Sprintf("q%d", i), payload})
	}
	return out, nil
}

// answersOf runs a service over a state folder, asks it the questions, kills it as a power cut would, and
// returns its last events without what no two runs share.
func answersOf(ctx context.Context, s settings, programs, state string, questions []question) (answers map[string]string, err error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	demo := filepath.Join(s.shared, "demo")
	config := state + ".toml"
	text := fmt.Sprintf("[node]\nname = \"same\"\n[mqtt]\nbroker = \"embedded\"\nlisten = \"127.0.0.1:%d\"\n[model]\npath = %q\n"+
		"[adapters]\ndir = %q\n[backend]\nname = \"generic\"\nthreads_prefill = 1\nthreads_decode = 1\n[state]\ndir = %q\n",
		port, filepath.Join(demo, "hf-nf4"), filepath.Join(demo, "adapters"), state)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	var said bytes.Buffer
	cmd := exec.CommandContext(
		ctx,
		filepath.Join(programs, "edged"),
		"run",
		"--config",
		config,
	) //nolint:gosec // to run it is what it is for
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, said.Bytes()[max(0, said.Len()-2000):])
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()

	type message struct{ topic, payload string }
	messages := make(chan message, 1024)
	client := mqtt.NewClient(
		mqtt.NewClientOptions().AddBroker(fmt.Sprintf("tcp://127.0.0.1:%d", port)).SetClientID("same").SetOrderMatters(true).
			SetConnectRetry(true).SetConnectRetryInterval(50 * time.Millisecond),
	)
	if err := done(ctx, client.Connect()); err != nil {
		return nil, err
	}
	defer client.Disconnect(0)
	err = done(ctx, client.Subscribe("edged/same/#", 1, func(_ mqtt.Client, m mqtt.Message) {
		select {
		case messages <- message{m.Topic(), string(m.Payload())}:
		case <-ctx.Done():
		}
	}))
	if err != nil {
		return nil, err
	}
	answers = map[string]string{}
	awaited := map[string]string{"edged/same/availability": "online"} // topics, and what their payload must hold before the first question
	for _, name := range demoAdapters {
		awaited["edged/same/adapters/"+name] = `"state":"active"`
	}
	ask := func() error { // one at a time, so that all have the same company
		if len(awaited) > 0 || len(answers) == len(questions) {
			return nil
		}
		return done(ctx, client.Publish("edged/same/request/c", 1, false, questions[len(answers)].payload))
	}
	for len(answers) < len(questions) {
		var m message
		select {
		case m = <-messages:
		case <-ctx.Done():
			return nil, fmt.Errorf("%d of %d answers came: %w", len(answers), len(questions), ctx.Err())
		}
		if holds, waits := awaited[m.topic]; waits {
			if strings.Contains(m.payload, holds) {
				delete(awaited, m.topic)
				if err := ask(); err != nil {
					return nil, err
				}
			}
			continue
		}
		q := questions[len(answers)]
		if m.topic != "edged/same/response/c/"+q.id || !strings.Contains(m.payload, `"done":true`) {
			continue
		}
		if answers[q.name], err = lasting(m.payload); err != nil {
			return nil, err
		}
		if err := ask(); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// lasting is a last event without its times, its place in the stream and what the cache spared.
func lasting(payload string) (string, error) {
	d := json.NewDecoder(strings.NewReader(payload))
	d.UseNumber() // the digits as they were written
	var event map[string]any
	if err := d.Decode(&event); err != nil {
		return "", fmt.Errorf("an answer is no JSON: %w: %s", err, payload)
	}
	delete(event, "timings")
	delete(event, "seq")
	if usage, ok := event["usage"].(map[string]any); ok {
		delete(usage, "cached_tokens")
	}
	out, err := json.Marshal(event)
	return string(out), err
}

// done waits for a token of the client library.
func done(ctx context.Context, t mqtt.Token) error {
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return errors.Join(ctx.Err(), t.Error())
	}
}

func freePort(ctx context.Context) (int, error) {
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0, fmt.Errorf("%v is no TCP address", l.Addr())
	}
	return addr.Port, nil
}
