package inbox

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
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
		_, next, err := source{bytes.NewReader(b), int64(len(b)), salt}.record(offset)
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
		bad := source{bytes.NewReader(flipped), int64(len(flipped)), salt}.scan(name, func(e entryRecord) { records++; d.replay(e) })
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
	forged, err := encodeRecord("0000000000000000", 0, kindFinish, []byte("client"), []byte("victim"), []byte("evil"))
	if err != nil {
		t.Fatal(err)
	}
	replayed, err := encodeRecord(salt, 0, kindFinish, []byte("client"), []byte("victim"), []byte("evil"))
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
		source{bytes.NewReader(damaged), int64(len(damaged)), salt}.scan(name, x.replay)
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
	if names, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(names) != 3 { // a segment, the lock and the format
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

// What was answered while the disk was full is written when it takes writes again: with the next record, or at the end.
func TestAnsweredOnAFullDisk(t *testing.T) {
	for _, c := range []struct {
		name   string
		accept bool // something is accepted after there is room again
	}{{"another request comes", true}, {"none comes", false}} {
		t.Run(c.name, func(t *testing.T) {
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
			var keys []Key
			for i := range 100 {
				k := Key{Client: "c", ID: strconv.Itoa(i)}
				if d.Accept(t.Context(), Record{Key: k, Data: make([]byte, 10_000)}) != nil {
					break
				}
				keys = append(keys, k)
			}
			failed := 0
			for _, k := range keys[:10] {
				if d.Finish(k, bytes.Repeat([]byte("last"), 2000)) != nil {
					failed++
				}
			}
			if failed == 0 {
				t.Fatal("the disk took them all: not what the test is about")
			}
			if err := d.Published(keys[9]); err == nil {
				t.Fatal("the disk took it")
			}
			if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=1m"); err != nil {
				t.Fatal(err)
			}
			if c.accept {
				if err := d.Accept(t.Context(), Record{Key: Key{ID: "after"}}); err != nil {
					t.Fatal(err)
				}
				_, _ = d.current.file.Close(), d.lock.Close() // and then the process is killed
			} else {
				closeDisk(t, d)
			}
			d, r := openDisk(t, dir, Limits{})
			defer closeDisk(t, d)
			for _, k := range keys[:10] {
				if f := d.Lookup(k, [32]byte{}); f.Status != Finished || len(f.Last) != 8000 {
					t.Errorf("%s is %v, with %d bytes", k.ID, f.Status, len(f.Last))
				}
			}
			if len(r.Damaged) != 0 {
				t.Errorf("%+v", r)
			}
			if n := len(d.Unpublished()); n != 9 {
				t.Errorf("%d are not published", n)
			}
		})
	}
}

// A request that was answered on a full disk and then forgotten does not run again.
func TestForgottenOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	d, _ := openDisk(t, dir, Limits{})
	k := Key{Client: "c", ID: "x"}
	if err := d.Accept(t.Context(), Record{Key: k}); err != nil {
		t.Fatal(err)
	}
	writes := d.current.file
	reads, err := os.Open(filepath.Join(dir, d.current.name)) // a file that takes no writes stands for the full disk
	if err != nil {
		t.Fatal(err)
	}
	d.current.file = reads
	if d.Finish(k, []byte("last")) == nil {
		t.Fatal("it was written")
	}
	d.mu.Lock()
	d.x.forget(d.x.entries[k])
	d.current.file = writes
	d.mu.Unlock()
	_ = reads.Close()
	closeDisk(t, d)
	d, r := openDisk(t, dir, Limits{})
	defer closeDisk(t, d)
	if r.Unfinished != 0 {
		t.Errorf("it would run again: %+v", r)
	}
}

// A folder that is removed under the store is noticed, and the store goes on when there is one again.
func TestRemovedFolder(t *testing.T) {
	for _, c := range []struct {
		name   string
		remove func(dir string) error
	}{
		{"removed", os.RemoveAll},
		{"moved away", func(dir string) error { return os.Rename(dir, dir+".old") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "inbox")
			d, _ := openDisk(t, dir, Limits{})
			data, last := fill(t, d, 10)
			if err := c.remove(dir); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := d.Accept(t.Context(), Record{Key: Key{ID: "lost"}}); !errors.Is(err, ErrGone) {
					t.Fatalf("accepting into a removed folder: %v", err)
				}
			}
			if err := d.Finish(Key{Client: "client", ID: "id-1"}, []byte("last of id-1")); !errors.Is(err, ErrGone) {
				t.Fatalf("finishing: %v", err)
			}
			last["id-1"] = "last of id-1"
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := d.Accept(t.Context(), Record{Key: Key{ID: "found"}}); err != nil {
				t.Fatal(err)
			}
			if _, _, err := OpenDisk(dir, Limits{}); err == nil {
				t.Error("the new folder is not locked")
			}
			closeDisk(t, d)
			d, r := openDisk(t, dir, Limits{})
			defer closeDisk(t, d)
			if n := verify(t, d, 10, data, last); n != 10 || r.Unfinished != 6 {
				t.Errorf("%d found, %+v", n, r)
			}
		})
	}
}

// A sparse file of gigabytes in the journal's place costs neither memory nor time.
func TestSparseSegment(t *testing.T) {
	dir := t.TempDir()
	d, _ := openDisk(t, dir, Limits{})
	data, last := fill(t, d, 10)
	closeDisk(t, d)
	name, b := segmentOf(t, dir)
	path := filepath.Join(dir, name)
	if err := os.Truncate(path, 8<<30); err != nil {
		t.Skipf("no sparse file here: %v", err)
	}
	// A record behind the hole, and a length that claims most of it.
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	claim := append(mark(), 0, 0, 0, 0x13, 1, 2, 3, 4)
	if _, err := f.WriteAt(claim, int64(len(b))); err != nil {
		t.Fatal(err)
	}
	_, salt, _ := segmentName(name)
	far, err := encodeRecord(salt, 7<<30, kindAccept, []byte("client"), []byte("far"), make([]byte, 32), []byte("data"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(far, 7<<30); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	d, r := openDisk(t, dir, Limits{})
	defer closeDisk(t, d)
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 16<<20 {
		t.Errorf("opening it took %d MiB", grown>>20)
	}
	data["far"] = "data"
	if n := verify(t, d, 10, data, last); n != 10 || len(r.Damaged) != 2 || r.Unfinished != 7 {
		t.Errorf("%d found, %+v", n, r)
	}
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
		for _, d := range (source{bytes.NewReader(b), int64(len(b)), "0123456789abcdef"}).scan("x", func(e entryRecord) { x.replay(e); covered += headerSize + 1 }) {
			covered += d.Bytes
		}
		if covered > int64(len(b)) {
			t.Errorf("%d of %d bytes are accounted for", covered, len(b))
		}
	})
}
