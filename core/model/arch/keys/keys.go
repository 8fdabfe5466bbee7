// Package keys reads hyper-parameters out of what a container says of a model: the metadata of a GGUF file,
// or config.json. Beside single values it reads what many families have in common, as values of package arch:
// sizes (Dims), rotations, windows, routers of experts, and the heads of encoders.
//
// It opens no file, since what the container says is handed to it, and it knows no family. A Keys is used by
// one goroutine.
package keys

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"edged/core/model/arch"
)

// Keys reads the hyper-parameters of one model. A family names what it wants once for both containers:
// "attention.head_count|num_attention_heads|n_head" is the GGUF key without its architecture, then the names
// in config.json, of which the first that is there counts.
//
// Errors stick: after the first one, which names the file's own key, all methods return zero values or
// defaults, so that a family asks for everything it needs without looking, and Err is asked once at the end.
// The GGUF names of tensors that a family asks for (Shape, HasTensor) are those of package arch.
type Keys struct {
	gguf  func(key string) (any, bool) // nil: a folder
	arch  string                       // prefix of GGUF keys
	trees []map[string]any             // config.json: the text part first, where there is one
	shape func(name string) []int
	value func(name string) []float32
	vocab int
	reach int // context that a scaling promises
	err   error

	factors []float32
}

// GGUF makes the Keys of a file. lookup returns int64, uint64, float64, bool, string or a slice of one of
// them. shape is that of a tensor by its name here, rows first, nil where the file has none.
func GGUF(arch string, lookup func(key string) (any, bool), shape func(name string) []int) *Keys {
	return &Keys{gguf: lookup, arch: arch, shape: shape}
}

// Config makes the Keys of a config.json, decoded with json.Decoder.UseNumber.
func Config(config map[string]any, shape func(name string) []int) *Keys {
	k := &Keys{trees: []map[string]any{config}, shape: shape}
	if text, ok := config["text_config"].(map[string]any); ok {
		k.trees = []map[string]any{text, config}
	}
	return k
}

// SetVocab says how many rows the embedding has.
func (k *Keys) SetVocab(rows int) { k.vocab = rows }

// SetValues gives access to the values of small tensors, by name here; nil for one that the container has not got.
func (k *Keys) SetValues(values func(name string) []float32) { k.value = values }

// Values are those of a small tensor that is read as a setting, by its GGUF name; nil where the container has none.
func (k *Keys) Values(name string) []float32 {
	if k.value == nil || k.err != nil {
		return nil
	}
	return k.value(name)
}

// SetFactors hands over rope_freqs.weight.
func (k *Keys) SetFactors(f []float32) { k.factors = f }

// Vocab is the number of rows of the embedding, as SetVocab had it.
func (k *Keys) Vocab() int { return k.vocab }

// Architecture is the prefix of a file's keys; "": a folder.
func (k *Keys) Architecture() string { return k.arch }

// Reach is the context that the scalings of the rotations read so far promise; 0: none does.
func (k *Keys) Reach() int { return k.reach }

// Err is the first error.
func (k *Keys) Err() error { return k.err }

// IsGGUF tells the container.
func (k *Keys) IsGGUF() bool { return k.gguf != nil }

// Shape is that of a tensor of the container by its GGUF name, rows first; nil where there is none.
func (k *Keys) Shape(name string) []int { return k.shape(name) }

// HasTensor reports whether the container holds a tensor of this GGUF name.
func (k *Keys) HasTensor(name string) bool { return k.shape(name) != nil }

// HasHead reports whether the container holds an output head, which counts whatever the configuration says
// about tied ones.
func (k *Keys) HasHead() bool { return k.HasTensor(arch.HeadName) }

// Tied is whether the head is the embedding: where the file has none. def is what a folder means that does not say.
func (k *Keys) Tied(def bool) bool {
	return !k.HasHead() && (k.IsGGUF() || k.Bool("|tie_word_embeddings", def) || k.Headless())
}

// Headless reports whether a folder holds a network without an output head, whose class is then called
// Qwen3Model and the like: an embedder. The embedding stands in for its head.
func (k *Keys) Headless() bool {
	if k.IsGGUF() || k.HasHead() {
		return false
	}
	v, _, _ := k.Value("|architectures")
	list, _ := v.([]any)
	if len(list) == 0 {
		return false
	}
	class, _ := list[0].(string)
	return strings.HasSuffix(class, "Model")
}

// Invalid records a contradiction.
func (k *Keys) Invalid(format string, args ...any) { k.fail(arch.ErrInvalid, format, args...) }

