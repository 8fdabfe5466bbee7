package dispatch

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"edged/core/protocol/backend"
	"edged/core/serve/inbox"
)

// TestFormatNames: a name that is added, taken away or renamed is another format, see stored.go.
func TestFormatNames(t *testing.T) {
	var got []string
	names(&got, "request", reflect.TypeFor[record]())
	names(&got, "note", reflect.TypeFor[note]())
	names(&got, "answer", reflect.TypeFor[storedAnswer]())
	slices.Sort(got)
	text := strings.Join(slices.Compact(got), "\n") + "\n"
	const file = "testdata/format-7.txt"
	if os.Getenv("EDGED_UPDATE") != "" {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := gocmp.Diff(string(want), text); d != "" {
		t.Errorf("what the journal keeps is no longer version 7: raise formatVersion, and go on reading those before\n%s", d)
	}
}

// names lists the JSON names and kinds of a type as encoding/json finds them.
func names(out *[]string, at string, typ reflect.Type) {
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch {
	case typ.PkgPath() == "time" && typ.Kind() == reflect.Struct || typ.Name() == "RawMessage":
		*out = append(*out, at+" "+typ.String())
	case typ.Kind() == reflect.Struct:
		for _, f := range reflect.VisibleFields(typ) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch {
			case !f.IsExported() || name == "-" || f.Anonymous:
			case name == "":
				*out = append(*out, at+"."+f.Name+" WITHOUT A NAME OF ITS OWN")
			default:
				names(out, at+"."+name, f.Type)
			}
		}
	case typ.Kind() == reflect.Slice && typ.Elem().Kind() != reflect.Uint8, typ.Kind() == reflect.Array:
		names(out, at+"[]", typ.Elem())
	case typ.Kind() == reflect.Map:
		*out = append(*out, fmt.Sprintf("%s %s", at, typ))
	default:
		*out = append(*out, at+" "+typ.Kind().String())
	}
}

