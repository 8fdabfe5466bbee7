package metrics

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func write(t *testing.T, text string, path ...string) {
	t.Helper()
	file := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestResident(t *testing.T) {
	dir := t.TempDir()
	write(t, "1000 20 3 4 0 5 0\n", dir, "proc", "7", "statm")
	write(t, "1000 30 3 4 0 5 0\n", dir, "proc", "8", "statm")
	write(t, "rubbish", dir, "proc", "9", "statm")
	if got, want := resident(dir, 7, 8, 9, 10, 0, -1), int64(50*os.Getpagesize()); got != want {
		t.Errorf("resident = %d, want %d", got, want)
	}
	if runtime.GOOS == "linux" && Resident(os.Getpid()) == 0 {
		t.Error("this process has no memory")
	}
}

func TestTemperature(t *testing.T) {
	dir := t.TempDir()
	if _, ok := temperature(dir); ok {
		t.Error("a machine without zones has a temperature")
	}
	write(t, "999999999\n", dir, thermalDir, "thermal_zone0", "temp")
	write(t, "30000\n", dir, thermalDir, "thermal_zone1", "temp")
	write(t, "gpu\n", dir, thermalDir, "thermal_zone1", "type")
	if c, ok := temperature(dir); !ok || c != 30 {
		t.Errorf("%v, %v", c, ok)
	}
	write(t, "51540\n", dir, thermalDir, "thermal_zone2", "temp")
	write(t, "cpu-thermal\n", dir, thermalDir, "thermal_zone2", "type")
	if c, ok := temperature(dir); !ok || c != 51.54 {
		t.Errorf("%v, %v", c, ok)
	}
}

func TestThrottled(t *testing.T) {
	for text, want := range map[string][2]bool{
		"":        {false, false},
		"x":       {false, false},
		"0\n":     {false, true},
		"50000\n": {false, true},
		"0x50005": {true, true},
		"4":       {true, true},
	} {
		dir := t.TempDir()
		if text != "" {
			write(t, text, dir, throttled)
		}
		if now, known := isThrottled(dir); now != want[0] || known != want[1] {
			t.Errorf("%q: %v, %v", text, now, known)
		}
	}
}
