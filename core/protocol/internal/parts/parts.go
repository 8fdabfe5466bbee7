// Package parts cuts lists into messages of bounded size and puts them together again, for both plugin contracts.
//
// A sender calls Split, a receiver adds pieces to a Joiner. It must not know what the lists hold. Nothing here may be
// called concurrently.
package parts

import (
	"fmt"

	"edged/core/protocol"
)

// Piece is a run of one list.
type Piece[T any] struct {
	Items []T
	Last  bool // ends its list
}

// overhead is a generous bound on the bytes of a piece on the wire besides its items.
const overhead = 16

// Split sends lists as batches of pieces, each batch about protocol.PartBytes when an item takes itemBytes on the wire.
// It calls send at least once, with an empty batch where there are no lists. Pieces share the lists' memory.
func Split[T any](lists [][]T, itemBytes int, send func([]Piece[T]) error) error {
	var batch []Piece[T]
	room, sent := protocol.PartBytes, false
	flush := func() error {
		err := send(batch)
		batch, room, sent = nil, protocol.PartBytes, true
		return err
	}
	for _, list := range lists {
		for {
			n := max(1, (room-overhead)/itemBytes)
			n = min(n, len(list))
			last := n == len(list)
			batch = append(batch, Piece[T]{list[:n:n], last})
			list = list[n:]
			room -= overhead + n*itemBytes
			if room <= overhead {
				if err := flush(); err != nil {
					return err
				}
			}
			if last {
				break
			}
		}
	}
	if len(batch) > 0 || !sent {
		return flush()
	}
	return nil
}

// pieceBytes is the memory of a piece besides its items, in bytes: a list's header and its share of a growing array.
const pieceBytes = 48

// Joiner puts lists together from pieces. The zero value is ready; it refuses what grows beyond protocol.MaxValue.
type Joiner[T any] struct {
	lists [][]T
	open  []T
	more  bool // open has begun
	bytes int
}

// Add appends a piece of items that take itemBytes each in memory. It copies them.
func (j *Joiner[T]) Add(items []T, last bool, itemBytes int) error {
	j.bytes += pieceBytes + len(items)*itemBytes
	if j.bytes > protocol.MaxValue {
		return TooLarge()
	}
	j.open = append(j.open, items...)
	j.more = !last
	if last {
		j.lists = append(j.lists, j.open)
		j.open = nil
	}
	return nil
}

// Lists returns the lists, or an error where the last one was not ended.
func (j *Joiner[T]) Lists() ([][]T, error) {
	if j.more {
		return nil, fmt.Errorf("protocol: %w: the last list is not ended", protocol.ErrInvalid)
	}
	return j.lists, nil
}

// TooLarge is the refusal of a value that grows beyond protocol.MaxValue.
func TooLarge() error {
	return fmt.Errorf("protocol: %w: larger than %d MiB", protocol.ErrInvalid, protocol.MaxValue>>20)
}

// Bytes sends data in runs of at most protocol.PartBytes. It calls send at least once.
func Bytes(data []byte, send func([]byte) error) error {
	for {
		n := min(len(data), protocol.PartBytes)
		if err := send(data[:n:n]); err != nil {
			return err
		}
		if data = data[n:]; len(data) == 0 {
			return nil
		}
	}
}

// Append appends src to dst, bounded by protocol.MaxValue bytes.
func Append(dst, src []byte) ([]byte, error) {
	if len(dst)+len(src) > protocol.MaxValue {
		return dst, TooLarge()
	}
	return append(dst, src...), nil
}
