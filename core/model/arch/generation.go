package arch

// Generation is how an encoder-decoder's files want answers to be drawn: generation_config.json by
// transformers' names. Of a length the decoder's start token counts as one.
type Generation struct {
	Start int32   // the decoder's first token
	EOS   []int32 // any of them ends an answer

	MaxLength, MaxNew int // 0: not said; MaxNew wins
	MinLength, MinNew int

	Beams         int // 1: greedy
	LengthPenalty float64
	Early         Early

	NoRepeat, EncoderNoRepeat     int // n of n-grams that no answer repeats, of its own and of the text's; 0: none
	Repetition, EncoderRepetition float64
	BadWords                      [][]int32
	ForcedBOS                     int32   // the first token behind Start; -1: free
	ForcedEOS                     []int32 // the last token of an answer of MaxLength; nil: free
	Suppress, BeginSuppress       []int32
	Renormalize                   bool
}

// Early is when a beam search ends, transformers' early_stopping.
type Early uint8

// The ways, once as many answers have ended as there are beams.
const (
	EarlyFalse Early = iota // when no running one is better at its present length
	EarlyTrue               // at once
	EarlyNever              // when none could become better at any length
)

// MaxBeams bounds the beams of a search.
const MaxBeams = 64
