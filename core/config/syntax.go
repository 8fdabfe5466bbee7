package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/BurntSushi/toml"
)

// ExplainTOML says why a text is not TOML, of an error of the TOML library: the line, from 1, and a sentence
// that says what to do about the usual slips. Other errors keep the library's words.
func ExplainTOML(text string, err error) (line int, sentence string) {
	at, ok := errors.AsType[toml.ParseError](err)
	if !ok {
		return 1, oneLine(err.Error())
	}
	line = max(at.Position.Line, 1)
	key := ""
	if at.LastKey != "" {
		key = oneLine(at.LastKey) + ": "
	}
	switch m := at.Message; {
	case strings.Contains(m, "strings cannot contain newlines"), strings.HasSuffix(m, `expected '"'`), strings.HasSuffix(m, `expected "'"`):
		return line, key + `the text of this line has no closing quotation mark: add it; a text of several lines stands between """ and """`
	case strings.HasSuffix(m, `expected '"""'`), strings.HasSuffix(m, `expected "'''"`):
		if began := keyLines(text)[at.LastKey]; began > 0 {
			line = began
		}
		mark := `"""`
		if strings.Contains(m, `'''`) {
			mark = `'''`
		}
		return line, key + fmt.Sprintf("the text that begins here with %s has no end: add %s behind it", mark, mark)
	case strings.HasPrefix(m, "expected value but found"), strings.HasSuffix(m, "EOF; expected value"):
		return line, key + "there is no value behind the = that TOML knows: texts stand in quotation marks, lists in [ ], truths are true and false"
	case strings.HasPrefix(m, "expected '.' or '='"):
		return line, "a setting is written as key = value"
	case strings.HasPrefix(m, "expected '.' or ']' to end table name"):
		return line, "the ] behind the name of a section is missing"
	default:
		return line, oneLine(m)
	}
}
