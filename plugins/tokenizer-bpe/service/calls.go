package service

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"

	"edged/core/infer/grammar"
)

// callGrammar is the grammar of an answer that is nothing but calls of the offered tools, in the form that the template's
// family writes them and ParseTools reads:
//
//	Hermes, Qwen   <tool_call> lines, one or more calls
//	Mistral        a list of calls; the control token before it is left out, since a grammar is about text
//	Llama 3        one object with name and parameters
//	others         one object with name and arguments
//
// Where calls begin with a mark of their own (Hermes, Qwen and Mistral) it is one that grammar.After made: what follows
// the mark in an answer that is free otherwise is a call. grammar.Whole makes it one of calls only.
//
// It is empty where no tools are offered, or the template does not show them. What a tool's schema says is for whoever
// reads the grammar to refuse.
func callGrammar(template string, tools json.RawMessage) (string, error) {
	if len(tools) == 0 || isNull(tools) || !showsTools.MatchString(template) {
		return "", nil
	}
	arguments := "arguments"
	root, mark := "root ::= call\n", ""
	switch {
	case strings.Contains(template, callStart):
		root = "root ::= block (\"\\n\" block)*\nblock ::= " + grammar.Literal(callStart) + " marked\nmarked ::= \"\\n\" call " + grammar.Literal("\n"+callEnd) + "\n"
		mark = callStart
	case strings.Contains(template, callsMark):
		root = "root ::= \"[\" call (\", \" call)* \"]\"\nmarked ::= \" \"? root\n"
		mark = callsMark
	case strings.Contains(template, `"parameters"`) || strings.Contains(template, pythonTag):
		arguments = "parameters"
	}
	var list []json.RawMessage
	if err := json.Unmarshal(tools, &list); err != nil {
		return "", invalidf("tokenizer: tools is not an array of objects")
	}
	if len(list) == 0 {
		return "", nil
	}
	var b strings.Builder
	b.WriteString(root + "call ::= ")
	for i, raw := range list {
		name, schema, ok := tool(raw)
		if !ok {
			return "", nil // a form of its own, which the template may know: such tools are shown and not demanded
		}
		if i > 0 {
			b.WriteString(" | ")
		}
		b.WriteString(grammar.Literal(`{"name": `+string(quote(name))+`, "`+arguments+`": `) + " %json " + string(schema) + ` "}"`)
	}
	b.WriteString("\n")
	if mark != "" {
		return grammar.After(mark, "marked", b.String()), nil
	}
	return b.String(), nil
}

// showsTools matches templates that print what the request offers.
var showsTools = regexp.MustCompile(`\btools\b`)

// tool is the name of a tool and the schema of its arguments, always that of an object.
func tool(raw json.RawMessage) (name string, schema json.RawMessage, ok bool) {
	type function struct {
		Name       string          `json:"name"`
		Parameters json.RawMessage `json:"parameters"`
	}
	var t struct {
		function
		Function *function `json:"function"`
	}
	if json.Unmarshal(raw, &t) != nil {
		return "", nil, false
	}
	f := t.function
	if t.Function != nil {
		f = *t.Function
	}
	schema = bytes.TrimSpace(f.Parameters)
	switch fields, err := object(schema); {
	case f.Name == "":
		return "", nil, false
	case len(schema) == 0 || isNull(schema):
		schema = json.RawMessage(`{"const":{}}`)
	case err != nil:
		return "", nil, false
	case len(fields) == 0:
		schema = json.RawMessage(`{"type":"object"}`)
	}
	return f.Name, schema, true
}