// Unsupported records what is sound but not served.
func (k *Keys) Unsupported(format string, args ...any) { k.fail(arch.ErrUnsupported, format, args...) }

func (k *Keys) fail(kind error, format string, args ...any) {
	if k.err != nil {
		return
	}
	if !k.IsGGUF() {
		format = "config.json: " + format
	}
	k.err = fmt.Errorf("%w: %s", kind, fmt.Sprintf(format, args...))
}

// Say is the container's own name of the first alternative, for messages.
func (k *Keys) Say(names string) string {
	own, rest, _ := strings.Cut(names, "|")
	if k.IsGGUF() {
		return fmt.Sprintf("key %q", k.full(own))
	}
	first, _, _ := strings.Cut(rest, "|")
	return first
}

func (k *Keys) full(key string) string {
	for _, common := range []string{"general.", "tokenizer.", "xielu."} {
		if strings.HasPrefix(key, common) {
			return key
		}
	}
	return k.arch + "." + key
}

// Value returns a value and the container's name of it; null counts as absent.
func (k *Keys) Value(names string) (v any, name string, ok bool) {
	own, rest, _ := strings.Cut(names, "|")
	if k.IsGGUF() {
		if own == "" {
			return nil, "", false
		}
		v, ok := k.gguf(k.full(own))
		return v, fmt.Sprintf("key %q", k.full(own)), ok
	}
	for rest != "" {
		name, rest, _ = strings.Cut(rest, "|")
		for _, tree := range k.trees {
			if v, ok := walk(tree, name); ok {
				return v, name, true
			}
		}
	}
	return nil, "", false
}

// walk follows a dotted path.
func walk(tree map[string]any, path string) (any, bool) {
	for {
		part, rest, more := strings.Cut(path, ".")
		v := tree[part]
		if !more || v == nil {
			return v, v != nil
		}
		next, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		tree, path = next, rest
	}
}

// Has reports whether a key is there and not null.
func (k *Keys) Has(names string) bool {
	_, _, ok := k.Value(names)
	return ok
}

// Missing records that a required key is.
func (k *Keys) Missing(names string) {
	if k.IsGGUF() {
		k.Invalid("%s: missing", k.Say(names))
	} else {
		k.Invalid("%s is missing", k.Say(names))
	}
}

func (k *Keys) wrong(name string, v any, want string) {
	k.Invalid("%s: wrong type: it is %s, want %s", name, describe(v), want)
}

func describe(v any) string {
	switch v := v.(type) {
	case string:
		return fmt.Sprintf("the text %.40q", v)
	case bool:
		return strconv.FormatBool(v)
	case json.Number:
		return v.String()
	case map[string]any:
		if f, ok := toFloat(v); ok {
			return fmt.Sprint(f)
		}
		return "an object"
	case []any, []int64, []float64, []bool, []string:
		return "a list"
	default:
		return fmt.Sprint(v)
	}
}

// Int reads a number that must be there.
func (k *Keys) Int(names string) int { return k.integer(names, 0, true) }

// IntOr reads a number; def is taken for a missing key.
func (k *Keys) IntOr(names string, def int) int { return k.integer(names, def, false) }

func (k *Keys) integer(names string, def int, required bool) int {
	if k.err != nil {
		return 0
	}
	v, name, ok := k.Value(names)
	switch {
	case ok:
		return k.toInt(name, v)
	case required:
		k.Missing(names)
	}
	return def
}

// toInt makes an int of a value; of one for each layer they must be equal.
func (k *Keys) toInt(name string, v any) int {
	n := 0
	switch x := v.(type) {
	case int64:
		n = k.fit(name, float64(x))
	case uint64:
		n = k.fit(name, float64(x))
	case json.Number:
		f, err := x.Float64()
		if err != nil || f != math.Trunc(f) {
			k.wrong(name, v, "a whole number")
			return 0
		}
		n = k.fit(name, f)
	case []int64:
		if len(x) == 0 {
			k.wrong(name, v, "a whole number")
			return 0
		}
		for _, e := range x {
			if e != x[0] {
				k.Unsupported("%s: layers of different sizes", name)
				return 0
			}
		}
		n = k.fit(name, float64(x[0]))
	default:
		k.wrong(name, v, "a whole number")
	}
	return n
}

func (k *Keys) fit(name string, f float64) int {
	if math.Abs(f) > math.MaxInt32 {
		k.Invalid("%s: %.0f is out of range", name, f)
		return 0
	}
	return int(f)
}

