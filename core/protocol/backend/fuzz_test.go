package backend

import (
	"encoding/binary"
	"io"
	"testing"

	"google.golang.org/protobuf/proto"

	"edged/core/protocol/edgedpb"
)

// frames reads messages of four bytes of length and their protobuf each; io.EOF at the end.
func frames[T proto.Message](data []byte, message func() T) func() (T, error) {
	return func() (T, error) {
		m := message()
		if len(data) < 4 {
			return m, io.EOF
		}
		n := binary.LittleEndian.Uint32(data)
		data = data[4:]
		if uint64(n) > uint64(len(data)) {
			return m, io.EOF
		}
		err := proto.Unmarshal(data[:n], m)
		data = data[n:]
		return m, err
	}
}

func frame(data []byte, m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return append(binary.LittleEndian.AppendUint32(data, uint32(len(b))), b...)
}

// Events are what a plugin of anybody's sends: nothing of it panics, and what is whole is sound.
func FuzzEvents(f *testing.F) {
	var data []byte
	for _, e := range []Event{
		{Prefill: &Prefill{Done: 1, Of: 2}},
		{Index: 1, IDs: []int32{1, 2}, Text: "ä", Logprobs: []TokenLogprob{{ID: 1, Top: []Alternative{{ID: 3, Logprob: -1}}}, {ID: 2}}},
		{Done: true, Choices: []Choice{{IDs: []int32{1}, Text: "x", Finish: FinishStop}, {Index: 1, Finish: FinishLength}}},
	} {
		if err := sendEvent(e, func(m *edgedpb.GenerateEvent) error { data = frame(data, m); return nil }); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(data)
	f.Add(frame(nil, &edgedpb.GenerateEvent{Event: &edgedpb.GenerateEvent_Done{}}))
	f.Add(frame(nil, &edgedpb.GenerateEvent{Event: &edgedpb.GenerateEvent_Delta{Delta: &edgedpb.Delta{More: true}}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		recv := frames(data, func() *edgedpb.GenerateEvent { return &edgedpb.GenerateEvent{} })
		var a assembler
		for {
			m, err := recv()
			if err != nil {
				return
			}
			e, whole, err := a.add(m)
			if err != nil {
				return
			}
			if whole && e.Done && (e.Prefill != nil || len(e.IDs) > 0) {
				t.Errorf("event %+v", e)
			}
		}
	})
}

// Requests are what a daemon sends; a plugin takes what it gets apart with the same care.
func FuzzRequest(f *testing.F) {
	var data []byte
	r := Request{ID: "r", PromptIDs: []int32{1, 2}, Stop: []string{"x"}, Grammar: "root ::= x", Sampling: Sampling{LogitBias: map[int32]float32{1: 2}}}
	if err := sendRequest(r, func(m *edgedpb.GenerateRequest) error { data = frame(data, m); return nil }); err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := receiveRequest(frames(data, func() *edgedpb.GenerateRequest { return &edgedpb.GenerateRequest{} }))
		if err != nil {
			return
		}
		var again []byte
		if err := sendRequest(r, func(m *edgedpb.GenerateRequest) error { again = frame(again, m); return nil }); err != nil {
			t.Fatal(err)
		}
		got, err := receiveRequest(frames(again, func() *edgedpb.GenerateRequest { return &edgedpb.GenerateRequest{} }))
		if err != nil || len(got.PromptIDs) != len(r.PromptIDs) || got.Grammar != r.Grammar || len(got.Stop) != len(r.Stop) {
			t.Errorf("%+v became %+v, %v", r, got, err)
		}
	})
}
