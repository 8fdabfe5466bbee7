package service

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"

	"edged/core/protocol/tokenizer"
)

// callMarks are the texts between which a family's models write calls. body reads what stands between them;
// with whole set, tags in it must be closed. Where end is "", a call goes on to the end of the text.
type callMarks struct {
	begin, end string
	body       bodyReader
}

type bodyReader func(body string, whole bool) ([]tokenizer.ToolCall, bool)

// maxEnds is how many end marks are tried for one call: an argument may hold the text of one.
const maxEnds = 8

// maxTries is how many beginning marks may stand before what is no call, before the rest is text: each costs
// a look at the rest.
const maxTries = 64

// allCallMarks are tried in this order; the first that finds a call is taken. A control token among the marks
// is there only where the text was decoded with its control tokens.
func allCallMarks() []callMarks {
	return []callMarks{
		{"<tool_calls>", "</tool_calls>", callListOrTags}, // Apriel, MiniMax M1, Hunyuan, DeepSeek V4
		{callStart, callEnd, inCallTags},
		{"<seed:tool_call>", "</seed:tool_call>", functionTags},                              // Seed-OSS
		{"<minimax:tool_call>", "</minimax:tool_call>", invokeTags},                          // MiniMax M2
		{"<function_calls>", "</function_calls>", invokeTags},                                // DeepSeek V3.2
		{"<atem:function_calls>", "</atem:function_calls>", invokeTags},                      // Muse
		{"<TOOLCALL>", "</TOOLCALL>", callList},                                              // Nemotron Nano
		{"<|tool_call_start|>", "<|tool_call_end|>", pythonCalls},                            // LFM2
		{"<|START_ACTION|>", "<|END_ACTION|>", actions},                                      // Command R7B
		{"<|tool_call>", "<tool_call|>", gemmaCall},                                          // Gemma 4
		{"<|tools_prefix|>", "<|tools_suffix|>", namedObjects},                               // Apertus
		{"<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", kimi},                 // Kimi K2
		{"<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", deepSeek},                             // DeepSeek R1, V3.1
		{"<|close|>response<|sep|><|open|>tools<|sep|>", "<|close|>tools<|sep|>", kimiThree}, // Kimi K3
		{"<|open|>tools<|sep|>", "<|close|>tools<|sep|>", kimiThree},                         // likewise
		{"<|tool_calls|>", "<|calls|>", solar},                                               // Solar Open
		{"<|tool_call|>", "<|/tool_call|>", callList},                                        // Granite 3, without an end; Phi-4-mini
		{"<|function_call|>", "", oneCall},                                                   // GigaChat 3.1
		{"function call<|role_sep|>", "", oneCall},                                           // GigaChat 3
		{"<|python_end|>", "", func(s string, _ bool) ([]tokenizer.ToolCall, bool) { // Llama 4
			_, calls := bare(s)
			return calls, len(calls) > 0
		}},
	}
}

// prefixes stand inside the tags of some families and say nothing.
var prefixes = strings.NewReplacer("｜DSML｜", "", ":opensource>", ">") //nolint:gochecknoglobals // a table

// marked takes the calls between any family's marks out of a text.
func marked(text string) (string, []tokenizer.ToolCall) {
	if rest, calls := (callMarks{elementMark + callStart, elementMark + callEnd, elementCalls}).find(text); len(calls) > 0 {
		return rest, calls
	}
	plain := prefixes.Replace(text)
	for _, f := range allCallMarks() {
		if rest, calls := f.find(plain); len(calls) > 0 {
			return rest, calls
		}
	}
	return text, nil
}

