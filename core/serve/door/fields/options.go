package fields

import (
	"math"
	"slices"

	"edged/core/config"
	"edged/core/serve/dispatch"
	"edged/core/serve/languages"
)

// Option reads one of the fields that say how an answer is generated into o, or reports that key is none of them.
func Option(o *dispatch.Options, key string, raw []byte) (known bool, err *Error) {
	switch key {
	case "max_tokens":
		o.MaxTokens, err = number(Int(raw, 1, dispatch.MaxTokens))
	case "temperature":
		o.Temperature, err = pointer(ranged(raw, key))
	case "top_k":
		o.TopK, err = number(Int(raw, 0, dispatch.MaxTopK))
	case "top_p":
		o.TopP, err = pointer(ranged(raw, key))
	case "min_p":
		o.MinP, err = pointer(ranged(raw, key))
	case "typical_p":
		o.TypicalP, err = pointer(ranged(raw, key))
	case "repeat_penalty":
		o.RepeatPenalty, err = pointer(ranged(raw, key))
	case "presence_penalty":
		o.PresencePenalty, err = pointer(ranged(raw, key))
	case "frequency_penalty":
		o.FrequencyPenalty, err = pointer(ranged(raw, key))
	case "logit_bias":
		o.LogitBias, err = Bias(raw)
	case "seed":
		o.Seed, err = pointer(Seed(raw))
	case "stop":
		o.Stop, err = Texts(raw, dispatch.MaxStops, 1, dispatch.MaxStopBytes)
	case "source_lang":
		o.Source, err = Text(raw, languages.MaxName)
	case "target_lang":
		o.Target, err = Text(raw, languages.MaxName)
	case "stop_ids":
		o.StopIDs, err = IDs(raw, dispatch.MaxStopIDs)
	case "context_policy":
		o.ContextPolicy, err = Text(raw, 64)
		if p := o.ContextPolicy; err == nil && p != dispatch.PolicyError && p != dispatch.PolicyKeepSystem {
			err = Bad("", "%q is neither %q nor %q", Short(p), dispatch.PolicyError, dispatch.PolicyKeepSystem)
		}
	case "thinking":
		err = Thinking(o, raw)
	case "reasoning_effort":
		err = Effort(o, raw)
	case "ignore_eos":
		o.IgnoreEOS, err = Bool(raw)
	case "n":
		var n int64
		n, err = Int(raw, 1, dispatch.MaxChoices)
		o.N = int(n)
	case "best_of":
		var n int64
		n, err = Int(raw, 1, dispatch.MaxChoices)
		o.BestOf = int(n)
	case "logprobs":
		o.Logprobs, err = Bool(raw)
	case "top_logprobs":
		var n int64
		n, err = Int(raw, 0, dispatch.MaxTopLogprobs)
		o.TopLogprobs = int(n)
	case "response_format":
		var format []byte
		format, err = AnyObject(raw)
		o.ResponseFormat = slices.Clone(format)
	case "grammar":
		o.Grammar, err = Text(raw, dispatch.MaxGrammar)
	case "tool_choice":
		o.ToolChoice, err = Choice(raw)
	default:
		return false, nil
	}
	return true, err
}

// ranged reads a number that dispatch bounds under the name of its field.
func ranged(raw []byte, key string) (float32, *Error) {
	r := dispatch.Ranges[key]
	return Float(raw, r.Least, r.Most)
}

func number(n int64, err *Error) (*int, *Error) {
	i := int(n)
	return &i, err
}

func pointer[T any](v T, err *Error) (*T, *Error) { return &v, err }

// Adapters takes a name, or a list of names with scales; an empty list asks for the bare model.
func Adapters(raw []byte) ([]dispatch.AdapterRef, *Error) {
	if raw[0] == '"' {
		name := Unquote(raw)
		if !config.ValidName(name) {
			return nil, Bad("", "%q must match "+config.NamePattern+"; an empty list asks for the bare model", Short(name))
		}
		return []dispatch.AdapterRef{{Name: name, Scale: 1}}, nil
	}
	refs := []dispatch.AdapterRef{}
	err := Array(raw, func(i int, raw []byte) *Error {
		if i >= dispatch.MaxAdapters {
			return Bad("", "more than %d adapters are too many", dispatch.MaxAdapters)
		}
		ref := dispatch.AdapterRef{Scale: 1}
		err := Object(raw, func(key string, raw []byte) (err *Error) {
			switch key {
			case "name":
				if ref.Name, err = Text(raw, math.MaxInt32); err == nil && !config.ValidName(ref.Name) {
					err = Bad("", "%q must match "+config.NamePattern, Short(ref.Name))
				}
			case "scale":
				ref.Scale, err = Float(raw, -100, 100)
			default:
				return Bad(Short(key), "is not a field of an adapter")
			}
			if err != nil {
				return err.In(key)
			}
			return nil
		})
		if err == nil && ref.Name == "" {
			err = Bad("name", "is missing")
		}
		if err == nil && slices.ContainsFunc(refs, func(r dispatch.AdapterRef) bool { return r.Name == ref.Name }) {
			err = Bad("name", "%q is there twice", ref.Name)
		}
		refs = append(refs, ref)
		return err
	})
	return refs, err
}

// Tools takes a list of objects as they are; the model's template prints them.
func Tools(raw []byte) ([]byte, *Error) {
	n := 0
	err := Array(raw, func(i int, raw []byte) *Error {
		if n = i + 1; n > dispatch.MaxTools {
			return Bad("", "more than %d tools are too many", dispatch.MaxTools)
		}
		_, err := AnyObject(raw)
		return err
	})
	if err != nil || n == 0 { // no tools are no tools
		return nil, err
	}
	return slices.Clone(raw), nil
}

// Vars takes an object of template variables. What the request has fields for cannot come this way too.
func Vars(raw []byte) ([]byte, *Error) {
	err := Object(raw, func(key string, _ []byte) *Error {
		switch key {
		case "messages", "tools", "add_generation_prompt", "bos_token", "eos_token":
			return Bad(key, "is edged's own variable")
		}
		return nil
	})
	return slices.Clone(raw), err
}

// Choice takes "auto", "none", "required", or an object that names a tool.
func Choice(raw []byte) ([]byte, *Error) {
	switch {
	case raw[0] == '{':
	case raw[0] == '"':
		if s := Unquote(raw); s != "auto" && s != "none" && s != "required" {
			return nil, Bad("", "%q is none of \"auto\", \"none\", \"required\"", Short(s))
		}
		return []byte(`"` + Unquote(raw) + `"`), nil
	default:
		return nil, Bad("", "wants a text or an object, not %s", KindOf(raw))
	}
	return slices.Clone(raw), nil
}
