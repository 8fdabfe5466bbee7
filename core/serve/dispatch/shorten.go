package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"edged/core/protocol/backend"
)

// shorten makes a conversation that is too long for the context fit, where its request asks for that;
// otherwise, and where even the last question is too long, it returns why.
//
// The rule: whole turns leave, oldest first, each from a user's message to the one before the next. System
// and developer messages stay, wherever they stand, and so does the last user's message with all that follows
// it. As many leave as make room for the answer: max_tokens, or a quarter of the context where that is less.
// The last event tells how many left.
func (d *Dispatcher) shorten(ctx context.Context, j *job, m backend.ModelInfo, why error) error {
	if j.req.Options.ContextPolicy != PolicyKeepSystem || j.req.Kind != Generate || len(j.req.Chat) == 0 || !isTooLong(why) {
		return why
	}
	var messages []json.RawMessage
	if err := json.Unmarshal(j.req.Chat, &messages); err != nil {
		return why
	}
	turns := turnsOf(messages)
	answer := d.o.Defaults.MaxTokens
	set(&answer, j.req.Options.MaxTokens)
	if quarter := m.Context / 4; answer <= 0 || answer > quarter {
		answer = quarter
	}
	try := func(n int) (fits bool, err error) {
		left, dropped := without(messages, turns[:n])
		if j.messages, err = json.Marshal(left); err != nil {
			return false, err
		}
		j.dropped = dropped
		if err := d.encode(ctx, j); err != nil {
			return false, err
		}
		return len(j.prompt)+answer <= m.Context, nil
	}
	// The fewest turns that are enough: more of them never make a prompt longer.
	lo, hi := 1, len(turns)
	for lo < hi {
		mid := (lo + hi) / 2
		switch fits, err := try(mid); {
		case err != nil:
			return err
		case fits:
			hi = mid
		default:
			lo = mid + 1
		}
	}
	if len(turns) > 0 {
		if _, err := try(lo); err != nil {
			return err
		}
	}
	return j.fits(m)
}

// turn is a range of messages.
type turn struct{ from, to int }

// turnsOf are the turns that may leave, oldest first: all but the last.
func turnsOf(messages []json.RawMessage) []turn {
	var turns []turn
	for i, raw := range messages {
		if roleOf(raw) == "user" {
			if n := len(turns); n > 0 {
				turns[n-1].to = i
			}
			turns = append(turns, turn{from: i, to: len(messages)})
		}
	}
	if len(turns) == 0 {
		return nil
	}
	return turns[:len(turns)-1]
}

// without is a conversation with turns left out, but for system and developer messages in them.
func without(messages []json.RawMessage, turns []turn) (left []json.RawMessage, dropped int) {
	for i, raw := range messages {
		role := roleOf(raw)
		leaves := role != "system" && role != "developer" && slices.ContainsFunc(turns, func(t turn) bool { return i >= t.from && i < t.to })
		if leaves {
			dropped++
			continue
		}
		left = append(left, raw)
	}
	return left, dropped
}

// isTooLong reports whether a request was refused for its length.
func isTooLong(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == CodeContextLength
}

func roleOf(raw json.RawMessage) string {
	var m struct {
		Role string `json:"role"`
	}
	_ = json.Unmarshal(raw, &m) // a message without a role is none of those that are looked for
	return m.Role
}
