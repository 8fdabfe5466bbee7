package fields

import (
	"slices"

	"edged/core/serve/dispatch"
)

// Thinking reads whether, and how much, a model thinks before it answers: "on", "off" or {"budget": n}, of
// which 0 is "off".
func Thinking(o *dispatch.Options, raw []byte) *Error {
	switch raw[0] {
	case '"':
		o.Thinking = Unquote(raw)
		if t := o.Thinking; t != dispatch.ThinkingOn && t != dispatch.ThinkingOff {
			return Bad("", "%q is none of %q, %q and {\"budget\": n}", Short(t), dispatch.ThinkingOn, dispatch.ThinkingOff)
		}
		return nil
	case '{':
	default:
		return Bad("", "wants \"on\", \"off\" or {\"budget\": n}, not %s", KindOf(raw))
	}
	given := false
	err := Object(raw, func(key string, raw []byte) *Error {
		if key != "budget" {
			return Bad(Short(key), "is not a field of thinking")
		}
		given = true
		if err := ThinkingBudget(o, raw); err != nil {
			return err.In(key)
		}
		return nil
	})
	if err == nil && !given {
		err = Bad("budget", "is missing")
	}
	return err
}

// ThinkingBudget reads how many tokens a model may think; 0: it does not.
func ThinkingBudget(o *dispatch.Options, raw []byte) *Error {
	n, err := Int(raw, 0, dispatch.MaxTokens)
	if err != nil {
		return err
	}
	o.Thinking, o.ThinkingBudget = dispatch.ThinkingOn, int(n)
	if n == 0 {
		o.Thinking = dispatch.ThinkingOff
	}
	return nil
}

// efforts are the levels that clients know, from little to much.
var efforts = []string{"minimal", "low", "medium", "high", "xhigh"} //nolint:gochecknoglobals // a table

// Effort reads how much a model is to think, as a level; "none" is not at all.
func Effort(o *dispatch.Options, raw []byte) *Error {
	word, err := Text(raw, 64)
	switch {
	case err != nil:
		return err
	case word == "none" && o.Thinking == "": // what thinking says wins
		o.Thinking = dispatch.ThinkingOff
	case word == "none":
	case slices.Contains(efforts, word):
		o.Effort = word
		if o.Thinking == "" {
			o.Thinking = dispatch.ThinkingOn
		}
	default:
		return Bad("", "%q is none of \"none\", \"minimal\", \"low\", \"medium\", \"high\", \"xhigh\"", Short(word))
	}
	return nil
}
