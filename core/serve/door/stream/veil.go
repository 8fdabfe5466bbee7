package stream

import "strings"

// Veil keeps the text of tool calls out of a stream: clients get calls as calls, and what a model wrote of
// them only when it is known whether it was one. Where no tools are offered it lets everything pass.
type Veil struct {
	Tools bool            // are offered
	shown strings.Builder // that passed
	held  string          // that waits
	calls bool            // a call has begun: nothing passes any more
	began bool            // something that is not white space passed
}

// Pass takes a piece of text and returns what may be shown now. mark is what calls begin with where that is known.
//
// An answer that begins like a call without a mark is held as a whole, and so is one from where a mark
// stands. The end of a text that may be the beginning of a mark waits for more, and so does white space,
// which calls may follow.
func (v *Veil) Pass(text, mark string) string {
	if !v.Tools {
		v.shown.WriteString(text)
		return text
	}
	v.held += text
	if v.calls {
		return ""
	}
	if !v.began {
		rest := strings.TrimLeft(v.held, " \t\r\n")
		if rest == "" {
			return ""
		}
		v.began = true
		if rest[0] == '{' || rest[0] == '[' || mark == "" && rest[0] == '<' {
			v.calls = true
			return ""
		}
	}
	end := len(v.held)
	if mark != "" {
		if i := strings.Index(v.held, mark); i >= 0 {
			v.calls, end = true, i
		} else {
			end -= overlap(v.held, mark)
		}
	}
	show := strings.TrimRight(v.held[:end], " \t\r\n")
	v.held = v.held[len(show):]
	v.shown.WriteString(show)
	return show
}

// Rest returns the text that is left to show when the whole text is known: all of it, or what stands beside its calls.
func (v *Veil) Rest(whole string) string {
	rest, _ := strings.CutPrefix(whole, v.shown.String())
	if len(rest) == len(whole) && v.shown.Len() > 0 {
		return "" // text that was taken for an answer stands in a call: it cannot be taken back
	}
	v.shown.WriteString(rest)
	return rest
}

// overlap is how many bytes at the end of text may begin mark.
func overlap(text, mark string) int {
	for n := min(len(mark)-1, len(text)); n > 0; n-- {
		if strings.HasSuffix(text, mark[:n]) {
			return n
		}
	}
	return 0
}