// find takes the calls between these marks out of a text. What cannot be read stays in it.
func (f callMarks) find(text string) (string, []tokenizer.ToolCall) {
	var calls []tokenizer.ToolCall
	var rest strings.Builder
	for tries := 0; tries < maxTries; {
		before, after, ok := strings.Cut(text, f.begin)
		if !ok {
			break
		}
		found, next, ok := f.read(after)
		if !ok {
			tries++
			rest.WriteString(before + f.begin)
			text = after
			continue
		}
		calls = append(calls, found...)
		rest.WriteString(before)
		text = strings.TrimLeft(next, " \t\r\n")
	}
	rest.WriteString(text)
	return strings.TrimRight(rest.String(), " \t\r\n"), calls
}

// read reads the calls that a text begins with, behind their mark, and returns what follows them.
func (f callMarks) read(after string) (calls []tokenizer.ToolCall, next string, ok bool) {
	if f.end == "" {
		calls, ok = f.body(after, false)
		return calls, "", ok
	}
	at := 0
	for range maxEnds {
		i := strings.Index(after[at:], f.end)
		if i < 0 {
			break
		}
		at += i
		if calls, ok = f.body(after[:at], true); ok {
			return calls, after[at+len(f.end):], true
		}
		at += len(f.end)
	}
	body, next, _ := strings.Cut(after, f.end)
	calls, ok = f.body(body, false)
	return calls, next, ok
}

// inCallTags reads what stands in <tool_call>: JSON, tags of functions, or a name with keys and values (GLM).
func inCallTags(body string, whole bool) ([]tokenizer.ToolCall, bool) {
	for _, read := range []bodyReader{callList, functionTags, invokeTags, keysAndValues} {
		if calls, ok := read(body, whole); ok {
			return calls, true
		}
	}
	return nil, false
}

// callListOrTags reads what stands in <tool_calls>.
func callListOrTags(body string, whole bool) ([]tokenizer.ToolCall, bool) {
	if calls, ok := callList(body, whole); ok {
		return calls, true
	}
	if _, calls := (callMarks{callStart, callEnd, inCallTags}).find(body); len(calls) > 0 {
		return calls, true
	}
	return invokeTags(body, whole)
}

// oneCall reads one call in JSON.
func oneCall(body string, _ bool) ([]tokenizer.ToolCall, bool) {
	dec := json.NewDecoder(strings.NewReader(body))
	var raw json.RawMessage
	if dec.Decode(&raw) != nil {
		return nil, false
	}
	call, ok := readCall(raw, true)
	return []tokenizer.ToolCall{call}, ok
}

// callList reads a list of calls in JSON, or several apart by line ends, commas or semicolons. Small models
// mix JSON with Python's spelling of values, so what is no JSON is read as Python.
func callList(body string, _ bool) ([]tokenizer.ToolCall, bool) {
	p := &literal{s: strings.TrimSpace(body)}
	var list []json.RawMessage
	for p.space(); p.pos < len(p.s); {
		if p.s[p.pos] != '{' && p.s[p.pos] != '[' {
			return nil, false
		}
		raw, ok := p.value(0)
		if !ok {
			return nil, false
		}
		var inner []json.RawMessage
		if raw[0] == '[' && json.Unmarshal(raw, &inner) == nil {
			list = append(list, inner...)
		} else {
			list = append(list, raw)
		}
		for p.space(); p.pos < len(p.s) && (p.s[p.pos] == ',' || p.s[p.pos] == ';'); p.space() {
			p.pos++
		}
	}
	var calls []tokenizer.ToolCall
	for _, raw := range list {
		call, ok := readCall(raw, true)
		if !ok {
			return nil, false
		}
		calls = append(calls, call)
	}
	return calls, len(calls) > 0
}

var (
	functionTag  = regexp.MustCompile(`^\s*<function(?:=([^\s<>"]+)| name="([^"<>]+)")\s*>`)
	parameterTag = regexp.MustCompile(`^\s*<param(?:eter)?(?:=([^<>]+)| name="([^"<>]+)"(?: string="(true|false)")?)>`)
	invokeTag    = regexp.MustCompile(`^\s*<(?:atem:)?invoke name="([^"<>]+)"\s*>`)
	anyTag       = regexp.MustCompile(`^\s*<(?:atem:)?(?:parameter name="([^"<>]+)"(?: string="(true|false)")?|([^\s<>/"]+))>`)
	keyTag       = regexp.MustCompile(`^\s*<arg_key>([^<]*)</arg_key>\s*<arg_value>`)
)

