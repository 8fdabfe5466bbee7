package config

import (
	"fmt"
	"strings"
)

// Set returns a configuration file's text with one key set to a value, written as config.toml writes it
// (`"tcp://host"`, `3`). Everything else stays as it is, comments too: the key's own line is replaced; where
// the file has none, a line is put below its default in a comment, else below its section's heading, else at
// the end under a new heading.
//
// A value that goes over several lines is replaced as a whole. Keys of inline tables are not found; edged's
// files have none.
func Set(text, key, value string) (string, error) {
	if newSettings(Default()).byKey[key] == nil {
		return "", fmt.Errorf("config: unknown key %s", key)
	}
	section, name, _ := strings.Cut(key, ".")
	lines := strings.Split(text, "\n")
	line := name + " = " + value
	at := keyLines(text)
	if n := at[key]; n > 0 {
		left, _, _ := strings.Cut(lines[n-1], "=") // as it was written: dotted, quoted
		return splice(lines, n-1, endOfValue(lines, n-1), strings.TrimRight(left, " \t")+" = "+value), nil
	}
	heading := at[section]
	if heading > 0 && !strings.HasPrefix(strings.TrimSpace(lines[heading-1]), "[") {
		// The section consists of dotted keys, and TOML lets no heading follow those.
		return splice(lines, heading, heading, key+" = "+value), nil
	}
	if heading == 0 {
		head := strings.TrimRight(text, "\n")
		if head != "" {
			head += "\n\n"
		}
		return head + "[" + section + "]\n" + line + "\n", nil
	}
	for i := heading; i < len(lines); i++ {
		trimmed := strings.TrimSpace(lines[i])
		if strings.HasPrefix(trimmed, "[") {
			break
		}
		shown, ok := strings.CutPrefix(trimmed, "#")
		if ok && strings.HasPrefix(strings.ReplaceAll(shown, " ", ""), name+"=") {
			return splice(lines, i+1, i+1, line), nil
		}
	}
	return splice(lines, heading, heading, line), nil
}

// endOfValue returns the index of the line after a value that begins on line i.
func endOfValue(lines []string, i int) int {
	_, value, _ := strings.Cut(lines[i], "=")
	open, depth := scanValue(value, "", 0)
	for i++; i < len(lines) && (open != "" || depth > 0); i++ {
		open, depth = scanValue(lines[i], open, depth)
	}
	return i
}

// splice replaces lines[from:to] by one line.
func splice(lines []string, from, to int, line string) string {
	out := append(append(append([]string{}, lines[:from]...), line), lines[to:]...)
	return strings.Join(out, "\n")
}
