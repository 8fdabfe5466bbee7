package config

import "strings"

// keyLines finds the line, from 1, on which each key and each section of a TOML text that parses begins. The TOML
// library keeps positions to itself once a text has parsed. Keys inside inline tables are not found; their messages
// name the file alone.
func keyLines(text string) map[string]int {
	lines := map[string]int{}
	section := ""
	open := "" // the delimiter of a multi-line string that has begun, or "[" inside an array
	depth := 0
	n := 0
	for line := range strings.SplitSeq(text, "\n") {
		n++
		rest := line
		if open == "" && depth == 0 {
			trimmed := strings.TrimSpace(line)
			if strings.HasPrefix(trimmed, "[") {
				name := strings.Trim(strings.SplitN(trimmed, "]", 2)[0], "[ \t")
				section = normalKey(name)
				if lines[section] == 0 {
					lines[section] = n
				}
				continue
			}
			key, value, ok := strings.Cut(line, "=")
			if !ok || strings.HasPrefix(trimmed, "#") {
				continue
			}
			key = normalKey(key)
			if section != "" {
				key = section + "." + key
			}
			for i, ch := range key { // a dotted key begins its tables too
				if ch == '.' && lines[key[:i]] == 0 {
					lines[key[:i]] = n
				}
			}
			if lines[key] == 0 {
				lines[key] = n
			}
			rest = value
		}
		open, depth = scanValue(rest, open, depth)
	}
	return lines
}

// normalKey strips the blanks and quotes of a bare, quoted or dotted key.
func normalKey(key string) string {
	parts := strings.Split(key, ".")
	for i, p := range parts {
		parts[i] = strings.Trim(strings.TrimSpace(p), `"'`)
	}
	return strings.Join(parts, ".")
}

// scanValue walks over (a line of) a value and says what is still open at its end: a multi-line string's delimiter
// and how many brackets.
func scanValue(s, open string, depth int) (string, int) {
	for i := 0; i < len(s); {
		rest := s[i:]
		switch {
		case len(open) == 3 && strings.HasPrefix(rest, open):
			open = ""
			i += 3
		case open != "" && open[0] == '"' && rest[0] == '\\':
			i += 2
		case len(open) == 3:
			i++
		case open != "": // a string of one line
			if rest[0] == open[0] {
				open = ""
			}
			i++
		case strings.HasPrefix(rest, `"""`), strings.HasPrefix(rest, `'''`):
			open = rest[:3]
			i += 3
		case rest[0] == '"' || rest[0] == '\'':
			open = rest[:1]
			i++
		case rest[0] == '#':
			return open, depth
		case rest[0] == '[' || rest[0] == '{':
			depth++
			i++
		case rest[0] == ']' || rest[0] == '}':
			depth = max(depth-1, 0)
			i++
		default:
			i++
		}
	}
	if len(open) == 1 { // a string of one line cannot go on
		open = ""
	}
	return open, depth
}
