// Command jinjafuzz compares core/chat/jinja with what generate.py, beside it, has from Python's jinja2, and
// core/chat with what templates.py has from transformers.
//
//	go run ./tools/jinjafuzz cases.jsonl [most]
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"edged/core/chat"
	"edged/core/chat/jinja"
	"edged/core/chat/jinja/variables"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: jinjafuzz cases.jsonl [how many differences are shown]")
		os.Exit(2)
	}
	most := 40
	if len(os.Args) > 2 {
		if n, err := strconv.Atoi(os.Args[2]); err == nil {
			most = n
		}
	}
	differ, err := compare(os.Args[1], most)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if differ > 0 {
		os.Exit(1)
	}
}

type line struct {
	Context  json.RawMessage
	Template string
	Text     *string
	Error    string

	// of templates.py
	File, Case, Now string
	Variables       json.RawMessage
	Refused         bool
}

// chatCase renders a conversation by a template of a file.
func (l *line) chatCase(compiled map[string]*chat.Template) (string, error) {
	t, ok := compiled[l.File]
	if !ok {
		source, err := os.ReadFile(l.File)
		if err != nil {
			return "", err
		}
		t, err = chat.Compile(string(source))
		if err != nil {
			fmt.Fprintln(os.Stderr, l.File, err)
		}
		compiled[l.File] = t
	}
	if t == nil {
		return "", errors.New("the template does not compile")
	}
	now, err := time.Parse("2006-01-02T15:04:05", l.Now)
	if err != nil {
		return "", err
	}
	return t.Render(context.Background(), chat.Input{Variables: l.Variables, Now: now})
}

func compare(path string, most int) (differ int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	scanner := bufio.NewScanner(f)
	scanner.Buffer(nil, 64<<20)
	var vars *variables.Object
	cases, texts := 0, 0
	compiled := map[string]*chat.Template{}
	var slowest time.Duration
	slow := ""
	for scanner.Scan() {
		var l line
		if err := json.Unmarshal(scanner.Bytes(), &l); err != nil {
			return 0, err
		}
		if l.Context != nil {
			v, err := variables.FromJSON(l.Context)
			if err != nil {
				return 0, err
			}
			vars, _ = v.Object()
			continue
		}
		cases++
		started := time.Now()
		var got string
		var err error
		if l.File != "" {
			got, err = l.chatCase(compiled)
			if l.Text == nil && !l.Refused {
				continue // an error of Python on the way: a renderer that is more lenient is not wrong
			}
			l.Template = l.File + ": " + l.Case
		} else {
			got, err = render(l.Template, vars)
		}
		if took := time.Since(started); took > slowest {
			slowest, slow = took, l.Template
		}
		if l.Text != nil {
			texts++
		}
		if l.Text == nil && err != nil || l.Text != nil && err == nil && got == *l.Text {
			continue
		}
		if differ++; differ > most {
			continue
		}
		want := "error " + l.Error
		if l.Text != nil {
			want = strconv.Quote(*l.Text)
		}
		have := strconv.Quote(got)
		if l.Text != nil && err == nil && len(got) > 200 { // show where they part
			at := 0
			for at < min(len(got), len(*l.Text)) && got[at] == (*l.Text)[at] {
				at++
			}
			at = max(at-40, 0)
			want, have = strconv.Quote((*l.Text)[at:]), strconv.Quote(got[at:])
		}
		if err != nil {
			have = "error " + err.Error()
		}
		fmt.Printf("%s\n  jinja2 %.300s\n  edged  %.300s\n", strconv.Quote(l.Template), want, have)
	}
	if cases == 0 {
		return 0, errors.New("no cases")
	}
	fmt.Printf("%d of %d differ (%d of them have a text in jinja2); the slowest took %v: %.200q\n", differ, cases, texts, slowest, slow)
	return differ, scanner.Err()
}

func render(source string, vars *variables.Object) (text string, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = nil
			text = fmt.Sprint("PANIC ", r)
		}
	}()
	t, err := jinja.Compile(source)
	if err != nil {
		return "", err
	}
	return t.Render(context.Background(), jinja.Input{Variables: vars, Now: time.Now})
}
