package config_test

import (
	"testing"

	"edged/core/config"
)

// TestBrokerSchemes: the schemes of other programs mean what they mean there.
func TestBrokerSchemes(t *testing.T) {
	for given, want := range map[string]string{
		"mqtt://host:1883": "tcp://host:1883", "mqtts://host": "tls://host", "MQTT://host": "tcp://host", "ssl://host:8883": "tls://host:8883",
		"tcp://host": "tcp://host", "embedded": "embedded",
	} {
		c, err := config.Parse("", nil, []string{"mqtt.broker=" + given}, nil)
		if err != nil || c.MQTT.Broker != want {
			t.Errorf("%s: %v, %v; want %s", given, c, err, want)
		}
	}
}
