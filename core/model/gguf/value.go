package gguf

// Value reads a value of any type: int64, uint64, float64, bool, string, or a list of them. Of a list of more
// than limit entries it is a description.
func (f *File) Value(key string, limit int) (any, bool) {
	if n, ok := f.Len(key); ok {
		if n > limit {
			return f.Describe(key), true // a wrong type, whatever is asked for
		}
		if v, err := f.Ints(key); err == nil {
			return v, true
		}
		if v, err := f.Floats(key); err == nil {
			return v, true
		}
		if v, err := f.Bools(key); err == nil {
			return v, true
		}
		v, err := f.Strings(key)
		return v, err == nil
	}
	if v, err := f.Int(key); err == nil {
		return v, true
	}
	if v, err := f.Uint(key); err == nil {
		return v, true
	}
	if v, err := f.Float(key); err == nil {
		return v, true
	}
	if v, err := f.Bool(key); err == nil {
		return v, true
	}
	v, err := f.String(key)
	return v, err == nil
}
