// Package transformers knows what transformers 5.24 makes of the files beside a tokenizer: which class reads
// a folder, what that class builds in place of what tokenizer.json says, which special tokens and chat
// templates there are.
//
// It is not for reading vocabularies or building tokenizers (package huggingface). What it returns is not
// changed after that and may be read concurrently, but for a Config, which its reader may complete.
package transformers
