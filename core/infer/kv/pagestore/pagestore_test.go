package pagestore

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

const (
	testTokens = 8
	testData   = 100
	testFile   = headerSize + 4*testTokens + testData
)

// chain is a prefix of pages.
type chain struct {
	names  []Name
	tokens [][]int32
	data   [][]byte
}

func pageFile(n Name, depth int) string { return (&page{depth: depth}).fileName(n) }

func newChain(key string, pages int, seed uint64) chain {
	rng := rand.New(rand.NewPCG(seed, 1))
	var c chain
	var scratch []byte
	n := Root(key)
	for range pages {
		tokens, data := make([]int32, testTokens), make([]byte, testData)
		for i := range tokens {
			tokens[i] = rng.Int32()
		}
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		n, scratch = n.Next(tokens, scratch)
		c.names, c.tokens, c.data = append(c.names, n), append(c.tokens, tokens), append(c.data, data)
	}
	return c
}

// put writes pages [from, to) of a chain and reports how many were taken.
func (c *chain) put(t *testing.T, s *Store, from, to int, at int64) (n int) {
	t.Helper()
	for i := from; i < to; i++ {
		switch err := s.Put(c.names[i], i, at, c.tokens[i], c.data[i], false); {
		case err == nil:
			n++
		case !errors.Is(err, ErrFull) && !errors.Is(err, ErrBudget):
			t.Fatal(err)
		}
	}
	return n
}

// have is the number of pages of a chain that can be read, from its beginning.
func (c *chain) have(t *testing.T, s *Store) int {
	t.Helper()
	got := make([]byte, testData)
	for i, n := range c.names {
		switch err := s.Get(n, c.tokens[i], got); {
		case errors.Is(err, ErrMissing):
			return i
		case err != nil:
			t.Fatal(err)
		case !bytes.Equal(got, c.data[i]):
			t.Fatalf("page %d is another one", i)
		}
	}
	return len(c.names)
}

// clock is a time that tests move.
type clock struct{ now time.Time }

func (c *clock) time() time.Time { return c.now }

func open(t *testing.T, o Options) *Store {
	t.Helper()
	if o.Bytes == 0 {
		o.Bytes = 1 << 20
	}
	if o.Daily == 0 {
		o.Daily = 1 << 30
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestPagesSurvive(t *testing.T) {
	dir := t.TempDir()
	c, other := newChain("model", 5, 1), newChain("another model", 5, 1)
	s := open(t, Options{Dir: dir})
	if n := c.put(t, s, 0, 5, s.Tick()); n != 5 {
		t.Fatalf("%d pages were taken", n)
	}
	c.put(t, s, 0, 5, s.Tick()) // once more: nothing is written
	st := s.Stats()
	if st.Pages != 5 || st.Bytes != 5*testFile || st.Written != 5*testFile {
		t.Errorf("%+v", st)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Dir: dir})
	if n := c.have(t, s); n != 5 {
		t.Errorf("%d pages came back", n)
	}
	if other.have(t, s) != 0 || s.Has(other.names[0]) {
		t.Error("another model's page was found")
	}
	if st := s.Stats(); st.Read != 5 || st.Pages != 5 {
		t.Errorf("%+v", st)
	}
}

func TestOneOwner(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	if _, err := Open(Options{Dir: dir, Bytes: 1}); !errors.Is(err, ErrLocked) {
		t.Errorf("a second owner: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, Options{Dir: dir})
}

// TestDamage: a flipped bit in every byte, every length, and a page under another's name are found, and the file is gone.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	c := newChain("model", 2, 1)
	c.put(t, s, 0, 2, s.Tick())
	path := filepath.Join(dir, pageFile(c.names[1], 1))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(filepath.Join(dir, pageFile(c.names[0], 0)))
	if err != nil {
		t.Fatal(err)
	}
	damaged := [][]byte{nil, first, append(bytes.Clone(whole), 0)}
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 1 << (i % 8)
		damaged = append(damaged, b)
	}
	for n := range whole {
		damaged = append(damaged, whole[:n])
	}
	got := make([]byte, testData)
	for i, b := range damaged {
		if !s.Has(c.names[1]) {
			s.mu.Lock()
			s.pages[c.names[1]] = &page{size: testFile, depth: 1}
			s.bytes += testFile
			s.mu.Unlock()
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.Get(c.names[1], c.tokens[1], got); !errors.Is(err, ErrDamaged) {
			t.Fatalf("damage %d: %v", i, err)
		}
		if _, err := os.Stat(path); !os.IsNotExist(err) || s.Has(c.names[1]) {
			t.Fatalf("damage %d: the file is still there", i)
		}
	}
	if st := s.Stats(); st.Damaged != uint64(len(damaged)) || st.Pages != 1 || st.Bytes != testFile {
		t.Errorf("%+v of %d", st, len(damaged))
	}
	c.put(t, s, 1, 2, s.Tick())
	if n := c.have(t, s); n != 2 {
		t.Errorf("%d pages after the damaged one was written again", n)
	}
}

// TestHalfWritten: what a crash leaves is taken away by the next start, other files are left alone, and a file that somebody
// removed is missing.
func TestHalfWritten(t *testing.T) {
	dir := t.TempDir()
	c := newChain("model", 3, 1)
	s := open(t, Options{Dir: dir})
	c.put(t, s, 0, 3, s.Tick())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".tmp-123", "notes.txt", "zz-0.page", pageFile(c.names[0], 0)[:20] + ".page"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, pageFile(c.names[2], 2))); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Dir: dir})
	if _, err := os.Stat(filepath.Join(dir, ".tmp-123")); !os.IsNotExist(err) {
		t.Error("the half-written file is still there")
	}
	if _, err := os.Stat(filepath.Join(dir, "notes.txt")); err != nil {
		t.Error(err)
	}
	if st := s.Stats(); st.Pages != 2 || c.have(t, s) != 2 {
		t.Errorf("%+v", st)
	}
	if err := os.Remove(filepath.Join(dir, pageFile(c.names[1], 1))); err != nil {
		t.Fatal(err)
	}
	if n := c.have(t, s); n != 1 || s.Has(c.names[1]) {
		t.Errorf("%d pages", n)
	}
}

