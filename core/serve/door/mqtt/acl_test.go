package mqtt_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// accessList takes the example of an access list out of docs/security.md, so that what is shown is what was tried.
func accessList(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../../../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```acl\n(.*?)```").FindSubmatch(page)
	if m == nil {
		t.Fatal("docs/security.md shows no access list")
	}
	return string(m[1])
}

// TestAccessList: with the documented access list on a real mosquitto a node serves, and a client sees its own answers and
// nobody else's, and cannot speak for the node or for another client.
func TestAccessList(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "passwords")
	var all []byte
	for _, user := range []string{"edged", "kitchen", "garden"} {
		passwords(t, file, user, "secret-"+user)
		line, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, line...)
	}
	if err := os.WriteFile(file, all, 0o600); err != nil {
		t.Fatal(err)
	}
	acl := filepath.Join(dir, "acl")
	if err := os.WriteFile(acl, []byte(accessList(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	m := startMosquitto(t, "allow_anonymous false\npassword_file "+file+"\nacl_file "+acl)

	c := settings(m.address())
	c.Username, c.PasswordFile = "edged", filepath.Join(dir, "edged.secret")
	if err := os.WriteFile(c.PasswordFile, []byte("secret-edged\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	door := open(t, c, &fake{}, true)
	defer door.stop()

	must := func(t *testing.T, token paho.Token) {
		t.Helper()
		if !token.WaitTimeout(20*time.Second) || token.Error() != nil {
			t.Fatalf("MQTT: %v", token.Error())
		}
	}
	type message struct{ topic, payload string }
	dial := func(user string) (paho.Client, chan message) {
		got := make(chan message, 100)
		client := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + m.address()).SetClientID(user).
			SetUsername(user).SetPassword("secret-" + user).SetAutoReconnect(false))
		must(t, client.Connect())
		t.Cleanup(func() { client.Disconnect(0) })
		must(t, client.Subscribe("#", 1, func(_ paho.Client, m paho.Message) { got <- message{m.Topic(), string(m.Payload())} }))
		return client, got
	}
	kitchen, toKitchen := dial("kitchen")
	garden, toGarden := dial("garden")

	must(t, garden.Publish("edged/pi/response/kitchen/r1", 1, false, `{"forged":true}`))
	must(t, garden.Publish("edged/pi/request/kitchen", 1, false, `{"id":"forged","prompt":"x"}`))
	must(t, garden.Publish("edged/pi/availability", 1, true, "offline"))
	must(t, kitchen.Publish("edged/pi/request/kitchen", 1, false, `{"id":"r1","prompt":"x","unknown":1}`)) // refused at once: an answer
	must(t, kitchen.Publish("edged/pi/request/kitchen", 1, false, `{"id":`))                               // nothing that an answer could go to
	must(t, garden.Publish("edged/pi/request/garden", 1, false, `{"id":"r2","prompt":"x","unknown":1}`))

	heard := map[string]bool{}
	follow := func(name string, got chan message, own string) {
		t.Helper()
		timeout := time.After(30 * time.Second)
		for {
			select {
			case msg := <-got:
				if strings.Contains(msg.payload, "forged") || msg.payload == "offline" {
					t.Errorf("%s sees what a client had no right to publish: %s %s", name, msg.topic, msg.payload)
				}
				if mistake := "edged/pi/errors/" + name; msg.topic == mistake {
					heard[name] = true
					continue
				}
				if msg.topic == own {
					var ev struct{ Done bool }
					if json.Unmarshal([]byte(msg.payload), &ev) != nil || !ev.Done {
						t.Errorf("%s: %s", name, msg.payload)
					}
					return
				}
				if msg.topic != "edged/pi/availability" && msg.topic != "edged/pi/status" && !strings.HasPrefix(msg.topic, "edged/pi/adapters/") {
					t.Errorf("%s sees %s", name, msg.topic)
				}
			case <-timeout:
				t.Fatalf("%s got no answer\n%s", name, m.log)
			}
		}
	}
	follow("kitchen", toKitchen, "edged/pi/response/kitchen/r1")
	must(t, kitchen.Publish("edged/pi/request/kitchen", 1, false, `{"id":"r3","prompt":"x","unknown":1}`))
	follow("kitchen", toKitchen, "edged/pi/response/kitchen/r3") // by then its mistake was told
	follow("garden", toGarden, "edged/pi/response/garden/r2")
	if !heard["kitchen"] || heard["garden"] {
		t.Errorf("heard of mistakes: %v; the kitchen made one", heard)
	}
}
