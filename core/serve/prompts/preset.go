// Package prompts is a folder of presets: prompts with a name, which requests ask for by it and whose
// variables they fill. A preset is a TOML file; the folder is watched while the service runs.
//
// A request takes what it needs of a preset when it is read: what is admitted and journalled is the filled
// request, so that a file that changes meanwhile changes nothing of it. A broken file is told with its
// reason, and the earlier one stays.
//
//	description = "Translates a text."            # for people
//	variables = ["text", "language"]              # names that requests fill
//	system = "You translate into {{language}}."   # the system message
//	user = "{{text}}"                             # the question; without it, the request's own messages or prompt
//	answer_after = "Translation:"                 # what comes before it is thought, and kept apart
//	schema = '{"type": "object"}'                 # JSON Schema of the answer
//	temperature = 0.0                             # and all that a request may say of how its answer is generated
//
//	[defaults]
//	language = "German"
//
//	[[examples]]                                  # earlier questions, by their variables, and their answers
//	text = "Hello"
//	answer = "Hallo"
//
// It must not know MQTT or HTTP: their doors fill requests. A Folder may be used concurrently; Run is called once.
package prompts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"

	"edged/core/config"
	"edged/core/serve/dispatch"
	"edged/core/serve/door/fields"
)

// Bounds of a preset.
const (
	MaxFile      = 256 << 10 // bytes
	maxVariables = 64
	maxExamples  = 64
	maxMark      = 64      // bytes of answer_after
	maxFilled    = 4 << 20 // bytes of the messages that it makes
)

// Variable is a placeholder of a preset that a request fills.
type Variable struct {
	Name    string
	Default *string // nil: it must be filled
}

// Preset is a prompt with a name.
type Preset struct {
	Description string
	Variables   []Variable
	SHA256      string // of its file

	system, user text // nil: none
	examples     []example
	options      dispatch.Options
	adapters     []dispatch.AdapterRef // nil: it says nothing of them
}

// example is an earlier question and its answer.
type example struct{ user, answer, reasoning string }

// text is a text with variables in it.
type text []piece

// piece is a text, or the name of a variable.
type piece struct{ text, name string }

// own are the keys of an example that are no variables.
var own = []string{"user", "answer", "reasoning"} //nolint:gochecknoglobals // a table

var (
	variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)
	placeholder  = regexp.MustCompile(`\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}`)
	unclosed     = regexp.MustCompile(`\{\{\s*([A-Za-z_][A-Za-z0-9_]*)`) // in what is not a placeholder
)

// Parse reads a preset. The error is a sentence that begins with the key, or with the line where the file is not TOML.
func Parse(ctx context.Context, data []byte) (*Preset, error) {
	if len(data) > MaxFile {
		return nil, fmt.Errorf("the file has %d bytes, and at most %d are read", len(data), MaxFile)
	}
	if !utf8.Valid(data) {
		return nil, errors.New("the file is not UTF-8")
	}
	var keys map[string]any
	if _, err := toml.Decode(string(data), &keys); err != nil {
		line, why := config.ExplainTOML(string(data), err)
		return nil, fmt.Errorf("line %d: %s", line, why)
	}
	sum := sha256.Sum256(data)
	p := &Preset{SHA256: hex.EncodeToString(sum[:])}
	if err := p.variables(keys["variables"], keys["defaults"]); err != nil {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if err := p.key(key, keys[key]); err != nil {
			return nil, err
		}
	}
	if err := p.allUsed(); err != nil {
		return nil, err
	}
	if err := p.readExamples(keys["examples"]); err != nil {
		return nil, err
	}
	o := &p.options
	switch {
	case o.BestOf > 0 && o.BestOf < max(o.N, 1):
		return nil, fmt.Errorf("best_of: %d is less than n", o.BestOf)
	case o.AnswerAfter != "" && o.Thinking == dispatch.ThinkingOff:
		return nil, errors.New("thinking: what comes before answer_after is thought; a budget bounds it")
	case len(o.ResponseFormat) > 0 && o.Grammar != "":
		return nil, errors.New("grammar: cannot stand beside a schema or a response_format")
	case p.system == nil && p.user == nil && len(p.examples) == 0 && len(keys) == 0:
		return nil, errors.New("the file is empty")
	}
	if err := o.CheckConstraint(ctx); err != nil {
		why := err.Message
		if rest, ok := strings.CutPrefix(why, "response_format: "); ok && keys["schema"] != nil {
			if _, inner, ok := strings.Cut(rest, "schema: "); ok { // the grammar's package names itself before it
				rest = inner
			}
			why = "schema: " + rest
		}
		return nil, errors.New(why)
	}
	return p, nil
}

