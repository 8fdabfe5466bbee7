package http

import (
	"edged/core/serve/dispatch"
	"edged/core/serve/door/fields"
)

// thinkingField reads whether, and how much, a model thinks, as other servers and their clients say it:
// enable_thinking, thinking_budget, and thinking as a truth or as {"type": "enabled", "budget_tokens": n}.
func (d *draft) thinkingField(key string, raw []byte) (known bool, err *fields.Error) {
	o := &d.req.Options
	switch key {
	case "enable_thinking":
		err = d.thinkingSwitch(raw)
	case "thinking_budget", "thinking_budget_tokens":
		if raw[0] == '-' { // "any number", for some
			_, err = fields.Int(raw, -1, -1)
		} else {
			err = fields.ThinkingBudget(o, raw)
		}
	case "thinking":
		switch raw[0] {
		case 't', 'f':
			err = d.thinkingSwitch(raw)
		case '{':
			err = d.thinkingObject(raw)
		default:
			err = fields.Thinking(o, raw)
		}
	default:
		return false, nil
	}
	return true, err
}

func (d *draft) thinkingSwitch(raw []byte) *fields.Error {
	on, err := fields.Bool(raw)
	d.still = d.still || err == nil && !on
	if on {
		d.req.Options.Thinking = dispatch.ThinkingOn
	}
	return err
}

// thinkingObject reads the object that thinking may be.
func (d *draft) thinkingObject(raw []byte) *fields.Error {
	kind := ""
	err := fields.Object(raw, func(key string, raw []byte) (err *fields.Error) {
		if isNull(raw) {
			return nil
		}
		switch key {
		case "type":
			kind, err = fields.Text(raw, 64)
			if err == nil && kind != "enabled" && kind != "disabled" {
				err = fields.Bad("", "%q is neither \"enabled\" nor \"disabled\"", clip(kind))
			}
		case "budget", "budget_tokens":
			err = fields.ThinkingBudget(&d.req.Options, raw)
		default:
			return fields.Bad(clip(key), "is not a field of thinking")
		}
		if err != nil {
			return err.In(key)
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case kind == "disabled":
		d.still = true
	case kind == "enabled" && d.req.Options.Thinking == "":
		d.req.Options.Thinking = dispatch.ThinkingOn
	case kind == "" && d.req.Options.Thinking == "":
		return fields.Bad("budget", "is missing")
	}
	return nil
}

// settleThinking is called when all is read: a switch that is off wins over a budget or a level beside it.
func (d *draft) settleThinking() {
	if o := &d.req.Options; d.still || o.Thinking == dispatch.ThinkingOff {
		o.Thinking, o.ThinkingBudget, o.Effort = dispatch.ThinkingOff, 0, ""
	}
}
