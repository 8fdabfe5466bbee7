// Package pagestore keeps KV pages on disk under the names of the prefixes that they end: a folder of files,
// one page each, bounded in size and in the bytes that are written within a day, since SD cards wear. Beside
// them it keeps states: what a model with a fixed state has behind a prefix of any length, a file each, under
// the same bounds.
//
// A name is a hash over all that the bits of a page depend on: what the caller roots it in, and every token
// up to its end. So a page is found without reading anything else, and one of another model, adapter or
// format is never found. Pages of names that nobody asks for any more leave as the least recently used ones.
//
// Whatever goes wrong costs time only. A file whose checksum, size or tokens are not right is removed and
// counts as missing; a full disk, a spent budget and a missing folder are errors of Put, after which the
// caller computes as if there were no store. A file is written under another name and renamed when it is
// complete and synced, so that a crash leaves no half of one under its name.
//
// It must not know what a page holds, what a model is or when a page is worth keeping. All methods may be called
// concurrently; Has and Touch take no longer than a map lookup for each name.
package pagestore

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// What Put and Get return, wrapped.
var (
	ErrLocked  = errors.New("another process uses it")
	ErrMissing = errors.New("there is no such page or state")
	ErrDamaged = errors.New("the file is damaged")
	ErrFull    = errors.New("there is no room for it")
	ErrBudget  = errors.New("the bytes of this day are spent")
)

// Name is that of a prefix whose length is a multiple of a page.
type Name [sha256.Size]byte

// Root is the name of the empty prefix of everything that key describes.
func Root(key string) Name { return sha256.Sum256([]byte(key)) }

// Next is the name of the prefix that goes on with a page of tokens. scratch is reused, and returned for the next call.
func (n Name) Next(tokens []int32, scratch []byte) (Name, []byte) {
	scratch = append(scratch[:0], n[:]...)
	for _, t := range tokens {
		scratch = binary.LittleEndian.AppendUint32(scratch, uint32(t))
	}
	return sha256.Sum256(scratch), scratch
}

// State is the name of what a model has behind the prefix and rest, the tokens of a page that is not full.
func (n Name) State(rest []int32) Name {
	b := append([]byte(stateVersion), n[:]...)
	for _, t := range rest {
		b = binary.LittleEndian.AppendUint32(b, uint32(t))
	}
	return sha256.Sum256(b)
}

// stateVersion begins what the names of states are made of; no page's name begins so, whose text has another length.
const stateVersion = "edged state 1 "

// End is the position of a state: behind so many full pages, and so many tokens of the next one.
type End struct{ Depth, Rest int }

// Options are the bounds of a store.
type Options struct {
	Dir string // made where it is missing; of one process at a time
	// Format says how names are made, in one line of text. A folder of another one, or of none, is emptied:
	// nothing would ever ask for its pages.
	Format string
	Bytes  int64 // that all files may have
	Daily  int64 // bytes that may be written in any 24 hours; 0: none, what is there is still read
	Log    *slog.Logger
	Now    func() time.Time // nil: time.Now
}

// maxPages bounds the files of a folder, and with them the memory of the index: about 3 MiB.
const maxPages = 1 << 14

// Of the file system, a twentieth and at least reserveBytes stay free: the rest of the machine needs them more.
const (
	reserveShare = 20
	reserveBytes = 64 << 20
)

// Store is an open folder of pages.
type Store struct {
	o    Options
	lock *os.File

	writing sync.Mutex // one Put at a time; taken before mu

	mu      sync.Mutex
	pages   map[Name]*page
	bytes   int64
	newest  int64 // the latest use
	budget  budget
	damaged uint64
	written uint64
	read    uint64
	closed  bool
}

// page is one file: a page, or a state.
type page struct {
	size  int64
	depth int // pages before it in its prefix
	state bool
	rest  int   // of a state: tokens behind these pages
	used  int64 // when it was used last, in seconds; never above that of the pages before it
	told  int64 // used as the file's time tells
}

// Stats counts what is stored, and the operations since Open.
type Stats struct {
	Pages   int
	States  int
	Bytes   int64  // of both
	Read    uint64 // files
	Written uint64 // bytes
	Damaged uint64 // files that were found damaged and removed
}

// Open opens the folder and finds out what is there. The error is ErrLocked while another process has it open.
func Open(o Options) (*Store, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("pagestore: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(o.Dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("pagestore: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("pagestore: %s: %w", o.Dir, ErrLocked), lock.Close())
	}
	s := &Store{o: o, lock: lock, pages: map[Name]*page{}}
	err = s.scan()
	if err == nil {
		err = s.checkFormat()
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	s.budget = openBudget(filepath.Join(o.Dir, "written"), o.Daily, o.Now())
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.bytes > o.Bytes || len(s.pages) > maxPages { // the bounds may be smaller than they were
		victim, _ := s.oldest()
		s.remove(victim)
	}
	return s, nil
}

