package tokenizerjson

import "edged/plugins/tokenizer-bpe/bpe/vocab"

// Object is a part of a tokenizer.json as JSON has it, for what builds one.
type Object = map[string]any

// Metaspace is a pre-tokenizer or decoder that writes spaces as blanks. scheme says when one is put before a
// text: "always", "first" or "never"; cut whether the text is cut at blanks.
func Metaspace(scheme string, cut bool) Object {
	return Object{"type": "Metaspace", "replacement": vocab.Blank, "prepend_scheme": scheme, "split": cut}
}

// ByteLevel is a pre-tokenizer or decoder that writes bytes as printable characters. prefix puts a space
// before a text, pattern cuts it with GPT-2's.
func ByteLevel(prefix, pattern bool) Object {
	return Object{"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": pattern}
}

// ReplaceText is a normalizer or decoder that replaces a text.
func ReplaceText(old, by string) Object {
	return Object{"type": "Replace", "pattern": Object{"String": old}, "content": by}
}

// ReplacePattern is a normalizer or decoder that replaces what a regular expression matches.
func ReplacePattern(old, by string) Object {
	return Object{"type": "Replace", "pattern": Object{"Regex": old}, "content": by}
}

// OfType is a part without settings.
func OfType(kind string) Object { return Object{"type": kind} }

// StripEnds is a normalizer that drops white space at the ends of a text.
func StripEnds(left, right bool) Object {
	return Object{"type": "Strip", "strip_left": left, "strip_right": right}
}

// Normalizers is a sequence of normalizers.
func Normalizers(parts ...any) Object { return Object{"type": "Sequence", "normalizers": parts} }

// PreTokenizers is a sequence of pre-tokenizers.
func PreTokenizers(parts ...any) Object { return Object{"type": "Sequence", "pretokenizers": parts} }

// Decoders is a sequence of decoders.
func Decoders(parts ...any) Object { return Object{"type": "Sequence", "decoders": parts} }
