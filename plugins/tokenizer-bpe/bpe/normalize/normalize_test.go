package normalize

import (
	"encoding/json"
	"errors"
	"testing"

	"edged/plugins/tokenizer-bpe/bpe/split"
)

// TestSlowPattern: a text on which a pattern takes too long is refused.
func TestSlowPattern(t *testing.T) {
	const regex = `{"type":"Replace","pattern":{"Regex":"a+b"},"content":"c"}`
	var spent split.Budget
	for _, raw := range []string{regex, `{"type":"Sequence","normalizers":[{"type":"NFC"},` + regex + `,{"type":"Lowercase"}]}`} {
		normalize, err := Read(json.RawMessage(raw), split.HuggingFaceClasses())
		if err != nil {
			t.Fatal(err)
		}
		if s, err := normalize("aab", &spent); !errors.Is(err, split.ErrPattern) {
			t.Errorf("%s: %q, %v", raw, s, err)
		}
		b := split.NewBudget(3)
		if s, err := normalize("aab", &b); err != nil || s != "c" {
			t.Errorf("%s: %q, %v", raw, s, err)
		}
	}
}