// functionTags reads <function=N><parameter=K>V</parameter></function>, any number.
func functionTags(body string, whole bool) ([]tokenizer.ToolCall, bool) {
	var calls []tokenizer.ToolCall
	for {
		m := functionTag.FindStringSubmatch(body)
		if m == nil {
			break
		}
		body = body[len(m[0]):]
		args := &members{}
		if trimmed := strings.TrimLeft(body, " \t\r\n"); strings.HasPrefix(trimmed, "{") { // functionary: JSON inside
			p := &literal{s: trimmed}
			raw, ok := p.value(0)
			if !ok {
				return nil, false
			}
			calls = append(calls, tokenizer.ToolCall{Name: m[1] + m[2], Arguments: raw})
			body = trimmed[p.pos:]
		} else {
			for {
				k := parameterTag.FindStringSubmatch(body)
				if k == nil {
					break
				}
				body = body[len(k[0]):]
				v, rest, closed := upTo(body, "</parameter>", "</param>")
				if whole && !closed {
					return nil, false
				}
				body = rest
				args.add(k[1]+k[2], written(v, k[3]))
			}
			calls = append(calls, tokenizer.ToolCall{Name: m[1] + m[2], Arguments: args.json()})
		}
		body = strings.TrimLeft(body, " \t\r\n")
		body = strings.TrimPrefix(body, "</function>")
	}
	return calls, len(calls) > 0 && strings.TrimSpace(body) == ""
}

// invokeTags reads <invoke name="N"><parameter name="K">V</parameter></invoke>; MiniMax M3 has the key as the tag.
func invokeTags(body string, whole bool) ([]tokenizer.ToolCall, bool) {
	var calls []tokenizer.ToolCall
	for {
		m := invokeTag.FindStringSubmatch(body)
		if m == nil {
			break
		}
		body = body[len(m[0]):]
		args := &members{}
		for {
			k := anyTag.FindStringSubmatch(body)
			if k == nil {
				break
			}
			body = body[len(k[0]):]
			ends := []string{"</parameter>", "</atem:parameter>"}
			if k[3] != "" {
				ends = []string{"</" + k[3] + ">"}
			}
			v, rest, closed := upTo(body, ends...)
			if whole && !closed {
				return nil, false
			}
			body = rest
			args.add(k[1]+k[3], written(v, k[2]))
		}
		calls = append(calls, tokenizer.ToolCall{Name: m[1], Arguments: args.json()})
		body = strings.TrimLeft(body, " \t\r\n")
		body = strings.TrimPrefix(strings.TrimPrefix(body, "</invoke>"), "</atem:invoke>")
	}
	return calls, len(calls) > 0 && strings.TrimSpace(body) == ""
}

// upTo cuts a text at the first of the ends, or takes all of it.
func upTo(s string, ends ...string) (before, after string, closed bool) {
	at, size := len(s), 0
	for _, e := range ends {
		if i := strings.Index(s[:at], e); i >= 0 {
			at, size, closed = i, len(e), true
		}
	}
	return s[:at], s[at+size:], closed
}

// keysAndValues reads N<arg_key>K</arg_key><arg_value>V</arg_value>, as GLM and Hunyuan write it.
func keysAndValues(body string, whole bool) ([]tokenizer.ToolCall, bool) {
	name, rest := body, ""
	if i := strings.Index(body, "<"); i >= 0 {
		name, rest = body[:i], body[i:]
	}
	rest = strings.TrimPrefix(rest, "<tool_sep>")
	name = strings.TrimSpace(name)
	if name == "" || strings.ContainsAny(name, " \t\r\n{}[]\"") {
		return nil, false
	}
	args := &members{}
	for {
		m := keyTag.FindStringSubmatch(rest)
		if m == nil {
			break
		}
		v, after, closed := upTo(rest[len(m[0]):], "</arg_value>")
		if whole && !closed {
			return nil, false
		}
		rest = after
		args.add(m[1], written(v, ""))
	}
	return []tokenizer.ToolCall{{Name: name, Arguments: args.json()}}, strings.TrimSpace(rest) == ""
}

