package parts

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"

	"edged/core/protocol"
	"edged/core/protocol/edgedpb"
)

func TestSplitAndJoin(t *testing.T) {
	t.Parallel()
	list := func(n int) []int32 {
		l := make([]int32, n)
		for i := range l {
			l[i] = int32(i)
		}
		return l
	}
	const full = (protocol.PartBytes - overhead) / 5 // items that fill a part
	for name, lists := range map[string][][]int32{
		"none":      nil,
		"one empty": {{}},
		"empties":   {{}, {}, {}},
		"small":     {{1}, {2, 3}, {}},
		"full":      {list(full)},
		"full + 1":  {list(full + 1)},
		"full - 1":  {list(full - 1), list(2)},
		"long":      {list(10*full + 7), {}, list(3 * full)},
		"many short": func() (l [][]int32) {
			for i := range 50_000 {
				l = append(l, list(i%3))
			}
			return l
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var j Joiner[int32]
			messages := 0
			err := Split(lists, 5, func(batch []Piece[int32]) error {
				messages++
				size := 0
				for _, p := range batch {
					size += overhead + 5*len(p.Items)
					if err := j.Add(p.Items, p.Last, 4); err != nil {
						return err
					}
				}
				if size > protocol.PartBytes+overhead+5 {
					t.Errorf("a part of %d bytes", size)
				}
				return nil
			})
			if err != nil || messages == 0 {
				t.Fatalf("%d messages, %v", messages, err)
			}
			got, err := j.Lists()
			if err != nil || len(got) != len(lists) {
				t.Fatalf("%d lists of %d, %v", len(got), len(lists), err)
			}
			for i := range lists {
				if len(lists[i])+len(got[i]) > 0 && !reflect.DeepEqual(got[i], lists[i]) {
					t.Errorf("list %d differs", i)
				}
			}
		})
	}
	stop := errors.New("stop")
	if err := Split([][]int32{list(5)}, 5, func([]Piece[int32]) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("an error of send: %v", err)
	}
}

func TestJoinerRefuses(t *testing.T) {
	t.Parallel()
	var open Joiner[byte]
	if err := open.Add([]byte("x"), false, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := open.Lists(); !errors.Is(err, protocol.ErrInvalid) {
		t.Errorf("a list without an end: %v", err)
	}
	large := Joiner[byte]{bytes: protocol.MaxValue - 1000}
	if err := large.Add(make([]byte, 1000-pieceBytes), false, 1); err != nil {
		t.Error(err)
	}
	if err := large.Add([]byte("x"), false, 1); !errors.Is(err, protocol.ErrInvalid) {
		t.Errorf("beyond the bound: %v", err)
	}
	// Pieces without items cost, too: they could come for ever.
	empty := Joiner[byte]{bytes: protocol.MaxValue - 10*pieceBytes}
	n := 0
	for empty.Add(nil, true, 1) == nil {
		n++
	}
	if n != 10 {
		t.Errorf("%d empty pieces fit", n)
	}
}

// What comes from the other side is outside bytes. Each message of data is four bytes of length and its protobuf.
func FuzzVocabulary(f *testing.F) {
	seed := func(v Vocabulary) {
		var data []byte
		err := SendVocabulary(v, func(p *edgedpb.VocabularyPart) error {
			b, err := proto.Marshal(p)
			data = append(binary.LittleEndian.AppendUint32(data, uint32(len(b))), b...)
			return err
		})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	seed(Vocabulary{BOS: -1})
	v := Vocabulary{BOS: 1, EOG: []int32{2, 3}, Hash: "h"}
	for i := range 100 {
		v.Pieces = append(v.Pieces, fmt.Append(nil, "p", i))
		v.Control = append(v.Control, i < 4)
	}
	seed(v)
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := ReceiveVocabulary(func() (*edgedpb.VocabularyPart, error) {
			if len(data) < 4 {
				return nil, io.EOF
			}
			n := binary.LittleEndian.Uint32(data)
			data = data[4:]
			if uint64(n) > uint64(len(data)) {
				return nil, io.EOF
			}
			var p edgedpb.VocabularyPart
			err := proto.Unmarshal(data[:n], &p)
			data = data[n:]
			return &p, err
		})
		if err != nil {
			return
		}
		// What is taken can be sent on.
		var parts []*edgedpb.VocabularyPart
		if err := SendVocabulary(got, func(p *edgedpb.VocabularyPart) error { parts = append(parts, p); return nil }); err != nil {
			t.Fatal(err)
		}
		again, err := ReceiveVocabulary(func() (*edgedpb.VocabularyPart, error) {
			p := parts[0]
			parts = parts[1:]
			return p, nil
		})
		if err != nil || len(again.Pieces) != len(got.Pieces) {
			t.Errorf("%d pieces became %d, %v", len(got.Pieces), len(again.Pieces), err)
		}
	})
}
