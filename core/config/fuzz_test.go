package config_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"edged/core/config"
)

// FuzzConfig: any text is accepted or refused with a message, never a panic, within an allocation bound; what is
// accepted validates.
func FuzzConfig(f *testing.F) {
	files, err := filepath.Glob("testdata/bad/*.toml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range append(files, "../../config.toml", "../../demo/config.toml") {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, "mqtt.listen=127.0.0.1:0")
		f.Add(defaultLine.ReplaceAll(text, []byte("$1")), "x")
	}
	f.Add([]byte("a = [[[[[[[["), "backend.command=[[[[")
	f.Fuzz(func(t *testing.T, text []byte, set string) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		c, err := config.Parse("fuzz.toml", text, []string{set}, []string{"EDGED_" + set})
		runtime.ReadMemStats(&after)
		// The parser keeps about a hundred bytes per byte of nested tables; the rest is the two settings views.
		if most := uint64(4<<20 + 4096*(len(text)+len(set))); after.TotalAlloc-before.TotalAlloc > most {
			t.Errorf("%d bytes of input took %d bytes of memory", len(text)+len(set), after.TotalAlloc-before.TotalAlloc)
		}
		if err != nil {
			if err.Error() == "" {
				t.Error("refused without a word")
			}
			return
		}
		if err := c.Validate(); err != nil {
			t.Errorf("accepted, and then: %v", err)
		}
	})
}