func TestAnswerComesBackWhole(t *testing.T) {
	want := Event{Attempt: 2, Seq: 7, Last: &Last{
		Finish: "stop", Model: "m", Seed: 1 << 60, Node: "n", Logprobs: true, Usage: backend.Usage{PromptTokens: 3, CompletionTokens: 2, VirtualTokens: 1},
		Choices: []backend.Choice{{Index: 1, IDs: []int32{4, 5}, Text: "a\x00ü", Finish: backend.FinishStop, Logprobs: []backend.TokenLogprob{
			{ID: 4, Logprob: -0.1, Top: []backend.Alternative{{ID: 4, Logprob: -0.1}, {ID: 9, Logprob: -3.4028235e38}}}, {ID: 5},
		}}},
		Adapters: []UsedAdapter{{Name: "pirate", SHA256: "s", Scale: 0.1}},
		Thoughts: []string{"hm"}, Thought: 1,
		Tools: [][]ToolCall{{{Name: "f", Arguments: []byte(`{"a":1}`)}}}, Beside: []string{"x"},
		Pieces: map[int32][]byte{4: {0xff}}, Vectors: [][]float32{{0.1}}, Scores: []float32{-0.3}, Ranks: []Ranked{{Index: 1, Score: 0.1, Logit: -0.3}},
	}}
	data, err := encodeEvent(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeEvent(data)
	if err != nil {
		t.Fatal(err)
	}
	if d := gocmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestUnknownFormatIsRefused(t *testing.T) {
	for _, data := range []string{
		"edged request 8\n{}", "edged request 0\n{}", "edged request 7", "edged request 07\n{}", "edged note 7\n{}", "edged answer 8\n{}", "PK\x03\x04", "\n{}", "",
		"edged request 1\n{\"Request\":{\"ID\":\"a\",\"Options\":{},\"Adapters\":null,\"Sings\":true}}",
		"edged request 1\n{\"Request\":{\"ID\":\"a\"},\"Sings\":true}",
	} {
		if _, err := decodeRecord(inbox.Record{Key: inbox.Key{ID: "a"}, Data: []byte(data)}); !errors.Is(err, errFormat) {
			t.Errorf("request %q: %v", data, err)
		}
	}
	if _, err := decodeEvent([]byte("edged answer 8\n{}")); !errors.Is(err, errFormat) {
		t.Error(err)
	}
	if _, err := decodeNote([]byte("edged note 8\n{}")); !errors.Is(err, errFormat) {
		t.Error(err)
	}
	if n, err := decodeNote(nil); err != nil || n.Attempt != 1 {
		t.Error(n, err)
	}
}

// TestJournalOfEarlierBuilds reads folders that builds wrote whose process was killed amid its work. testdata/journal-0 is from the last
// one that wrote no format, journal-1 from the first that did, and journal-2 from the last that wrote version 2.
func TestJournalOfEarlierBuilds(t *testing.T) {
	for _, name := range []string{"journal-0", "journal-1", "journal-2"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir() // opening compacts
			if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", name))); err != nil {
				t.Fatal(err)
			}
			store, report, err := inbox.OpenDisk(dir, inbox.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			var got []string
			for _, p := range store.Unfinished() {
				rec, err := decodeRecord(p.Record)
				if err != nil {
					t.Fatal(err)
				}
				n, err := decodeNote(p.Attempt)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, fmt.Sprintf("unfinished %s/%s: attempt %d of %d tokens, seed %d, at %d, %s to %s, chat %s, prompt %q, max_tokens %d, temperature %g, stop %q, n %d, adapters %v, pinned %s",
					p.Client, p.ID, n.Attempt, len(n.Prompt), rec.Seed, rec.Now.Unix(), rec.Request.Door, rec.Request.Reply, rec.Request.Chat, rec.Request.Prompt,
					value(rec.Request.Options.MaxTokens), value(rec.Request.Options.Temperature), rec.Request.Options.Stop, rec.Request.Options.N, rec.Request.Adapters, pinned(rec.Adapters)))
			}
			for _, e := range store.Unpublished() {
				rec, err := decodeRecord(e.Record)
				if err != nil {
					t.Fatal(err)
				}
				ev, err := decodeEvent(e.Last)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, fmt.Sprintf("unpublished %s/%s: %s to %s, seed %d, %s", e.Client, e.ID, rec.Request.Door, rec.Request.Reply, ev.Last.Seed, ev.Last.Finish))
			}
			// One that was answered, and whose answer the client acknowledged: a repeat of it gets the same bits.
			const topic, payload = "edged/n/request/kitchen", `{"id":"short","prompt":"Hello","max_tokens":4,"seed":7,"logprobs":true,"top_logprobs":2}`
			h := sha256.New()
			h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(topic))))
			h.Write([]byte(topic + payload))
			found := store.Lookup(inbox.Key{Client: "kitchen", ID: "short"}, [32]byte(h.Sum(nil)))
			if found.Status != inbox.Finished {
				t.Fatalf("the answer that is stored: %v", found.Status)
			}
			ev, err := decodeEvent(found.Last)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range ev.Last.Choices {
				line := fmt.Sprintf("stored short: %v %q %s", c.IDs, c.Text, c.Finish)
				for _, l := range c.Logprobs {
					line += fmt.Sprintf(" %d:%08x", l.ID, math.Float32bits(l.Logprob))
					for _, a := range l.Top {
						line += fmt.Sprintf("/%d:%08x", a.ID, math.Float32bits(a.Logprob))
					}
				}
				got = append(got, line)
			}
			got = append(got, fmt.Sprintf("%d unfinished, %d damaged", report.Unfinished, len(report.Damaged)))
			text := strings.Join(got, "\n") + "\n"
			file := filepath.Join("testdata", name+".txt")
			if os.Getenv("EDGED_UPDATE") != "" {
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if d := gocmp.Diff(string(want), text); d != "" {
				t.Error(d)
			}
		})
	}
}

func value[T cmp.Ordered](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

func pinned(adapters []UsedAdapter) string {
	var out []string
	for _, a := range adapters {
		out = append(out, fmt.Sprintf("%s %.8s %g", a.Name, a.SHA256, a.Scale))
	}
	return strings.Join(out, ", ")
}

// TestAnswered: an answer names its model as requests do, where it has such a name; nothing has answered before a model has begun.
func TestAnswered(t *testing.T) {
	for _, c := range []struct{ served, title, want string }{{"a", "Llama 3", "a"}, {"", "Llama 3", "Llama 3"}, {"a", "", ""}} {
		if got := (&record{Model: c.served, model: c.title}).answered(); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
