package transformers

import "testing"

// TestBareNumbers: what Python writes where JSON has no number is no error in the files beside a tokenizer.json.
func TestBareNumbers(t *testing.T) {
	for in, want := range map[string]string{
		`{"a": Infinity, "b": [-Infinity,NaN], "c": "NaN \\" , "d": "\"Infinity"}`: `{"a": null, "b": [null,null], "c": "NaN \\" , "d": "\"Infinity"}`,
		`{"a": 1}`: `{"a": 1}`, `"NaN\`: `"NaN\`, `NaN`: `null`, ``: ``,
	} {
		if got := string(FiniteJSON([]byte(in))); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
