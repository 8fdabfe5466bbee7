package chat

import (
	"errors"
	"fmt"
	"strings"
)

// instrument puts calls of the meter into a template: the template engine has no hook of its own to stop a loop. A
// statement that can repeat or grow (for, set, macro, call) is followed by an empty if-block whose condition counts a step.
//
// The inserted block takes over the whitespace marks of the tag that it follows, so that trim_blocks and '-' act on the
// same characters as before.
func instrument(source string) (string, error) {
	var out strings.Builder
	raw := false
	for {
		open := nextTag(source)
		if open < 0 {
			out.WriteString(source)
			return out.String(), nil
		}
		out.WriteString(source[:open])
		source = source[open:]
		if source[1] == '#' {
			end := strings.Index(source, "#}")
			if end < 0 {
				return "", errors.New("a comment is not closed")
			}
			out.WriteString(source[:end+2])
			source = source[end+2:]
			continue
		}
		end, err := tagEnd(source)
		if err != nil {
			if raw { // whatever stands in a raw block is text
				out.WriteString(source[:2])
				source = source[2:]
				continue
			}
			return "", err
		}
		tag := source[:end]
		source = source[end:]
		if !raw {
			tag = renameFilter(tag)
		}
		if tag[1] == '{' {
			out.WriteString(tag)
			continue
		}
		inner := strings.TrimLeft(tag[2:len(tag)-2], "-+ \t\r\n")
		word := inner
		if i := strings.IndexFunc(inner, func(r rune) bool { return (r < 'a' || r > 'z') && r != '_' }); i >= 0 {
			word = inner[:i]
		}
		if raw {
			raw = word != "endraw"
			out.WriteString(tag)
			continue
		}
		mark, call := "", ""
		if c := tag[len(tag)-3]; c == '-' || c == '+' {
			mark = string(c)
		}
		switch word {
		case "raw":
			raw = true
		case "for", "set", "endset", "call":
			call = tickName
		case "macro":
			call = enterName
		case "endmacro":
			// Before the tag: what is after it runs where the macro is defined, not where it is called.
			lead := ""
			if c := tag[2]; c == '-' || c == '+' {
				lead = string(c)
			}
			fmt.Fprintf(&out, "{%%%s if %s() %%}{%% endif %%}", lead, leaveName)
		}
		if word == "set" && !strings.Contains(inner, "=") {
			call = "" // a block set captures what follows; its endset counts
		}
		out.WriteString(tag)
		if call != "" {
			fmt.Fprintf(&out, "{%% if %s() %%}{%% endif %s%%}", call, mark)
		}
	}
}

// renameFilter makes a tag use this package's tojson: the engine prefers its own filters to those of the same name.
func renameFilter(tag string) string {
	var out strings.Builder
	var quote byte
	done := 0
	for i := 0; i < len(tag); i++ {
		switch c := tag[i]; {
		case quote != 0:
			if c == '\\' {
				i++
			} else if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '|':
			rest := strings.TrimLeft(tag[i+1:], " \t\r\n")
			if name, ok := strings.CutPrefix(rest, "tojson"); ok && (name == "" || !isWord(name[0])) {
				start := len(tag) - len(rest)
				out.WriteString(tag[done:start])
				out.WriteString(toJSONName)
				done = start + len("tojson")
				i = done - 1
			}
		}
	}
	out.WriteString(tag[done:])
	return out.String()
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// nextTag finds the next "{{", "{%" or "{#".
func nextTag(s string) int {
	for i := 0; i+1 < len(s); i++ {
		if s[i] == '{' && (s[i+1] == '{' || s[i+1] == '%' || s[i+1] == '#') {
			return i
		}
	}
	return -1
}

// tagEnd returns the length of the tag that s begins with. Closing marks inside string literals and brackets do not count.
func tagEnd(s string) (int, error) {
	stop := "%}"
	if s[1] == '{' {
		stop = "}}"
	}
	var quote byte
	depth := 0
	for i := 2; i < len(s); i++ {
		c := s[i]
		switch {
		case quote != 0:
			if c == '\\' {
				i++
			} else if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case depth == 0 && strings.HasPrefix(s[i:], stop):
			return i + 2, nil
		case c == '(' || c == '[' || c == '{':
			if depth++; depth > maxNesting {
				return 0, fmt.Errorf("brackets nest deeper than %d levels", maxNesting)
			}
		case c == ')' || c == ']' || c == '}':
			if depth > 0 {
				depth--
			}
		}
	}
	return 0, errors.New("a tag is not closed")
}