// written is the value that a text between tags stands for: what is JSON or Python's spelling of a value, and a text
// otherwise, without the line ends that the tags stand on. isText says that it is a text, "true", or none, "false".
func written(v, isText string) json.RawMessage {
	v = strings.TrimSuffix(strings.TrimPrefix(v, "\n"), "\n")
	if inner, ok := strings.CutPrefix(v, "<![CDATA["); ok {
		return quote(strings.TrimSuffix(inner, "]]>"))
	}
	if isText == "true" {
		return quote(v)
	}
	trimmed := strings.TrimSpace(v)
	if trimmed == "" || isText != "false" && (trimmed[0] == '"' || trimmed[0] == '\'' || leadingZero.MatchString(trimmed)) {
		return quote(v)
	}
	if json.Valid([]byte(v)) {
		return json.RawMessage(v) // as it stands there, blanks included: its tool may call it a text
	}
	p := &literal{s: trimmed}
	if raw, ok := p.value(0); ok && p.pos == len(trimmed) {
		return raw
	}
	return quote(v)
}

// leadingZero matches numbers that neither JSON nor Python has: they are codes.
var leadingZero = regexp.MustCompile(`^-?0[0-9]`)

// actions reads Command R's list of objects with tool_name and parameters.
func actions(body string, _ bool) ([]tokenizer.ToolCall, bool) {
	var list []struct {
		Name       string          `json:"tool_name"`
		Parameters json.RawMessage `json:"parameters"`
	}
	if json.Unmarshal([]byte(body), &list) != nil || len(list) == 0 {
		return nil, false
	}
	var calls []tokenizer.ToolCall
	for _, a := range list {
		args, ok := arguments(a.Parameters)
		if a.Name == "" || !ok {
			return nil, false
		}
		calls = append(calls, tokenizer.ToolCall{Name: a.Name, Arguments: args})
	}
	return calls, true
}

// namedObjects reads Apertus' list of objects, each with a name as its only key.
func namedObjects(body string, _ bool) ([]tokenizer.ToolCall, bool) {
	var list []json.RawMessage
	if json.Unmarshal([]byte(body), &list) != nil || len(list) == 0 {
		return nil, false
	}
	var calls []tokenizer.ToolCall
	for _, raw := range list {
		fields, err := object(raw)
		if err != nil || len(fields) != 1 || fields[0].key == "" {
			return nil, false
		}
		args, ok := arguments(fields[0].value)
		if !ok {
			return nil, false
		}
		calls = append(calls, tokenizer.ToolCall{Name: fields[0].key, Arguments: args})
	}
	return calls, true
}

// split reads calls of which each stands between two marks, with a name and arguments apart by a third.
func split(body, begin, middle, end string, name func(string) string) ([]tokenizer.ToolCall, bool) {
	var calls []tokenizer.ToolCall
	for {
		_, after, ok := strings.Cut(body, begin)
		if !ok {
			return calls, len(calls) > 0
		}
		var part string
		part, body, _ = upTo(after, end)
		head, args, ok := strings.Cut(part, middle)
		args = strings.TrimSpace(args)
		args = strings.TrimSuffix(strings.TrimPrefix(args, "json"), "```")
		p := &literal{s: strings.TrimSpace(args)}
		raw, isValue := json.RawMessage("{}"), true
		if p.s != "" {
			raw, isValue = p.value(0)
		}
		n := name(head)
		if !ok || !isValue || raw[0] != '{' || n == "" {
			return nil, false
		}
		calls = append(calls, tokenizer.ToolCall{Name: n, Arguments: raw})
	}
}

