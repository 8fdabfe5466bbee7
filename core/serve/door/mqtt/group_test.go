package mqtt_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"edged/core/config"
	"edged/core/serve/door/mqtt"
)

// member is a node of a group.
type member struct {
	*mqtt.Door
	*fake

	stop func()
}

// join starts a node and waits until it is online.
func join(t *testing.T, node string, c config.MQTT) *member {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	f := &fake{}
	m := &member{Door: mqtt.New(mqtt.Options{Node: node, Config: c, Dispatcher: f}), fake: f}
	done := make(chan struct{})
	go func() { defer close(done); _ = m.Run(ctx) }()
	m.stop = func() { cancel(); <-done }
	t.Cleanup(m.stop)
	select {
	case <-m.Ready():
	case <-time.After(30 * time.Second):
		t.Fatalf("%s is not online", node)
	}
	return m
}

// askGroup publishes n requests to the group and waits for the last event of each.
func askGroup(t *testing.T, l *listener, name string, n int) {
	t.Helper()
	for i := range n {
		l.publish(t, "edged/@house/request/c", fmt.Sprintf(`{"id":"%s%d","prompt":"x"}`, name, i))
	}
	for i := range n {
		l.lastEvent(t, fmt.Sprintf("edged/@house/response/c/%s%d", name, i))
	}
}

// TestGroupLeft: what a group is asked after one of its nodes was told to stop is answered by the others: none waits in the
// session of the node that is away, nor comes to it while it ends its work.
func TestGroupLeft(t *testing.T) {
	t.Parallel()
	for name, start := range brokers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			c := settings(s.address())
			c.ShareGroup = "house"
			l := listen(t, s.address())
			stays, leaves, stops := join(t, "stays", c), join(t, "leaves", c), join(t, "stops", c)
			stops.stop()
			leaves.Leave()
			eventually(t, "the group is left", func() bool {
				before := leaves.count()
				askGroup(t, l, fmt.Sprintf("try%d-", time.Now().UnixNano()), 6)
				return leaves.count() == before
			})
			askGroup(t, l, "g", 20)
			if n := stays.countOf("g0") + stays.countOf("g19"); n != 2 {
				t.Errorf("the node that stays has %d of the first and the last request", n)
			}
			before := stops.count()
			back := join(t, "stops", c)
			askGroup(t, l, "back", 20)
			if stops.count() != before || back.countOf("g0") != 0 {
				t.Error("a request waited for the node that was away")
			}
		})
	}
}

// leaveSession leaves a persistent session with subscriptions at a broker.
func leaveSession(t *testing.T, address, id string, filters ...string) {
	t.Helper()
	old := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + address).SetClientID(id).SetCleanSession(false).SetAutoReconnect(false))
	steps := []func() paho.Token{old.Connect}
	for _, f := range filters {
		steps = append(steps, func() paho.Token { return old.Subscribe(f, 1, nil) })
	}
	for _, step := range steps {
		if token := step(); !token.WaitTimeout(20*time.Second) || token.Error() != nil {
			t.Fatal(token.Error())
		}
	}
	old.Disconnect(100)
}

// TestGroupForgotten: a node that is started without its group, or in another, while its session still holds the group's
// subscription, answers what it is dealt and unsubscribes.
func TestGroupForgotten(t *testing.T) {
	t.Parallel()
	for name, start := range brokers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			leaveSession(t, s.address(), mqtt.Topics{Node: "pi"}.ClientID(), "$share/edged-house/edged/@house/request/#", "$share/house/edged/@house/request/#")
			l := listen(t, s.address())
			c := settings(s.address())
			c.ShareGroup = "garden"
			pi := join(t, "pi", c)
			c.ShareGroup = "house"
			other := join(t, "other", c)
			askGroup(t, l, "g", 20) // the first ones come twice, by both shares
			eventually(t, "the node leaves the group", func() bool {
				before := pi.count()
				askGroup(t, l, fmt.Sprintf("try%d-", time.Now().UnixNano()), 6)
				return pi.count() == before
			})
			if other.count() == 0 {
				t.Error("the node of the group got nothing")
			}
			for i := range 6 { // its own group stays
				id := fmt.Sprintf("o%d", i)
				l.publish(t, "edged/@garden/request/c", fmt.Sprintf(`{"id":%q,"prompt":"x"}`, id))
				l.lastEvent(t, "edged/@garden/response/c/"+id)
			}
		})
	}
}

