// Package sentencepiece reads SentencePiece's model files.
//
// A file is a protobuf message with these fields:
//
//	1  pieces, each: 1 text, 2 score (float), 3 type (1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte)
//	2  trainer: 3 kind of model (1 unigram, 2 BPE), 35 byte fallback, 40 to 42 ids of unknown, BOS, EOS, 45 to 47 their texts
//	3  normalizer: 2 character map, 3 a blank before the text, 4 runs of spaces are one, 5 spaces become blanks
//
// It is not for encoding with them (packages model and normalize). Parse may be called concurrently. Source:
// https://github.com/google/sentencepiece, src/sentencepiece_model.proto.
package sentencepiece
