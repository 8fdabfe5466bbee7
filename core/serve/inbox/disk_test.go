package inbox

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func openDisk(tb testing.TB, dir string, l Limits) (*Disk, Report) {
	tb.Helper()
	d, r, err := OpenDisk(dir, l)
	if err != nil {
		tb.Fatal(err)
	}
	return d, r
}

func closeDisk(tb testing.TB, d *Disk) {
	tb.Helper()
	if err := d.Close(); err != nil {
		tb.Fatal(err)
	}
}

// fill writes n requests of which every third is finished and every sixth published, and returns what a reader must find:
// for each id its data, and its last event where it has one.
func fill(tb testing.TB, s Store, n int) (data, last map[string]string) {
	tb.Helper()
	data, last = map[string]string{}, map[string]string{}
	for i := range n {
		id := fmt.Sprintf("id-%d", i)
		k := Key{Client: "client", ID: id}
		data[id] = strings.Repeat(fmt.Sprintf("data of %s. ", id), i%7+1)
		if err := s.Accept(tb.Context(), Record{Key: k, Hash: [32]byte{byte(i)}, Data: []byte(data[id])}); err != nil {
			tb.Fatal(err)
		}
		if i%2 == 0 {
			if err := s.Attempt(k, []byte("note of "+id)); err != nil {
				tb.Fatal(err)
			}
		}
		if i%3 == 0 {
			last[id] = "last of " + id
			if err := s.Finish(k, []byte(last[id])); err != nil {
				tb.Fatal(err)
			}
		}
		if i%6 == 0 {
			if err := s.Published(k); err != nil {
				tb.Fatal(err)
			}
		}
	}
	return data, last
}

// verify tells how many of the requests a store has, and fails where it has anything that was not written.
func verify(tb testing.TB, s Store, n int, data, last map[string]string) (found int) {
	tb.Helper()
	for _, p := range s.Unfinished() {
		if data[p.ID] != string(p.Data) || p.Attempt != nil && string(p.Attempt) != "note of "+p.ID {
			tb.Fatalf("unfinished %s: data %q, note %q", p.ID, p.Data, p.Attempt)
		}
	}
	for _, e := range s.Unpublished() {
		if last[e.ID] != string(e.Last) || data[e.ID] != string(e.Data) {
			tb.Fatalf("unpublished %s: data %q, last %q", e.ID, e.Data, e.Last)
		}
	}
	for i := range n {
		id := fmt.Sprintf("id-%d", i)
		switch f := s.Lookup(Key{Client: "client", ID: id}, [32]byte{byte(i)}); f.Status {
		case Finished:
			if last[id] != string(f.Last) {
				tb.Fatalf("%s: last %q", id, f.Last)
			}
			found++
		case Running:
			found++
		case Conflict:
			tb.Fatalf("%s has another hash", id)
		case Unknown:
		}
	}
	return found
}

