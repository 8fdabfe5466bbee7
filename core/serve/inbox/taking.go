package inbox

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync"
)

// Taking remembers, beyond the end of the process, which message was being read when it ended. Such a message
// stands in no journal yet, so the broker or its sender brings it again; one that ends whoever reads it would
// come for ever.
//
// It is a file of a fixed size that is written in place and never synced: a process's end leaves what it
// wrote, and one of the power costs a count. Where the file takes no writes, nothing is counted. One message
// is read at a time.
type Taking struct {
	most int

	mu    sync.Mutex // of everything below
	file  *os.File
	slots [takingSlots]slot
	clock uint64
}

// takingSlots is how many messages that met the end of a process are remembered; the one that was read first leaves.
const (
	takingSlots = 16
	slotBytes   = 32 + 4 + 8 + 4 // digest, ends, begun, checksum
)

type slot struct {
	digest [32]byte
	ends   uint32 // of a process while it read this, if the present one ends now; 0: free
	begun  uint64 // by the clock, which counts messages
}

// OpenTaking opens the file "taking" in a folder that exists. most is how many processes may end over one message. What
// cannot be read of the file counts for nothing.
func OpenTaking(dir string, most int) (*Taking, error) {
	f, err := os.OpenFile(filepath.Join(dir, "taking"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("inbox: %w", err)
	}
	t := &Taking{most: most, file: f}
	var found [takingSlots * slotBytes]byte
	n, _ := f.ReadAt(found[:], 0) // a file that is new is short
	for i := range n / slotBytes {
		t.slots[i].decode(found[i*slotBytes:][:slotBytes])
		t.clock = max(t.clock, t.slots[i].begun)
	}
	if err := f.Truncate(int64(len(found))); err != nil {
		return nil, errors.Join(fmt.Errorf("inbox: %w", err), f.Close())
	}
	for i := range t.slots { // so that it has its space also when the disk is full
		t.write(i)
	}
	return t, nil
}

func (s *slot) encode() []byte {
	b := make([]byte, 0, slotBytes)
	b = append(b, s.digest[:]...)
	b = binary.LittleEndian.AppendUint32(b, s.ends)
	b = binary.LittleEndian.AppendUint64(b, s.begun)
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

func (s *slot) decode(b []byte) {
	read := slot{
		digest: [32]byte(b), ends: binary.LittleEndian.Uint32(b[32:]), begun: binary.LittleEndian.Uint64(b[36:]),
	}
	if bytes.Equal(read.encode(), b) {
		*s = read
	}
}

func (t *Taking) write(i int) {
	_, _ = t.file.WriteAt(t.slots[i].encode(), int64(i)*slotBytes)
}

// Begin notes that a message is being read, and tells how many processes have ended over it, and whether it
// may be read: one that most of them ended over may not, and gets a single further try when it comes once
// more. End must follow a true when the message is accepted, or refused, or left to the next start.
func (t *Taking) Begin(digest [32]byte) (ends int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := t.find(digest)
	s := &t.slots[i]
	if s.digest != digest {
		*s = slot{digest: digest}
	}
	t.clock++
	s.begun = t.clock
	ends = int(s.ends)
	if ok = ends < t.most; ok {
		s.ends++
	} else {
		s.ends = uint32(max(t.most-1, 0)) //nolint:gosec // a small number
	}
	t.write(i)
	return ends, ok
}

// End says that reading a message did not end the process.
func (t *Taking) End(digest [32]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := t.find(digest); t.slots[i].digest == digest {
		t.slots[i] = slot{}
		t.write(i)
	}
}

// find returns the slot of a message: its own, a free one, or the one that was begun first. t.mu is held.
func (t *Taking) find(digest [32]byte) int {
	best := 0
	for i := range t.slots {
		s := &t.slots[i]
		switch b := &t.slots[best]; {
		case s.ends > 0 && s.digest == digest:
			return i
		case b.ends > 0 && (s.ends == 0 || s.begun < b.begun):
			best = i
		}
	}
	return best
}

// Close closes the file.
func (t *Taking) Close() error {
	if err := t.file.Close(); err != nil {
		return fmt.Errorf("inbox: %w", err)
	}
	return nil
}
