// Package reply shows on a terminal what a running service answers: the text as it comes, a refusal as a sentence, how fast it was.
//
// It must not know how a service is asked; package askclient does.
package reply

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"edged/core/serve/door/mqtt"
	"edged/core/serve/door/mqtt/askclient"
)

// Ink writes an answer as it comes. When the node begins an answer anew, which gives the same text, what is written already
// is not written again.
type Ink struct {
	W       io.Writer
	written strings.Builder
	again   strings.Builder // since the last restart, as long as it only repeats
	repeats bool
	Err     error // of the first write that failed
}

// Delta writes what is new of a piece of the answer.
func (k *Ink) Delta(text string) {
	if k.repeats {
		k.again.WriteString(text)
		seen, new := k.written.String(), k.again.String()
		if len(new) <= len(seen) && strings.HasPrefix(seen, new) {
			return
		}
		k.repeats = false
		var same bool
		if text, same = strings.CutPrefix(new, seen); !same {
			text = "\n" + new // another text after all: it stands on lines of its own
			k.written.Reset()
		}
	}
	k.written.WriteString(text)
	if _, err := io.WriteString(k.W, text); err != nil && k.Err == nil {
		k.Err = err
	}
}

// Restart says that the answer begins anew.
func (k *Ink) Restart() {
	k.repeats = true
	k.again.Reset()
}

// Written is what was written of the answer.
func (k *Ink) Written() string { return k.written.String() }

// End ends the line.
func (k *Ink) End() {
	if text := k.written.String(); text != "" && !strings.HasSuffix(text, "\n") {
		_, _ = io.WriteString(k.W, "\n")
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
