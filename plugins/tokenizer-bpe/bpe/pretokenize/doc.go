// Package pretokenize makes pre-tokenizers, which cut a text into the words that a model encodes one by one:
// those of tokenizer.json, as chains of the splitters of package split, and BERT's as llama.cpp has it.
//
// It is not for the patterns themselves (package split), nor for what becomes of a word (package model).
// Pre-tokenizers may be used concurrently.
package pretokenize