func TestDiskSurvives(t *testing.T) {
	dir := t.TempDir()
	d, _ := openDisk(t, dir, Limits{})
	data, last := fill(t, d, 30)
	if _, _, err := OpenDisk(dir, Limits{}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Fatalf("opened twice: %v", err)
	}
	for life := range 3 {
		closeDisk(t, d)
		var r Report
		d, r = openDisk(t, dir, Limits{})
		if n := verify(t, d, 30, data, last); n != 30 || len(r.Damaged) != 0 || r.Unfinished != 20 || len(d.Unpublished()) != 5 {
			t.Fatalf("life %d: %d found, %d unpublished, report %+v", life, n, len(d.Unpublished()), r)
		}
		if open := d.Unfinished(); open[0].ID != "id-1" || open[19].ID != "id-29" {
			t.Errorf("life %d: the order is lost: %s … %s", life, open[0].ID, open[19].ID)
		}
	}
	if st, err := os.Stat(filepath.Join(dir, d.current.name)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	closeDisk(t, d)
	if err := d.Accept(t.Context(), Record{Key: Key{ID: "x"}}); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// segmentOf returns the one segment of a closed store, and its bytes.
func segmentOf(tb testing.TB, dir string) (string, []byte) {
	tb.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(names) != 1 {
		tb.Fatalf("segments %v, %v", names, err)
	}
	b, err := os.ReadFile(names[0])
	if err != nil {
		tb.Fatal(err)
	}
	return filepath.Base(names[0]), b
}

// reopen opens a store whose only segment has these bytes.
func reopen(tb testing.TB, name string, b []byte) (*Disk, Report) {
	tb.Helper()
	dir := tb.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		tb.Fatal(err)
	}
	return openDisk(tb, dir, Limits{})
}

func TestCutAnywhere(t *testing.T) {
	dir := t.TempDir()
	d, _ := openDisk(t, dir, Limits{})
	data, last := fill(t, d, 12)
	before := d.current.size.Load()
	if err := d.Accept(t.Context(), Record{Key: Key{Client: "client", ID: "id-12"}, Hash: [32]byte{12}, Data: []byte("the last one")}); err != nil {
		t.Fatal(err)
	}
	data["id-12"] = "the last one"
	closeDisk(t, d)
	name, b := segmentOf(t, dir)
	for cut := int(before); cut <= len(b); cut++ {
		d, r := reopen(t, name, b[:cut])
		want, damaged := 12, 1
		if cut == len(b) {
			want = 13
		}
		if cut == len(b) || cut == int(before) {
			damaged = 0
		}
		if n := verify(t, d, 13, data, last); n != want || len(r.Damaged) != damaged {
			t.Fatalf("cut at %d of %d: %d found, report %+v", cut, len(b), n, r)
		}
		closeDisk(t, d)
	}
}

func TestBitFlips(t *testing.T) {
	dir := t.TempDir()
	d, _ := openDisk(t, dir, Limits{})
	const requests = 40
	data, last := fill(t, d, requests)
	closeDisk(t, d)
	name, b := segmentOf(t, dir)
	_, salt, _ := segmentName(name)
	var starts []int64
	for offset := int64(0); offset < int64(len(b)); {
		starts = append(starts, offset)
		_, next, err := readRecord(b, salt, offset)
		if err != nil {
			t.Fatal(err)
		}
		offset = next
	}
	rounds := 10_000
	if testing.Short() {
		rounds = 1000
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range rounds {
		bit := rng.IntN(8 * len(b))
		flipped := bytes.Clone(b)
		flipped[bit/8] ^= 1 << (bit % 8)
		x := newIndex(Limits{})
		d := &Disk{x: x}
		records := 0
		bad := scan(name, flipped, salt, func(e entryRecord) { records++; d.replay(e) })
		if len(bad) != 1 || records != len(starts)-1 {
			t.Fatalf("bit %d: %d of %d records, damage %v", bit, records, len(starts), bad)
		}
		if at := int64(bit / 8); at < bad[0].Offset || at >= bad[0].Offset+bad[0].Bytes {
			t.Fatalf("bit %d: the damage is reported at %+v", bit, bad[0])
		}
		verify(t, d, requests, data, last)
	}
}

// A prompt may hold bytes that look like records: they are never taken for one, whatever else is damaged.
func TestForgedRecords(t *testing.T) {
	dir := t.TempDir()
	d, _ := openDisk(t, dir, Limits{})
	salt := d.current.salt
	forged, err := appendRecord(nil, "0000000000000000", 0, kindFinish, []byte("client"), []byte("victim"), []byte("evil"))
	if err != nil {
		t.Fatal(err)
	}
	replayed, err := appendRecord(nil, salt, 0, kindFinish, []byte("client"), []byte("victim"), []byte("evil"))
	if err != nil {
		t.Fatal(err)
	}
	for id, payload := range map[string][]byte{"victim": nil, "attacker": bytes.Repeat(append(forged, replayed...), 50)} {
		if err := d.Accept(t.Context(), Record{Key: Key{Client: "client", ID: id}, Data: payload}); err != nil {
			t.Fatal(err)
		}
	}
	closeDisk(t, d)
	name, b := segmentOf(t, dir)
	at := bytes.Index(b, []byte("attacker"))
	for flip := at - 60; flip < at; flip++ {
		if flip < 0 {
			continue
		}
		damaged := bytes.Clone(b)
		damaged[flip] ^= 0x10
		x := &Disk{x: newIndex(Limits{})}
		scan(name, damaged, salt, x.replay)
		if f := x.Lookup(Key{Client: "client", ID: "victim"}, [32]byte{}); f.Status == Finished {
			t.Fatalf("flip at %d: the forged record was taken: %q", flip, f.Last)
		}
	}
}

func TestCompaction(t *testing.T) {
	dir := t.TempDir()
	l := Limits{Bytes: 2 << 20, Entries: 100}
	d, _ := openDisk(t, dir, l)
	payload := bytes.Repeat([]byte("x"), 100_000)
	var most int64
	for i := range 300 {
		k := Key{ID: fmt.Sprint("r", i)}
		if err := d.Accept(t.Context(), Record{Key: k, Data: payload}); err != nil {
			t.Fatal(err)
		}
		if i%50 == 7 {
			continue // stays unfinished
		}
		if err := d.Finish(k, []byte("last")); err != nil {
			t.Fatal(err)
		}
		if err := d.Published(k); err != nil {
			t.Fatal(err)
		}
		var sum int64
		names, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if st, err := os.Stat(name); err == nil {
				sum += st.Size()
			}
		}
		most = max(most, sum)
	}
	if limit := slack*l.Bytes + 2*segmentBytes + l.Bytes; most > limit {
		t.Errorf("the files grew to %d bytes, more than %d", most, limit)
	}
	closeDisk(t, d)
	d, r := openDisk(t, dir, l)
	defer closeDisk(t, d)
	if len(r.Damaged) != 0 || r.Unfinished != 6 {
		t.Errorf("%+v", r)
	}
	for _, p := range d.Unfinished() {
		if !bytes.Equal(p.Data, payload) {
			t.Errorf("%s has %d bytes", p.ID, len(p.Data))
		}
	}
}

// A kill between any two steps of a compaction leaves old and new segments, which say the same.
func TestKilledWhileCompacting(t *testing.T) {
	dir := t.TempDir()
	d, _ := openDisk(t, dir, Limits{})
	data, last := fill(t, d, 20)
	closeDisk(t, d)
	name, old := segmentOf(t, dir)
	d, _ = openDisk(t, dir, Limits{}) // compacts
	closeDisk(t, d)
	if err := os.WriteFile(filepath.Join(dir, name), old, 0o600); err != nil { // as if it had not been removed
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "0000000000000009-0123456789abcdef.log.tmp"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, r := openDisk(t, dir, Limits{})
	defer closeDisk(t, d)
	if n := verify(t, d, 20, data, last); n != 20 || len(r.Damaged) != 0 || r.Segments != 2 {
		t.Errorf("%d found, %+v", n, r)
	}
	if names, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(names) != 2 { // a segment and the lock
		t.Errorf("left: %v, %v", names, err)
	}
}

func TestConcurrentAccepts(t *testing.T) {
	dir := t.TempDir()
	d, _ := openDisk(t, dir, Limits{Bytes: 1 << 20})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 40 {
				k := Key{Client: strconv.Itoa(g), ID: strconv.Itoa(i)}
				if err := d.Accept(t.Context(), Record{Key: k, Data: make([]byte, 5000)}); err != nil {
					t.Errorf("%v: %v", k, err)
					return
				}
				if i%4 == 0 {
					continue
				}
				if err := errors.Join(d.Attempt(k, nil), d.Finish(k, []byte("last")), d.Published(k)); err != nil {
					t.Errorf("%v: %v", k, err)
				}
			}
		})
	}
	wg.Wait()
	closeDisk(t, d)
	d, r := openDisk(t, dir, Limits{Bytes: 1 << 20})
	defer closeDisk(t, d)
	if r.Unfinished != 80 || len(r.Damaged) != 0 {
		t.Errorf("%+v", r)
	}
}

