package tile

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"edged/core/model/mmap"
	"edged/quant"
)

// A file of tiles:
//
//	0    "edgedtil"
//	8    uint32 length of the header, uint32 its CRC-32C
//	16   header, JSON (see header): what the tiles were made of, where each matrix's stand, their CRC-32C
//	…    tiles, each matrix's at a multiple of 4096
//
// All numbers are little-endian. The file is written under another name, synchronised and renamed: it is
// there as a whole or not at all. A process that maps it keeps it when it is deleted.
const (
	magic       = "edgedtil"
	fileVersion = 1
	align       = 4096
	suffix      = ".tiles"
	tmpPrefix   = ".tmp-"
)

// Errors that callers can act on: products then read rows as they are stored.
var (
	// ErrSpace means that the disk is too full.
	ErrSpace = errors.New("not enough space")
	// ErrStale means that a file is not of this model, not of this version, or damaged.
	ErrStale = errors.New("not usable")
)

// reserve is the space, in bytes, that Build leaves free on the disk.
const reserve = 256 << 20

// Part is a matrix and the rows in a group of its tiles.
type Part struct {
	Matrix *quant.Matrix
	Rows   int
}

// Set holds the contents of a file. Model identifies the content of the matrices, for example by a sha256.
type Set struct {
	Model string
	Parts []Part
}

// Add appends w where it has tiles of rows rows.
func (s *Set) Add(w *quant.Matrix, rows int) {
	if Bytes(w, rows) > 0 {
		s.Parts = append(s.Parts, Part{w, rows})
	}
}

// Bytes is the size of all tiles.
func (s *Set) Bytes() int64 {
	var n int64
	for _, p := range s.Parts {
		n += int64(Bytes(p.Matrix, p.Rows))
	}
	return n
}

// Name is the file's name in its folder.
func (s *Set) Name() string {
	rows := 0
	for _, p := range s.Parts {
		rows = max(rows, p.Rows)
	}
	return fmt.Sprintf("%.32s-%d%s", s.Model, rows, suffix)
}

type header struct {
	Version int     `json:"version"`
	Model   string  `json:"model"`
	Tiles   []entry `json:"tiles"`
}

// entry is one matrix's tiles. Sum has eight digits, so that the header's length does not depend on it.
type entry struct {
	Name   string `json:"name"`
	Format string `json:"format"`
	Rows   int    `json:"rows"`
	Cols   int    `json:"cols"`
	Group  int    `json:"group"`
	Offset int64  `json:"offset"`
	Bytes  int64  `json:"bytes"`
	Sum    string `json:"crc32c"`
}

// header describes the file of s; sums may be nil, while they are not known. The header's own length decides
// where the first tiles begin, and is written in it: so its place is found by trying.
func (s *Set) header(sums []uint32) (text []byte, h header, end int64) {
	for first := int64(align); ; first += align {
		h = header{Version: fileVersion, Model: s.Model}
		end = first
		for i, p := range s.Parts {
			w := p.Matrix
			e := entry{
				Name:   w.Name,
				Format: w.Format.String(),
				Rows:   w.Rows,
				Cols:   w.Cols,
				Group:  p.Rows,
				Offset: end,
				Bytes:  int64(Bytes(w, p.Rows)),
				Sum:    "00000000",
			}
			if sums != nil {
				e.Sum = fmt.Sprintf("%08x", sums[i])
			}
			h.Tiles = append(h.Tiles, e)
			end = (end + e.Bytes + align - 1) / align * align
		}
		text, _ = json.Marshal(h) // of strings and numbers
		if int64(len(text)+16) <= first {
			return text, h, end
		}
	}
}

// castagnoli is the table that package crc32 makes once and has instructions for.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// File is a mapped file of tiles.
type File struct {
	mapping *mmap.Mapping
	parts   []Part
	data    [][]byte
}

// Open maps the file of s in dir and proves all of it. The error is ErrStale, or the system's.
func Open(dir string, s *Set, step func(done, total int64) error) (*File, error) {
	path := filepath.Join(dir, s.Name())
	m, err := mmap.Open(path)
	if err != nil {
		return nil, fmt.Errorf("tile: %w", err)
	}
	f := &File{mapping: m, parts: slices.Clone(s.Parts)}
	if err := f.prove(s, step); err != nil {
		return nil, errors.Join(fmt.Errorf("tile: %s: %w", path, err), m.Close())
	}
	_ = os.Chtimes(path, time.Time{}, time.Now()) // what was used last is deleted last
	return f, nil
}

// prove compares the header with what is wanted, byte by byte but for the sums, and the sums with the tiles.
func (f *File) prove(s *Set, step func(done, total int64) error) error {
	b := f.mapping.Bytes()
	want, _, end := s.header(nil)
	if int64(len(b)) != end || string(b[:8]) != magic || int(binary.LittleEndian.Uint32(b[8:])) != len(want) {
		return fmt.Errorf("%w: another model or version", ErrStale)
	}
	text := b[16 : 16+len(want)]
	var h header
	if crc32.Checksum(text, castagnoli()) != binary.LittleEndian.Uint32(b[12:]) || json.Unmarshal(text, &h) != nil {
		return fmt.Errorf("%w: damaged header", ErrStale)
	}
	sums := make([]uint32, len(s.Parts))
	for i := range min(len(sums), len(h.Tiles)) {
		if _, err := fmt.Sscanf(h.Tiles[i].Sum, "%08x", &sums[i]); err != nil {
			return fmt.Errorf("%w: damaged header", ErrStale)
		}
	}
	if again, _, _ := s.header(sums); string(again) != string(text) {
		return fmt.Errorf("%w: another model or version", ErrStale)
	}
	_ = f.mapping.Advise(mmap.HugePage) // before the first read: it is then read in huge pages
	var done int64
	for i, e := range h.Tiles {
		d := b[e.Offset : e.Offset+e.Bytes : e.Offset+e.Bytes]
		f.data = append(f.data, d)
		var sum uint32
		for len(d) > 0 {
			n := min(len(d), 16<<20)
			_ = f.mapping.AdviseRange(int(e.Offset)+int(e.Bytes)-len(d), n, mmap.Populate)
			sum = crc32.Update(sum, castagnoli(), d[:n])
			d = d[n:]
			done += int64(n)
			if err := step(done, s.Bytes()); err != nil {
				return err
			}
		}
		if sum != sums[i] {
			return fmt.Errorf("%w: tiles of %s are damaged", ErrStale, e.Name)
		}
	}
	return nil
}

