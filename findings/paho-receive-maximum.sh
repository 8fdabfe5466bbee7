#!/usr/bin/env bash
# paho-mqtt 2.2.0 (Python) as a client of MQTT 5, and a broker that keeps to the standard (mochi-mqtt 2.7.9).
# The broker says in CONNACK how many messages of QoS above 0 may wait for their acknowledgement (Receive Maximum), and the
# client reads the property, shows it to its callback, and does not keep to it: its own max_inflight_messages (20, and not to be
# changed while there is a connection) alone counts. Fifteen messages of QoS 2 in a row, to a broker that bears ten, end the
# connection.
# Seen: "max_inflight_messages 20, told receive maximum 10, fifteen messages: disconnected", and of the broker "default: receive
# maximum exceeded"; "max_inflight_messages 10, told receive maximum 10, fifteen messages: all acknowledged".
set -euo pipefail
dir=$(mktemp -d)
broker=
trap '[ -z "$broker" ] || kill "$broker"; chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
cat >go.mod <<'G'
module finding

go 1.24
G
cat >main.go <<'G'
package main

import (
	"fmt"
	"io"
	"log/slog"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

// teller writes why the broker ended a connection.
type teller struct{ mochi.HookBase }

func (*teller) ID() string           { return "teller" }
func (*teller) Provides(b byte) bool { return b == mochi.OnDisconnect }
func (*teller) OnDisconnect(c *mochi.Client, err error, _ bool) {
	if err != nil {
		fmt.Printf("%s: %v\n", c.ID, err)
	}
}

func main() {
	capabilities := mochi.NewDefaultServerCapabilities()
	capabilities.ReceiveMaximum = 10
	s := mochi.New(&mochi.Options{Capabilities: capabilities, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	must(s.AddHook(new(auth.AllowHook), nil))
	must(s.AddHook(new(teller), nil))
	l := listeners.NewTCP(listeners.Config{ID: "t", Address: "127.0.0.1:0"})
	must(s.AddListener(l))
	must(s.Serve())
	fmt.Println(l.Address())
	select {}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
G
cat >client.py <<'P'
import sys
import time

import paho.mqtt.client as mqtt

host, port = sys.argv[1].rsplit(":", 1)
for name in ["default", "ten"]:
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
    if name == "ten":
        client.max_inflight_messages = 10
    told, ended, done = [], [], []
    client.on_connect = lambda c, u, f, reason, properties: told.append(properties.ReceiveMaximum)
    client.on_disconnect = lambda c, u, f, reason, properties: ended.append(reason)
    client.on_publish = lambda c, u, mid, reason, properties: done.append(mid)
    client.connect(host, int(port))

    def until(what):
        end = time.monotonic() + 60
        while not what():
            assert time.monotonic() < end, (told, ended, done)
            client.loop(0.1)

    until(lambda: told)
    # The network loop does not run between these calls, so that nothing can be acknowledged in between.
    for _ in range(15):
        client.publish("a", b"x", qos=2)
    until(lambda: ended or len(done) == 15)
    end = "disconnected" if ended else "all acknowledged"
    print(f"max_inflight_messages {client.max_inflight_messages}, told receive maximum {told[0]}, fifteen messages: {end}")
P
export GOFLAGS=-mod=mod GOTOOLCHAIN=local
go mod edit -require github.com/mochi-mqtt/server/v2@v2.7.9
go mod tidy 2>/dev/null
go build -o broker .
python3 -m venv v
v/bin/pip -q install paho-mqtt==2.2.0
./broker >told &
broker=$!
while ! grep -q . told; do sleep 0.1; done
{ v/bin/python client.py "$(head -1 told)"; grep "^default" told; } | tee seen
cat >want <<'W'
max_inflight_messages 20, told receive maximum 10, fifteen messages: disconnected
max_inflight_messages 10, told receive maximum 10, fifteen messages: all acknowledged
default: receive maximum exceeded
W
cmp seen want || { echo "the behaviour has changed"; exit 1; }
