// Package normalize has what is done to a text before it is cut into words: the normalizers of
// tokenizer.json, and SentencePiece's own with its compiled map of characters.
//
// It is not for cutting text (package pretokenize). Normalizers may be used concurrently.
package normalize