// TestGroupTurned: at a broker that makes ordinary subscriptions of a client's shared ones when it unsubscribes from anything,
// each request of a group is still run by one node, also after one has left a group of an earlier start.
func TestGroupTurned(t *testing.T) {
	t.Parallel()
	s := startQuirky(t, quirks{turns: true})
	c := settings(s.address())
	c.ShareGroup = "house"
	a, b := join(t, "a", c), join(t, "b", c)
	l := listen(t, s.address())
	askGroup(t, l, "g", 20)
	if n := a.count() + b.count(); n != 20 {
		t.Errorf("20 requests were run %d times", n)
	}
	// A stray request has one of them unsubscribe.
	s.mu.Lock()
	s.clients[mqtt.Topics{Node: "a"}.ClientID()].filters = append(s.clients[mqtt.Topics{Node: "a"}.ClientID()].filters, "$share/old/edged/@old/request/#")
	s.mu.Unlock()
	l.publish(t, "edged/@old/request/c", `{"id":"stray","prompt":"x"}`)
	l.lastEvent(t, "edged/@old/response/c/stray")
	eventually(t, "the old group is left", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, f := range s.clients[mqtt.Topics{Node: "a"}.ClientID()].filters {
			if filterMatches("edged/@old/#", strings.TrimPrefix(f, "$share/old/")) {
				return false
			}
		}
		return slices.Contains(s.clients[mqtt.Topics{Node: "a"}.ClientID()].filters, "$share/edged-house/edged/@house/request/#")
	})
	before := a.count() + b.count()
	askGroup(t, l, "h", 20)
	if n := a.count() + b.count() - before; n != 20 {
		t.Errorf("after leaving another group 20 requests were run %d times", n)
	}
}

// TestGroupRenamed: a session that holds the group under the share name of earlier versions is rid of it, and no request comes twice.
func TestGroupRenamed(t *testing.T) {
	t.Parallel()
	for name, start := range brokers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			leaveSession(t, s.address(), mqtt.Topics{Node: "a"}.ClientID(), "$share/house/edged/@house/request/#")
			c := settings(s.address())
			c.ShareGroup = "house"
			a, b := join(t, "a", c), join(t, "b", c)
			l := listen(t, s.address())
			askGroup(t, l, "g", 20)
			if n := a.count() + b.count(); n != 20 {
				t.Errorf("20 requests were run %d times", n)
			}
		})
	}
}

// TestGroupNamesake: whoever shares other topics under the group's name takes nothing away, not even where a broker goes by the
// share name alone.
func TestGroupNamesake(t *testing.T) {
	t.Parallel()
	s := startQuirky(t, quirks{byName: true})
	c := settings(s.address())
	c.ShareGroup = "house"
	a := join(t, "a", c)
	lights := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + s.address()).SetClientID("lights"))
	for _, step := range []func() paho.Token{lights.Connect, func() paho.Token { return lights.Subscribe("$share/house/lights/#", 1, nil) }} {
		if token := step(); !token.WaitTimeout(20*time.Second) || token.Error() != nil {
			t.Fatal(token.Error())
		}
	}
	defer lights.Disconnect(0)
	l := listen(t, s.address())
	askGroup(t, l, "g", 10)
	if a.count() != 10 {
		t.Errorf("%d of 10 requests", a.count())
	}
}

// TestGroupProof: a broker that grants $share and delivers nothing is named, by a check and by the node itself; one that deals is not,
// and where an access list keeps the probe back nothing is claimed.
func TestGroupProof(t *testing.T) {
	t.Parallel()
	const lacks = "delivers nothing to them"
	for _, test := range []struct {
		name  string
		start func(*testing.T) string
		want  string // of the check; "": nothing
		grave bool
	}{
		{"literal", func(t *testing.T) string { t.Helper(); return startQuirky(t, quirks{literal: true}).address() }, lacks, true},
		{"deals", func(t *testing.T) string { t.Helper(); return startQuirky(t, quirks{}).address() }, "", false},
		{"mosquitto", func(t *testing.T) string { t.Helper(); return startMosquitto(t, "allow_anonymous true").address() }, "", false},
		{"kept back", func(t *testing.T) string {
			t.Helper()
			acl := filepath.Join(t.TempDir(), "acl")
			if err := os.WriteFile(acl, []byte("topic readwrite edged/pi/availability\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			return startMosquitto(t, "allow_anonymous true", "acl_file "+acl).address()
		}, "could not be tried", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := settings(test.start(t))
			c.ShareGroup = "house"
			found, err := mqtt.Probe(t.Context(), mqtt.Options{Node: "pi", Config: c})
			if err != nil {
				t.Fatal(err)
			}
			text := ""
			for _, f := range found {
				if !strings.Contains(f.Text, "shared") {
					continue // of retained messages and sizes
				}
				text += f.Text
				if f.Grave != test.grave || !test.grave == strings.Contains(f.Fix, "mqtt.share_group") {
					t.Errorf("%+v", f)
				}
			}
			if !strings.Contains(text, test.want) || test.want == "" && text != "" {
				t.Errorf("the check says %q", text)
			}
			node := open(t, c, &fake{}, true)
			if test.grave {
				eventually(t, "the log names mqtt.share_group", func() bool {
					return strings.Contains(node.log.String(), lacks) && strings.Contains(node.log.String(), "mqtt.share_group")
				})
				return
			}
			eventually(t, "the node has tried", func() bool {
				return strings.Contains(node.log.String(), "deals to shared subscriptions") // or whether it does could not be tried
			})
			if text := node.log.String(); strings.Contains(text, lacks) || !strings.Contains(text, test.want) {
				t.Errorf("the node says %s", text)
			}
		})
	}
}
