package inbox

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Sizes of the files. What lives is at most Limits.Bytes; the log is rewritten when it has grown to slack
// times that, so that an SD card sees each byte less than twice.
const (
	segmentBytes = 4 << 20 // a segment is ended when it has grown beyond this
	slack        = 3       // times Limits.Bytes: the log's size at which it is compacted
)

// Disk is a Store that survives its process, and the power.
//
// It appends to segments, NUMBER-SALT.log in one folder, and never to one that it did not begin itself: a
// tail that was torn by a power cut stays as it is until it is compacted away. Accept and Finish return after
// fsync; those that wait at the same time share one. Attempt and Published are written at once and synced
// with what comes next: losing them costs a repeat.
type Disk struct {
	dir  string
	lock *os.File

	mu      sync.Mutex // of everything below
	x       *index
	current *segment
	number  uint64           // of the latest segment
	sealed  map[string]int64 // names of ended segments and their sizes
	closed  bool
}

// segment is the file that is written to.
type segment struct {
	file *os.File
	name string
	salt string
	size atomic.Int64 // written under Disk.mu

	// The order of the locks is Disk.mu, then syncing.
	syncing sync.Mutex
	synced  int64 // guarded by syncing
	broken  error // guarded by syncing: a failed fsync leaves nobody knowing what is on the medium
}

// Report tells what opening found.
type Report struct {
	Segments   int
	Records    int
	Unfinished int
	Damaged    []Damage
}

// OpenDisk opens the store in a folder, which it makes where it is missing. What cannot be read is reported
// and skipped; only a folder that cannot be read or written, or that another process holds, is an error.
func OpenDisk(dir string, l Limits) (*Disk, Report, error) {
	var r Report
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, r, fmt.Errorf("inbox: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, r, fmt.Errorf("inbox: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, r, errors.Join(fmt.Errorf("inbox: %s: another process uses it: %w", dir, err), lock.Close())
	}
	d := &Disk{dir: dir, lock: lock, x: newIndex(l), sealed: map[string]int64{}}
	err = checkFormat(dir)
	if err == nil {
		err = d.load(&r)
	}
	if err != nil {
		return nil, r, errors.Join(err, lock.Close())
	}
	// What an earlier life left is written anew: the torn and the damaged are gone with it, and the disk is known to
	// take writes before anything is promised.
	if err := d.compact(); err != nil {
		return nil, r, errors.Join(err, lock.Close())
	}
	r.Unfinished = d.x.running.Len()
	return d, r, nil
}

// segmentName reads NUMBER-SALT.log.
func segmentName(name string) (number uint64, salt string, ok bool) {
	stem, ok := strings.CutSuffix(name, ".log")
	if !ok {
		return 0, "", false
	}
	digits, salt, ok := strings.Cut(stem, "-")
	number, err := strconv.ParseUint(digits, 10, 64)
	return number, salt, ok && err == nil && len(salt) == 16
}

// load reads all segments in their order.
func (d *Disk) load(r *Report) error {
	list, err := os.ReadDir(d.dir)
	if err != nil {
		return fmt.Errorf("inbox: %w", err)
	}
	type found struct {
		name, salt string
		number     uint64
	}
	var segments []found
	for _, e := range list {
		if strings.HasSuffix(e.Name(), ".tmp") { // a compaction that did not come to its end
			_ = os.Remove(filepath.Join(d.dir, e.Name()))
			continue
		}
		if n, salt, ok := segmentName(e.Name()); ok && e.Type().IsRegular() {
			segments = append(segments, found{e.Name(), salt, n})
		}
	}
	slices.SortFunc(segments, func(a, b found) int { return cmp.Compare(a.number, b.number) })
	for _, s := range segments {
		size, bad, err := d.loadSegment(s.name, s.salt, func(e entryRecord) {
			r.Records++
			d.replay(e)
		})
		if err != nil {
			return fmt.Errorf("inbox: %w", err)
		}
		r.Segments++
		r.Damaged = append(r.Damaged, bad...)
		d.sealed[s.name] = size
		d.number = max(d.number, s.number)
	}
	return nil
}

