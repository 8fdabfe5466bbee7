package weights_test

import (
	"errors"
	"path/filepath"
	"testing"

	"edged/test/oracle"
)

func TestPopulate(t *testing.T) {
	t.Parallel()
	m := open(t, filepath.Join(oracle.Repo(t), "demo", "hf-nf4"))
	var last, total int64
	if err := m.Populate(func(done, of int64) error {
		if done <= last || done > of {
			t.Errorf("%d of %d after %d", done, of, last)
		}
		last, total = done, of
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if last == 0 || last != total {
		t.Errorf("ended at %d of %d", last, total)
	}
	stop := errors.New("stop")
	if err := m.Populate(func(int64, int64) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("a refusal gives %v", err)
	}
}
