package offline

import (
	"context"
	"encoding/json"

	"edged/cmd/edged/cli"
	"edged/core/infer/grammar"
)

// form is the grammar of the answer; "": it is free.
func (s *settings) form() (string, error) {
	text := s.Grammar
	if len(s.ResponseFormat) > 0 && string(s.ResponseFormat) != "null" {
		format, err := grammar.Format(s.ResponseFormat)
		switch {
		case err != nil:
			return "", cli.Usagef("response_format: %v", err)
		case format != "" && text != "":
			return "", cli.Usagef("grammar: cannot stand beside a response_format")
		case format != "":
			text = format
		}
	}
	if text == "" {
		return "", nil
	}
	if _, err := grammar.Parse(context.Background(), text); err != nil {
		return "", cli.Usagef("%v", err)
	}
	return text, nil
}

// readForm reads the files of --grammar and --json-schema.
func (a *app) readForm(f *generateFlags) error {
	given := cli.CountSet(f.grammar, f.schema, f.regex)
	if given > 1 {
		return cli.Usagef("give one of --grammar, --json-schema and --regex")
	}
	switch {
	case f.grammar != "":
		text, err := a.ReadAll(f.grammar)
		if err != nil {
			return err
		}
		f.settings.Grammar = string(text)
	case f.schema != "":
		text, err := a.ReadAll(f.schema)
		if err != nil {
			return err
		}
		var one json.RawMessage
		if err := json.Unmarshal(text, &one); err != nil {
			return cli.Usagef("--json-schema %s: it is not one JSON value: %v", f.schema, err)
		}
		f.settings.Grammar = grammar.Schema(one)
	case f.regex != "":
		f.settings.Grammar = grammar.Regex(f.regex)
	}
	if _, err := f.settings.form(); err != nil {
		return err
	}
	return nil
}
