// Command sameanswers compares what two builds of edged answer, bit for bit:
//
//	sameanswers [-requests N] [-journal N] [-seed N] [-models REGEXP] -shared DIR OLD NEW
//
// OLD and NEW are folders with the programs of a build: edged and plugins/. It asks the backends of both the
// same random requests on every model below DIR that OLD serves, and the services of both the same questions
// over MQTT, each of them twice with a kill between, so that the second answer is the one that the journal
// kept. What differs is printed by its name.
//
// Exit codes: 0 both answer the same; 1 something differs; 2 it could not be compared. What OLD refused and
// NEW serves is no difference. scripts/same-answers builds two commits and calls it.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
)

// settings are the arguments of a comparison.
type settings struct {
	requests int
	journal  int
	seed     uint64
	shared   string
	models   *regexp.Regexp
}

// errDifferent means that the comparison was made and found something.
var errDifferent = errors.New("the builds do not answer the same")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	switch {
	case err == nil:
		return
	case errors.Is(err, errDifferent):
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stderr, "sameanswers:", err)
	os.Exit(2)
}

func run(ctx context.Context) error {
	var s settings
	flag.IntVar(&s.requests, "requests", 1000, "random requests to the backend, over all models (0: none)")
	flag.IntVar(&s.journal, "journal", 40, "questions to the service (0: none)")
	flag.Uint64Var(&s.seed, "seed", 1, "of the random requests")
	flag.StringVar(&s.shared, "shared", "", "folder of the demo and the oracles")
	models := flag.String("models", "", "regular expression: only models whose path below -shared it matches")
	flag.Parse()
	if flag.NArg() != 2 || s.shared == "" {
		return errors.New("two folders of programs and -shared are needed: sameanswers -shared DIR OLD NEW")
	}
	var err error
	if s.models, err = regexp.Compile(*models); err != nil {
		return fmt.Errorf("-models: %w", err)
	}
	if s.shared, err = filepath.Abs(s.shared); err != nil {
		return err
	}
	report := &report{}
	if s.requests > 0 {
		if err := compareBackends(ctx, s, flag.Arg(0), flag.Arg(1), report); err != nil {
			return err
		}
	}
	if s.journal > 0 {
		if err := compareServices(ctx, s, flag.Arg(0), flag.Arg(1), report); err != nil {
			return err
		}
	}
	if report.compared == 0 {
		return errors.New("nothing was compared: is -shared the right folder, and does -models match anything?")
	}
	fmt.Printf("%d answers compared, %d differ\n", report.compared, report.different)
	if report.different > 0 {
		return errDifferent
	}
	return nil
}

// report counts what was compared.
type report struct {
	compared  int
	different int
}

// compare compares answers by name. Names that only fresh has are not looked at.
func (r *report) compare(old, fresh map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(old)) {
		r.compared++
		got, there := fresh[name]
		switch {
		case !there:
			got = "nothing"
			fallthrough
		case got != old[name]:
			r.different++
			fmt.Printf("DIFFERENT %s\n  old: %s\n  new: %s\n", name, around(old[name], got), around(got, old[name]))
		}
	}
}

// around is the part of a text where it begins to differ from another, for a line of a terminal.
func around(text, other string) string {
	const before, length = 60, 240
	at := 0
	for at < min(len(text), len(other)) && text[at] == other[at] {
		at++
	}
	from := max(0, at-before)
	lead := ""
	if from > 0 {
		lead = "…"
	}
	return lead + cmp.Or(text[from:min(len(text), from+length)], "(empty)")
}
