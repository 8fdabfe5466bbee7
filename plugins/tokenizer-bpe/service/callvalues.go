package service

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"edged/core/infer/grammar"
)

// property is one argument of a tool, or a member of an object.
type property struct {
	key    string
	schema json.RawMessage
	must   bool
}

// described holds the keywords of a schema that are used here.
type described struct {
	Type       json.RawMessage   `json:"type"`
	Enum       []json.RawMessage `json:"enum"`
	Const      json.RawMessage   `json:"const"`
	Properties json.RawMessage   `json:"properties"`
	Required   []string          `json:"required"`
	Items      json.RawMessage   `json:"items"`
}

// properties are those of an object's schema; closed: there may be no others.
func properties(schema json.RawMessage) (list []property, closed bool) {
	var d described
	if json.Unmarshal(schema, &d) != nil {
		return nil, false
	}
	fields, err := object(d.Properties)
	if err != nil {
		return nil, len(d.Const) > 0 || len(d.Properties) > 0
	}
	for _, f := range fields {
		list = append(list, property{f.key, f.value, slices.Contains(d.Required, f.key)})
	}
	return list, true
}

// members are the members of an object, each written as text where its value is one, and as other where it is not.
// root is the schema that holds the definitions.
func (w *callWriter) members(schema, root json.RawMessage, text, other, gap string, as spelling) string {
	list, closed := properties(schema)
	if other == "" {
		other = text
	}
	if !closed {
		one := w.member(text, `[A-Za-z_] [A-Za-z0-9_]*`, w.any(text, as))
		return "(" + one + " (" + w.literal(gap) + " " + one + ")*)?"
	}
	if as == asGemma {
		slices.SortFunc(list, func(a, b property) int { return strings.Compare(strings.ToLower(a.key), strings.ToLower(b.key)) })
	}
	// rest[0] follows nothing, rest[1] a member.
	rest := [2]string{`""`, `""`}
	for _, p := range slices.Backward(list) {
		value, isText := w.value(p.schema, root, text, as)
		form := other
		if isText {
			form = text
		}
		one := w.rule(w.member(form, w.literal(p.key), value))
		var next [2]string
		for i, before := range [2]string{`""`, w.literal(gap)} {
			if next[i] = before + " " + one + " " + rest[1]; !p.must {
				next[i] += " | " + rest[i]
			}
		}
		rest = [2]string{w.rule(next[0]), w.rule(next[1])}
	}
	return rest[0]
}

// member is one of them, with grammars for its key and its value.
func (w *callWriter) member(form, key, value string) string {
	before, after, _ := strings.Cut(form, "§K")
	between, behind, _ := strings.Cut(after, "§V")
	return w.literal(before) + " " + key + " " + w.literal(between) + " " + value + " " + w.literal(behind)
}

// value is the grammar of one value, and whether it is a text.
func (w *callWriter) value(schema, root json.RawMessage, form string, as spelling) (string, bool) {
	var d described
	var kind string
	if json.Unmarshal(schema, &d) == nil {
		_ = json.Unmarshal(d.Type, &kind) // a list of types is none
	}
	if len(d.Const) > 0 {
		d.Enum = []json.RawMessage{d.Const}
	}
	if len(d.Enum) > 0 {
		isText := true
		var all []string
		for _, e := range d.Enum {
			var s string
			if json.Unmarshal(e, &s) != nil || isNull(e) {
				isText = false
				all = append(all, w.literal(spelt(e, as)))
			} else {
				all = append(all, w.quoted(w.literal(s), s, as))
			}
		}
		return "(" + strings.Join(all, " | ") + ")", isText
	}
	switch kind {
	case "boolean", "null":
		words := []string{"true", "false"}
		if kind == "null" {
			words = []string{"null"}
		}
		for i, word := range words {
			words[i] = w.literal(spelt(json.RawMessage(word), as))
		}
		return "(" + strings.Join(words, " | ") + ")", false
	case "integer", "number":
		return "%json " + string(within(schema, root)), false
	case "array", "object":
		if as == asJSON || as == asWords || as == asCall && kind == "object" {
			return "%json " + string(within(schema, root)), false
		}
		if kind == "object" {
			text := "§K:§V"
			gap := ","
			if as != asGemma {
				text, gap = "'§K': §V", ", "
			}
			return w.literal("{") + " " + w.members(schema, root, text, "", gap, nested(as)) + " " + w.literal("}"), false
		}
		gap := ", "
		if as == asGemma {
			gap = ","
		}
		item := w.any(form, nested(as))
		if len(d.Items) > 0 {
			item, _ = w.value(d.Items, root, form, nested(as))
		}
		item = w.rule(item)
		return `"[" (` + item + " (" + w.literal(gap) + " " + item + `)*)? "]"`, false
	}
	if kind == "string" {
		return w.textValue(form, as), true
	}
	return w.any(form, as), true
}

// nested is how values are spelt inside of lists and objects.
func nested(as spelling) spelling {
	if as == asPython || as == asMarked {
		return asRepr // texts have quotes there
	}
	return as
}

