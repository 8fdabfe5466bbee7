package decode

import (
	"encoding/json"
	"errors"
	"testing"

	"edged/plugins/tokenizer-bpe/bpe/split"
)

// TestSlowPatternDecoding: a token on which a pattern takes too long is refused.
func TestSlowPatternDecoding(t *testing.T) {
	d, err := Read(json.RawMessage(`{"type":"Replace","pattern":{"Regex":"a+b"},"content":"c"}`))
	if err != nil {
		t.Fatal(err)
	}
	var spent split.Budget
	if s, err := d.piece(nil, "aab", &spent); !errors.Is(err, split.ErrPattern) {
		t.Errorf("a piece is %q, %v", s, err)
	}
	if _, err := d.steps[0]([]string{"aab"}, &spent); !errors.Is(err, split.ErrPattern) {
		t.Errorf("decoding: %v", err)
	}
}