// checkFormat removes the pages of another format and writes down the present one: afterwards, so that a
// crash on the way leaves it to the next start.
func (s *Store) checkFormat() error {
	path := filepath.Join(s.o.Dir, "format")
	old, err := os.ReadFile(path)
	switch {
	case err == nil && string(old) == s.o.Format+"\n":
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("pagestore: %w", err)
	}
	if len(s.pages) > 0 {
		s.o.Log.Info(
			"the prefix cache on disk was written in a format that this build does not read: its files are removed, and prompts computed again",
			"path",
			s.o.Dir,
			"pages",
			len(s.pages),
			"format",
			strings.TrimSpace(string(old[:min(len(old), 60)])),
			"reads",
			s.o.Format,
		)
	}
	for n, p := range s.pages {
		if err := os.Remove(s.path(n, p)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("pagestore: %w", err)
		}
		s.forget(n)
	}
	if err := writeSmall(path, []byte(s.o.Format+"\n")); err != nil {
		return fmt.Errorf("pagestore: %w", err)
	}
	return nil
}

// fileName is NAME-DEPTH.page of a page and NAME-DEPTH-REST.state of a state.
func (p *page) fileName(n Name) string {
	if p.state {
		return fmt.Sprintf("%x-%d-%d.state", n, p.depth, p.rest)
	}
	return fmt.Sprintf("%x-%d.page", n, p.depth)
}

// path returns the path of the file that stores a name.
func (s *Store) path(n Name, p *page) string { return filepath.Join(s.o.Dir, p.fileName(n)) }

// parseName reads what fileName wrote.
func parseName(file string) (n Name, p page, ok bool) {
	stem, kind, _ := strings.Cut(file, ".")
	parts := strings.Split(stem, "-")
	if len(parts[0]) != 2*len(n) {
		return n, p, false
	}
	if _, err := hex.Decode(n[:], []byte(parts[0])); err != nil {
		return n, p, false
	}
	numbers := []*int{&p.depth}
	if p.state = kind == "state"; p.state {
		numbers = append(numbers, &p.rest)
	}
	if len(parts) != 1+len(numbers) {
		return n, p, false
	}
	for i, to := range numbers {
		v, err := strconv.Atoi(parts[1+i])
		if err != nil || v < 0 {
			return n, p, false
		}
		*to = v
	}
	return n, p, p.fileName(n) == file
}

// scan finds the files, by their names alone, and removes what a crash left half-way.
func (s *Store) scan() error {
	list, err := os.ReadDir(s.o.Dir)
	if err != nil {
		return fmt.Errorf("pagestore: %w", err)
	}
	for _, e := range list {
		if strings.HasPrefix(e.Name(), ".tmp-") {
			_ = os.Remove(filepath.Join(s.o.Dir, e.Name()))
			continue
		}
		name, p, ok := parseName(e.Name())
		if !ok {
			continue
		}
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		p.size, p.used = info.Size(), info.ModTime().Unix()
		p.told = p.used
		s.pages[name] = &p
		s.bytes += p.size
		s.newest = max(s.newest, p.used)
	}
	return nil
}

// Tick is a time of use, later than all before it, whatever the clock says: a Pi has none when it boots.
func (s *Store) Tick() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newest = max(s.newest+1, s.o.Now().Unix())
	return s.newest
}

// Has reports whether there is a page of that name. Get may still find it damaged.
func (s *Store) Has(n Name) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pages[n] != nil
}

// Touch says that the pages of a prefix, from its first one on, were used at a Tick.
func (s *Store) Touch(names []Name, at int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range names {
		p := s.pages[n]
		if p == nil {
			return
		}
		p.used = max(p.used, at)
	}
}

// Get reads a page into data, whose length is the page's. The error is ErrMissing or ErrDamaged; such a file
// is removed.
func (s *Store) Get(n Name, tokens []int32, data []byte) error { return s.get(n, tokens, data) }

// GetState reads a state into parts, whose lengths are those that were written. rest are the tokens of its
// last page, where that is not full. Errors are those of Get.
func (s *Store) GetState(n Name, rest []int32, parts ...[]byte) error {
	return s.get(n, rest, parts...)
}

func (s *Store) get(n Name, tokens []int32, parts ...[]byte) error {
	s.mu.Lock()
	p := s.pages[n]
	if p == nil || s.closed {
		s.mu.Unlock()
		return fmt.Errorf("pagestore: %w", ErrMissing)
	}
	depth, path := p.depth, s.path(n, p)
	s.mu.Unlock()
	err := readFile(path, n, depth, tokens, parts...)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.read++
	case errors.Is(err, fs.ErrNotExist): // removed meanwhile, perhaps by hand
		s.forget(n)
		err = ErrMissing
	default:
		s.damaged++
		s.o.Log.Warn("a file of the prefix cache is damaged and was removed", "path", path, "err", err)
		s.remove(n)
	}
	if err != nil {
		return fmt.Errorf("pagestore: %w", err)
	}
	return nil
}