func (d *Disk) loadSegment(name, salt string, use func(entryRecord)) (size int64, bad []Damage, err error) {
	f, err := os.Open(filepath.Join(d.dir, name))
	if err != nil {
		return 0, nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	st, err := f.Stat()
	if err != nil {
		return 0, nil, err
	}
	return st.Size(), source{f, st.Size(), salt}.scan(name, use), nil
}

// replay applies a record, whose bytes are its own.
func (d *Disk) replay(e entryRecord) {
	data := e.data
	switch e.kind {
	case kindAccept:
		// A key that is there already was forgotten when this record was written, or a compaction wrote it again.
		if old := d.x.entries[e.key]; old != nil {
			d.x.forget(old)
		}
		rec := Record{Key: e.key, Hash: e.hash, Data: data}
		if errors.Is(d.x.room(rec), ErrFull) && d.x.running.Len() >= 2*d.x.limits.Entries {
			return // a log that nobody could have written within the limits
		}
		d.x.add(rec)
	case kindAttempt:
		_ = d.x.attempt(e.key, data) // of a request whose own record was damaged
	case kindFinish:
		_ = d.x.finish(e.key, data, true)
	case kindPublished:
		_ = d.x.publish(e.key)
	case kindForget:
		if old := d.x.entries[e.key]; old != nil {
			d.x.forget(old)
		}
	default:
	}
}

// begin makes a new segment. d.mu is held.
func (d *Disk) begin(suffix string) (*segment, error) {
	var salt [8]byte
	_, _ = rand.Read(salt[:]) // it never fails
	s := &segment{salt: hex.EncodeToString(salt[:])}
	s.name = fmt.Sprintf("%016d-%s.log", d.number+1, s.salt)
	f, err := os.OpenFile(filepath.Join(d.dir, s.name+suffix), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("inbox: %w", err)
	}
	d.number++
	s.file = f
	return s, nil
}

// write appends a record to the segment. What is written in part is taken back.
func (s *segment) write(k kind, fields ...[]byte) error {
	size := s.size.Load()
	b, err := encodeRecord(s.salt, size, k, fields...)
	if err != nil {
		return err
	}
	if _, err := s.file.WriteAt(b, size); err != nil {
		// The space of a part is given back; where that fails too, its checksum does not match, and the next write
		// goes over it.
		_ = s.file.Truncate(size)
		return fmt.Errorf("inbox: %w", err)
	}
	s.size.Store(size + int64(len(b)))
	return nil
}

// sync waits until everything up to a size is on the medium. Those that wait together share one fsync.
func (s *segment) sync(size int64) error {
	s.syncing.Lock()
	defer s.syncing.Unlock()
	if s.broken != nil {
		return s.broken
	}
	if s.synced >= size {
		return nil
	}
	upto := s.size.Load()
	if err := s.file.Sync(); err != nil {
		s.broken = fmt.Errorf("inbox: %w", err)
		return s.broken
	}
	s.synced = upto
	return nil
}

// ErrGone means that the folder of a store on disk was removed or replaced under it.
var ErrGone = errors.New("the folder was removed or replaced while it was in use")

// there tells whether the present segment still stands where it was made: a folder that was removed takes
// writes, which nobody will ever read.
func (d *Disk) there(s *segment) bool {
	mine, err := s.file.Stat()
	if err != nil {
		return false
	}
	found, err := os.Stat(filepath.Join(d.dir, s.name))
	return err == nil && os.SameFile(mine, found)
}

// regain goes on where the folder was removed or replaced and is there again: everything that lives is
// written anew, under a lock of its own. It does not make the folder, which may be a mount that is missing.
// d.mu is held.
func (d *Disk) regain(s *segment) error {
	lock, err := os.OpenFile(filepath.Join(d.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("inbox: %s: %w: %w", d.dir, ErrGone, err)
	}
	mine, merr := d.lock.Stat()
	found, ferr := lock.Stat()
	if merr == nil && ferr == nil && os.SameFile(mine, found) {
		_ = lock.Close() // only the segment is gone
	} else {
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			return errors.Join(fmt.Errorf("inbox: %s: %w, and another process uses it: %w", d.dir, ErrGone, err), lock.Close())
		}
		_ = d.lock.Close()
		d.lock = lock
	}
	d.current = nil
	_ = s.file.Close()
	if err := d.compact(); err != nil {
		d.current = nil
		return fmt.Errorf("inbox: %s: %w: %w", d.dir, ErrGone, err)
	}
	return nil
}

// writable returns the segment to write to: another one where the present one is full, broken or gone. d.mu is held.
func (d *Disk) writable() (*segment, error) {
	s := d.current
	if s != nil && !d.there(s) {
		if err := d.regain(s); err != nil {
			return nil, err
		}
		s = d.current
	}
	if s != nil && s.size.Load() < segmentBytes && !s.isBroken() {
		return s, nil
	}
	if s != nil {
		d.sealed[s.name] = s.size.Load()
		d.current = nil
		err := s.sync(s.size.Load())
		if cerr := s.file.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("inbox: %w", cerr)
		}
		if err != nil {
			return nil, err // the next call begins a new one
		}
	}
	if d.logBytes() > slack*d.x.limits.Bytes {
		if err := d.compact(); err != nil {
			return nil, err
		}
		return d.current, nil
	}
	if _, err := os.Stat(d.dir); err != nil {
		return nil, fmt.Errorf("inbox: %w: %w", ErrGone, err)
	}
	s, err := d.begin("")
	if err != nil {
		return nil, err
	}
	if err := d.syncDir(); err != nil {
		return nil, errors.Join(err, s.file.Close())
	}
	d.current = s
	return s, nil
}

