package dispatch

import (
	"fmt"
	"testing"

	"edged/core/protocol"
)

// TestAsError: a code is told once, beside the sentence and not in it too.
func TestAsError(t *testing.T) {
	for _, c := range []struct {
		err     error
		code    Code
		message string
	}{
		{fmt.Errorf("%w: target_lang: the model is no encoder-decoder", protocol.ErrUnsupported), CodeUnsupported, "target_lang: the model is no encoder-decoder"},
		{fmt.Errorf("dispatch: %w: tool_choice: nobody knows how", protocol.ErrUnsupported), CodeUnsupported, "tool_choice: nobody knows how"},
		{fmt.Errorf("%w: ids: 7 is none", protocol.ErrInvalid), CodeInvalidRequest, "ids: 7 is none"},
		{fmt.Errorf("the backend: %w", protocol.ErrUnsupported), CodeUnsupported, "the backend: unsupported"},
		{protocol.ErrUnsupported, CodeUnsupported, "unsupported"},
		{fail(CodeModelNotFound, "x"), CodeModelNotFound, "x"},
	} {
		if e := asError(c.err); e.Code != c.code || e.Message != c.message {
			t.Errorf("%v: %+v", c.err, e)
		}
	}
}