// kimi reads functions.N:0 and its arguments.
func kimi(body string, _ bool) ([]tokenizer.ToolCall, bool) {
	return split(body, "<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>", func(id string) string {
		id = strings.TrimPrefix(strings.TrimSpace(id), "functions.")
		if i := strings.LastIndexByte(id, ':'); i >= 0 {
			id = id[:i]
		}
		return id
	})
}

// solar reads an id, a name and arguments.
func solar(body string, _ bool) ([]tokenizer.ToolCall, bool) {
	return split(body, "<|tool_call:begin|>", "<|tool_call:args|>", "<|tool_call:end|>", func(head string) string {
		_, name, _ := strings.Cut(head, "<|tool_call:name|>")
		return strings.TrimSpace(name)
	})
}

// deepSeek reads the formats of R1, which names the kind first and puts the arguments in a fence, and of V3.1.
func deepSeek(body string, _ bool) ([]tokenizer.ToolCall, bool) {
	const begin, sep, end = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"
	if _, rest, ok := strings.Cut(body, sep); ok && strings.Contains(rest, "\n```") {
		return split(strings.ReplaceAll(body, begin+"function"+sep, begin), begin, "\n```", end, strings.TrimSpace)
	}
	return split(body, begin, sep, end, strings.TrimSpace)
}

var (
	kimiCall     = regexp.MustCompile(`<\|open\|>call tool="([^"]+)"[^<]*<\|sep\|>`)
	kimiArgument = regexp.MustCompile(`^<\|open\|>argument key="([^"]*)" type="([^"]*)"<\|sep\|>`)
)

// kimiThree reads calls and arguments as elements, each with its type.
func kimiThree(body string, _ bool) ([]tokenizer.ToolCall, bool) {
	var calls []tokenizer.ToolCall
	for {
		at := kimiCall.FindStringSubmatchIndex(body)
		if at == nil {
			return calls, len(calls) > 0
		}
		name := body[at[2]:at[3]]
		body = body[at[1]:]
		args := &members{}
		for {
			m := kimiArgument.FindStringSubmatch(body)
			if m == nil {
				break
			}
			var v string
			v, body, _ = upTo(body[len(m[0]):], "<|close|>argument<|sep|>")
			if m[2] == "string" {
				args.add(m[1], quote(v))
			} else {
				args.add(m[1], written(v, "false"))
			}
		}
		calls = append(calls, tokenizer.ToolCall{Name: name, Arguments: args.json()})
	}
}

// gemmaCall reads call:N{K:V,…}, with texts between marks of their own.
func gemmaCall(body string, _ bool) ([]tokenizer.ToolCall, bool) {
	name, _, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(body), "call:"), "{")
	if !ok || name == "" {
		return nil, false
	}
	p := &literal{s: strings.TrimSpace(body), pos: strings.IndexByte(strings.TrimSpace(body), '{')}
	raw, ok := p.value(0)
	return []tokenizer.ToolCall{{Name: strings.TrimSpace(name), Arguments: raw}}, ok
}

var (
	pythonName     = regexp.MustCompile(`^\s*([A-Za-z_][\w.-]*)\s*\(`)
	pythonKey      = regexp.MustCompile(`^\s*([A-Za-z_]\w*)\s*=\s*`)
	pythonFollowed = regexp.MustCompile(`^['"](?:\s*,\s*[A-Za-z_]\w*\s*=|\s*,?\s*\)\s*(?:,|\]|$))`)
)

