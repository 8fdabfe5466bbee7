package expression

// Op says what an expression is.
type Op uint8

// The operations.
const (
	OpEmpty       Op = iota // the empty text
	OpLiteral               // Literal
	OpClass                 // one character of Class
	OpSequence              // Subs, one after the other
	OpAlternative           // one of Subs
	OpRepeat                // Subs[0], Min to Max times; Max below 0: without end
	OpRule                  // a text of Rule
	OpMembers               // Subs in their order, between them ", "; Must says which cannot be left out
	OpMachine               // a text that leads along Moves from state 0 to one of Ends
)

// Expr is an expression. Expressions may share parts. There may be a hundred thousand of them, so that what
// few have stands apart.
type Expr struct {
	Op       Op
	Rule     int32
	Literal  string
	Class    []Span
	Subs     []*Expr
	Min, Max int
	*Parts   // of OpMembers and OpMachine
}

// Parts holds the fields that only the two largest kinds of expression have.
type Parts struct {
	Must    []bool
	Rest    *Expr    // of OpMembers: one more member, repeated; nil: there are no others
	Counted bool     // of OpMembers: there are Min to Max members
	Moves   [][]Move // of OpMachine, by state
	Ends    []bool   // of OpMachine, by state
}

// Span is a range of code points.
type Span struct{ Lo, Hi rune }

// Literal is an expression of one text.
func Literal(s string) *Expr { return &Expr{Op: OpLiteral, Literal: s} }

// Sequence is one expression after the other.
func Sequence(subs ...*Expr) *Expr { return &Expr{Op: OpSequence, Subs: subs} }

// Alternative is one of several expressions.
func Alternative(subs ...*Expr) *Expr { return &Expr{Op: OpAlternative, Subs: subs} }

// Class is one character of some spans.
func Class(spans ...Span) *Expr { return &Expr{Op: OpClass, Class: spans} }

// Repeat is an expression least to most times; most below 0: without end.
func Repeat(sub *Expr, least, most int) *Expr {
	return &Expr{Op: OpRepeat, Subs: []*Expr{sub}, Min: least, Max: most}
}

// Call is a text of a rule.
func Call(rule int) *Expr { return &Expr{Op: OpRule, Rule: int32(rule)} }

// Move is a step of a machine in a network: an expression of one character, and the state that it leads to.
type Move struct {
	On *Expr
	To int32
}
