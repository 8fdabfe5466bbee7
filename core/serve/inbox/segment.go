package inbox

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// A segment is a file of records, each with its own check:
//
//	offset  size  content
//	0       4     mark: ed 9e d7 0a
//	4       4     n, length of the body, little endian, at most maxBody
//	8       4     CRC-32C (Castagnoli) of: the file's salt, the record's offset in the file, n, the body
//	12      n     body: kind (1 byte), then the fields of the kind, each with its length before it (uvarint)
//
// The salt is 16 hexadecimal digits of the file's name, drawn when the file is made, and the offset is part
// of the check: a prompt may hold bytes that look like a record, and after a damaged one the reader looks for
// the next mark; without knowing the salt, and for its own place, nobody can make one that is taken. After a
// flipped length the scan costs one CRC for each mark that chance or malice put there, of at most maxBody
// bytes.
const (
	headerSize = 12
	// maxBody bounds a record: a request and an answer are bounded by mqtt.max_payload, 64 MiB at most, and
	// what is stored of an answer says more than what is sent.
	maxBody = 320 << 20
	// maxScan bounds the bytes of CRC work that looking for the next record may cost, in lengths of the file.
	maxScan = 64
)

func mark() []byte { return []byte{0xed, 0x9e, 0xd7, 0x0a} }

// kind says what a record tells of a request.
type kind byte

const (
	kindAccept    kind = 1 + iota // client, id, hash, data
	kindAttempt                   // client, id, note
	kindFinish                    // client, id, last
	kindPublished                 // client, id
	kindForget                    // client, id
	kindEnd
)

// fields is how many a kind has.
func (k kind) fields() int {
	switch k {
	case kindAccept:
		return 4
	case kindAttempt, kindFinish:
		return 3
	case kindPublished, kindForget:
		return 2
	default:
		return 0
	}
}

// entryRecord is a decoded record. Its bytes are views of what was read.
type entryRecord struct {
	kind kind
	key  Key
	hash [32]byte
	data []byte // data, note or last
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) } // the package keeps it; this returns the same one

// check is the CRC of a record at an offset.
func check(salt string, offset int64, body []byte) uint32 {
	return crc32.Update(checkHead(salt, offset, uint32(len(body))), castagnoli(), body) //nolint:gosec // bodies are at most maxBody
}

// checkHead is the CRC of what stands before the body.
func checkHead(salt string, offset int64, n uint32) uint32 {
	var head [12]byte
	binary.LittleEndian.PutUint64(head[:], uint64(offset)) //nolint:gosec // an offset in a file
	binary.LittleEndian.PutUint32(head[8:], n)
	t := castagnoli()
	return crc32.Update(crc32.Update(0, t, []byte(salt)), t, head[:])
}

// encodeRecord makes a record that will stand at an offset of the file with that salt.
func encodeRecord(salt string, offset int64, k kind, fields ...[]byte) ([]byte, error) {
	size := 1
	for _, f := range fields {
		size += binary.MaxVarintLen64 + len(f)
	}
	if size > maxBody {
		return nil, fmt.Errorf("inbox: a record of %d bytes is larger than %d", size, maxBody)
	}
	body := make([]byte, 0, size)
	body = append(body, byte(k))
	for _, f := range fields {
		body = binary.AppendUvarint(body, uint64(len(f)))
		body = append(body, f...)
	}
	out := mark()
	out = binary.LittleEndian.AppendUint32(out, uint32(len(body))) //nolint:gosec // checked above
	out = binary.LittleEndian.AppendUint32(out, check(salt, offset, body))
	return append(out, body...), nil
}

var (
	// errTorn means that the bytes end within a record.
	errTorn     = errors.New("cut off")
	errMismatch = errors.New("its checksum does not match")
)

// source is a segment that is read: at most a record of it is in memory.
type source struct {
	r    io.ReaderAt
	size int64
	salt string
}

// streamed is from where on a record's check is computed before memory is taken for it: a length is only a claim.
const streamed = 1 << 20

// record reads the record at an offset, and returns what follows it.
func (s source) record(offset int64) (entryRecord, int64, error) {
	var head [headerSize]byte
	if s.size-offset < headerSize {
		return entryRecord{}, 0, errTorn
	}
	if _, err := s.r.ReadAt(head[:], offset); err != nil {
		return entryRecord{}, 0, err
	}
	if !bytes.Equal(head[:4], mark()) {
		return entryRecord{}, 0, errors.New("no record begins there")
	}
	n := binary.LittleEndian.Uint32(head[4:])
	if n > maxBody {
		return entryRecord{}, 0, fmt.Errorf("its length, %d, is too large", n)
	}
	if s.size-offset < headerSize+int64(n) {
		return entryRecord{}, 0, errTorn
	}
	sum := binary.LittleEndian.Uint32(head[8:])
	if n > streamed {
		if got, err := s.check(offset, n); err != nil || got != sum {
			return entryRecord{}, 0, cmp.Or(err, errMismatch)
		}
	}
	body := make([]byte, n)
	if _, err := s.r.ReadAt(body, offset+headerSize); err != nil {
		return entryRecord{}, 0, err
	}
	if sum != check(s.salt, offset, body) {
		return entryRecord{}, 0, errMismatch
	}
	r, err := decodeBody(body)
	return r, offset + headerSize + int64(n), err
}