// pythonCalls reads [N(k='text', on=True), M()]. LFM's templates write a text's quotes as they are, so a text ends where a
// quote is followed by what can follow a text.
func pythonCalls(body string, _ bool) ([]tokenizer.ToolCall, bool) {
	s := strings.TrimSpace(body)
	if !strings.HasPrefix(s, "[") {
		return nil, false
	}
	s = s[1:]
	var calls []tokenizer.ToolCall
	for {
		m := pythonName.FindStringSubmatch(s)
		if m == nil {
			return nil, false
		}
		s = s[len(m[0]):]
		args := &members{}
		for {
			k := pythonKey.FindStringSubmatch(s)
			if k == nil {
				break
			}
			s = s[len(k[0]):]
			raw, n := pythonValue(s)
			if n == 0 {
				return nil, false
			}
			args.add(k[1], raw)
			s = strings.TrimLeft(s[n:], " \t\r\n")
			s = strings.TrimPrefix(s, ",")
		}
		s = strings.TrimLeft(s, " \t\r\n")
		if !strings.HasPrefix(s, ")") {
			return nil, false
		}
		calls = append(calls, tokenizer.ToolCall{Name: m[1], Arguments: args.json()})
		s = strings.TrimLeft(s[1:], " \t\r\n")
		switch {
		case strings.HasPrefix(s, ","):
			s = s[1:]
		case s == "]":
			return calls, true
		default:
			return nil, false
		}
	}
}

// pythonValue reads a value and returns its length, 0 where there is none.
func pythonValue(s string) (json.RawMessage, int) {
	if s != "" && (s[0] == '\'' || s[0] == '"') {
		for i := 1; i < len(s); i++ {
			if s[i] == s[0] && pythonFollowed.MatchString(s[i:min(len(s), i+200)]) {
				return quote(s[1:i]), i + 1
			}
		}
		return nil, 0
	}
	p := &literal{s: s}
	raw, ok := p.value(0)
	if !ok {
		return nil, 0
	}
	return raw, p.pos
}

var harmonyCall = regexp.MustCompile(`to=functions\.([\w.-]+)[^{}]*?<\|message\|>`)

// harmony reads gpt-oss' messages to a function.
func harmony(text string) (string, []tokenizer.ToolCall) {
	at := harmonyCall.FindStringSubmatchIndex(text)
	if at == nil {
		return text, nil
	}
	var calls []tokenizer.ToolCall
	rest := text[:at[0]]
	for _, begin := range []string{"<|start|>assistant", "<|channel|>commentary"} {
		rest = strings.TrimSuffix(strings.TrimRight(rest, " "), begin)
	}
	for at != nil {
		p := &literal{s: text, pos: at[1]}
		raw, ok := p.value(0)
		if !ok || raw[0] != '{' {
			return text, nil
		}
		calls = append(calls, tokenizer.ToolCall{Name: text[at[2]:at[3]], Arguments: raw})
		text = text[p.pos:]
		at = harmonyCall.FindStringSubmatchIndex(text)
	}
	return strings.TrimRight(rest, " \t\r\n"), calls
}

// functions reads tags of functions that stand in a text without marks around them (MiniCPM, functionary).
func functions(text string) (string, []tokenizer.ToolCall) {
	i := strings.Index(text, "<function")
	if i < 0 {
		return text, nil
	}
	end := strings.LastIndex(text, "</function>")
	if end < i {
		end = len(text)
	} else {
		end += len("</function>")
	}
	calls, ok := functionTags(text[i:end], false)
	if !ok {
		return text, nil
	}
	return strings.TrimRight(text[:i], " \t\r\n") + strings.TrimRight(text[end:], " \t\r\n"), calls
}

// fenced reads calls in the first fence of a text that holds nothing but calls. Small models say a word or two beside it.
func fenced(text string) (string, []tokenizer.ToolCall) {
	const fence = "```"
	pos := 0
	for range maxTries {
		i := strings.Index(text[pos:], fence)
		if i < 0 {
			break
		}
		begin := pos + i
		n := strings.Index(text[begin+len(fence):], fence)
		if n < 0 {
			break
		}
		inner := text[begin+len(fence):][:n]
		pos = begin + n + 2*len(fence)
		if calls := inFence(inner); len(calls) > 0 {
			return strings.TrimSpace(strings.TrimSpace(text[:begin]) + "\n" + strings.TrimSpace(text[pos:])), calls
		}
	}
	return text, nil
}

