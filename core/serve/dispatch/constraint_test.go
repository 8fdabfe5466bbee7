package dispatch

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"edged/core/infer/grammar"
	"edged/core/protocol"
	"edged/core/serve/inbox"
)

// TestToolChoice: what is demanded constrains the whole answer, and what the model begins by itself only behind its mark, as far as
// the model has one and the tools' schemas are served.
func TestToolChoice(t *testing.T) {
	const calls = "root ::= \"<t>\" call\ncall ::= %json {\"type\":\"object\"}\n"
	marked := grammar.After("<t>", "call", calls)
	tools := json.RawMessage(`[{"type":"function","function":{"name":"light"}}]`)
	for name, c := range map[string]struct {
		choice, format string
		calls          string // of the tokenizer
		tools          json.RawMessage
		want           string
		err            error
	}{
		"auto":                     {choice: `"auto"`, calls: marked, tools: tools, want: marked},
		"no choice":                {calls: marked, tools: tools, want: marked},
		"auto, no mark":            {choice: `"auto"`, calls: calls, tools: tools},
		"auto, unknown form":       {choice: `"auto"`, tools: tools},
		"auto, schema not served":  {choice: `"auto"`, calls: grammar.After("<t>", "root", `root ::= %json {"divisibleBy":2}`), tools: tools},
		"auto, a form of its own":  {choice: `"auto"`, format: `{"type":"choice","choices":["a"]}`, calls: marked, tools: tools, want: grammar.Choices([]string{"a"})},
		"none":                     {choice: `"none"`, calls: marked, tools: tools},
		"required":                 {choice: `"required"`, calls: marked, tools: tools, want: calls},
		"required, no mark":        {choice: `"required"`, calls: calls, tools: tools, want: calls},
		"named":                    {choice: `{"type":"function","function":{"name":"light"}}`, calls: marked, tools: tools, want: calls},
		"required, unknown form":   {choice: `"required"`, tools: tools, err: protocol.ErrUnsupported},
		"free":                     {},
		"a form of its own, alone": {format: `{"type":"choice","choices":["a"]}`, want: grammar.Choices([]string{"a"})},
	} {
		t.Run(name, func(t *testing.T) {
			j := &job{req: &Request{Tools: c.tools, Options: Options{ToolChoice: json.RawMessage(c.choice), ResponseFormat: json.RawMessage(c.format)}}, calls: c.calls}
			if err := j.constrain(t.Context(), grammar.Parse); !errors.Is(err, c.err) || j.grammar != c.want {
				t.Errorf("%q, %v; want %q, %v", j.grammar, err, c.want, c.err)
			}
		})
	}
}

// slow is a request whose grammar takes too long to be parsed where requests are admitted.
func slow(id string) *Request {
	r := ask(id, "x")
	var schemas []string
	for i := range 1500 {
		schemas = append(schemas, fmt.Sprintf(`"p%d":{"type":"boolean"}`, i))
	}
	r.Options.ResponseFormat = json.RawMessage(`{"type":"json_schema","schema":{"type":"object","properties":{` + strings.Join(schemas, ",") + `}}}`)
	return r
}

