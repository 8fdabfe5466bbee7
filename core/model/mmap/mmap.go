//go:build unix

// Package mmap maps files read-only and hands out memory that is not on the Go heap: weights, repacked weights and key/
// value pages live there, where the garbage collector neither scans nor counts them.
//
// It must not know what the bytes mean. A Mapping may be read concurrently; Close must come after the last read, since
// the pages are gone then and a later read faults.
//
// A file that is truncated while it is mapped faults its readers (SIGBUS): that risk is the caller's, who keeps served
// files where nobody else writes. Offsets inside a mapping are not page-aligned in general, and pages are not 4 KiB
// everywhere (a Raspberry Pi 5's default kernel has 16 KiB pages): Advise rounds to the pages of the running system.
package mmap

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrClosed is returned by operations on a closed mapping.
var ErrClosed = errors.New("mmap: already closed")

// A Mapping is a range of mapped memory.
type Mapping struct {
	mu   sync.Mutex
	data []byte
	name string
	info fs.FileInfo
	done bool
}

// Open maps the whole regular file at path for reading. An empty file gives an empty mapping. The mapping stays valid
// when the file is renamed, replaced or deleted.
func Open(path string) (*Mapping, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", Explain(path, err))
	}
	defer f.Close() //nolint:errcheck // opened for reading: nothing to lose
	return Map(f)
}

// Map maps the whole of an open regular file for reading; f may be closed afterwards.
func Map(f *os.File) (*Mapping, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("mmap: %s: %w: not a regular file", f.Name(), fs.ErrInvalid)
	}
	m := &Mapping{name: f.Name(), info: info}
	size := info.Size()
	if size == 0 {
		return m, nil
	}
	if size > math.MaxInt {
		return nil, fmt.Errorf("mmap: %s: %d bytes are more than this system's address space holds", f.Name(), size)
	}
	m.data, err = unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap: %s: %d bytes: %w", f.Name(), size, err)
	}
	return m, nil
}

// Anonymous returns n bytes of zeroed, writable memory outside the Go heap. Pages are taken from the system when they
// are first touched. n may be 0; a negative n is an error.
func Anonymous(n int) (*Mapping, error) {
	m := &Mapping{name: "anonymous memory"}
	if n < 0 {
		return nil, fmt.Errorf("mmap: %d bytes of anonymous memory: %w", n, fs.ErrInvalid)
	}
	if n == 0 {
		return m, nil
	}
	data, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("mmap: %d bytes of anonymous memory: %w", n, err)
	}
	m.data = data
	return m, nil
}

// Bytes is the mapped memory, valid until Close, and nil after it. That of a file is read-only: writing to it faults.
func (m *Mapping) Bytes() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.data
}

// Info is the file's state when it was mapped, nil for anonymous memory: a path may name another file by now.
func (m *Mapping) Info() fs.FileInfo { return m.info }

// Len is the number of mapped bytes, 0 after Close.
func (m *Mapping) Len() int { return len(m.Bytes()) }

// Close unmaps the memory. Later calls do nothing and return nil.
func (m *Mapping) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.done {
		return nil
	}
	m.done = true
	data := m.data
	m.data = nil
	if data == nil {
		return nil
	}
	if err := unix.Munmap(data); err != nil {
		return fmt.Errorf("mmap: %s: unmap: %w", m.name, err)
	}
	return nil
}

// Advice tells the system how a range is going to be used.
type Advice uint8

// The advices.
const (
	WillNeed   Advice = iota // read it ahead now
	Sequential               // about to be read once from front to back
	Random                   // no read-ahead
	DontNeed                 // drop the pages: a file is read again on the next touch, anonymous memory is zero then
	// HugePage backs the range by huge pages where the system can (Linux); elsewhere nothing. Of a file those
	// pages are huge that are read after the advice and not before (ext4, XFS and others with large folios,
	// Linux 6.x).
	HugePage
	// Populate reads the range and maps its pages before it returns (Linux 5.14); an older system is told
	// WillNeed, and the other ones too.
	Populate
)

// Advise advises on the whole mapping.
func (m *Mapping) Advise(a Advice) error { return m.AdviseRange(0, m.Len(), a) }

// AdviseRange advises on bytes [off, off+n), widened to whole pages, except for DontNeed, which is narrowed to them so
// that no neighbour's data is dropped. It is a hint: a system that does not know it (ErrUnsupported) may be ignored.
func (m *Mapping) AdviseRange(off, n int, a Advice) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.done {
		return ErrClosed
	}
	if off < 0 || n < 0 || n > len(m.data)-off {
		return fmt.Errorf("mmap: %s: advise on [%d, +%d) of %d bytes: %w", m.name, off, n, len(m.data), fs.ErrInvalid)
	}
	page := os.Getpagesize()
	end := off + n
	if a == DontNeed {
		if off > 0 {
			off = (off + page - 1) / page * page
		}
		if end < len(m.data) {
			end = end / page * page
		}
	} else {
		off = off / page * page
	}
	if end <= off {
		return nil
	}
	if err := advise(m.data[off:end], a); err != nil {
		return fmt.Errorf("mmap: %s: advise: %w", m.name, err)
	}
	return nil
}