// key reads one key of the file.
func (p *Preset) key(key string, v any) (err error) {
	switch key {
	case "variables", "defaults", "examples":
		return nil // read by themselves
	case "description":
		p.Description, err = asText(key, v)
	case "system":
		p.system, err = p.template(key, v)
	case "user":
		p.user, err = p.template(key, v)
	case "answer_after":
		p.options.AnswerAfter, err = asText(key, v)
		if n := len(p.options.AnswerAfter); err == nil && (n == 0 || n > maxMark) {
			err = fmt.Errorf("answer_after: has %d bytes, and 1 to %d are taken", n, maxMark)
		}
	case "schema":
		var schema string
		if schema, err = asText(key, v); err != nil {
			return err
		}
		if e := fields.CheckText("its text", []byte(schema)); e != nil {
			return errors.New(e.In(key).Error())
		}
		return p.option("response_format", []byte(`{"type":"json_schema","json_schema":{"name":"answer","schema":`+schema+`}}`))
	case "adapter":
		raw, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("adapter: %w", err)
		}
		refs, wrong := fields.Adapters(raw)
		if wrong != nil {
			return errors.New(wrong.In(key).Error())
		}
		p.adapters = refs
	default:
		raw, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		return p.option(key, raw)
	}
	return err
}

// option reads what a request too may say of its answer.
func (p *Preset) option(key string, raw []byte) error {
	known, err := fields.Option(&p.options, key, raw)
	switch {
	case !known || key == "tool_choice":
		return fmt.Errorf("%s: is not a key of a preset", fields.Short(key))
	case key == "source_lang" || key == "target_lang":
		return fmt.Errorf("%s: is not a key of a preset, which makes a conversation: only a request's plain prompt is translated so", key)
	case err != nil:
		return errors.New(err.In(key).Error())
	}
	return nil
}

// variables reads the names and what they are without a request's word.
func (p *Preset) variables(names, defaults any) error {
	list, ok := names.([]any)
	if names != nil && !ok {
		return errors.New(`variables: wants a list of names, such as ["text"]`)
	}
	if len(list) > maxVariables {
		return fmt.Errorf("variables: %d are more than %d", len(list), maxVariables)
	}
	for _, v := range list {
		name, ok := v.(string)
		switch {
		case !ok || !variableName.MatchString(name):
			return fmt.Errorf("variables: %v is no name: letters, digits and _, not a digit first", v)
		case slices.Contains(own, name):
			return fmt.Errorf("variables: %s is a key of examples, so it cannot be a variable", name)
		case slices.ContainsFunc(p.Variables, func(o Variable) bool { return o.Name == name }):
			return fmt.Errorf("variables: %s is there twice", name)
		}
		p.Variables = append(p.Variables, Variable{Name: name})
	}
	given, ok := defaults.(map[string]any)
	if defaults != nil && !ok {
		return errors.New("defaults: wants a table of variables")
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		i := slices.IndexFunc(p.Variables, func(o Variable) bool { return o.Name == name })
		if i < 0 {
			return fmt.Errorf("defaults: %s is not listed in variables", fields.Short(name))
		}
		value, err := asText("defaults."+name, given[name])
		if err != nil {
			return err
		}
		p.Variables[i].Default = &value
	}
	return nil
}

