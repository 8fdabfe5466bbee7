package home

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func node() Node {
	return Node{
		ID: "Pi.5", Name: "Pi.5", Version: "1.2", Availability: "edged/Pi.5/availability", Status: "edged/Pi.5/status", Stats: "edged/Pi.5/stats",
		Ask: "edged/Pi.5/ask/homeassistant", Answer: "edged/Pi.5/answer/homeassistant", Cancel: "edged/Pi.5/cancel", Default: "edged/Pi.5/default_adapter", Adapters: []string{"pirate"},
	}
}

type device struct {
	Device struct {
		Identifiers []string `json:"identifiers"`
		Name        string   `json:"name"`
	} `json:"device"`
	Origin       map[string]string         `json:"origin"`
	Availability []map[string]string       `json:"availability"`
	Components   map[string]map[string]any `json:"components"`
}

func read(t *testing.T, n Node) device {
	t.Helper()
	data, err := Message(n)
	if err != nil {
		t.Fatal(err)
	}
	var d device
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return d
}

// TestMessage proves what Home Assistant asks of a device and of each entity.
func TestMessage(t *testing.T) {
	d := read(t, node())
	if !slices.Equal(d.Device.Identifiers, []string{"edged-Pi.5"}) || d.Origin["name"] != "edged" || d.Availability[0]["topic"] != "edged/Pi.5/availability" {
		t.Errorf("%+v", d)
	}
	topics := []string{"edged/Pi.5/status", "edged/Pi.5/stats", "edged/Pi.5/ask/homeassistant", "edged/Pi.5/answer/homeassistant", "edged/Pi.5/cancel", "edged/Pi.5/default_adapter"}
	seen := map[any]bool{}
	for id, c := range d.Components {
		if c["unique_id"] != "edged-Pi.5-"+id || seen[c["name"]] || c["default_entity_id"] != c["platform"].(string)+".edged_pi_5_"+id {
			t.Errorf("%s: %v", id, c)
		}
		seen[c["name"]] = true
		for key, v := range c {
			if strings.HasSuffix(key, "_topic") && !slices.Contains(topics, v.(string)) {
				t.Errorf("%s: %s is %v", id, key, v)
			}
		}
		if c["platform"] != "button" && c["platform"] != "notify" && c["value_template"] == nil {
			t.Errorf("%s has no template", id)
		}
	}
	for _, id := range []string{"state", "problem", "model", "adapters", "tokens_per_s", "first_token", "waiting", "running", "temperature", "throttled", "ask", "answer", "cancel", "default_adapter"} {
		if d.Components[id] == nil {
			t.Errorf("there is no %s", id)
		}
	}
	if d.Components["cancel"]["payload_press"] != "*" {
		t.Errorf("cancel: %v", d.Components["cancel"])
	}
}

func TestWithoutStats(t *testing.T) {
	n := node()
	n.NoStats, n.Page = true, "http://pi:8080/"
	for id, c := range read(t, n).Components {
		if c["state_topic"] == n.Stats {
			t.Errorf("%s waits for figures that never come", id)
		}
	}
}

func TestTopics(t *testing.T) {
	if got := Topic("homeassistant", "Pi.5"); got != "homeassistant/device/edged-Pi-5/config" {
		t.Errorf("%s", got)
	}
	if got := Birth("homeassistant"); got != "homeassistant/status" {
		t.Errorf("%s", got)
	}
}
