package fields

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"strconv"

	"edged/core/serve/dispatch"
)

// The functions of this file decode one field each. They take well-formed JSON and say what they want instead of what
// they got.

// Text takes a text of at most so many bytes.
func Text(raw []byte, most int) (string, *Error) {
	if raw[0] != '"' {
		return "", Bad("", "wants a text, not %s", KindOf(raw))
	}
	s := Unquote(raw)
	if len(s) > most {
		return "", Bad("", "has %d bytes, more than %d", len(s), most)
	}
	return s, nil
}

// Bool takes true or false.
func Bool(raw []byte) (bool, *Error) {
	switch string(raw) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, Bad("", "wants true or false, not %s", KindOf(raw))
}

// IsNumber reports whether a JSON value is a number.
func IsNumber(raw []byte) bool { return raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9' }

// Int takes whole numbers, also those that a client writes as 64.0 or 6.4e1.
func Int(raw []byte, least, most int64) (int64, *Error) {
	if !IsNumber(raw) {
		return 0, Bad("", "wants a whole number, not %s", KindOf(raw))
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil {
		f, err := strconv.ParseFloat(string(raw), 64)
		if err != nil || f != math.Trunc(f) {
			return 0, Bad("", "wants a whole number, not %s", Short(string(raw)))
		}
		if math.Abs(f) > 1<<53 {
			return 0, Bad("", "%s is outside %d to %d", Short(string(raw)), least, most)
		}
		n = int64(f)
	}
	if n < least || n > most {
		return 0, Bad("", "%d is outside %d to %d", n, least, most)
	}
	return n, nil
}

// Seed takes any 64-bit number.
func Seed(raw []byte) (uint64, *Error) {
	if !IsNumber(raw) {
		return 0, Bad("", "wants a whole number, not %s", KindOf(raw))
	}
	if n, err := strconv.ParseUint(string(raw), 10, 64); err == nil {
		return n, nil
	}
	n, err := Int(raw, 0, 1<<53)
	if err != nil {
		return 0, Bad("", "%s is no whole number from 0 to 18446744073709551615", Short(string(raw)))
	}
	return uint64(n), nil //nolint:gosec // not negative
}

// Float takes a number within bounds.
func Float(raw []byte, least, most float32) (float32, *Error) {
	if !IsNumber(raw) {
		return 0, Bad("", "wants a number, not %s", KindOf(raw))
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	// Compared before the conversion, which would round 1.00000001 to 1 and overflow to infinity.
	if err != nil || math.IsNaN(f) || f < float64(least) || f > float64(most) {
		return 0, Bad("", "%s is outside %v to %v", Short(string(raw)), least, most)
	}
	return float32(f), nil
}

// IDs takes a list of token ids.
func IDs(raw []byte, most int) ([]int32, *Error) {
	var ids []int32
	err := Array(raw, func(i int, raw []byte) *Error {
		if i >= most {
			return Bad("", "more than %d are too many", most)
		}
		n, err := Int(raw, 0, math.MaxInt32)
		ids = append(ids, int32(n)) //nolint:gosec // bounded by Int
		return err
	})
	return ids, err
}

// Texts takes a list of texts, or one.
func Texts(raw []byte, mostTexts, leastBytes, mostBytes int) ([]string, *Error) {
	one := func(raw []byte) (string, *Error) {
		s, err := Text(raw, mostBytes)
		if err == nil && len(s) < leastBytes {
			err = Bad("", "is empty")
		}
		return s, err
	}
	if raw[0] == '"' {
		s, err := one(raw)
		return []string{s}, err
	}
	var texts []string
	err := Array(raw, func(i int, raw []byte) *Error {
		if i >= mostTexts {
			return Bad("", "more than %d texts are too many", mostTexts)
		}
		s, err := one(raw)
		texts = append(texts, s)
		return err
	})
	return texts, err
}

// EmbedOption reads what a request for embeddings has beside its texts, under the names that MQTT and
// OpenAI's form share.
func EmbedOption(req *dispatch.Request, key string, raw []byte) (known bool, err *Error) {
	switch key {
	case "task", "prompt_name":
		var task string
		if task, err = Text(raw, dispatch.MaxTask); err == nil && req.Task != "" && task != req.Task {
			err = Bad("", "%q is not the %q that the other of task and prompt_name says", Short(task), Short(req.Task))
		}
		req.Task = task
	case "dimensions":
		var n int64
		n, err = Int(raw, 1, dispatch.MaxDims)
		req.Dims = int(n)
	case "encoding_format":
		var word string
		if word, err = Text(raw, 64); err == nil && word != "float" && word != "base64" {
			err = Bad("", `%q is neither "float" nor "base64"`, Short(word))
		}
		req.Packed = word == "base64"
	case "truncate":
		var cut bool
		cut, err = Bool(raw)
		req.Whole = !cut
	default:
		return false, nil
	}
	return true, err
}

// Packed is a vector as base64 of its little-endian float32s.
func Packed(v []float32) string {
	b := make([]byte, 0, 4*len(v))
	for _, f := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
	}
	return base64.StdEncoding.EncodeToString(b)
}

// Documents takes a list of documents to be ranked: texts, or objects with one in "text", as other servers take them.
func Documents(raw []byte, most int) ([]string, *Error) {
	var texts []string
	err := Array(raw, func(i int, raw []byte) *Error {
		if i >= most {
			return Bad("", "more than %d documents are too many", most)
		}
		text := raw
		if raw[0] == '{' {
			text = nil
			if err := Object(raw, func(key string, raw []byte) *Error {
				if key == "text" {
					text = raw
				}
				return nil
			}); err != nil {
				return err
			}
			if text == nil {
				return Bad("text", "is missing")
			}
		}
		s, err := Text(text, math.MaxInt32)
		if err == nil && s == "" {
			err = Bad("", "is empty")
		}
		texts = append(texts, s)
		return err
	})
	if err == nil && len(texts) == 0 {
		err = Bad("", "holds no document")
	}
	return texts, err
}

// Bias takes an object of token ids (as texts, which JSON keys are) and logit biases.
func Bias(raw []byte) (map[int32]float32, *Error) {
	bias := map[int32]float32{}
	err := Object(raw, func(key string, raw []byte) *Error {
		if len(bias) == dispatch.MaxLogitBias {
			return Bad("", "more than %d tokens are too many", dispatch.MaxLogitBias)
		}
		id, err := strconv.ParseInt(key, 10, 32)
		if err != nil || key[0] < '0' || key[0] > '9' || len(key) > 10 {
			return Bad(Short(key), "is no token id")
		}
		b, ferr := Float(raw, -1e4, 1e4)
		if ferr != nil {
			return ferr.In(key)
		}
		if _, twice := bias[int32(id)]; twice {
			return Bad(Short(key), "is there twice")
		}
		bias[int32(id)] = b
		return nil
	})
	return bias, err
}

// AnyObject takes any object and keeps its bytes.
func AnyObject(raw []byte) ([]byte, *Error) {
	if raw[0] != '{' {
		return nil, Bad("", "wants an object, not %s", KindOf(raw))
	}
	return raw, nil
}