// A full disk refuses requests with its own error, keeps what is there, and takes requests again when there is room.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	d, _ := openDisk(t, dir, Limits{})
	accepted := 0
	var full error
	for i := range 100 {
		if full = d.Accept(t.Context(), Record{Key: Key{ID: strconv.Itoa(i)}, Data: make([]byte, 10_000)}); full != nil {
			break
		}
		accepted++
	}
	if !errors.Is(full, unix.ENOSPC) || accepted < 10 {
		t.Fatalf("after %d: %v", accepted, full)
	}
	if f := d.Lookup(Key{ID: strconv.Itoa(accepted)}, [32]byte{}); f.Status != Unknown {
		t.Errorf("the refused one is %v", f.Status)
	}
	if err := d.Finish(Key{ID: "0"}, []byte("short")); err != nil {
		t.Logf("finishing on a full disk: %v", err)
	}
	if f := d.Lookup(Key{ID: "0"}, [32]byte{}); f.Status != Finished {
		t.Errorf("the finished one is %v", f.Status)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=1m"); err != nil {
		t.Fatal(err)
	}
	if err := d.Accept(t.Context(), Record{Key: Key{ID: "after"}, Data: make([]byte, 10_000)}); err != nil {
		t.Errorf("with room again: %v", err)
	}
	closeDisk(t, d)
	d, r := openDisk(t, dir, Limits{})
	if len(r.Damaged) != 0 || r.Unfinished < accepted {
		t.Errorf("%d accepted, %+v", accepted, r)
	}
	closeDisk(t, d)
}

func FuzzScan(f *testing.F) {
	dir := f.TempDir()
	d, _ := openDisk(f, dir, Limits{})
	fill(f, d, 6)
	closeDisk(f, d)
	_, b := segmentOf(f, dir)
	f.Add(b)
	f.Add(append(mark(), 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		x := &Disk{x: newIndex(Limits{Entries: 16, Bytes: 1 << 16})}
		var covered int64
		for _, d := range scan("x", b, "0123456789abcdef", func(e entryRecord) { x.replay(e); covered += headerSize + 1 }) {
			covered += d.Bytes
		}
		if covered > int64(len(b)) {
			t.Errorf("%d of %d bytes are accounted for", covered, len(b))
		}
	})
}
