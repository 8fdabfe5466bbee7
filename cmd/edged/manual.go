//go:build pages

package main

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// settingLine is a setting of config.toml, taken out by its '#' or not.
var settingLine = regexp.MustCompile(`^#?([a-z][a-z0-9_]* = .*)$`)

// manual turns config.toml, whose comments explain the keys below them, into the page edged.toml(5).
func manual(config string, day time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH EDGED.TOML 5 %q edged edged\n.SH NAME\nedged.toml \\- settings of edged\n", day.Format("Jan 2006"))
	b.WriteString(
		".SH DESCRIPTION\n/etc/edged/config.toml holds what somebody has set; then the files of /etc/edged/config.d are read, in the order of their names. \\fBedged config\\fR shows what holds.\n.PP\n",
	)
	var text, keys []string
	flush := func() {
		for i, k := range keys {
			tag := ".TP"
			if i > 0 {
				tag = ".TQ"
			}
			fmt.Fprintf(&b, "%s\n\\fB%s\\fR\n", tag, roff(k))
		}
		indented := false // lines of an example stand as they are
		for _, line := range text {
			if example := strings.HasPrefix(line, "  "); example != indented {
				indented = example
				b.WriteString(map[bool]string{true: ".nf\n", false: ".fi\n"}[example])
			}
			if line == "" {
				b.WriteString(".PP\n")
				continue
			}
			b.WriteString(roff(line) + "\n")
		}
		if indented {
			b.WriteString(".fi\n")
		}
		if len(keys) == 0 && len(text) > 0 {
			b.WriteString(".PP\n")
		}
		text, keys = nil, nil
	}
	for line := range strings.Lines(config) {
		line = strings.TrimRight(line, "\n")
		setting := settingLine.FindStringSubmatch(line)
		switch {
		case line == "":
			flush()
		case strings.HasPrefix(line, "["):
			flush()
			fmt.Fprintf(&b, ".SH %s\n", roff(line))
		case setting != nil:
			keys = append(keys, setting[1])
		case strings.HasPrefix(line, "#"):
			if len(keys) > 0 {
				flush()
			}
			text = append(text, strings.TrimPrefix(strings.TrimPrefix(line, "#"), " "))
		}
	}
	flush()
	b.WriteString(".SH SEE ALSO\n.BR edged (1)\n")
	return b.String()
}

// roff escapes a line of text.
func roff(line string) string {
	line = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...").Replace(line)
	if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
		line = `\&` + line
	}
	return line
}