// Attach gives the matrices their tiles, which they have until Close.
func (f *File) Attach() {
	for i, p := range f.parts {
		p.Matrix.Tile = quant.Tile{Rows: p.Rows, Data: f.data[i]}
	}
}

// Close unmaps the file; its matrices have no tiles afterwards.
func (f *File) Close() error {
	for _, p := range f.parts {
		p.Matrix.Tile = quant.Tile{}
	}
	return f.mapping.Close()
}

// Build writes the file of s into dir, which it makes, and tells step how far it is; an error of step ends
// it. Where the disk is too full, files of other sets go first, those that were not used for longest;
// ErrSpace if that is not enough.
func Build(ctx context.Context, dir string, s *Set, step func(done, total int64) error) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("tile: %w", err)
	}
	sweep(dir)
	_, _, end := s.header(nil)
	if err := makeRoom(dir, s.Name(), end+reserve); err != nil {
		return fmt.Errorf("tile: %s: %w", dir, err)
	}
	tmp, err := os.CreateTemp(dir, tmpPrefix)
	if err != nil {
		return fmt.Errorf("tile: %w", err)
	}
	err = s.write(ctx, tmp, step)
	if err == nil {
		err = tmp.Sync()
	}
	if err == nil {
		// What was written lies in small pages: it is to be read again.
		forget(tmp)
		err = os.Rename(tmp.Name(), filepath.Join(dir, s.Name()))
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
	}
	if e := tmp.Close(); err == nil {
		err = e
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		err = fmt.Errorf("%w: %w", ErrSpace, err)
	}
	if err != nil {
		return fmt.Errorf("tile: %w", err)
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("tile: %w", err)
	}
	defer d.Close()                                                  //nolint:errcheck // opened for reading: nothing to lose
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) { // some file systems cannot
		return fmt.Errorf("tile: %w", err)
	}
	return nil
}

// write fills an empty file, the header last.
func (s *Set) write(ctx context.Context, f *os.File, step func(done, total int64) error) error {
	// A process that sweeps sees that it is being written.
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	_, h, end := s.header(nil)
	if err := f.Truncate(end); err != nil {
		return err
	}
	sums := make([]uint32, len(s.Parts))
	var done int64
	buf := make([]byte, 0, 8<<20)
	for i, p := range s.Parts {
		w := io.NewOffsetWriter(f, h.Tiles[i].Offset)
		groups := p.Matrix.Rows / p.Rows
		size := int(h.Tiles[i].Bytes) / groups
		step8 := max(1, cap(buf)/size)
		for g := 0; g < groups; g += step8 {
			n := min(step8, groups-g)
			buf = slices.Grow(buf[:0], n*size)[:n*size]
			packGroups(buf, p, g, n)
			sums[i] = crc32.Update(sums[i], castagnoli(), buf)
			if _, err := w.Write(buf); err != nil {
				return err
			}
			done += int64(len(buf))
			if err := step(done, s.Bytes()); err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
	text, _, _ := s.header(sums)
	head := append([]byte(magic), make([]byte, 8)...)
	binary.LittleEndian.PutUint32(head[8:], uint32(len(text)))
	binary.LittleEndian.PutUint32(head[12:], crc32.Checksum(text, castagnoli()))
	_, err := f.WriteAt(append(head, text...), 0)
	return err
}

// packGroups packs n groups from g on, on all processors.
func packGroups(dst []byte, p Part, g, n int) {
	size := len(dst) / n
	threads := min(runtime.GOMAXPROCS(0), n)
	var wg sync.WaitGroup
	for t := range threads {
		wg.Go(func() {
			for i := t; i < n; i += threads {
				Pack(dst[i*size:(i+1)*size], p.Matrix, p.Rows, g+i)
			}
		})
	}
	wg.Wait()
}

// sweep removes what a crash has left: temporary files that nobody has locked.
func sweep(dir string) {
	names, _ := filepath.Glob(filepath.Join(dir, tmpPrefix+"*"))
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = os.Remove(name)
		}
		_ = f.Close()
	}
}

// makeRoom frees bytes of the disk by deleting files of tiles other than keep.
func makeRoom(dir, keep string, bytes int64) error {
	type old struct {
		path string
		used time.Time
	}
	var olds []old
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && e.Type().IsRegular() && e.Name() != keep && strings.HasSuffix(e.Name(), suffix) {
			olds = append(olds, old{filepath.Join(dir, e.Name()), info.ModTime()})
		}
	}
	slices.SortFunc(olds, func(a, b old) int { return a.used.Compare(b.used) })
	for {
		free, err := freeBytes(dir)
		if err != nil || free >= bytes {
			return err
		}
		if len(olds) == 0 {
			return fmt.Errorf("%w: %d MiB are free, tiles and a reserve of %d take %d", ErrSpace, free>>20, reserve>>20, bytes>>20)
		}
		_ = os.Remove(olds[0].path)
		olds = olds[1:]
	}
}

func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil //nolint:gosec,unconvert // types differ by system
}
