package group

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestEntry: what is written is read back, whatever bytes the body holds.
func TestEntry(t *testing.T) {
	for _, e := range []Entry{
		{Type: Hello, From: "a", Incarnation: "i", Nonce: 3, Body: []byte{}},
		{
			Type: Record, From: "a", Incarnation: "i", Client: "c", ID: "r", Hash: Hash{1, 31: 255}, Term: 2, Worker: "b", Level: "request",
			Adapters: []string{"x"}, Once: true, Refused: true, Accepted: true, Ended: true, Base: 1, Nonce: 1, Body: []byte("one\ntwo\x00\xff"),
		},
	} {
		data, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeEntry(data)
		if err != nil || !cmp.Equal(got, e) {
			t.Errorf("%v: %s", err, cmp.Diff(e, got))
		}
	}
	for _, text := range []string{
		"", "{}", "{}\n", "null\n", `{"type":"claim","from":"a"}` + "\n", `{"type":"done","id":"r"}` + "\n", `{"type":"what","from":"a","id":"r"}` + "\n",
		`{"type":"claim","from":"a","id":"r","term":-1}` + "\n", `{"type":"claim","from":"a","id":"r","hash":"12"}` + "\n",
	} {
		if e, err := DecodeEntry([]byte(text)); err == nil {
			t.Errorf("%q is taken: %+v", text, e)
		}
	}
}

// FuzzEntry: whatever is on the log's topic is taken or refused, and what is taken is written as it means.
func FuzzEntry(f *testing.F) {
	f.Add([]byte(`{"type":"claim","from":"a","incarnation":"i","id":"r","term":1,"worker":"b"}` + "\nbody"))
	f.Add([]byte(`{"type":"hello","from":"a","nonce":1}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := DecodeEntry(data)
		if err != nil {
			return
		}
		again, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodeEntry(again)
		if err != nil || !bytes.Equal(back.Body, e.Body) || back.key() != e.key() || back.Hash != e.Hash {
			t.Fatalf("%v: %+v, then %+v", err, e, back)
		}
		// A machine bears it at any time.
		m := New(Config{Node: "a", Incarnation: "i"})
		for _, ev := range []Event{Connected{}, Present{"a", &Member{Incarnation: "i", Connection: 1}}, Listening{}, Told{e, false}, Told{e, true}, Tick{}} {
			m.Step(0, ev)
		}
	})
}
