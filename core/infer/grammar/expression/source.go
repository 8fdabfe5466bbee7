package expression

import (
	"context"
	"fmt"
)

// NewSource is a source without rules that may take so many steps.
func NewSource(ctx context.Context, steps int) *Source {
	return &Source{Names: map[string]int{}, Root: "root", Effort: newEffort(ctx, steps)}
}

// Bounds of the expressions of one grammar.
const (
	MaxNodes   = 1 << 17 // of the network that they become, edges included
	MaxCount   = 1 << 20 // of repetitions, lengths and items
	MaxNesting = 128     // of groups, of schemas
	maxRules   = 1 << 14
)

// Source is a grammar as expressions, before it becomes a network.
type Source struct {
	*Effort
	Names map[string]int // of rules
	Rules []Definition
	Root  string
	After string
	Named []string // control tokens that %token names
}

// Definition is a rule.
type Definition struct {
	Name string
	Body *Expr // nil: named, not defined
}

// Rule is the number of a rule, which need not be defined yet.
func (s *Source) Rule(name string) (int, error) {
	if i, ok := s.Names[name]; ok {
		return i, nil
	}
	i, err := s.Add(name, nil)
	s.Names[name] = i
	return i, err
}

// Add makes a rule that no text can name.
func (s *Source) Add(name string, body *Expr) (int, error) {
	if len(s.Rules) >= maxRules {
		return 0, fmt.Errorf("%w: more than %d rules", ErrTooLarge, maxRules)
	}
	s.Rules = append(s.Rules, Definition{name, body})
	return len(s.Rules) - 1, nil
}