// quoted puts a text between the marks of its spelling.
func (w *callWriter) quoted(item, text string, as spelling) string {
	switch as {
	case asGemma:
		return w.literal(gemmaQuote) + " " + item + " " + w.literal(gemmaQuote)
	case asCall, asRepr:
		q := "'"
		if strings.Contains(text, "'") {
			q = `"`
		}
		return w.literal(q) + " " + item + " " + w.literal(q)
	}
	return item
}

// textValue is any text. It neither begins nor ends with a line end, which readers take for the tag's.
func (w *callWriter) textValue(form string, as spelling) string {
	switch as {
	case asGemma:
		if w.isControl[gemmaQuote] {
			return w.quoted("[^\\x00]*", "", as)
		}
		return w.quoted(w.without("<|", false), "", as)
	case asCall, asRepr:
		return w.quoted(`[^'\\\n]*`, "", as)
	case asMarked: // MiniCPM 5 puts special characters between marks
		return `( [^<>&'"\n\r\t \]] ([^<>&\n\r]* [^<>&\n\r\t ])? | "<![CDATA[" ` + w.without("]]>", false) + ` "]]>" )`
	}
	_, end, _ := strings.Cut(form, "§V")
	end = strings.TrimSuffix(strings.TrimSpace(end), ">")
	if i := strings.Index(end, ">"); i >= 0 {
		end = end[:i]
	}
	return w.without(end, true)
}

// without is a rule of texts that do not hold a mark. Where lines is set they neither begin nor end with a line end; a
// mark has none. Rule i of them stands behind a text that ends with i characters of the mark (Knuth, Morris, Pratt).
func (w *callWriter) without(mark string, lines bool) string {
	key := mark
	if lines {
		key = "\n" + mark
	}
	if name, ok := w.texts[key]; ok {
		return name
	}
	base := "t" + strconv.Itoa(len(w.texts)) + "-"
	chars := []rune(mark)
	distinct := slices.Compact(slices.Sorted(slices.Values(chars)))
	var all strings.Builder
	for _, c := range distinct {
		if strings.ContainsRune(`]\^-`, c) {
			all.WriteByte('\\')
		}
		all.WriteRune(c)
	}
	if lines {
		all.WriteString(`\n`)
	}
	set := all.String()
	after := func(i int, c rune) int { // characters of the mark that such a text and c end with
		text := string(chars[:i]) + string(c)
		n := i + 1
		for !strings.HasSuffix(text, string(chars[:n])) {
			n--
		}
		return n
	}
	next := func(i int) string {
		out := []string{"[^" + set + "] " + base + "0"}
		for _, c := range distinct {
			if n := after(i, c); n < len(chars) {
				out = append(out, grammar.Literal(string(c))+" "+base+strconv.Itoa(n))
			}
		}
		return strings.Join(out, " | ")
	}
	for i := range chars {
		body := `"" | ` + next(i)
		if lines {
			body += ` | "\n" ` + base + "line"
		}
		w.rules.WriteString(base + strconv.Itoa(i) + " ::= " + body + "\n")
	}
	name := base + "0"
	if lines {
		w.rules.WriteString(base + "line ::= " + next(0) + ` | "\n" ` + base + "line\n")
		name = base + "text"
		w.rules.WriteString(name + ` ::= "" | ` + next(0) + "\n")
	}
	w.texts[key] = name
	return name
}

// any is a value of a type that nobody says.
func (w *callWriter) any(form string, as spelling) string {
	if as != asGemma && as != asCall && as != asRepr {
		return w.textValue(form, as)
	}
	if w.anything == "" {
		w.anything = "anything"
		words := []string{"true", "false", "null"}
		for i, word := range words {
			words[i] = w.literal(spelt(json.RawMessage(word), as))
		}
		gap := ", "
		if as == asGemma {
			gap = ","
		}
		body := w.textValue(form, as) + " | " + strings.Join(words, " | ") + ` | %json {"type":"number"}` +
			` | "[" (anything (` + w.literal(gap) + ` anything)*)? "]"`
		w.rules.WriteString("anything ::= " + body + "\n")
	}
	return w.anything
}

// spelt is a value that is no text as a family spells it.
func spelt(raw json.RawMessage, as spelling) string {
	word := string(bytes.TrimSpace(raw))
	switch as {
	case asJSON:
	case asGemma:
		if word == "null" {
			return "None"
		}
	default:
		switch word {
		case "null":
			return "None"
		case "true":
			return "True"
		case "false":
			return "False"
		}
	}
	return word
}

// within is a schema with the definitions of the one that it stands in.
func within(schema, root json.RawMessage) json.RawMessage {
	fields, err := object(schema)
	if err != nil {
		return schema
	}
	outer, err := object(root)
	if err != nil {
		return schema
	}
	added := false
	for _, f := range outer {
		if (f.key == "$defs" || f.key == "definitions") && !slices.ContainsFunc(fields, func(g field) bool { return g.key == f.key }) {
			fields, added = append(fields, f), true
		}
	}
	if !added {
		return schema
	}
	var out bytes.Buffer
	writeObject(&out, fields)
	return out.Bytes()
}
