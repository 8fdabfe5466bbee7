// Command jinjafuzz compares core/chat/jinja with what generate.py, beside it, has from Python's jinja2.
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

	"edged/core/chat/jinja"
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
}

func compare(path string, most int) (differ int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close() //nolint:errcheck // only read
	scanner := bufio.NewScanner(f)
	scanner.Buffer(nil, 64<<20)
	var vars *jinja.Object
	cases, texts := 0, 0
	var slowest time.Duration
	slow := ""
	for scanner.Scan() {
		var l line
		if err := json.Unmarshal(scanner.Bytes(), &l); err != nil {
			return 0, err
		}
		if l.Context != nil {
			v, err := jinja.FromJSON(l.Context)
			if err != nil {
				return 0, err
			}
			vars, _ = v.Object()
			continue
		}
		cases++
		started := time.Now()
		got, err := render(l.Template, vars)
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

func render(source string, vars *jinja.Object) (text string, err error) {
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
