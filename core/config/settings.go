package config

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// settings is a view of a Config by key, the one way in which file, environment and flags write to it.
type settings struct {
	c        *Config
	fields   []*field
	byKey    map[string]*field
	sections map[string]bool
}

// field is one setting.
type field struct {
	key    string // "mqtt.broker"
	value  reflect.Value
	origin string // where the value was set, for messages; "": nowhere, it is the default
}

func newSettings(c *Config) *settings {
	s := &settings{c: c, byKey: map[string]*field{}, sections: map[string]bool{}}
	root := reflect.ValueOf(c).Elem()
	for i := range root.NumField() {
		section := root.Type().Field(i).Tag.Get("toml")
		if section == "-" {
			continue
		}
		s.sections[section] = true
		v := root.Field(i)
		for j := range v.NumField() {
			f := &field{key: section + "." + v.Type().Field(j).Tag.Get("toml"), value: v.Field(j)}
			s.fields = append(s.fields, f)
			s.byKey[f.key] = f
		}
	}
	return s
}

// Keys returns every key, in the order of the configuration file.
func Keys() []string {
	s := newSettings(Default())
	keys := make([]string, len(s.fields))
	for i, f := range s.fields {
		keys[i] = f.key
	}
	return keys
}

// setTOML sets the field from a decoded TOML value.
func (f *field) setTOML(v any) error {
	switch p := f.value.Addr().Interface().(type) {
	case *time.Duration:
		s, ok := v.(string)
		if !ok {
			return fmt.Errorf("wants a duration in quotes, such as \"1s\", not %s", tomlKind(v))
		}
		return f.setText(s)
	case *Size:
		s, ok := v.(string)
		if !ok {
			return fmt.Errorf("wants a size in quotes, such as \"64 MiB\", not %s", tomlKind(v))
		}
		return f.setText(s)
	case *string:
		s, ok := v.(string)
		if !ok {
			return fmt.Errorf("wants a text in quotes, not %s", tomlKind(v))
		}
		*p = s
	case *bool:
		b, ok := v.(bool)
		if !ok {
			return fmt.Errorf("wants true or false, not %s", tomlKind(v))
		}
		*p = b
	case *int:
		n, ok := v.(int64)
		if !ok {
			return fmt.Errorf("wants a whole number, not %s", tomlKind(v))
		}
		if n > math.MaxInt32 || n < math.MinInt32 {
			return fmt.Errorf("%d is too large a number", n)
		}
		*p = int(n)
	case *float32:
		switch n := v.(type) {
		case float64:
			*p = float32(n)
		case int64:
			*p = float32(n)
		default:
			return fmt.Errorf("wants a number, not %s", tomlKind(v))
		}
	case *[]string:
		list, ok := v.([]any)
		if !ok {
			return fmt.Errorf("wants a list of texts, such as [\"a\", \"b\"], not %s", tomlKind(v))
		}
		out := make([]string, len(list))
		for i, e := range list {
			if out[i], ok = e.(string); !ok {
				return fmt.Errorf("wants a list of texts, such as [\"a\", \"b\"], not one with %s in it", tomlKind(e))
			}
		}
		*p = nonEmpty(out)
	default:
		return fmt.Errorf("has the type %T, which this program cannot set", p)
	}
	return nil
}

// setText sets the field from the text of a flag or an environment variable.
func (f *field) setText(s string) error {
	switch p := f.value.Addr().Interface().(type) {
	case *time.Duration:
		d, err := parseDuration(s)
		if err != nil {
			return err
		}
		*p = d
	case *Size:
		n, err := parseSize(s)
		if err != nil {
			return err
		}
		*p = n
	case *string:
		*p = s
	case *bool:
		switch strings.TrimSpace(s) {
		case "true":
			*p = true
		case "false":
			*p = false
		default:
			return fmt.Errorf("%q is neither true nor false", s)
		}
	case *int:
		n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 32)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", s)
		}
		*p = int(n)
	case *float32:
		n, err := strconv.ParseFloat(strings.TrimSpace(s), 32)
		if err != nil {
			return fmt.Errorf("%q is not a number", s)
		}
		*p = float32(n)
	case *[]string:
		return f.setList(s)
	default:
		return fmt.Errorf("has the type %T, which this program cannot set", p)
	}
	return nil
}

// setList reads a TOML array (["a", "b"]), or texts separated by commas.
func (f *field) setList(s string) error {
	if strings.HasPrefix(strings.TrimSpace(s), "[") {
		if len(s) > maxFile {
			return fmt.Errorf("is longer than %v", Size(maxFile))
		}
		var v map[string]any
		if _, err := toml.Decode("v = "+strings.TrimSpace(s), &v); err != nil || len(v) != 1 {
			return fmt.Errorf("%s is not a list such as [\"a\", \"b\"]", oneLine(s))
		}
		return f.setTOML(v["v"])
	}
	var list []string
	if strings.TrimSpace(s) != "" {
		for e := range strings.SplitSeq(s, ",") {
			list = append(list, strings.TrimSpace(e))
		}
	}
	f.value.Set(reflect.ValueOf(nonEmpty(list)))
	return nil
}

// nonEmpty turns a list of nothing into nil, so that "set to nothing" and "not set" are one.
func nonEmpty(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	return list
}

// tomlKind names a decoded TOML value for a message.
func tomlKind(v any) string {
	switch v := v.(type) {
	case nil:
		return "an array of tables"
	case string:
		return "the text " + strconv.Quote(oneLine(v))
	case int64:
		return fmt.Sprintf("the number %d", v)
	case float64:
		return fmt.Sprintf("the number %v", v)
	case bool:
		return strconv.FormatBool(v)
	case time.Time:
		return "a date"
	case []any:
		return "a list"
	default:
		return "a table"
	}
}