// TestSlowGrammarsDelayNobody: a grammar that takes long is parsed neither where requests are admitted nor in a place at the tokenizer,
// and ends with its request.
func TestSlowGrammarsDelayNobody(t *testing.T) {
	text, _, failed := slow("x").Options.constraint()
	if failed != nil {
		t.Fatal(failed)
	}
	if _, err := grammar.ParseQuick(t.Context(), text); !errors.Is(err, grammar.ErrEffort) {
		t.Fatalf("it is read at once: %v", err)
	}
	in(t, nil, func(b *bench) {
		t := b.t
		for i := range parsesAtOnce { // by grammars that are being parsed
			if err := b.parsing.Enter(t.Context(), fmt.Sprint("other", i)); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 4 { // twice as many as texts are encoded at once
			r := slow(fmt.Sprint("slow", i))
			r.Deadline = time.Minute
			b.submit(t, r)
		}
		b.submit(t, slow("cancelled"))
		b.submit(t, slow("served"))
		b.submit(t, ask("plain", "hello"))
		time.Sleep(time.Second)
		synctest.Wait()
		if last := b.s.last(t, "plain"); last.Error != nil {
			t.Errorf("beside forms that wait: %+v", last)
		}
		b.Cancel("", "cancelled")
		time.Sleep(time.Minute)
		synctest.Wait()
		if last := b.s.last(t, "slow0"); last.Error == nil || last.Error.Code != CodeDeadline {
			t.Errorf("after its deadline: %+v", last)
		}
		if last := b.s.last(t, "cancelled"); last.Finish != finishCancelled {
			t.Errorf("cancelled: %+v", last)
		}
		for i := range parsesAtOnce {
			b.parsing.Leave(fmt.Sprint("other", i))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if last := b.s.last(t, "served"); last.Error != nil {
			t.Errorf("when it is its turn: %+v", last)
		}
	})
}

// TestHostileGrammarsAreRefused: the schemas that once blocked whole nodes end with an answer or an error of their own.
func TestHostileGrammarsAreRefused(t *testing.T) {
	chain := `{"allOf":[{"$ref":"#/$defs/n0"},{"type":"string"}],"$defs":{`
	for i := range 40 {
		chain += fmt.Sprintf(`"n%d":{"allOf":[{"$ref":"#/$defs/n%d"},{"$ref":"#/$defs/n%d"}]},`, i, i+1, i+1)
	}
	chain += `"n40":{"type":"string"}}}`
	var numbers, more []string
	for i := range 2000 {
		numbers, more = append(numbers, strconv.Itoa(i)), append(more, strconv.Itoa(i+1000))
	}
	var enums []string
	for i := range 200 {
		enums = append(enums, fmt.Sprintf(`{"enum":[%s]}`, strings.ReplaceAll(strings.Join(numbers[:100], ","), ",", fmt.Sprintf(".%d,", i+1))))
	}
	in(t, nil, func(b *bench) {
		for name, schema := range map[string]string{
			"chain":      chain,
			"two enums":  `{"allOf":[{"enum":[` + strings.Join(numbers, ",") + `]},{"enum":[` + strings.Join(more, ",") + `]}]}`,
			"many enums": `{"oneOf":[` + strings.Join(enums, ",") + `]}`,
		} {
			r := ask(name, "x")
			r.Options.ResponseFormat = json.RawMessage(`{"type":"json_schema","schema":` + schema + `}`)
			if err := b.Submit(b.t.Context(), r, b.s); err != nil {
				t.Logf("%s: %v", name, err)
				continue
			}
			time.Sleep(time.Second)
			synctest.Wait()
			t.Logf("%s: %v", name, b.s.last(b.t, name).Error)
		}
	})
}

// TestProcessesThatEndWhileEncoding: a request is not tried for ever where one process after another ends before it has encoded it.
func TestProcessesThatEndWhileEncoding(t *testing.T) {
	store := durable{inbox.NewMemory(inbox.Limits{})}
	r := ask("poison", "hello")
	r.Door = "door"
	rec := &record{Request: r, Now: time.Now()}
	entry, err := rec.encode(inbox.Key{Client: r.Client, ID: r.ID})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Accept(t.Context(), entry); err != nil {
		t.Fatal(err)
	}
	for n := range maxEncodeTries { // processes that are gone as soon as they have taken it up
		d := New(Config{Inbox: store})
		j := newJob(rec, nil)
		left, err := decodeNote(store.Unfinished()[0].Attempt)
		if err != nil || left.Taken != n {
			t.Fatalf("it was taken up %d times, and the journal says %d: %v", n, left.Taken, err)
		}
		j.attempt, j.encodeTries = left.Attempt+1, left.Taken+1
		d.journalAttempt(t.Context(), j)
	}
	in(t, func(c *Config, _ *plugins) { c.Inbox = store }, func(b *bench) {
		b.Replay(t.Context(), map[string]Sink{"door": b.s})
		synctest.Wait()
		if last := b.s.last(b.t, "poison"); last.Error == nil || last.Error.Code != CodeQuarantined {
			b.t.Errorf("%+v", last)
		}
	})
	if left := store.Unfinished(); len(left) > 0 {
		t.Errorf("%d requests are left in the journal", len(left))
	}
}
