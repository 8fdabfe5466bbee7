package client

import (
	"encoding/json"
	"strings"
	"testing"

	"edged/core/serve/door/mqtt"
	"edged/core/serve/door/mqtt/askclient"
)

func TestPrintState(t *testing.T) {
	temp, low := 61.5, true
	figures, err := json.Marshal(mqtt.Stats{UptimeS: 3725, Running: 2, CPUTempC: &temp, UnderVoltage: &low, MemoryBytes: 3 << 20})
	if err != nil {
		t.Fatal(err)
	}
	s := mqtt.Status{
		Node: "pi", State: mqtt.StateDegraded, Reason: "the backend failed\x1b[2J", Since: "2026-11-01T10:00:00Z", Version: "1.2",
		Power: &mqtt.StatusPower{Reasons: []string{"throttled"}, ThreadsDecode: 2, ThreadsTuned: 4},
	}
	state := askclient.State{
		Availability: "online", Stats: figures,
		Adapters: map[string]json.RawMessage{"b": []byte(`{"state":"rejected","error":"why"}`), "a": []byte(`{"state":"active","generation":2}`)},
	}
	var out strings.Builder
	if err := printState(&out, state, s); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"node      pi, online\n", "state     degraded: the backend failed�[2J, since 2026-11-01T10:00:00Z\n",
		"power     the processor's clock is held down (throttled); 2 of 4 threads decode\n",
		"adapter   a: active, generation 2\nadapter   b: rejected: why\n", "up        1h2m5s\n", "processor at 61.5 °C, UNDER-VOLTAGE\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}