// TestBounds: the least recently used prefix leaves first and from its end, so that what stays can be reached, and a prefix
// that does not fit keeps its beginning.
func TestBounds(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir, Bytes: 10 * testFile}
	s := open(t, o)
	a, b, long := newChain("m", 6, 1), newChain("m", 6, 2), newChain("m", 15, 3)
	a.put(t, s, 0, 6, s.Tick())
	b.put(t, s, 0, 6, s.Tick())
	if a.have(t, s) != 4 || b.have(t, s) != 6 {
		t.Errorf("%d and %d pages, want 4 and 6", a.have(t, s), b.have(t, s))
	}
	s.Touch(a.names, s.Tick())
	if n := long.put(t, s, 0, 15, s.Tick()); n != 10 {
		t.Errorf("%d of 15 pages were taken, want 10", n)
	}
	if long.have(t, s) != 10 || a.have(t, s) != 0 || s.Stats().Bytes != o.Bytes {
		t.Errorf("%d pages, %+v", long.have(t, s), s.Stats())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	o.Bytes = 3 * testFile
	s = open(t, o) // less than there was
	if st := s.Stats(); long.have(t, s) != 3 || st.Pages != 3 {
		t.Errorf("%+v", st)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.page"))
	if err != nil || len(files) != 3 {
		t.Errorf("%d files, %v", len(files), err)
	}
	if err := s.Put(long.names[4], 4, s.Tick(), long.tokens[4], make([]byte, 4*testFile), false); !errors.Is(err, ErrFull) {
		t.Errorf("a page that is larger than all room: %v", err)
	}
}

// TestUseSurvives: what was used last is what stays after a restart, with a clock that went back meanwhile.
func TestUseSurvives(t *testing.T) {
	dir := t.TempDir()
	now := &clock{time.Unix(1_800_000_000, 0)}
	o := Options{Dir: dir, Now: now.time}
	s := open(t, o)
	a, b := newChain("m", 3, 1), newChain("m", 3, 2)
	a.put(t, s, 0, 3, s.Tick())
	b.put(t, s, 0, 3, s.Tick())
	now.now = now.now.Add(2 * time.Hour)
	s.Touch(a.names, s.Tick())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	now.now = time.Unix(1_000_000_000, 0)
	o.Bytes = 4 * testFile
	s = open(t, o)
	if a.have(t, s) != 3 || b.have(t, s) != 1 {
		t.Errorf("%d and %d pages", a.have(t, s), b.have(t, s))
	}
	c := newChain("m", 2, 3)
	if c.put(t, s, 0, 2, s.Tick()) != 2 || a.have(t, s) != 2 {
		t.Error("a new page is older than what was there")
	}
}

// TestBudget: no more than a day's bytes within 24 hours, over restarts, jumps of the clock and crashes.
func TestBudget(t *testing.T) {
	dir := t.TempDir()
	now := &clock{time.Unix(1_800_000_000, 0)}
	o := Options{Dir: dir, Daily: 10 * testFile, Now: now.time}
	s := open(t, o)
	c := newChain("m", 300, 1)
	at := 0
	put := func(want int) {
		t.Helper()
		n := c.put(t, s, at, at+20, s.Tick())
		if n != want {
			t.Fatalf("%d pages were written, want %d", n, want)
		}
		at += 20
	}
	restart := func() {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, o)
	}
	put(10)
	put(0)
	restart()
	put(0)
	now.now = now.now.Add(23 * time.Hour)
	put(0)
	restart()
	put(0)
	now.now = now.now.Add(2 * time.Hour)
	put(10)
	now.now = now.now.Add(-1000 * time.Hour) // while it was off
	restart()
	put(0)
	now.now = now.now.Add(26 * time.Hour) // while it runs
	put(10)

	// Half of it for what nobody came back to.
	now.now = now.now.Add(48 * time.Hour)
	n := 0
	for i := at; i < at+20; i++ {
		if s.Put(c.names[i], i, s.Tick(), c.tokens[i], c.data[i], true) == nil {
			n++
		}
	}
	if n != 5 {
		t.Errorf("%d pages were written with half of the bytes", n)
	}
	at += 20
	put(5)

	// A file that cannot be read is no new day.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "written"), []byte(`{"hour":1,"bytes":[-5]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, o)
	put(5)

	o.Daily = 0
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if n := c.put(t, s, at, at+1, s.Tick()); n != 0 {
		t.Error("a page was written without a budget")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCrashKeepsBudget: a process that dies has its bytes written down before it spent them.
func TestCrashKeepsBudget(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir, Daily: 10 * testFile, Bytes: 1 << 20}
	c := newChain("m", 40, 1)
	written := 0
	for life := range 4 {
		s, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		written += c.put(t, s, 10*life, 10*life+3, s.Tick())
		if err := s.lock.Close(); err != nil { // it dies here: nothing is written any more
			t.Fatal(err)
		}
	}
	if written > 10 {
		t.Errorf("%d pages within a day of 10", written)
	}
}

// TestNowhereToWrite: a folder that is gone or takes nothing is an error of Put, and the rest goes on.
func TestNowhereToWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pages")
	s, err := Open(Options{Dir: dir, Bytes: 1 << 20, Daily: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	c := newChain("m", 2, 1)
	c.put(t, s, 0, 1, s.Tick())
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(c.names[1], 1, s.Tick(), c.tokens[1], c.data[1], false); err == nil {
		t.Error("a page was written to a folder that is gone")
	}
	if c.have(t, s) != 0 || s.Stats().Pages != 0 {
		t.Errorf("%+v", s.Stats())
	}
	_ = s.Close() // it cannot write the budget either
	if _, err := Open(Options{Dir: filepath.Join(os.DevNull, "pages"), Bytes: 1}); err == nil {
		t.Error("a folder that cannot be made was opened")
	}
}

// TestFormat: a folder of another format, or of none, is emptied before anything is read from it; one of the same keeps its pages.
func TestFormat(t *testing.T) {
	dir := t.TempDir()
	c := newChain("m", 3, 1)
	open := func(format string) *Store {
		t.Helper()
		s, err := Open(Options{Dir: dir, Bytes: 1 << 20, Daily: 1 << 20, Format: format})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	var have []int
	for _, format := range []string{"one", "one", "two", "one"} {
		s := open(format)
		have = append(have, c.have(t, s))
		if files, err := filepath.Glob(filepath.Join(dir, "*.page")); err != nil || len(files) != have[len(have)-1] {
			t.Errorf("%s: %d files, %v", format, len(files), err)
		}
		if st := s.Stats(); st.Pages != have[len(have)-1] || st.Pages == 0 && st.Bytes != 0 {
			t.Errorf("%s: %+v", format, st)
		}
		c.put(t, s, 0, 3, s.Tick())
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(have, []int{0, 3, 0, 0}) {
		t.Errorf("found %v", have)
	}
	// The first builds wrote no such file.
	if err := os.Remove(filepath.Join(dir, "format")); err != nil {
		t.Fatal(err)
	}
	s := open("one")
	if n := c.have(t, s); n != 0 {
		t.Errorf("%d pages of a folder without a format were found", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestStates: a state is found by the tokens before it and by nothing else, in the parts that were written, after a restart too; it
// leaves before the pages that it is behind, and what is damaged is removed.
func TestStates(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir}
	s := open(t, o)
	c := newChain("m", 4, 1)
	rest := c.tokens[3][:3]
	ends := []struct {
		depth int
		rest  []int32
	}{{1, nil}, {3, rest}, {3, nil}, {2, nil}}
	parts := func(i int) [][]byte {
		return [][]byte{bytes.Repeat([]byte{byte(i + 1)}, 50), bytes.Repeat([]byte{byte(i + 101)}, 7*len(ends[i].rest))}
	}
	c.put(t, s, 0, 4, s.Tick())
	for i, e := range ends {
		if err := s.PutState(c.names[e.depth-1].State(e.rest), e.depth, s.Tick(), e.rest, false, parts(i)...); err != nil {
			t.Fatal(err)
		}
	}
	check := func() {
		t.Helper()
		if got, want := s.States(), []End{{3, 3}, {3, 0}, {2, 0}, {1, 0}}; !slices.Equal(got, want) {
			t.Errorf("states end at %v, want %v", got, want)
		}
		for i, e := range ends {
			want := parts(i)
			got := [][]byte{make([]byte, 50), make([]byte, len(want[1]))}
			if err := s.GetState(c.names[e.depth-1].State(e.rest), e.rest, got...); err != nil || !bytes.Equal(got[0], want[0]) || !bytes.Equal(got[1], want[1]) {
				t.Errorf("state %d: %v, %v", i, got, err)
			}
		}
		if st := s.Stats(); st.States != 4 || st.Pages != 4 || st.Bytes != 4*testFile+4*(headerSize+50)+4*3+7*3 {
			t.Errorf("%+v", st)
		}
		if c.have(t, s) != 4 {
			t.Error("pages are missing")
		}
	}
	check()
	if s.Has(c.names[2].State(rest[:2])) || s.Has(c.names[3].State(nil)) || s.Has(newChain("m", 3, 2).names[2].State(nil)) {
		t.Error("another prefix has a state")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, o)
	check()

	// Each flipped bit and each length is found.
	name := c.names[2].State(rest)
	path := s.path(name, s.pages[name])
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var damaged [][]byte
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 1 << (i % 8)
		damaged = append(damaged, b, whole[:i])
	}
	for i, b := range damaged {
		s.mu.Lock()
		s.pages[name] = &page{size: int64(len(whole)), depth: 3, state: true, rest: 3}
		s.mu.Unlock()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.GetState(name, rest, make([]byte, 50), make([]byte, 21)); !errors.Is(err, ErrDamaged) || s.Has(name) {
			t.Fatalf("damage %d: %v", i, err)
		}
	}
	if err := s.PutState(name, 3, s.Tick(), rest, false, parts(1)...); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	// Of a prefix that was used at once the state goes first, then the pages from the end.
	dir = t.TempDir()
	s = open(t, Options{Dir: dir})
	at := s.Tick()
	c.put(t, s, 0, 4, at)
	if err := s.PutState(c.names[3].State(nil), 4, at, nil, false, make([]byte, 40)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Dir: dir, Bytes: 4*testFile + 10})
	if st := s.Stats(); st.States != 0 || st.Pages != 4 {
		t.Errorf("%+v", st)
	}
}

// FuzzGet: whatever stands in a file, only the page that was written is given out, and nothing panics.
func FuzzGet(f *testing.F) {
	c := newChain("m", 1, 1)
	f.Add(append(head(c.names[0], 0, c.tokens[0], c.data[0]), c.data[0]...))
	f.Add([]byte(magic))
	dir := f.TempDir()
	path := filepath.Join(dir, pageFile(c.names[0], 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, testData)
		if err := readFile(path, c.names[0], 0, c.tokens[0], got); err == nil && !bytes.Equal(got, c.data[0]) {
			t.Error("another page was given out")
		}
	})
}

// FuzzNames: what stands in the folder is read by name, and budgets by content.
func FuzzNames(f *testing.F) {
	f.Add(pageFile(Root("m"), 3), []byte(`{"hour":500000,"bytes":[1]}`))
	f.Add((&page{depth: 3, state: true, rest: 5}).fileName(Root("m")), []byte(`{}`))
	f.Add("-1.page", []byte(`{"hour":-1}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, name string, text []byte) {
		if n, p, ok := parseName(name); ok && p.fileName(n) != name {
			t.Errorf("%q is read as %q", name, p.fileName(n))
		}
		path := filepath.Join(dir, "written")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		now := time.Unix(1_800_000_000, 0)
		b := openBudget(path, 1000, now)
		if sum := b.sum(); sum < 0 {
			t.Errorf("a day of %d bytes", sum)
		}
		if b.has(1001, false, now) {
			t.Error("more than a day's bytes")
		}
	})
}
