// Package home writes what Home Assistant is told about a node over MQTT: one device with its entities, in
// the form of its device discovery (version 2024.11 and later). The entities read the topics that the node
// has anyway (docs/mqtt.md), and what a person may do with them publishes on its inputs.
//
// It must not know a connection: the MQTT door publishes what is written here. Nothing here is long enough
// for a state to pass the 255 characters that Home Assistant takes.
package home

import (
	"encoding/json"
	"maps"
	"strings"
)

// Tag is the TAG of the ask and answer topics that Home Assistant uses.
const Tag = "homeassistant"

// CancelAll is the payload of the cancel button.
const CancelAll = "*"

// NoAdapter is the bare model's option in the select of the default adapter. No adapter has a space in its name.
const NoAdapter = "no adapter"

// Node describes the node for its device. Topics are whole.
type Node struct {
	ID      string // that no other node has
	Name    string // that is shown
	Version string // of edged
	Page    string // URL of the node's page; "": none

	Availability, Status, Stats, Ask, Answer, Cancel, Default string

	Adapters []string // that are served

	NoStats bool // the stats topic is silent
}

// Topic returns the topic that announces the device with an ID below a discovery prefix. Of what may stand in
// one, Home Assistant takes no dot, no slash and no @ here.
func Topic(prefix, id string) string {
	return prefix + "/device/edged-" + strings.NewReplacer(".", "-", "/", "-", "@", "-").Replace(id) + "/config"
}

// Birth returns the topic on which Home Assistant says that it has started.
func Birth(prefix string) string { return prefix + "/status" }

// component is one entity.
type component map[string]any

// Message is the device and its entities.
func Message(n Node) ([]byte, error) {
	device := map[string]any{
		"identifiers": []string{
			"edged-" + n.ID,
		},
		"name":         "edged " + n.Name,
		"manufacturer": "edged",
		"model":        "language model node",
		"sw_version":   n.Version,
	}
	if n.Page != "" {
		device["configuration_url"] = n.Page
	}
	components := map[string]component{}
	add := func(id, platform, name, icon string, c component) {
		c["platform"], c["name"], c["unique_id"] = platform, name, "edged-"+n.ID+"-"+id
		if icon != "" {
			c["icon"] = icon
		}
		// Entities keep their names when the node's own name is a number or has dots.
		c["default_entity_id"] = platform + "." + slug("edged_"+n.Name+"_"+id)
		components[id] = c
	}
	n.status(add)
	if !n.NoStats {
		n.stats(add)
	}
	n.actions(add)
	return json.Marshal(map[string]any{
		"device":       device,
		"origin":       map[string]string{"name": "edged", "sw_version": n.Version},
		"availability": []map[string]string{{"topic": n.Availability, "payload_available": "online", "payload_not_available": "offline"}},
		"components":   components,
		"qos":          1,
	})
}

// slug keeps what an entity id may hold.
func slug(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '_':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '_'
	}, s)
}

type adder func(id, platform, name, icon string, c component)

// status adds what the retained state tells.
func (n *Node) status(add adder) {
	of := func(template string, more component) component {
		c := component{"state_topic": n.Status, "value_template": template}
		maps.Copy(c, more)
		return c
	}
	// The reason may be long: it is an attribute, which may be, and no state.
	reason := component{
		"json_attributes_topic":    n.Status,
		"json_attributes_template": "{{ {'reason': value_json.reason | default('')} | tojson }}",
	}
	add("state", "sensor", "State", "mdi:chip", of("{{ value_json.state }}", merge(reason, component{
		"device_class": "enum", "options": []string{"starting", "ready", "degraded", "stopping", "stopped"},
	})))
	add("problem", "binary_sensor", "Problem", "", of("{{ 'ON' if value_json.state == 'degraded' else 'OFF' }}", merge(reason, component{
		"device_class": "problem", "entity_category": "diagnostic",
	})))
	add(
		"model",
		"sensor",
		"Model",
		"mdi:brain",
		of("{{ (value_json.model | default({})).name | default('none') | truncate(255, true, '') }}", component{
			"entity_category":          "diagnostic",
			"json_attributes_topic":    n.Status,
			"json_attributes_template": "{{ value_json.model | default({}) | tojson }}",
		}),
	)
	add("adapters", "sensor", "Adapters", "mdi:puzzle", of("{{ value_json.adapters | count }}", component{
		"entity_category": "diagnostic", "json_attributes_topic": n.Status,
		"json_attributes_template": "{{ {'names': value_json.adapters | map(attribute='name') | list} | tojson }}",
	}))
}

// stats adds what the figures tell.
func (n *Node) stats(add adder) {
	of := func(field string, more component) component {
		return merge(
			component{
				"state_topic":    n.Stats,
				"value_template": "{{ value_json." + field + " | default(none) }}",
				"state_class":    "measurement",
			},
			more,
		)
	}
	add(
		"tokens_per_s",
		"sensor",
		"Tokens per second",
		"mdi:speedometer",
		of("tokens_per_s", component{"unit_of_measurement": "tokens/s", "suggested_display_precision": 1}),
	)
	add(
		"first_token",
		"sensor",
		"First token",
		"mdi:timer-outline",
		of("first_token_ms", component{"device_class": "duration", "unit_of_measurement": "ms", "suggested_display_precision": 0}),
	)
	add("waiting", "sensor", "Waiting requests", "mdi:tray-full", of("waiting", component{}))
	add("running", "sensor", "Running requests", "mdi:run", of("running", component{}))
	add("answers", "sensor", "Answers", "mdi:message-check-outline", of("finished", component{"state_class": "total_increasing"}))
	add("temperature", "sensor", "Processor temperature", "", of("cpu_temp_c", component{
		"device_class": "temperature", "unit_of_measurement": "°C", "entity_category": "diagnostic", "suggested_display_precision": 0,
	}))
	add("memory", "sensor", "Memory", "", of("memory_bytes", component{
		"device_class": "data_size", "unit_of_measurement": "B", "entity_category": "diagnostic", "suggested_display_precision": 0,
	}))
	add("throttled", "binary_sensor", "Throttled", "", component{
		"state_topic":     n.Stats,
		"value_template":  "{{ 'ON' if value_json.throttled | default(false) else 'OFF' }}",
		"device_class":    "problem",
		"entity_category": "diagnostic",
	})
}

// actions adds what a person can do.
func (n *Node) actions(add adder) {
	add("ask", "notify", "Ask", "mdi:chat-question", component{"command_topic": n.Ask, "qos": 1})
	add("answer", "event", "Answer", "mdi:chat", component{
		"state_topic": n.Answer, "event_types": []string{"answer", "error"},
		// The state of an event is its time: its text is an attribute.
		"value_template": "{{ {'event_type': 'error' if value.startswith('error: ') else 'answer', 'text': value} | tojson }}",
	})
	// Options are the states of a select: the default is always among them, also while its adapter is not served.
	add("default_adapter", "select", "Default adapter", "mdi:puzzle-star", component{
		"state_topic": n.Status, "value_template": "{{ value_json.default_adapter | default('" + NoAdapter + "') }}",
		"command_topic": n.Default, "options": append([]string{NoAdapter}, n.Adapters...), "qos": 1,
	})
	add("cancel", "button", "Cancel all", "mdi:cancel", component{"command_topic": n.Cancel, "payload_press": CancelAll, "qos": 1})
}

func merge(all ...component) component {
	out := component{}
	for _, c := range all {
		maps.Copy(out, c)
	}
	return out
}
