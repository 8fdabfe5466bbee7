package config

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxName is the longest name of a node, group, client, request, tag or adapter, in bytes.
const MaxName = 64

// NamePattern is the pattern that every name must match, as error messages show it.
const NamePattern = "[A-Za-z0-9._-]{1,64}"

// ValidBase reports whether s can begin every topic: one to eight names, with slashes between.
func ValidBase(s string) bool {
	names := strings.Split(s, "/")
	return len(names) <= 8 && !slices.ContainsFunc(names, func(name string) bool { return !ValidName(name) })
}

// ValidName reports whether s matches NamePattern: the names that stand in topics, paths and URLs.
func ValidName(s string) bool {
	if s == "" || len(s) > MaxName {
		return false
	}
	for i := range len(s) {
		if !nameByte(s[i]) {
			return false
		}
	}
	return true
}

// FreeName makes a valid name of a text that is none: other characters become -, it is cut where it is too
// long, and where the name is taken a number stands behind it. It is for what has to be told under a name,
// and has none.
func FreeName(text string, taken func(name string) bool) string {
	base := strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf && nameByte(byte(r)) {
			return r
		}
		return '-'
	}, text)
	if base == "" {
		base = "-"
	}
	name := base[:min(len(base), MaxName)]
	for n := 2; taken(name); n++ {
		number := "-" + strconv.Itoa(n)
		name = base[:min(len(base), MaxName-len(number))] + number
	}
	return name
}

// ValidFileName is ValidName for what becomes a file's or a folder's name too, where a dot and two mean something else.
func ValidFileName(s string) bool { return ValidName(s) && s != "." && s != ".." }

func nameByte(ch byte) bool {
	return ch >= 'a' && ch <= 'z' || ch >= 'A' && ch <= 'Z' || ch >= '0' && ch <= '9' || ch == '.' || ch == '_' || ch == '-'
}
