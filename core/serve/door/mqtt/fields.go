package mqtt

import (
	"math"
	"strconv"
)

// The functions of this file decode one field each. They take well-formed JSON and say what they want instead of what
// they got.

func textField(raw []byte, most int) (string, *fieldError) {
	if raw[0] != '"' {
		return "", bad("", "wants a text, not %s", kindOf(raw))
	}
	s := unquote(raw)
	if len(s) > most {
		return "", bad("", "has %d bytes, more than %d", len(s), most)
	}
	return s, nil
}

func boolField(raw []byte) (bool, *fieldError) {
	switch string(raw) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, bad("", "wants true or false, not %s", kindOf(raw))
}

func isNumber(raw []byte) bool { return raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9' }

// intField takes whole numbers, also those that a client writes as 64.0 or 6.4e1.
func intField(raw []byte, least, most int64) (int64, *fieldError) {
	if !isNumber(raw) {
		return 0, bad("", "wants a whole number, not %s", kindOf(raw))
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil {
		f, err := strconv.ParseFloat(string(raw), 64)
		if err != nil || f != math.Trunc(f) {
			return 0, bad("", "wants a whole number, not %s", short(string(raw)))
		}
		if math.Abs(f) > 1<<53 {
			return 0, bad("", "%s is outside %d to %d", short(string(raw)), least, most)
		}
		n = int64(f)
	}
	if n < least || n > most {
		return 0, bad("", "%d is outside %d to %d", n, least, most)
	}
	return n, nil
}

// seedField takes any 64-bit number.
func seedField(raw []byte) (uint64, *fieldError) {
	if !isNumber(raw) {
		return 0, bad("", "wants a whole number, not %s", kindOf(raw))
	}
	if n, err := strconv.ParseUint(string(raw), 10, 64); err == nil {
		return n, nil
	}
	n, err := intField(raw, 0, 1<<53)
	if err != nil {
		return 0, bad("", "%s is no whole number from 0 to 18446744073709551615", short(string(raw)))
	}
	return uint64(n), nil //nolint:gosec // not negative
}

func floatField(raw []byte, least, most float32) (float32, *fieldError) {
	if !isNumber(raw) {
		return 0, bad("", "wants a number, not %s", kindOf(raw))
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	// Compared before the conversion, which would round 1.00000001 to 1 and overflow to infinity.
	if err != nil || math.IsNaN(f) || f < float64(least) || f > float64(most) {
		return 0, bad("", "%s is outside %v to %v", short(string(raw)), least, most)
	}
	return float32(f), nil
}

// idsField takes a list of token ids.
func idsField(raw []byte, most int) ([]int32, *fieldError) {
	var ids []int32
	err := array(raw, func(i int, raw []byte) *fieldError {
		if i >= most {
			return bad("", "more than %d are too many", most)
		}
		n, err := intField(raw, 0, math.MaxInt32)
		ids = append(ids, int32(n)) //nolint:gosec // bounded by intField
		return err
	})
	return ids, err
}

// textsField takes a list of texts, or one.
func textsField(raw []byte, mostTexts, leastBytes, mostBytes int) ([]string, *fieldError) {
	one := func(raw []byte) (string, *fieldError) {
		s, err := textField(raw, mostBytes)
		if err == nil && len(s) < leastBytes {
			err = bad("", "is empty")
		}
		return s, err
	}
	if raw[0] == '"' {
		s, err := one(raw)
		return []string{s}, err
	}
	var texts []string
	err := array(raw, func(i int, raw []byte) *fieldError {
		if i >= mostTexts {
			return bad("", "more than %d texts are too many", mostTexts)
		}
		s, err := one(raw)
		texts = append(texts, s)
		return err
	})
	return texts, err
}

// biasField takes an object of token ids (as texts, which JSON keys are) and logit biases.
func biasField(raw []byte) (map[int32]float32, *fieldError) {
	bias := map[int32]float32{}
	err := object(raw, func(key string, raw []byte) *fieldError {
		if len(bias) == maxLogitBias {
			return bad("", "more than %d tokens are too many", maxLogitBias)
		}
		id, err := strconv.ParseInt(key, 10, 32)
		if err != nil || key[0] < '0' || key[0] > '9' || len(key) > 10 {
			return bad(short(key), "is no token id")
		}
		b, ferr := floatField(raw, -1e4, 1e4)
		if ferr != nil {
			return ferr.in(key)
		}
		if _, twice := bias[int32(id)]; twice {
			return bad(short(key), "is there twice")
		}
		bias[int32(id)] = b
		return nil
	})
	return bias, err
}

// objectField takes any object and keeps its bytes.
func objectField(raw []byte) ([]byte, *fieldError) {
	if raw[0] != '{' {
		return nil, bad("", "wants an object, not %s", kindOf(raw))
	}
	return raw, nil
}