func (s *segment) isBroken() bool {
	s.syncing.Lock()
	defer s.syncing.Unlock()
	return s.broken != nil
}

func (d *Disk) logBytes() int64 {
	var n int64
	for _, size := range d.sealed {
		n += size
	}
	if d.current != nil {
		n += d.current.size.Load()
	}
	return n
}

// compact writes everything that lives into one new segment, which goes on as the current one, and removes
// the others. A crash at any moment leaves either the old segments, or the new one and perhaps some of the
// old, which say the same. d.mu is held.
func (d *Disk) compact() error {
	d.x.expire()
	if err := writeFormat(d.dir); err != nil {
		return err
	}
	s, err := d.begin(".tmp")
	if err != nil {
		return err
	}
	temporary := filepath.Join(d.dir, s.name+".tmp")
	err = d.snapshot(s)
	if err == nil {
		err = s.file.Sync()
	}
	if err == nil {
		err = os.Rename(temporary, filepath.Join(d.dir, s.name))
	}
	if err == nil {
		err = d.syncDir()
	}
	if err != nil {
		_ = os.Remove(temporary)
		return errors.Join(fmt.Errorf("inbox: compacting: %w", err), s.file.Close())
	}
	s.synced = s.size.Load()
	for el := d.x.finished.Front(); el != nil; el = el.Next() {
		e, _ := el.Value.(*entry)
		d.x.owe(e, false)
	}
	d.x.undone = nil
	for name := range d.sealed {
		if err := os.Remove(filepath.Join(d.dir, name)); err == nil || errors.Is(err, fs.ErrNotExist) {
			delete(d.sealed, name)
		}
	}
	d.current = s
	return nil
}

