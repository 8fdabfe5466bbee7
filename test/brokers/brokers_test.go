package brokers_test

import (
	"testing"

	"edged/test/brokers"
)

// A broker that was killed comes back at its address.
func TestKillAndStart(t *testing.T) {
	b := brokers.Start(t, brokers.Kind())
	b.Kill()
	b.Start()
}
