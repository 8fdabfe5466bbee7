package mqtt_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"edged/core/serve/door/mqtt"
)

// all is a fake that can cancel every request.
type all struct {
	fake

	once sync.Mutex
	list []string
}

func (a *all) CancelAll(client string) int {
	a.once.Lock()
	defer a.once.Unlock()
	a.list = append(a.list, client)
	return 2
}

// TestDevice: the device is retained, comes again at each birth of Home Assistant, and not for other words; and a cancel of
// all reaches the dispatcher.
func TestDevice(t *testing.T) {
	for name, start := range brokers() {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			const topic, payload = "homeassistant/device/edged-pi/config", `{"device":{}}`
			d, chosen := &all{}, make(chan string, 4)
			door := mqtt.New(mqtt.Options{
				Node: "pi", Config: settings(s.address()), Dispatcher: d,
				Device: &mqtt.Device{
					Topic: topic, Payload: []byte(payload), Birth: "homeassistant/status", Select: "edged/pi/default_adapter", Choose: func(name string) { chosen <- name },
				},
			})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- door.Run(ctx) }()
			defer func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}()
			ha := listen(t, s.address())
			ha.until(t, topic, 1, 15*time.Second)
			<-door.Ready()
			ha.publish(t, "homeassistant/status", "offline")
			ha.publish(t, "homeassistant/status", "online")
			for _, h := range ha.until(t, topic, 2, 15*time.Second) {
				if h.payload != payload {
					t.Errorf("%+v", h)
				}
			}
			late := listen(t, s.address())
			if h := late.until(t, topic, 1, 15*time.Second)[0]; !h.retained || h.payload != payload {
				t.Errorf("%+v", h)
			}
			ha.publish(t, "edged/pi/default_adapter", "pirate")
			if got := <-chosen; got != "pirate" {
				t.Errorf("%q was chosen", got)
			}
			ha.publish(t, "edged/pi/cancel", "*")
			ha.publish(t, "edged/pi/cancel/kitchen", "*")
			eventually(t, "all are cancelled", func() bool {
				d.once.Lock()
				defer d.once.Unlock()
				return len(d.list) == 2 && d.list[0] == "" && d.list[1] == "kitchen"
			})
			if n := len(ha.on(topic)); n != 2 {
				t.Errorf("the device came %d times, want 2", n)
			}
			door.SetDevice([]byte(`{"device":{"name":"new"}}`))
			ha.payload(t, topic, `{"device":{"name":"new"}}`)
		})
	}
}
