// Package reply shows on a terminal what a running service answers: the text as it comes, a refusal as a
// sentence, how fast it was.
//
// It must not know how a service is asked; package askclient does.
package reply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"edged/core/serve/door/mqtt"
	"edged/core/serve/door/mqtt/askclient"
)

// Ink writes an answer as it comes. When a node begins an answer anew, which most often gives the same text,
// what is written already is not written again; where it is another text, Note says so and the whole of it is
// written on lines of its own.
//
// With Hold nothing is written before End: a program that reads gets one text, and none that was withdrawn.
type Ink struct {
	W    io.Writer
	Hold bool
	Note func(line string) // a line for people; nil: nobody reads it
	Err  error             // of the first write that failed

	written strings.Builder // of the answer that counts; with Hold, what End writes
	again   strings.Builder // since the last restart, as long as it only repeats
	repeats bool
	why     string // the reason of the last restart
}

// Delta writes what is new of a piece of the answer.
func (k *Ink) Delta(text string) {
	if k.repeats {
		k.again.WriteString(text)
		seen, new := k.written.String(), k.again.String()
		if len(new) <= len(seen) && strings.HasPrefix(seen, new) {
			return
		}
		var same bool
		if text, same = strings.CutPrefix(new, seen); !same {
			k.replace()
			return
		}
		k.repeats = false
	}
	k.put(text)
}

// Restart says that the answer begins anew, and why.
func (k *Ink) Restart(why string) {
	k.why = why
	if k.Hold {
		k.written.Reset()
		return
	}
	k.repeats = true
	k.again.Reset()
}

// replace writes the text since the last restart, which is another one than what was written before.
func (k *Ink) replace() {
	k.repeats = false
	k.endLine()
	if k.Note != nil {
		k.Note("the answer begins anew: " + k.why)
	}
	k.written.Reset()
	k.put(k.again.String())
}

func (k *Ink) put(text string) {
	k.written.WriteString(text)
	if !k.Hold {
		k.write(text)
	}
}

func (k *Ink) write(text string) {
	if _, err := io.WriteString(k.W, text); err != nil && k.Err == nil {
		k.Err = err
	}
}

// Written returns the part of the answer that was written so far.
func (k *Ink) Written() string { return k.written.String() }

// End ends the answer and its line. err is what the request ended with: of one that failed, nothing is
// written that was held, and of one that somebody cancelled, what had come.
func (k *Ink) End(err error) {
	switch {
	case k.Hold && err != nil && !errors.Is(err, context.Canceled):
		return
	case k.Hold:
		k.write(k.written.String())
	case k.repeats && err == nil && k.again.Len() < k.written.Len():
		k.replace() // it is only the beginning of what was written
	}
	k.endLine()
}

func (k *Ink) endLine() {
	if text := k.written.String(); text != "" && !strings.HasSuffix(text, "\n") {
		k.write("\n")
	}
}

// Why puts a node's refusal into a sentence.
func Why(err error) error {
	var refused *askclient.RequestError
	if !errors.As(err, &refused) {
		return err
	}
	if ms := refused.Reason.RetryMS; ms > 0 {
		return fmt.Errorf("the node says %s: %s; try again in %d s", refused.Reason.Code, refused.Reason.Message, (ms+999)/1000)
	}
	return fmt.Errorf("the node says %s: %s", refused.Reason.Code, refused.Reason.Message)
}

// Speed tells how fast an answer came.
func Speed(t mqtt.Timings, u mqtt.Usage) string {
	return fmt.Sprintf("%d tokens, %.1f tokens/s, first token after %.0f ms (%d prompt tokens, %d of them cached)",
		u.Completion, t.DecodeTPS, t.FirstToken, u.Prompt, u.Cached)
}
