package config

import (
	"bytes"
	"reflect"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// Setting is one key with the value that holds.
type Setting struct {
	Key    string `json:"key"`
	Value  string `json:"value"`  // as config.toml writes it
	Origin string `json:"origin"` // FILE:LINE, "environment variable NAME" or "--set KEY"; "": the default
}

// Explain loads as Load does and returns every key with its value and whence it came, in the order of config.toml.
func Explain(path string, overrides, environ []string) ([]Setting, error) {
	s, err := load(path, overrides, environ)
	if err != nil {
		return nil, err
	}
	list := make([]Setting, len(s.fields))
	for i, f := range s.fields {
		list[i] = Setting{Key: f.key, Value: f.text(), Origin: f.origin}
	}
	return list, nil
}

// text writes the value as a configuration file would.
func (f *field) text() string {
	var v any
	switch p := f.value.Addr().Interface().(type) {
	case *time.Duration:
		v = p.String()
	case *Size:
		v = p.String()
	default:
		v = f.value.Interface()
	}
	if f.value.Kind() == reflect.Slice && f.value.IsNil() {
		return "[]"
	}
	return written(v)
}

// Quote writes a text as a configuration file does.
func Quote(s string) string { return written(s) }

// written is a value as a configuration file writes it.
func written(v any) string {
	var b bytes.Buffer
	if err := toml.NewEncoder(&b).Encode(map[string]any{"v": v}); err != nil {
		return ""
	}
	return strings.TrimSpace(strings.TrimPrefix(b.String(), "v = "))
}
