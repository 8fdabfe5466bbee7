package http

import (
	"strings"
	"testing"

	"edged/core/serve/dispatch"
)

// TestThinkingFields: every way in which clients say whether and how much a model is to think, in any order.
func TestThinkingFields(t *testing.T) {
	const on, off = dispatch.ThinkingOn, dispatch.ThinkingOff
	for body, want := range map[string]dispatch.Options{
		`{}`:                               {},
		`{"thinking":"on"}`:                {Thinking: on},
		`{"thinking":"off"}`:               {Thinking: off},
		`{"thinking":true}`:                {Thinking: on},
		`{"thinking":{"budget":7}}`:        {Thinking: on, ThinkingBudget: 7},
		`{"thinking":{"budget":0}}`:        {Thinking: off},
		`{"thinking":{"type":"enabled"}}`:  {Thinking: on},
		`{"thinking":{"type":"disabled"}}`: {Thinking: off},
		`{"thinking":{"type":"enabled","budget_tokens":9}}`:  {Thinking: on, ThinkingBudget: 9},
		`{"thinking":{"budget_tokens":9,"type":"disabled"}}`: {Thinking: off},
		`{"enable_thinking":true,"thinking_budget":5}`:       {Thinking: on, ThinkingBudget: 5},
		`{"thinking_budget":5,"enable_thinking":true}`:       {Thinking: on, ThinkingBudget: 5},
		`{"thinking_budget":5,"enable_thinking":false}`:      {Thinking: off},
		`{"enable_thinking":false,"thinking_budget":5}`:      {Thinking: off},
		`{"thinking_budget":-1}`:                             {},
		`{"reasoning_effort":"none"}`:                        {Thinking: off},
		`{"reasoning_effort":"low"}`:                         {Thinking: on, Effort: "low"},
		`{"reasoning_effort":"high","thinking":"off"}`:       {Thinking: off},
		`{"thinking":"off","reasoning_effort":"high"}`:       {Thinking: off},
		`{"reasoning_effort":"low","thinking":{"budget":3}}`: {Thinking: on, ThinkingBudget: 3, Effort: "low"},
	} {
		d := newDraft(dispatch.Generate, "")
		if err := d.read([]byte(body), d.conversation); err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		d.settleThinking()
		o := d.req.Options
		if o.Thinking != want.Thinking || o.ThinkingBudget != want.ThinkingBudget || o.Effort != want.Effort {
			t.Errorf("%s: %q, %d, %q", body, o.Thinking, o.ThinkingBudget, o.Effort)
		}
	}
	for body, want := range map[string]string{
		`{"thinking":"much"}`:              `thinking: "much" is none of`,
		`{"thinking":7}`:                   `thinking: wants`,
		`{"thinking":{}}`:                  `thinking.budget: is missing`,
		`{"thinking":{"type":"adaptive"}}`: `thinking.type: "adaptive" is neither`,
		`{"thinking":{"budget":-1}}`:       `thinking.budget: `,
		`{"thinking":{"tokens":1}}`:        `thinking.tokens: is not a field of thinking`,
		`{"enable_thinking":1}`:            `enable_thinking: `,
		`{"reasoning_effort":"extreme"}`:   `reasoning_effort: "extreme" is none of`,
	} {
		d := newDraft(dispatch.Generate, "")
		if err := d.read([]byte(body), d.conversation); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", body, err)
		}
	}
}
