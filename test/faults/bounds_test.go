package faults

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"edged/test/brokers"
	"edged/test/oracle"
)

// TestBrokerMemory: one client gives the embedded broker 230 MB to keep, as retained messages, which also wait for a client that is away.
// The daemon stays under 200 MB, and another client is answered.
func TestBrokerMemory(t *testing.T) {
	addr := fmt.Sprintf("127.0.0.1:%d", brokers.FreePort(t))
	r := &rig{t: t, dir: t.TempDir(), seen: map[int]bool{}}
	r.configure("embedded", "mqtt.listen="+addr)
	r.start()
	eventually(t, "the node is online", func() bool {
		data, _ := os.ReadFile(r.log)
		return bytes.Contains(data, []byte("msg=online "))
	})
	good := newFriend(t, "tcp://"+addr)
	f := newFoe(t, addr)
	defer f.end()
	away := f.connect("away", lasting)
	say(away, subscription(1, "noise/#"))
	_, _ = packets.ReadPacket(away)
	say(away, packets.NewControlPacket(packets.Disconnect))
	_, _ = io.Copy(io.Discard, away)

	c, big := f.talker("loud"), bytes.Repeat([]byte("x"), 500<<10)
	for i := range 460 {
		say(c, message("noise/"+strconv.Itoa(i), 1, true, big))
	}
	good.ask()
	most := usage(t, r.daemon.Process.Pid).peak
	t.Logf("daemon: at most %d MB", most>>10)
	if most > 200<<10 {
		t.Errorf("the daemon had %d MB", most>>10)
	}
}

// TestHostileTemplate: a model's own template does its worst where a message has its number. Each such request gets an error, the
// tokenizer that renders it lives on, stays small, and answers the next.
func TestHostileTemplate(t *testing.T) {
	templates := []string{
		`{% set ns.self = ns %}{{ ns }}`,
		`{% set ns.l = [ns, ns] %}{{ ns.l }}{{ ns.l == [ns, 1] }}{{ ns.l|tojson }}`,
		`{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}`,
		`{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l|tojson(indent=9) }}`,
		`{{ ('a' * 100000).replace('a', 'b' * 100000) }}`,
		`{{ '%*d' % (10**10, 1) }}`,
		`{{ ([0] * 10**9)|length }}{{ 'a'.center(10**10) }}`,
		`{% for a in range(99999) %}{% for b in range(99999) %}{{ a * b }}{% endfor %}{% endfor %}`,
	}
	var source strings.Builder
	source.WriteString(`{% set ns = namespace(x='a', l=[1]) %}`)
	for i, text := range templates {
		fmt.Fprintf(&source, `{%% if messages[0].content == 'case %d' %%}%s{%% endif %%}`, i, text)
	}
	source.WriteString(`{{ messages[0].content }}`)

	dir := filepath.Join(t.TempDir(), "model")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(oracle.Repo(t), "demo/hf-nf4"))); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "tokenizer_config.json")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(data, &config); err != nil {
		t.Fatal(err)
	}
	config["chat_template"] = source.String()
	if data, err = json.Marshal(config); err == nil {
		err = os.WriteFile(file, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}

	addr := fmt.Sprintf("127.0.0.1:%d", brokers.FreePort(t))
	r := &rig{t: t, dir: t.TempDir(), seen: map[int]bool{}}
	r.configure("embedded", "mqtt.listen="+addr, "model.path="+dir)
	r.start()
	eventually(t, "the node is online", func() bool {
		data, _ := os.ReadFile(r.log)
		return bytes.Contains(data, []byte("msg=online "))
	})
	good := newFriend(t, "tcp://"+addr)
	good.ask()
	pid := r.plugin("tokenizer")
	quiet := usage(t, pid).peak
	for i, text := range templates {
		began := time.Now()
		e := good.request(fmt.Sprint("case ", i))
		took := time.Since(began)
		if e.Error == nil {
			t.Errorf("%s: answered", text)
			continue
		}
		t.Logf("%s: %s after %v", e.Error.Code, e.Error.Message, took.Round(time.Millisecond))
		if now := r.plugin("tokenizer"); now != pid {
			t.Fatalf("%s: the tokenizer did not live on", text)
		}
	}
	good.ask()
	// A template may take 24 MiB; Go's collector may let some of several stand.
	if most := usage(t, pid).peak; most > quiet+128<<10 {
		t.Errorf("the tokenizer had %d MB, %d MB before", most>>10, quiet>>10)
	}
}
