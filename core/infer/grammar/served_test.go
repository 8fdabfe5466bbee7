package grammar

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"edged/core/infer/grammar/grammartest"
	"edged/test/oracle"
)

// answers draws texts of a schema, tokens at random.
func answers(t *testing.T, schema string, v *Vocabulary, pieces [][]byte, n int) ([][]byte, error) {
	t.Helper()
	parsed, err := Parse(t.Context(), Schema([]byte(schema)))
	if err != nil {
		return nil, err
	}
	a, err := parsed.Bind(v)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for i := range n {
		rng := rand.New(rand.NewPCG(uint64(i), 3))
		m, err := a.Start(20 + 40*i)
		if errors.Is(err, ErrTooShort) {
			m, err = a.Start(int(a.need(a.start)) + 10*i)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, drawAll(t, m, pieces, rng))
	}
	return out, nil
}

// TestSharedCases: the schemas that zod 4 prints are served, and every answer is valid.
func TestSharedCases(t *testing.T) {
	served(t, oracle.Read(t, oracle.Cases(t), "schemas.json"))
}

// TestSchemasOf does the same with a file of schemas by name, as tools/schemas makes them, where EDGED_SCHEMAS names one. The
// answers are written beside it, for other validators.
func TestSchemasOf(t *testing.T) {
	path := os.Getenv("EDGED_SCHEMAS")
	if path == "" {
		t.Skip("EDGED_SCHEMAS is not set")
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(served(t, raw))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".answers", out, 0o600); err != nil {
		t.Fatal(err)
	}
}

func served(t *testing.T, raw []byte) map[string][]string {
	t.Helper()
	var all map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	v, pieces := letters(jsonPieces()...)
	out := map[string][]string{}
	good := 0
	for _, name := range slices.Sorted(maps.Keys(all)) {
		schema := string(all[name])
		made, err := answers(t, schema, v, pieces, 20)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		wrong := error(nil)
		for _, a := range made {
			if err := grammartest.Validate(schema, a); err != nil && wrong == nil {
				wrong = fmt.Errorf("%s: %s: %.300q: %.200w", name, schema, a, err)
			}
			out[name] = append(out[name], string(a))
		}
		if wrong != nil {
			t.Error(wrong)
			continue
		}
		good++
	}
	t.Logf("%d of %d schemas are served, with 20 valid answers each", good, len(all))
	return out
}
