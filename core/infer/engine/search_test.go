package engine

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/test/oracle"
	"edged/test/race"
)

// TestSearch: what a request says about the search counts, the answers are transformers', and the id that ended one and its score come
// with it.
func TestSearch(t *testing.T) {
	race.SkipArithmetic(t)
	dir := filepath.Join(oracle.Dir(t), "encoders/t5")
	var want struct {
		Lists []struct {
			IDs []int32 `json:"ids"`
		} `json:"lists"`
		EOS      int32 `json:"eos_token_id"`
		Generate []struct {
			Settings struct {
				Beams   int             `json:"num_beams"`
				Penalty *float64        `json:"length_penalty"`
				Early   json.RawMessage `json:"early_stopping"`
				Max     int             `json:"max_new_tokens"`
				Return  int             `json:"num_return_sequences"`
			} `json:"settings"`
			Case    string `json:"case"`
			Lists   []int  `json:"lists"`
			Results []struct {
				Sequence []int32  `json:"sequence"`
				Score    *float64 `json:"score"`
			} `json:"results"`
		} `json:"generate"`
	}
	text, err := os.ReadFile(filepath.Join(dir, "oracle/s2s.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	e, _ := load(t, backend.LoadRequest{Path: filepath.Join(dir, "hf"), Precision: backend.Exact, MaxSequences: 8})
	ask := func(req backend.Request) (backend.Choice, error) {
		var out backend.Choice
		err := e.Generate(t.Context(), req, func(ev backend.Event) error {
			if ev.Done {
				out = ev.Choices[0]
			}
			return nil
		})
		return out, err
	}
	compared := 0
	for _, g := range want.Generate {
		if g.Case != "beam" || g.Settings.Return > 1 {
			continue
		}
		early := string(g.Settings.Early)
		if early == `"never"` {
			early = "never"
		}
		for i, list := range g.Lists {
			c, err := ask(backend.Request{
				PromptIDs: want.Lists[list].IDs, MaxTokens: g.Settings.Max,
				Search: backend.Search{Beams: g.Settings.Beams, LengthPenalty: g.Settings.Penalty, EarlyStopping: early},
			})
			if err != nil {
				t.Fatal(err)
			}
			ids := c.IDs
			if c.End != nil {
				ids = append(slices.Clone(ids), *c.End)
			}
			r := g.Results[i]
			if !slices.Equal(ids, r.Sequence[1:]) || c.Score == nil || !(math.Abs(float64(*c.Score)-*r.Score) <= 1e-3) {
				t.Errorf("%+v, list %d: %v, score %v; want %v, %v", g.Settings, list, ids, c.Score, r.Sequence, *r.Score)
			}
			if (c.End != nil) != (r.Sequence[len(r.Sequence)-1] == want.EOS) {
				t.Errorf("%+v, list %d: ended by %v", g.Settings, list, c.End)
			}
			compared++
		}
	}
	if compared < 20 {
		t.Errorf("only %d results were compared", compared)
	}
	if c, err := ask(backend.Request{PromptIDs: want.Lists[0].IDs, MaxTokens: 3, Search: backend.Search{Beams: 1}}); err != nil || c.Score != nil {
		t.Errorf("greedily: score %v, %v", c.Score, err)
	}
	nan := math.NaN()
	for name, s := range map[string]backend.Search{
		"num_beams": {Beams: 65}, "below": {Beams: -1}, "length_penalty": {LengthPenalty: &nan}, "early_stopping": {EarlyStopping: "soon"},
	} {
		if _, err := ask(backend.Request{PromptIDs: want.Lists[0].IDs, Search: s}); !errors.Is(err, protocol.ErrInvalid) {
			t.Errorf("%s: %v, want invalid", name, err)
		}
	}
}
