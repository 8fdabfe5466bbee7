// Package tokenizerjson is the format of Hugging Face's tokenizer.json: its fields as Go values, and
// constructors of the parts that classes of transformers and other files put in their place.
//
//	{"added_tokens": […], "normalizer": {…}, "pre_tokenizer": {…}, "post_processor": {…}, "decoder": {…}, "model": {…}}
//
// Vocabularies and merges have up to millions of strings and are read without an allocation for each.
//
// It is not for what the parts do: packages normalize, pretokenize, decode and model make working ones of them. Source:
// https://github.com/huggingface/tokenizers, tokenizers/src.
package tokenizerjson
