package pluginhost_test

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"edged/core/protocol/backend"
)

// A plugin of another architecture runs through backend.command. EDGED_TEST_ARM64_PLUGIN names an arm64 build of this test
// (GOARCH=arm64 CGO_ENABLED=0 go test -c), which takes too long to make here.
func TestEmulated(t *testing.T) {
	t.Parallel()
	path := os.Getenv("EDGED_TEST_ARM64_PLUGIN")
	if path == "" {
		t.Skip("EDGED_TEST_ARM64_PLUGIN is not set")
	}
	if _, err := exec.LookPath("qemu-aarch64-static"); err != nil {
		t.Skip(err)
	}
	var log records
	o := options(log.logger(0), "ok")
	o.Path, o.Command = path, []string{"qemu-aarch64-static", "-cpu", "cortex-a72"}
	begin := time.Now()
	p := start(t, o)
	t.Logf("handshake after %s", time.Since(begin))
	generate(t, p, "log")
	err := p.Backend().Generate(t.Context(), backend.Request{ID: "panic"}, func(backend.Event) error { return nil })
	<-p.Done()
	if err == nil || !strings.Contains(p.Err().Error(), "row 7") {
		t.Errorf("%v, %v", err, p.Err())
	}
	// Without the parent-death signal the plugin still follows its lifeline, which the host closes when the wrapper ends.
	o.Command = []string{"sh", "-c", `qemu-aarch64-static "$0"; true`}
	p = start(t, o)
	d, err := p.Backend().Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Log(d.Version)
	if err := syscall.Kill(p.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
}
