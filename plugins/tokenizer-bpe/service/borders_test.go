package service

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"edged/core/protocol/tokenizer"
	"edged/test/oracle"
)

// TestBorders: a prompt tells where the next one that begins alike goes on otherwise: behind the system message, before its time of day, and
// at the end of each further message. What the tokens are is not changed.
func TestBorders(t *testing.T) {
	s, _ := load(t, filepath.Join(oracle.Dir(t), "models", "qwen2", "hf"))
	encode := func(messages ...string) tokenizer.ChatIDs {
		t.Helper()
		var list []map[string]string
		for i, m := range messages {
			list = append(list, map[string]string{"role": []string{"system", "user", "assistant", "user"}[i], "content": m})
		}
		raw, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		out, err := s.EncodeChat(t.Context(), tokenizer.Chat{Messages: raw})
		if err != nil {
			t.Fatal(err)
		}
		for i, n := range out.Borders {
			if n <= 0 || int(n) >= len(out.IDs) || i > 0 && n <= out.Borders[i-1] {
				t.Errorf("borders %v of %d ids", out.Borders, len(out.IDs))
			}
		}
		return out
	}
	common := func(a, b []int32) int32 {
		n := 0
		for n < min(len(a), len(b)) && a[n] == b[n] {
			n++
		}
		return int32(n)
	}
	const system = "You run a house with many rooms. It is 12:34 now. Be brief."
	a := encode(system, "Is the door shut?", "It is.", "And the window?")
	if len(a.Borders) != 5 { // the time, and four messages
		t.Fatalf("borders %v of %d ids", a.Borders, len(a.IDs))
	}
	for _, c := range []struct {
		name     string
		messages []string
		border   int // the last one that both share
		slack    int32
	}{
		{"another time", []string{"You run a house with many rooms. It is 12:35 now. Be brief.", "Is the door shut?"}, 0, 8},
		{"another question", []string{system, "Light on!"}, 1, 8},
		{"the turn before", []string{system, "Is the door shut?"}, 2, 8},
		{"the answer changed", []string{system, "Is the door shut?", "No, it is not."}, 2, 8},
		{"another second question", []string{system, "Is the door shut?", "It is.", "Good."}, 3, 8},
	} {
		b := encode(c.messages...)
		n := common(a.IDs, b.IDs)
		if at := a.Borders[c.border]; at > n || n-at > c.slack {
			t.Errorf("%s: %d ids in common, the border is at %d", c.name, n, at)
		}
		if b.Borders[c.border] != a.Borders[c.border] {
			t.Errorf("%s: border %d is at %d and %d", c.name, c.border, a.Borders[c.border], b.Borders[c.border])
		}
	}
}