// Put writes the page of a name, depth pages behind the beginning of its prefix, used at a Tick. half: it may spend no
// more than half of the day's bytes. Less recently used files make room for it. The errors are ErrFull, ErrBudget and
// those of the file system. A page that is there already costs nothing.
func (s *Store) Put(n Name, depth int, at int64, tokens []int32, data []byte, half bool) error {
	return s.put(n, &page{depth: depth, used: at}, tokens, half, data)
}

// PutState writes a state, depth full pages and the tokens of rest behind the beginning of its prefix, as Put
// writes a page.
func (s *Store) PutState(n Name, depth int, at int64, rest []int32, half bool, parts ...[]byte) error {
	return s.put(n, &page{depth: depth, used: at, state: true, rest: len(rest)}, rest, half, parts...)
}

func (s *Store) put(n Name, p *page, tokens []int32, half bool, parts ...[]byte) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	p.size, p.told = fileSize(tokens, parts), p.used
	if err := s.admit(n, p, half); err != nil {
		if errors.Is(err, errThere) {
			return nil
		}
		return fmt.Errorf("pagestore: %w", err)
	}
	if err := writeFile(s.o.Dir, p.fileName(n), n, p.depth, tokens, p.used, parts...); err != nil {
		return fmt.Errorf("pagestore: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pages[n] = p
	s.bytes += p.size
	s.written += uint64(p.size)
	return nil
}

// States lists where the states that are there end, each end once, the deepest first.
func (s *Store) States() []End {
	s.mu.Lock()
	seen := map[End]bool{}
	for _, p := range s.pages {
		if p.state {
			seen[End{p.depth, p.rest}] = true
		}
	}
	s.mu.Unlock()
	return slices.SortedFunc(maps.Keys(seen), func(a, b End) int {
		return cmp.Or(cmp.Compare(b.Depth, a.Depth), cmp.Compare(b.Rest, a.Rest))
	})
}

var errThere = errors.New("it is there")

// admit makes room for a file and takes its bytes from the budget.
func (s *Store) admit(n Name, p *page, half bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return fs.ErrClosed
	case s.pages[n] != nil:
		return errThere
	case p.size > s.o.Bytes:
		return ErrFull
	}
	// First the budget: what cannot be written must not push another file out.
	if !s.budget.has(p.size, half, s.o.Now()) {
		return ErrBudget
	}
	for s.bytes+p.size > s.o.Bytes || len(s.pages) >= maxPages || s.scarce(p.size) {
		victim, old := s.oldest()
		if old == nil || !old.worse(p.used, p.depth) {
			return ErrFull
		}
		s.remove(victim)
	}
	return s.budget.take(p.size, s.o.Now())
}

// worse reports whether a page is worth less than one that was used at a time and stands at a depth.
func (p *page) worse(at int64, depth int) bool {
	return cmp.Or(cmp.Compare(p.used, at), cmp.Compare(depth, p.depth)) < 0
}

// oldest is the page that leaves first: of those that were not used for longest the last one of its prefix,
// so that what stays can be reached. nil: there is none. mu is held.
func (s *Store) oldest() (Name, *page) {
	var name Name
	var last *page
	for n, p := range s.pages {
		if last == nil || p.worse(last.used, last.depth) {
			name, last = n, p
		}
	}
	return name, last
}

// scarce reports whether a page would take what is to stay free of the file system.
func (s *Store) scarce(size int64) bool {
	var st unix.Statfs_t
	if unix.Statfs(s.o.Dir, &st) != nil {
		return false
	}
	block := int64(st.Bsize) //nolint:unconvert // 32 bits wide on some systems
	free, all := int64(st.Bavail)*block, int64(st.Blocks)*block
	return free-size < max(all/reserveShare, min(reserveBytes, all/2))
}

// remove deletes a page. mu is held.
func (s *Store) remove(n Name) {
	if p := s.pages[n]; p != nil {
		// Where that fails the next start finds it again.
		_ = os.Remove(s.path(n, p))
		s.forget(n)
	}
}

// forget takes a page out of the index. mu is held.
func (s *Store) forget(n Name) {
	if p := s.pages[n]; p != nil {
		s.bytes -= p.size
		delete(s.pages, n)
	}
}

// Stats counts.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	states := 0
	for _, p := range s.pages {
		if p.state {
			states++
		}
	}
	return Stats{Pages: len(s.pages) - states, States: states, Bytes: s.bytes, Read: s.read, Written: s.written, Damaged: s.damaged}
}

// Close writes down when pages were used last and gives the folder to others. Later calls do nothing.
func (s *Store) Close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	for n, p := range s.pages {
		// Once an hour at most: a file's time is a write, too.
		if p.used-p.told > 3600 {
			t := time.Unix(p.used, 0)
			_ = os.Chtimes(s.path(n, p), t, t)
		}
	}
	return errors.Join(s.budget.close(s.o.Now()), s.lock.Close())
}
