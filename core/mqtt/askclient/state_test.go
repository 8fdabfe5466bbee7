package askclient_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"edged/core/mqtt"
)

func TestState(t *testing.T) {
	n := &node{}
	client := start(t, n)
	n.door.SetStatus(mqtt.Status{State: mqtt.StateReady, Version: "1.2"})
	n.door.SetAdapter("pirate", &mqtt.Adapter{State: mqtt.AdapterActive, Generation: 3})
	n.door.SetAdapter("gone", &mqtt.Adapter{State: mqtt.AdapterActive, Generation: 1})
	n.door.SetAdapter("gone", nil)

	// Figures are not retained: they come again and again until the client has seen them.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				n.door.PublishStats(mqtt.Stats{Waiting: 4})
			case <-ctx.Done():
				return
			}
		}
	}()
	state, err := client.State(ctx, true)
	cancel()
	<-done
	if err != nil {
		t.Fatal(err)
	}
	var s mqtt.Status
	var figures mqtt.Stats
	var a mqtt.Adapter
	for _, v := range []struct {
		raw  []byte
		into any
	}{{state.Status, &s}, {state.Stats, &figures}, {state.Adapters["pirate"], &a}} {
		if err := json.Unmarshal(v.raw, v.into); err != nil {
			t.Fatalf("%s: %v", v.raw, err)
		}
	}
	if state.Availability != "online" || s.Version != "1.2" || s.Node != "pi" || figures.Waiting != 4 || a.Generation != 3 {
		t.Errorf("got %s, %+v, %+v, %+v", state.Availability, s, figures, a)
	}
	if len(state.Adapters) != 1 {
		t.Errorf("adapters %v", state.Adapters)
	}
}

func TestStateOfNobody(t *testing.T) {
	_, err := start(t, nil).State(t.Context(), false)
	if err == nil || !strings.Contains(err.Error(), `knows nothing of a node "pi"`) {
		t.Errorf("got %v", err)
	}
}
