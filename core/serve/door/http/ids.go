package http

import (
	"crypto/rand"
	"encoding/hex"
)

// newID is an identifier with a prefix, that nobody can guess.
func newID(prefix string) string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // it never fails
	return prefix + hex.EncodeToString(b[:])
}

// newCallID is the identifier of a tool call: nine letters and digits, since there are templates that take no other.
func newCallID() string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	var b [9]byte
	_, _ = rand.Read(b[:]) // it never fails
	for i, c := range b {
		b[i] = letters[int(c)%len(letters)]
	}
	return string(b[:])
}
