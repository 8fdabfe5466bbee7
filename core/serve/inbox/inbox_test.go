package inbox

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

func record(id string, size int) Record {
	return Record{Key: Key{Client: "c", ID: id}, Hash: [32]byte{1}, Data: make([]byte, size)}
}

// stores returns one empty store of every kind with the given limits.
func stores(t *testing.T, l Limits) map[string]Store {
	t.Helper()
	disk, _, err := OpenDisk(t.TempDir(), l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	})
	return map[string]Store{"memory": NewMemory(l), "disk": disk}
}

func TestLifeOfARequest(t *testing.T) {
	for name, s := range stores(t, Limits{}) {
		t.Run(name, func(t *testing.T) {
			r := record("a", 10)
			if f := s.Lookup(r.Key, r.Hash); f.Status != Unknown {
				t.Fatalf("before: %v", f.Status)
			}
			if err := s.Attempt(r.Key, nil); !errors.Is(err, ErrUnknown) {
				t.Fatalf("attempt of nothing: %v", err)
			}
			if err := s.Accept(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			if err := s.Accept(t.Context(), r); !errors.Is(err, ErrExists) {
				t.Fatalf("accepted twice: %v", err)
			}
			if f := s.Lookup(r.Key, r.Hash); f.Status != Running {
				t.Fatalf("accepted: %v", f.Status)
			}
			if f := s.Lookup(r.Key, [32]byte{2}); f.Status != Conflict {
				t.Fatalf("another hash: %v", f.Status)
			}
			if f := s.Lookup(Key{Client: "d", ID: "a"}, r.Hash); f.Status != Unknown {
				t.Fatalf("another client: %v", f.Status)
			}
			if err := s.Attempt(r.Key, []byte("one")); err != nil {
				t.Fatal(err)
			}
			if err := s.Attempt(r.Key, []byte("two")); err != nil {
				t.Fatal(err)
			}
			open := s.Unfinished()
			if len(open) != 1 || open[0].ID != "a" || string(open[0].Attempt) != "two" || len(open[0].Data) != 10 {
				t.Fatalf("unfinished: %+v", open)
			}
			if err := s.Published(r.Key); !errors.Is(err, ErrUnknown) {
				t.Fatalf("published while it runs: %v", err)
			}
			if err := s.Finish(r.Key, []byte("last")); err != nil {
				t.Fatal(err)
			}
			if err := s.Finish(r.Key, []byte("other")); !errors.Is(err, ErrUnknown) {
				t.Fatalf("finished twice: %v", err)
			}
			if f := s.Lookup(r.Key, r.Hash); f.Status != Finished || string(f.Last) != "last" {
				t.Fatalf("finished: %+v", f)
			}
			if err := s.Published(r.Key); err != nil {
				t.Fatal(err)
			}
			if f := s.Lookup(r.Key, r.Hash); f.Status != Finished || string(f.Last) != "last" {
				t.Fatalf("published: %+v", f)
			}
			if n := len(s.Unfinished()) + len(s.Unpublished()); n != 0 {
				t.Fatalf("%d left over", n)
			}
		})
	}
}

func TestWindowCountsRunningTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewMemory(Limits{Window: time.Minute})
		r := record("a", 1)
		if err := s.Accept(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour) // a running request never expires
		if f := s.Lookup(r.Key, r.Hash); f.Status != Running {
			t.Fatalf("after an hour of work: %v", f.Status)
		}
		if err := s.Finish(r.Key, []byte("x")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(59 * time.Second)
		if f := s.Lookup(r.Key, r.Hash); f.Status != Finished {
			t.Fatalf("within the window: %v", f.Status)
		}
		time.Sleep(2 * time.Second)
		if f := s.Lookup(r.Key, r.Hash); f.Status != Unknown {
			t.Fatalf("after the window: %v", f.Status)
		}
		if s.x.bytes != 0 {
			t.Errorf("%d bytes are still counted", s.x.bytes)
		}
	})
}

// A jump of the clock does not open or close a window: the time of an end has a reading of the monotonic clock, which is
// what time.Since then counts by, and no time is read from the journal.
func TestWindowKnowsNoClock(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		d, _ := openDisk(t, dir, Limits{})
		r := record("a", 1)
		if d.Lookup(r.Key, r.Hash).Status == Unknown {
			if err := d.Accept(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			if err := d.Finish(r.Key, []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		if ended := d.x.entries[r.Key].ended; ended == ended.Round(0) {
			t.Errorf("%v has no monotonic reading", ended)
		}
		closeDisk(t, d)
	}
}

func TestBounds(t *testing.T) {
	s := NewMemory(Limits{Entries: 3, Bytes: 1 << 20})
	for i := range 3 {
		if err := s.Accept(t.Context(), record(strconv.Itoa(i), 1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Accept(t.Context(), record("3", 1)); !errors.Is(err, ErrFull) {
		t.Fatalf("a fourth running one: %v", err)
	}
	for _, id := range []string{"0", "1"} {
		if err := s.Finish(Key{Client: "c", ID: id}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Published(Key{Client: "c", ID: "1"}); err != nil {
		t.Fatal(err)
	}
	// The published one leaves first, though it ended later.
	if err := s.Accept(t.Context(), record("3", 1)); err != nil {
		t.Fatal(err)
	}
	if f := s.Lookup(Key{Client: "c", ID: "0"}, [32]byte{1}); f.Status != Finished {
		t.Errorf("the unpublished one is %v", f.Status)
	}
	if f := s.Lookup(Key{Client: "c", ID: "1"}, [32]byte{1}); f.Status != Unknown {
		t.Errorf("the published one is %v", f.Status)
	}
	if err := s.Accept(t.Context(), record("big", 2<<20)); !errors.Is(err, ErrFull) {
		t.Errorf("larger than the store: %v", err)
	}
	if f := s.Lookup(Key{Client: "c", ID: "0"}, [32]byte{1}); f.Status != Finished {
		t.Errorf("a refused request made the store forget an answer: %v", f.Status)
	}
}

func TestAcceptAfterCancelAndClose(t *testing.T) {
	s := NewMemory(Limits{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Accept(ctx, record("a", 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Accept(t.Context(), record("a", 1)); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestBytesAreCountedBack(t *testing.T) {
	s := NewMemory(Limits{Entries: 50, Bytes: 100_000})
	for i := range 500 {
		r := record(strconv.Itoa(i), i%97)
		if err := s.Accept(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if err := s.Attempt(r.Key, bytes.Repeat([]byte("x"), i%31)); err != nil {
			t.Fatal(err)
		}
		if err := s.Finish(r.Key, bytes.Repeat([]byte("y"), i%53)); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			if err := s.Published(r.Key); err != nil {
				t.Fatal(err)
			}
		}
	}
	var want int64
	for _, e := range s.x.entries {
		want += e.size()
	}
	if s.x.bytes != want || len(s.x.entries) > 50 {
		t.Errorf("bytes = %d, entries sum to %d; %d entries", s.x.bytes, want, len(s.x.entries))
	}
}
