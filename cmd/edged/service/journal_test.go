package service

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"edged/core/config"
)

// TestJournalLines: what stands in front of a line tells journald its level, and there is no time; elsewhere it is the
// other way round.
func TestJournalLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stderr")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", st.Dev, st.Ino))
	log := newLog(&config.Log{Level: "debug", Format: "text"}, new(slog.LevelVar), f)
	log.Debug("d")
	log.With("a", 1).Info("i")
	log.WithGroup("g").Warn("w\nx", "b", 2)
	log.Error("e")
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := "<7>level=DEBUG msg=d\n<6>level=INFO msg=i a=1\n<4>level=WARN msg=\"w\\nx\" g.b=2\n<3>level=ERROR msg=e\n"
	if string(got) != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}

	t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", st.Dev, st.Ino+1))
	if err := f.Truncate(0); err != nil {
		t.Fatal(err)
	}
	newLog(&config.Log{Level: "info", Format: "json"}, new(slog.LevelVar), f).Info("i")
	if got, _ := os.ReadFile(path); !bytes.Contains(got, []byte(`{"time":`)) {
		t.Errorf("a file that is not the journal got %s", got)
	}
}