// snapshot writes the index.
func (d *Disk) snapshot(s *segment) error {
	for el := d.x.finished.Front(); el != nil; el = el.Next() {
		e, _ := el.Value.(*entry)
		if err := s.write(kindAccept, []byte(e.Client), []byte(e.ID), e.Hash[:], e.Data); err != nil {
			return err
		}
		if err := s.write(kindFinish, []byte(e.Client), []byte(e.ID), e.last); err != nil {
			return err
		}
		if e.published {
			if err := s.write(kindPublished, []byte(e.Client), []byte(e.ID)); err != nil {
				return err
			}
		}
	}
	for el := d.x.running.Front(); el != nil; el = el.Next() {
		e, _ := el.Value.(*entry)
		if err := s.write(kindAccept, []byte(e.Client), []byte(e.ID), e.Hash[:], e.Data); err != nil {
			return err
		}
		if e.note != nil {
			if err := s.write(kindAttempt, []byte(e.Client), []byte(e.ID), e.note); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *Disk) syncDir() error {
	f, err := os.Open(d.dir)
	if err != nil {
		return fmt.Errorf("inbox: %w", err)
	}
	err = f.Sync()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("inbox: %w", err)
	}
	return nil
}

// append writes a record about a key. d.mu is held.
func (d *Disk) append(k kind, key Key, fields ...[]byte) (*segment, int64, error) {
	s, err := d.writable()
	if err != nil {
		return nil, 0, err
	}
	if err := d.settle(s); err != nil {
		return nil, 0, err
	}
	if err := s.write(k, append([][]byte{[]byte(key.Client), []byte(key.ID)}, fields...)...); err != nil {
		return nil, 0, err
	}
	return s, s.size.Load(), nil
}

// settle writes what the medium did not take earlier, so that a request that was answered while the disk was
// full does not run again after a restart. d.mu is held.
func (d *Disk) settle(s *segment) error {
	for len(d.x.undone) > 0 {
		k := d.x.undone[0]
		if d.x.entries[k] == nil { // else the same key was accepted anew, and what stands there is replaced by that
			if err := s.write(kindForget, []byte(k.Client), []byte(k.ID)); err != nil {
				return err
			}
		}
		d.x.undone = d.x.undone[1:]
	}
	if d.x.owed == 0 {
		return nil
	}
	for el := d.x.finished.Front(); el != nil; el = el.Next() {
		e, _ := el.Value.(*entry)
		if !e.owed {
			continue
		}
		if err := s.write(kindFinish, []byte(e.Client), []byte(e.ID), e.last); err != nil {
			return err
		}
		d.wrote(e, s)
		if e.published {
			if err := s.write(kindPublished, []byte(e.Client), []byte(e.ID)); err != nil {
				return err
			}
		}
	}
	return nil
}

// wrote notes that a last event stands in a segment, up to its present size.
func (d *Disk) wrote(e *entry, s *segment) {
	d.x.owe(e, false)
	e.where, e.at = s, s.size.Load()
}

// doubt notes, after a sync that failed, that nobody knows what the medium has of a segment. d.mu is held.
func (d *Disk) doubt(s *segment) {
	s.syncing.Lock()
	synced := s.synced
	s.syncing.Unlock()
	for el := d.x.finished.Front(); el != nil; el = el.Next() {
		if e, _ := el.Value.(*entry); e.where == s && e.at > synced {
			d.x.owe(e, true)
		}
	}
}

// Accept is Store's.
func (d *Disk) Accept(ctx context.Context, r Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return ErrClosed
	}
	if err := d.x.room(r); err != nil {
		d.mu.Unlock()
		return err
	}
	s, size, err := d.append(kindAccept, r.Key, r.Hash[:], r.Data)
	if err != nil {
		d.mu.Unlock()
		return err
	}
	d.x.add(r)
	d.mu.Unlock()

	if err = s.sync(size); err == nil {
		return nil
	}
	// It was not promised, so it must not be run, now or after a restart.
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.x.entries[r.Key]; e != nil {
		d.x.forget(e)
	}
	d.doubt(s)
	if _, _, ferr := d.append(kindForget, r.Key); ferr != nil { // the medium failed just now; it may fail again
		d.x.undone = append(d.x.undone, r.Key)
	}
	return err
}

// Attempt is Store's. It is not synced.
func (d *Disk) Attempt(k Key, note []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.x.attempt(k, note); err != nil {
		return err
	}
	_, _, err := d.append(kindAttempt, k, note)
	return err
}

// Finish is Store's. Where the medium does not take it, the request is finished all the same, and its last
// event is written with the next record that the medium takes.
func (d *Disk) Finish(k Key, last []byte) error {
	d.mu.Lock()
	if err := d.x.finish(k, last, true); err != nil {
		d.mu.Unlock()
		return err
	}
	s, size, err := d.append(kindFinish, k, last)
	if e := d.x.entries[k]; err != nil {
		d.x.owe(e, true)
	} else {
		d.wrote(e, s)
	}
	d.mu.Unlock()
	if err != nil {
		return err
	}
	if err = s.sync(size); err != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.doubt(s)
	}
	return err
}

// Published is Store's. It is not synced.
func (d *Disk) Published(k Key) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.x.publish(k); err != nil {
		return err
	}
	_, _, err := d.append(kindPublished, k)
	return err
}

// Lookup is Store's.
func (d *Disk) Lookup(k Key, hash [32]byte) Found {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.x.lookup(k, hash)
}

// Unfinished is Store's.
func (d *Disk) Unfinished() []Pending {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.x.unfinished()
}

// Unpublished is Store's.
func (d *Disk) Unpublished() []Ended {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.x.unpublished()
}

// Durable is Store's: true.
func (d *Disk) Durable() bool { return true }

// Close is Store's.
func (d *Disk) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	var errs []error
	if d.x.owed+len(d.x.undone) > 0 { // what the disk did not take when it was full: perhaps it does now
		s, err := d.writable()
		if err == nil {
			err = d.settle(s)
		}
		errs = append(errs, err)
	}
	if s := d.current; s != nil {
		errs = append(errs, s.sync(s.size.Load()), s.file.Close())
	}
	return errors.Join(append(errs, d.lock.Close())...)
}
