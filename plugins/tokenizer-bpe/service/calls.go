package service

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"edged/core/infer/grammar"
)

// callGrammar is the grammar of an answer that is nothing but calls of the offered tools, in the format that
// the template's family writes them and ParseTools reads: see callFormats.
//
// Where calls begin with a mark of their own it is one that grammar.After made: what follows the mark in an
// answer that is free otherwise is a call. grammar.Whole makes it one of calls only. Marks that are control
// tokens are named as such, and are a part of the answer's text (grammar.Show), so that it can be read.
//
// It is empty where no tools are offered, or the template does not show them. What a tool's schema says is
// for the code that reads the grammar to refuse, where arguments are JSON; where they are tags, their types
// and choices are held and what texts look like is not.
func callGrammar(template string, tools json.RawMessage, isControl controls) (string, error) {
	if len(tools) == 0 || isNull(tools) || !showsTools.MatchString(template) {
		return "", nil
	}
	var list []json.RawMessage
	if err := json.Unmarshal(tools, &list); err != nil {
		return "", invalidf("tokenizer: tools is not an array of objects")
	}
	f := callFormatOf(template)
	if len(list) == 0 || f.most < 0 {
		return "", nil
	}
	w := &callWriter{format: f, isControl: isControl, texts: map[string]string{}}
	for _, raw := range list {
		name, schema, ok := tool(raw)
		if !ok {
			return "", nil // a format of its own, which the template may know: such tools are shown and not demanded
		}
		w.tools = append(w.tools, offered{name, schema})
	}
	text := w.grammar()
	if f.begin != "" {
		text = grammar.After(f.begin, "marked", text)
	}
	return grammar.Show(w.shown(), text), nil
}

// showsTools matches templates that print what the request offers.
var showsTools = regexp.MustCompile(`\btools\b`)

// offered is a tool of a request.
type offered struct {
	name   string
	schema json.RawMessage
}

// controls are the texts of a vocabulary's control tokens; nil: none is known.
type controls map[string]bool

// longest is the longest control token that a text begins with; "": it begins with none.
func (c controls) longest(text string) string {
	const most = 64
	for n := min(len(text), most); n > 0 && len(c) > 0; n-- {
		if c[text[:n]] {
			return text[:n]
		}
	}
	return ""
}

// thoughts are the control tokens that stand around what a model thinks, where its template writes them: they
// are a part of the text, so that it can be told apart.
func (c controls) thoughts(template string) []string {
	marks := []string{
		"<think>", "</think>", "[THINK]", "[/THINK]", "<|channel>", "<channel|>", "<|START_THINKING|>", "<|END_THINKING|>",
		"<seed:think>", "</seed:think>", "<mm:think>", "</mm:think>", "<thought>", "</thought>",
	}
	if strings.Contains(template, "<|channel|>analysis") { // gpt-oss, whose answers are messages
		marks = append(marks, "<|start|>", "<|channel|>", "<|message|>", "<|end|>")
	}
	var out []string
	for _, mark := range marks {
		if c[mark] && strings.Contains(template, mark) {
			out = append(out, mark)
		}
	}
	return out
}

// callWriter writes the grammar of one format.
type callWriter struct {
	format    callFormat
	isControl controls
	tools     []offered
	rules     strings.Builder
	number    int
	texts     map[string]string // rules of texts, by what ends them
	anything  string            // rule of any value
}

// rule adds a rule and returns its name.
func (w *callWriter) rule(body string) string {
	w.number++
	name := "r" + strconv.Itoa(w.number)
	w.rules.WriteString(name + " ::= " + body + "\n")
	return name
}

// literal writes a text, control tokens as such.
func (w *callWriter) literal(text string) string {
	var items []string
	from := 0
	plain := func(to int) {
		if to > from {
			items = append(items, grammar.Literal(text[from:to]))
		}
	}
	for i := 0; i < len(text); {
		mark := w.isControl.longest(text[i:])
		if mark == "" {
			i++
			continue
		}
		plain(i)
		items = append(items, "%token "+string(quote(mark)))
		i += len(mark)
		from = i
	}
	plain(len(text))
	if len(items) == 0 {
		return `""`
	}
	return strings.Join(items, " ")
}

// shown are the control tokens of the format, which may come also where the grammar is not followed.
func (w *callWriter) shown() []string {
	var out []string
	f := &w.format
	for _, text := range []string{f.begin, f.open, f.call, f.join, f.close, f.text, f.other, gemmaQuote} {
		for i := 0; i < len(text); i++ {
			if mark := w.isControl.longest(text[i:]); mark != "" {
				if !slices.Contains(out, mark) {
					out = append(out, mark)
				}
				i += len(mark) - 1
			}
		}
	}
	return out
}

// grammar writes the rules: root is all calls, marked what follows the mark.
func (w *callWriter) grammar() string {
	f := &w.format
	numbered := strings.Contains(f.call, "§I")
	most := f.most
	if numbered {
		most = maxNumbered
	}
	var chain string // the calls from the second one on, the close included
	first := w.calls(f.call, 0)
	switch {
	case numbered:
		chain = w.literal(f.close)
		for i := most - 1; i > 0; i-- {
			chain = w.rule(w.literal(f.close) + " | " + w.literal(f.join) + " " + w.calls(f.call, i) + " " + chain)
		}
	case most == 1:
		chain = w.literal(f.close)
	default:
		chain = "(" + w.literal(f.join) + " " + first + ")* " + w.literal(f.close)
	}
	root := "root ::= " + w.literal(f.open) + " " + first + " " + chain + "\n"
	switch {
	case f.begin == "":
	case f.open != "":
		root += "marked ::= \" \"? " + w.literal(strings.TrimPrefix(f.open, f.begin)) + " " + first + " " + chain + "\n"
	default: // every call has the mark
		root += "marked ::= " + w.calls(strings.TrimPrefix(f.call, f.begin), 0) + "\n"
	}
	return root + w.rules.String()
}

// calls is a rule of one call of any tool, in this format.
func (w *callWriter) calls(form string, number int) string {
	form = strings.ReplaceAll(form, "§I", strconv.Itoa(number))
	before, behind, _ := strings.Cut(form, "§A")
	var all []string
	for _, t := range w.tools {
		name := t.name
		if strings.Contains(form, ": §N") || strings.Contains(form, "{§N") {
			name = string(quote(name))
		}
		parts := strings.Split(strings.ReplaceAll(before, "§N", name), "§R")
		for i, part := range parts {
			parts[i] = w.literal(part)
		}
		head := strings.Join(parts, " [a-zA-Z0-9]{9} ")
		all = append(all, head+" "+w.arguments(t.schema)+" "+w.literal(behind))
	}
	return w.rule(strings.Join(all, " | "))
}

// arguments are those of one tool.
func (w *callWriter) arguments(schema json.RawMessage) string {
	if w.format.text == "" {
		return "%json " + string(schema)
	}
	return w.members(schema, schema, w.format.text, w.format.other, w.format.gap, w.format.values)
}

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