// template reads a text with variables.
func (p *Preset) template(key string, v any) (text, error) {
	s, err := asText(key, v)
	if err != nil {
		return nil, err
	}
	listed := func(name string) bool {
		return slices.ContainsFunc(p.Variables, func(o Variable) bool { return o.Name == name })
	}
	out := text{}
	from := 0
	// plain adds the text before a placeholder, or behind the last one.
	plain := func(s string) error {
		for _, m := range unclosed.FindAllStringSubmatch(s, -1) {
			if listed(m[1]) {
				return fmt.Errorf("%s: {{%s is not closed: write {{%s}}", key, m[1], m[1])
			}
		}
		out = append(out, piece{text: s})
		return nil
	}
	for _, at := range placeholder.FindAllStringSubmatchIndex(s, -1) {
		name := s[at[2]:at[3]]
		if !listed(name) {
			return nil, fmt.Errorf("%s: {{%s}} is not listed in variables", key, fields.Short(name))
		}
		if err := plain(s[from:at[0]]); err != nil {
			return nil, err
		}
		out = append(out, piece{name: name})
		from = at[1]
	}
	if err := plain(s[from:]); err != nil {
		return nil, err
	}
	return out, nil
}

// allUsed refuses a variable that stands in neither text: what a request fills it with would be thrown away.
func (p *Preset) allUsed() error {
	for _, v := range p.Variables {
		if !slices.ContainsFunc(slices.Concat(p.system, p.user), func(at piece) bool { return at.name == v.Name }) {
			return fmt.Errorf("variables: %s stands in neither system nor user: write {{%s}} where it belongs, or take it out", v.Name, v.Name)
		}
	}
	return nil
}

// readExamples reads the examples: each has the question as its variables or as user, and the answer.
func (p *Preset) readExamples(v any) error {
	var list []map[string]any
	switch v := v.(type) {
	case nil:
		return nil
	case []map[string]any:
		list = v
	default:
		return errors.New("examples: wants tables: [[examples]]")
	}
	if len(list) > maxExamples {
		return fmt.Errorf("examples: %d are more than %d", len(list), maxExamples)
	}
	for i, keys := range list {
		e, err := p.example(keys)
		if err != nil {
			return fmt.Errorf("examples[%d]: %w", i, err)
		}
		p.examples = append(p.examples, e)
	}
	return nil
}

func (p *Preset) example(keys map[string]any) (e example, err error) {
	values, asked := map[string]string{}, false
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		value, err := asText(key, keys[key])
		if err != nil {
			return e, err
		}
		switch key {
		case "user":
			e.user, asked = value, true
		case "answer":
			e.answer = value
		case "reasoning":
			e.reasoning = value
		default:
			if !slices.ContainsFunc(p.Variables, func(o Variable) bool { return o.Name == key }) {
				return e, fmt.Errorf("%s: is neither a variable nor one of %s", fields.Short(key), strings.Join(own, ", "))
			}
			values[key] = value
		}
	}
	switch {
	case e.answer == "":
		return e, errors.New("answer: is missing")
	case asked && len(values) > 0:
		return e, errors.New("user: cannot stand beside variables")
	case asked:
		return e, nil
	case p.user == nil:
		return e, errors.New("user: is missing: the preset has no question of its own that variables would fill")
	}
	filled, missing := p.fill(p.user, values)
	if missing != "" {
		return e, fmt.Errorf("%s: is missing", missing)
	}
	e.user = filled
	return e, nil
}

// fill puts values, and the defaults of what has none, into a text, or names what is missing.
func (p *Preset) fill(t text, values map[string]string) (filled, missing string) {
	var out strings.Builder
	for _, piece := range t {
		out.WriteString(piece.text)
		if piece.name == "" {
			continue
		}
		value, ok := values[piece.name]
		if !ok {
			i := slices.IndexFunc(p.Variables, func(o Variable) bool { return o.Name == piece.name })
			if p.Variables[i].Default == nil {
				return "", piece.name
			}
			value = *p.Variables[i].Default
		}
		if out.Len()+len(value) > maxFilled {
			return out.String() + strings.Repeat(" ", maxFilled), ""
		}
		out.WriteString(value)
	}
	return out.String(), ""
}

func asText(key string, v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case int64, float64, bool:
		return fmt.Sprint(v), nil
	}
	return "", fmt.Errorf("%s: wants a text", fields.Short(key))
}