// inFence reads what stands in a fence, behind the name of a language.
func inFence(inner string) []tokenizer.ToolCall {
	if i := strings.IndexByte(inner, '\n'); i >= 0 && strings.IndexFunc(inner[:i], func(r rune) bool { return r < 'a' || r > 'z' }) < 0 {
		inner = inner[i:]
	} else {
		inner = strings.TrimPrefix(inner, "json")
	}
	for _, read := range []func(string) (string, []tokenizer.ToolCall){bare, mistral, python} {
		if _, calls := read(inner); len(calls) > 0 {
			return calls
		}
	}
	return nil
}

// python reads a text that is nothing but a list of calls in Python's syntax (Llama 3.2, Llama 4).
func python(text string) (string, []tokenizer.ToolCall) {
	calls, ok := pythonCalls(strings.TrimPrefix(strings.TrimSpace(text), pythonTag), false)
	if !ok {
		return text, nil
	}
	return "", calls
}

// members collects an object's members; of two with the same key the later counts.
type members struct {
	keys   []string
	values []json.RawMessage
}

func (m *members) add(key string, v json.RawMessage) {
	for i, k := range m.keys {
		if k == key {
			m.values[i] = v
			return
		}
	}
	m.keys, m.values = append(m.keys, key), append(m.values, v)
}

func (m *members) json() json.RawMessage {
	var b bytes.Buffer
	fields := make([]field, len(m.keys))
	for i, k := range m.keys {
		fields[i] = field{k, m.values[i]}
	}
	writeObject(&b, fields)
	return b.Bytes()
}

// elementMark stands before every tag that MiniMax M3 writes, so that arguments can be elements inside each other.
const elementMark = "]<]minimax[>["

// elementCalls reads <invoke name="N"><K>V</K></invoke> with that mark before each tag.
func elementCalls(body string, _ bool) ([]tokenizer.ToolCall, bool) {
	var calls []tokenizer.ToolCall
	for {
		_, after, ok := strings.Cut(body, elementMark+`<invoke name="`)
		if !ok {
			return calls, len(calls) > 0
		}
		name, rest, ok := strings.Cut(after, `">`)
		if !ok || name == "" {
			return nil, false
		}
		args, rest, ok := elements(rest, "invoke", 0)
		if !ok {
			return nil, false
		}
		if args[0] != '{' { // no elements: no arguments
			args = json.RawMessage("{}")
		}
		calls = append(calls, tokenizer.ToolCall{Name: name, Arguments: args})
		body = rest
	}
}

// elements reads up to the end of an element: those inside it as an object, as a list where they are items,
// or its text.
func elements(s, inside string, depth int) (v json.RawMessage, rest string, ok bool) {
	if depth > maxLiteralDepth {
		return nil, "", false
	}
	end := elementMark + "</" + inside + ">"
	m := &members{}
	var items [][]byte
	for {
		text, after, found := strings.Cut(s, elementMark)
		if !found {
			return nil, "", false
		}
		if rest, closed := strings.CutPrefix(s[len(text):], end); closed {
			switch {
			case len(items) > 0:
				return append(append([]byte{'['}, bytes.Join(items, []byte{','})...), ']'), rest, true
			case len(m.keys) > 0:
				return m.json(), rest, true
			}
			return written(text, ""), rest, true
		}
		name, inner, found := strings.Cut(strings.TrimPrefix(after, "<"), ">")
		if !found || !strings.HasPrefix(after, "<") || name == "" || name[0] == '/' {
			return nil, "", false
		}
		v, rest, ok := elements(inner, name, depth+1)
		if !ok {
			return nil, "", false
		}
		if name == "item" {
			items = append(items, v)
		} else {
			m.add(name, v)
		}
		s = rest
	}
}
