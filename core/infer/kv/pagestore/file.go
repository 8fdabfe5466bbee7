package pagestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// A file holds one page, or a state: its tokens are those of a page that is not full, and its data the state
// and what that page holds. All numbers are little endian.
//
//	offset  size  content
//	0       8     "edgedKV1": the version of this layout, not of what the page holds, which is in its name
//	8       32    name of the prefix that the page ends
//	40      4     depth: pages before it
//	44      4     t, tokens of the page
//	48      8     n, bytes of its keys and values, or of the state
//	56      4     CRC-32C (Castagnoli) of the tokens and the data
//	60      4     CRC-32C of bytes 0 to 59
//	64      4·t   tokens
//	64+4·t  n     data
const (
	magic      = "edgedKV1"
	headerSize = 64
)

func fileSize(tokens []int32, parts [][]byte) int64 {
	n := headerSize + 4*int64(len(tokens))
	for _, p := range parts {
		n += int64(len(p))
	}
	return n
}

// head is the file's beginning: header and tokens.
func head(n Name, depth int, tokens []int32, parts ...[]byte) []byte {
	b := make([]byte, headerSize, headerSize+4*len(tokens))
	copy(b, magic)
	copy(b[8:], n[:])
	binary.LittleEndian.PutUint32(b[40:], uint32(depth))
	binary.LittleEndian.PutUint32(b[44:], uint32(len(tokens)))
	binary.LittleEndian.PutUint64(b[48:], uint64(fileSize(nil, parts)-headerSize))
	for _, t := range tokens {
		b = binary.LittleEndian.AppendUint32(b, uint32(t))
	}
	table := crc32.MakeTable(crc32.Castagnoli) // the package keeps it; this returns the same one
	sum := crc32.Checksum(b[headerSize:], table)
	for _, p := range parts {
		sum = crc32.Update(sum, table, p)
	}
	binary.LittleEndian.PutUint32(b[56:], sum)
	binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], table))
	return b
}

// readFile reads a file of known name and size. Nothing in it decides how much is read.
func readFile(path string, n Name, depth int, tokens []int32, parts ...[]byte) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // opened for reading: nothing to lose
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if want := fileSize(tokens, parts); info.Size() != want {
		return fmt.Errorf("%w: it has %d bytes instead of %d", ErrDamaged, info.Size(), want)
	}
	got := make([]byte, headerSize+4*len(tokens))
	if _, err := io.ReadFull(f, got); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	for _, p := range parts {
		if _, err := io.ReadFull(f, p); err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	// What is read stands in the KV pool now; the system's own copy would only take room from the weights.
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	// All that may stand there is known, the checksums included.
	if string(got) != string(head(n, depth, tokens, parts...)) {
		return fmt.Errorf("%w: its checksum does not match", ErrDamaged)
	}
	return nil
}

// writeFile writes a file that is there as a whole or not at all.
func writeFile(dir, file string, n Name, depth int, tokens []int32, at int64, parts ...[]byte) (err error) {
	f, err := os.CreateTemp(dir, ".tmp-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(head(n, depth, tokens, parts...))
	for i := 0; i < len(parts) && err == nil; i++ {
		_, err = f.Write(parts[i])
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) // a hint, as in readFile
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		t := time.Unix(at, 0)
		err = os.Chtimes(f.Name(), t, t)
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, file))
	}
	return err
}

// writeSmall writes a small file that is there as a whole or not at all.
func writeSmall(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}