// check is the check of n bytes after a header, in pieces.
func (s source) check(offset int64, n uint32) (uint32, error) {
	sum, t := checkHead(s.salt, offset, n), castagnoli()
	buf := make([]byte, 64<<10)
	for at, left := offset+headerSize, int64(n); left > 0; {
		piece := buf[:min(left, int64(len(buf)))]
		if _, err := s.r.ReadAt(piece, at); err != nil {
			return 0, err
		}
		sum = crc32.Update(sum, t, piece)
		at += int64(len(piece))
		left -= int64(len(piece))
	}
	return sum, nil
}

func decodeBody(body []byte) (entryRecord, error) {
	if len(body) == 0 || kind(body[0]) == 0 || kind(body[0]) >= kindEnd {
		return entryRecord{}, errors.New("its kind is unknown")
	}
	r := entryRecord{kind: kind(body[0])}
	rest := body[1:]
	var f [4][]byte
	for i := range r.kind.fields() {
		n, used := binary.Uvarint(rest)
		if used <= 0 || n > math.MaxInt32 || int64(n) > int64(len(rest)-used) { //nolint:gosec // n is checked before it is converted
			return entryRecord{}, errors.New("a field is longer than the record")
		}
		f[i] = rest[used : used+int(n)]
		rest = rest[used+int(n):]
	}
	if len(rest) != 0 {
		return entryRecord{}, errors.New("it has more fields than its kind")
	}
	r.key = Key{Client: string(f[0]), ID: string(f[1])}
	r.data = f[2]
	if r.kind == kindAccept {
		if len(f[2]) != len(r.hash) {
			return entryRecord{}, errors.New("its hash has a wrong length")
		}
		copy(r.hash[:], f[2])
		r.data = f[3]
	}
	return r, nil
}

// Damage is a stretch of a segment that could not be read.
type Damage struct {
	File   string
	Offset int64
	Bytes  int64
	Why    string
}

// String is a sentence for the log.
func (d Damage) String() string {
	return fmt.Sprintf("%s: %d bytes at %d cannot be read: %s", d.File, d.Bytes, d.Offset, d.Why)
}

// scan calls use with every record of a segment that is whole, and returns what was not. After a damaged
// record it goes on with the next one that is whole.
func (s source) scan(name string, use func(entryRecord)) []Damage {
	var bad []Damage
	budget := maxScan * min(s.size, 1<<30)
	for offset := int64(0); offset < s.size; {
		r, next, err := s.record(offset)
		if err == nil {
			use(r)
			offset = next
			continue
		}
		d := Damage{File: name, Offset: offset, Why: err.Error()}
		offset = s.resync(offset+1, &budget)
		d.Bytes = offset - d.Offset
		bad = append(bad, d)
	}
	return bad
}

// resync returns the offset of the next whole record, or the end of the file.
func (s source) resync(offset int64, budget *int64) int64 {
	buf := make([]byte, 64<<10)
	for *budget > 0 && offset < s.size {
		offset = s.data(offset)
		n, err := s.r.ReadAt(buf[:min(int64(len(buf)), max(s.size-offset, 0))], offset)
		if n < len(mark()) || err != nil && !errors.Is(err, io.EOF) {
			break
		}
		at := bytes.Index(buf[:n], mark())
		if at < 0 {
			offset += int64(n - len(mark()) + 1) // a mark may lie across two pieces
			continue
		}
		offset += int64(at)
		if _, _, err := s.record(offset); err == nil {
			return offset
		}
		*budget -= headerSize
		if n-at >= headerSize {
			*budget -= min(int64(binary.LittleEndian.Uint32(buf[at+4:])), s.size)
		}
		offset++
	}
	return s.size
}

// data skips a hole of a sparse file: 8 GiB of nothing need not be looked through.
func (s source) data(offset int64) int64 {
	f, ok := s.r.(*os.File)
	if !ok {
		return offset
	}
	at, err := unix.Seek(int(f.Fd()), offset, unix.SEEK_DATA)
	switch {
	case err == nil:
		return at
	case errors.Is(err, unix.ENXIO):
		return s.size
	}
	return offset // the file system does not tell
}
