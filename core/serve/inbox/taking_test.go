package inbox

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

func open(t *testing.T, dir string, most int) *Taking {
	t.Helper()
	taking, err := OpenTaking(dir, most)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taking.Close() })
	return taking
}

// TestTaking: a message over which the process ends again and again is not taken any more, and others are not counted.
func TestTaking(t *testing.T) {
	dir, bad := t.TempDir(), sha256.Sum256([]byte("bad"))
	for i := range 3 {
		taking := open(t, dir, 3)
		for k := range 20 { // what comes before it
			other := sha256.Sum256([]byte(strconv.Itoa(k)))
			if ends, ok := taking.Begin(other); !ok || ends != 0 {
				t.Fatalf("another message: %d, %v", ends, ok)
			}
			taking.End(other)
		}
		if ends, ok := taking.Begin(bad); !ok || ends != i {
			t.Fatalf("life %d: %d, %v", i, ends, ok)
		}
		// The process ends here.
	}
	taking := open(t, dir, 3)
	if ends, ok := taking.Begin(bad); ok || ends != 3 {
		t.Fatalf("after three ends: %d, %v", ends, ok)
	}
	// One that comes once more has one more try, and is as before if that goes well.
	if ends, ok := taking.Begin(bad); !ok || ends != 2 {
		t.Fatalf("once more: %d, %v", ends, ok)
	}
	taking.End(bad)
	if ends, ok := open(t, dir, 3).Begin(bad); !ok || ends != 0 {
		t.Errorf("after a good end: %d, %v", ends, ok)
	}
}

// TestTakingOfAnything: a file that is damaged, cut or foreign counts for nothing, and stays of its size.
func TestTakingOfAnything(t *testing.T) {
	dir := t.TempDir()
	path, digest := filepath.Join(dir, "taking"), sha256.Sum256([]byte("x"))
	open(t, dir, 5).Begin(digest)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(whole)
	flipped[33] ^= 0x40 // a count of 16,384 more
	for name, c := range map[string]struct {
		data []byte
		ends int
	}{
		"whole": {whole, 1}, "empty": {nil, 0}, "cut": {whole[:slotBytes-1], 0}, "flipped": {flipped, 0},
		"noise": {bytes.Repeat([]byte{0xff}, 1<<16), 0}, "longer": {append(bytes.Clone(whole), 1, 2, 3), 1},
	} {
		if err := os.WriteFile(path, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		if ends, ok := open(t, dir, 5).Begin(digest); !ok || ends != c.ends {
			t.Errorf("%s: %d, %v", name, ends, ok)
		}
		if st, err := os.Stat(path); err != nil || st.Size() != takingSlots*slotBytes {
			t.Errorf("%s: %v, %v", name, st.Size(), err)
		}
	}
}

// TestTakingOfMany: more messages than there is room for push out the oldest.
func TestTakingOfMany(t *testing.T) {
	dir := t.TempDir()
	for i := range 2 * takingSlots {
		taking := open(t, dir, 3)
		if ends, ok := taking.Begin(sha256.Sum256([]byte(strconv.Itoa(i)))); !ok || ends != 0 {
			t.Fatalf("message %d: %d, %v", i, ends, ok)
		}
	}
	for i := range 2 * takingSlots {
		taking, digest := open(t, dir, 3), sha256.Sum256([]byte(strconv.Itoa(i)))
		if s := taking.slots[taking.find(digest)]; (s.digest == digest) != (i >= takingSlots) {
			t.Errorf("message %d: known %v", i, s.digest == digest)
		}
	}
}
