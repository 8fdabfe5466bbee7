// Package vocab holds the vocabulary of a model: what each token is written as, what type it has, and the
// indexes that find tokens by their text. It also knows the two ways in which vocabularies write bytes:
// GPT-2's printable characters, and <0x00> to <0xFF>.
//
// It is not for turning text into tokens (package model), and knows no file format. All of its types may be
// used concurrently once they are built.
package vocab
