package expression

import (
	"errors"
	"fmt"
	"strconv"
)

// What can be wrong with a grammar.
var (
	// ErrSyntax means that the grammar cannot be read, or describes no text at all.
	ErrSyntax = errors.New("grammar: wrong")
	// ErrUnsupported means something that could be right and is not served; the message names it and where it stands.
	ErrUnsupported = errors.New("grammar: not supported")
	// ErrTooLarge means that a bound is exceeded.
	ErrTooLarge = errors.New("grammar: too large")
	// ErrEffort means that the steps that were allowed did not suffice; it is ErrTooLarge, too.
	ErrEffort = fmt.Errorf("%w: too much work", ErrTooLarge)
)

// Syntaxf is an ErrSyntax with what is wrong.
func Syntaxf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrSyntax, fmt.Sprintf(format, args...))
}

// Unsupportedf is an ErrUnsupported with what is not served.
func Unsupportedf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnsupported, fmt.Sprintf(format, args...))
}

// Excerpt is a text for messages.
func Excerpt(s string) string {
	if r := []rune(s); len(r) > 60 {
		s = string(r[:60]) + "…"
	}
	return strconv.Quote(s)
}
