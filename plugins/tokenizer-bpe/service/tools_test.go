package service

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edged/core/protocol/tokenizer"
)

func TestParseTools(t *testing.T) {
	call := func(name, args string) tokenizer.ToolCall {
		return tokenizer.ToolCall{Name: name, Arguments: json.RawMessage(args)}
	}
	tests := []struct {
		name, text string
		want       tokenizer.ToolText
	}{
		{"plain", "It is 21 degrees.", tokenizer.ToolText{Text: "It is 21 degrees."}},
		{"empty", "", tokenizer.ToolText{}},
		{
			"hermes", "Let me see.\n<tool_call>\n{\"name\": \"lamp\", \"arguments\": {\"on\": true, \"b\": 1}}\n</tool_call>",
			tokenizer.ToolText{Text: "Let me see.", Calls: []tokenizer.ToolCall{call("lamp", `{"on":true,"b":1}`)}},
		},
		{
			"hermes, two", "<tool_call>{\"name\":\"a\",\"arguments\":{}}</tool_call>\n<tool_call>{\"name\":\"b\",\"arguments\":{\"x\":[1]}}</tool_call>",
			tokenizer.ToolText{Calls: []tokenizer.ToolCall{call("a", `{}`), call("b", `{"x":[1]}`)}},
		},
		{
			"hermes, not closed", "<tool_call>{\"name\":\"a\",\"arguments\":{}}",
			tokenizer.ToolText{Calls: []tokenizer.ToolCall{call("a", `{}`)}},
		},
		{"hermes, broken", "<tool_call>{\"name\":</tool_call>", tokenizer.ToolText{Text: "<tool_call>{\"name\":</tool_call>"}},
		{
			"arguments in a string", `<tool_call>{"name":"a","arguments":"{\"x\": 1}"}</tool_call>`,
			tokenizer.ToolText{Calls: []tokenizer.ToolCall{call("a", `{"x":1}`)}},
		},
		{
			"a thought is no call", "<think><tool_call>{\"name\":\"a\",\"arguments\":{}}</tool_call></think>\nNo.",
			tokenizer.ToolText{Text: "<think><tool_call>{\"name\":\"a\",\"arguments\":{}}</tool_call></think>\nNo."},
		},
		{
			"after a thought", "<think>hm</think><tool_call>{\"name\":\"a\",\"arguments\":{}}</tool_call>",
			tokenizer.ToolText{Text: "<think>hm</think>", Calls: []tokenizer.ToolCall{call("a", `{}`)}},
		},
		{
			"mistral", `[TOOL_CALLS] [{"name": "lamp", "arguments": {"on": true}, "id": "x"}]`,
			tokenizer.ToolText{Calls: []tokenizer.ToolCall{call("lamp", `{"on":true}`)}},
		},
		{"mistral without its mark", `[{"name":"a","arguments":{}}]`, tokenizer.ToolText{Calls: []tokenizer.ToolCall{call("a", `{}`)}}},
		{
			"mistral, named", `Well.[TOOL_CALLS]a[ARGS]{"x":1}[TOOL_CALLS]b[ARGS]{}`,
			tokenizer.ToolText{Text: "Well.", Calls: []tokenizer.ToolCall{call("a", `{"x":1}`), call("b", `{}`)}},
		},
		{"no arguments", "<tool_call>\n{\"name\": \"now\"}\n</tool_call>", tokenizer.ToolText{Calls: []tokenizer.ToolCall{call("now", `{}`)}}},
		{"empty arguments", `<tool_call>{"name":"now","arguments":""}</tool_call>`, tokenizer.ToolText{Calls: []tokenizer.ToolCall{call("now", `{}`)}}},
		{"null arguments", `<tool_call>{"name":"now","arguments":null}</tool_call>`, tokenizer.ToolText{Calls: []tokenizer.ToolCall{call("now", `{}`)}}},
		{"null parameters alone", `{"name":"now","parameters":null}`, tokenizer.ToolText{Calls: []tokenizer.ToolCall{call("now", `{}`)}}},
		{"a name that is an answer", `{"name":"Ada"}`, tokenizer.ToolText{Text: `{"name":"Ada"}`}},
		{
			"Python's spelling in JSON", `<tool_call>{'name': 'lamp', "arguments": {"on": True, "level": 1.0, "room": None}}</tool_call>`,
			tokenizer.ToolText{Calls: []tokenizer.ToolCall{call("lamp", `{"on":true,"level":1.0,"room":null}`)}},
		},
		{
			"several objects in one block", "<tool_call>\n{\"name\":\"a\",\"arguments\":{}}\n{\"name\":\"b\",\"arguments\":{}}\n</tool_call>",
			tokenizer.ToolText{Calls: []tokenizer.ToolCall{call("a", `{}`), call("b", `{}`)}},
		},
		{
			"a mark inside a text", `<tool_call>{"name":"a","arguments":{"x":"</tool_call>"}}</tool_call>`,
			tokenizer.ToolText{Calls: []tokenizer.ToolCall{call("a", `{"x":"</tool_call>"}`)}},
		},
		{
			"fenced", "```json\n{\"name\": \"lamp\", \"arguments\": {\"on\": true}}\n```",
			tokenizer.ToolText{Calls: []tokenizer.ToolCall{call("lamp", `{"on":true}`)}},
		},
		{
			"fenced, beside a word", "Sure:\n```json\n{\"name\": \"lamp\", \"arguments\": {\"on\": true}}\n```\nOne moment.",
			tokenizer.ToolText{Text: "Sure:\nOne moment.", Calls: []tokenizer.ToolCall{call("lamp", `{"on":true}`)}},
		},
		{
			"the second fence", "```sh\nls\n```\nand\n```\n{\"name\": \"lamp\", \"arguments\": {}}\n```",
			tokenizer.ToolText{Text: "```sh\nls\n```\nand", Calls: []tokenizer.ToolCall{call("lamp", `{}`)}},
		},
		{"a fence of code", "Run:\n```sh\nlamp()\n```", tokenizer.ToolText{Text: "Run:\n```sh\nlamp()\n```"}},
		{"hermes, not begun", "{\"name\": \"a\", \"arguments\": {}}\n</tool_call>", tokenizer.ToolText{Calls: []tokenizer.ToolCall{call("a", `{}`)}}},
		{"a fence that is an answer", "```json\n{\"age\": 36}\n```", tokenizer.ToolText{Text: "```json\n{\"age\": 36}\n```"}},
		{
			"tags", "I see.\n<tool_call>\n<function=lamp>\n<parameter=on>\nTrue\n</parameter>\n<parameter=room>\nthe hall\n</parameter>\n</function>\n</tool_call>",
			tokenizer.ToolText{Text: "I see.", Calls: []tokenizer.ToolCall{call("lamp", `{"on":true,"room":"the hall"}`)}},
		},
		{
			"keys and values", "<tool_call>lamp\n<arg_key>on</arg_key>\n<arg_value>false</arg_value>\n</tool_call>",
			tokenizer.ToolText{Calls: []tokenizer.ToolCall{call("lamp", `{"on":false}`)}},
		},
		{
			"Python's call", `<|tool_call_start|>[lamp(room='it's "on"', on=True), now()]<|tool_call_end|>`,
			tokenizer.ToolText{Calls: []tokenizer.ToolCall{call("lamp", `{"room":"it's \"on\"","on":true}`), call("now", `{}`)}},
		},
		{"Python's call alone", `[lamp(on=False)]`, tokenizer.ToolText{Calls: []tokenizer.ToolCall{call("lamp", `{"on":false}`)}}},
		{
			"harmony", `<|channel|>commentary to=functions.lamp <|constrain|>json<|message|>{"on": true}<|call|>`,
			tokenizer.ToolText{Calls: []tokenizer.ToolCall{call("lamp", `{"on":true}`)}},
		},
		{
			"gemma", `<|tool_call>call:lamp{on:true,room:<|"|>hall<|"|>,x:None}<tool_call|>`,
			tokenizer.ToolText{Calls: []tokenizer.ToolCall{call("lamp", `{"on":true,"room":"hall","x":null}`)}},
		},
		{"a tag that is not closed", "<tool_call><function=a", tokenizer.ToolText{Text: "<tool_call><function=a"}},
		{"a list that is an answer", `[{"name":"a"}]`, tokenizer.ToolText{Text: `[{"name":"a"}]`}},
		{"llama", ` {"name": "lamp", "parameters": {"on": true}} `, tokenizer.ToolText{Calls: []tokenizer.ToolCall{call("lamp", `{"on":true}`)}}},
		{
			"llama, two", `{"name": "a", "parameters": {}}; {"name": "b", "parameters": {}}`,
			tokenizer.ToolText{Calls: []tokenizer.ToolCall{call("a", `{}`), call("b", `{}`)}},
		},
		{"llama with its tag", `<|python_tag|>{"name":"a","parameters":{}}`, tokenizer.ToolText{Calls: []tokenizer.ToolCall{call("a", `{}`)}}},
		{
			"an object that is an answer", `{"name":"Ada","parameters":{},"age":36}`,
			tokenizer.ToolText{Text: `{"name":"Ada","parameters":{},"age":36}`},
		},
		{"an object in a text", `Here: {"name":"a","parameters":{}}`, tokenizer.ToolText{Text: `Here: {"name":"a","parameters":{}}`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := newService(t).ParseTools(t.Context(), tt.text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzParseTools(f *testing.F) {
	f.Add("<tool_call>{\"name\":\"a\",\"arguments\":{}}</tool_call>")
	f.Add(`[TOOL_CALLS]a[ARGS]{"x":1}`)
	f.Add(`{"name":"a","parameters":{}}`)
	f.Add("<tool_call>\n<function=a>\n<parameter=b>\nTrue\n</parameter>\n</function>\n</tool_call>")
	f.Add("<tool_call>a\n<arg_key>b</arg_key>\n<arg_value>[1, None]</arg_value>\n</tool_call>")
	f.Add(`<|tool_call_start|>[a(b='it's', c={"d": [1]}), e()]<|tool_call_end|>`)
	f.Add(`<|tool_call>call:a{b:true,c:<|"|>d<|"|>}<tool_call|>`)
	f.Add("]<]minimax[>[<tool_call>]<]minimax[>[<invoke name=\"a\">]<]minimax[>[<b>]<]minimax[>[<item>1]<]minimax[>[</item>]<]minimax[>[</b>]<]minimax[>[</invoke>]<]minimax[>[</tool_call>")
	f.Add("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>a<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>")
	f.Add(`<|channel|>commentary to=functions.a <|constrain|>json<|message|>{"b": 1}<|call|>`)
	f.Add("```json\n{'name': 'a', 'arguments': {}}\n```")
	s := newService(f)
	f.Fuzz(func(t *testing.T, text string) {
		out, err := s.ParseTools(t.Context(), text)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range out.Calls {
			if c.Name == "" || !json.Valid(c.Arguments) {
				t.Errorf("%+v", c)
			}
		}
		if len(out.Calls) == 0 && out.Text != text {
			t.Errorf("%q became %q", text, out.Text)
		}
	})
}