// IntsOr reads a number for each of n layers, or one for all; nil is returned for a missing key.
func (k *Keys) IntsOr(names string, n int) []int {
	if k.err != nil || n < 1 || n > arch.MaxLayers {
		return nil
	}
	v, name, ok := k.Value(names)
	if !ok {
		return nil
	}
	out := make([]int, n)
	switch x := v.(type) {
	case []int64:
		if k.Length(name, len(x), n) {
			for i := range out {
				out[i] = k.fit(name, float64(x[i]))
			}
		}
	case []any:
		if k.Length(name, len(x), n) {
			for i := range out {
				out[i] = k.toInt(name, x[i])
			}
		}
	default:
		one := k.toInt(name, v)
		for i := range out {
			out[i] = one
		}
	}
	return out
}

// Length reports whether a list of a value for each layer is long enough, and records it where it is not.
func (k *Keys) Length(name string, have, want int) bool {
	if have < want {
		k.Invalid("%s has %d entries, but there are %d layers", name, have, want)
		return false
	}
	return true
}

// Float reads a number that must be there.
func (k *Keys) Float(names string) float64 {
	if k.err == nil && !k.Has(names) {
		k.Missing(names)
	}
	return k.FloatOr(names, 0)
}

// FloatOr reads a number; def is taken for a missing key.
func (k *Keys) FloatOr(names string, def float64) float64 {
	if k.err != nil {
		return def
	}
	v, name, ok := k.Value(names)
	if !ok {
		return def
	}
	f, ok := toFloat(v)
	if !ok {
		k.wrong(name, v, "a number")
	}
	return f
}

// toFloat reads a number, also as transformers 5 writes those that JSON has none for: {"__float__": "Infinity"}.
func toFloat(v any) (float64, bool) {
	switch x := v.(type) {
	case int64:
		return float64(x), true
	case uint64:
		return float64(x), true
	case float64:
		return x, true
	case json.Number:
		f, err := x.Float64()
		return f, err == nil
	case map[string]any:
		switch x["__float__"] {
		case "Infinity":
			return math.Inf(1), true
		case "-Infinity":
			return math.Inf(-1), true
		case "NaN":
			return math.NaN(), true
		}
	}
	return 0, false
}

// Floats reads a list of numbers, nil for a missing key.
func (k *Keys) Floats(names string) []float64 {
	v, name, ok := k.Value(names)
	if k.err != nil || !ok {
		return nil
	}
	var out []float64
	switch x := v.(type) {
	case []float64:
		return x
	case []int64:
		for _, e := range x {
			out = append(out, float64(e))
		}
		return out
	case []any:
		for _, e := range x {
			f, ok := toFloat(e)
			if !ok {
				k.wrong(name, e, "numbers")
				return nil
			}
			out = append(out, f)
		}
		return out
	}
	k.wrong(name, v, "a list of numbers")
	return nil
}

// Bool reads a truth value; def is taken for a missing key.
func (k *Keys) Bool(names string, def bool) bool {
	if k.err != nil {
		return def
	}
	v, name, ok := k.Value(names)
	if !ok {
		return def
	}
	b, ok := v.(bool)
	if !ok {
		k.wrong(name, v, "true or false")
	}
	return b
}

// String reads a text, "" for a missing key.
func (k *Keys) String(names string) string {
	if k.err != nil {
		return ""
	}
	v, name, ok := k.Value(names)
	if !ok {
		return ""
	}
	s, ok := v.(string)
	if !ok {
		k.wrong(name, v, "a text")
	}
	return s
}

// Strings reads a list of texts, nil for a missing key.
func (k *Keys) Strings(names string) []string {
	if k.err != nil {
		return nil
	}
	v, name, ok := k.Value(names)
	if !ok {
		return nil
	}
	if x, ok := v.([]string); ok {
		return x
	}
	list, ok := v.([]any)
	if !ok {
		k.wrong(name, v, "a list of texts")
		return nil
	}
	out := make([]string, len(list))
	for i, e := range list {
		if out[i], ok = e.(string); !ok {
			k.wrong(name, e, "a text")
			return nil
		}
	}
	return out
}

// IDs reads one token id, a list of them, or null.
func (k *Keys) IDs(names string) []int32 {
	v, name, ok := k.Value(names)
	if k.err != nil || !ok {
		return nil
	}
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	var out []int32
	for _, e := range list {
		out = append(out, int32(k.toInt(name, e)))
	}
	return out
}

// Defaults sets the values that a class of transformers takes for keys that config.json lacks.
func (k *Keys) Defaults(values map[string]any) {
	if !k.IsGGUF() {
		k.trees = append(k.trees, values)
	}
}
