package engine

import (
	"errors"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/test/oracle"
)

// TestObserve: the logits of a list give the log-probabilities that Score does, a row for each position that is asked for, and
// every matrix met every token: experts those that their router sent them.
func TestObserve(t *testing.T) {
	e, info := load(t, backend.LoadRequest{Path: filepath.Join(oracle.Dir(t), "models/mixtral/mixtral-F16.gguf"), Context: 256, Precision: backend.Exact})
	lists := make([][]int32, 2)
	for i := range lists {
		for k := range 150 - 100*i { // the first is longer than a piece
			lists[i] = append(lists[i], int32(mix(uint64(1000*i+k))%400))
		}
	}
	scores, err := e.Score(t.Context(), backend.ScoreRequest{Lists: lists})
	if err != nil {
		t.Fatal(err)
	}
	const from = 3
	rows := [2]int{from, from}
	inputs, err := e.Observe(t.Context(), backend.ObserveRequest{Lists: lists, Inputs: true, Logits: true, From: from}, func(list, position int, logits []float32) error {
		if len(logits) != info.VocabRows || position != rows[list] || list == 1 && rows[0] != len(lists[0]) {
			t.Fatalf("list %d, position %d: %d logits after position %d", list, position, len(logits), rows[list])
		}
		rows[list]++
		if position+1 == len(lists[list]) {
			return nil
		}
		sum := 0.0
		for _, x := range logits {
			sum += math.Exp(float64(x))
		}
		if got, want := float64(logits[lists[list][position+1]])-math.Log(sum), scores[list].Logprobs[position]; math.Abs(got-float64(want)) > 1e-4 {
			t.Errorf("list %d, position %d: %v, score says %v", list, position, got, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if rows[0] != len(lists[0]) || rows[1] != len(lists[1]) {
		t.Errorf("rows up to %v", rows)
	}
	seen := map[string]backend.MatrixInputs{}
	for _, m := range inputs {
		seen[m.Name] = m
		var met int64
		for i, n := range m.Counts {
			met += n
			cols := len(m.Squares) / len(m.Counts)
			sum := 0.0
			for _, v := range m.Squares[i*cols : (i+1)*cols] {
				sum += float64(v)
			}
			if (n > 0) != (sum > 0) {
				t.Errorf("%s: matrix %d met %d inputs, whose squares add up to %v", m.Name, i, n, sum)
			}
		}
		want := int64(len(lists[0]) + len(lists[1]))
		switch {
		case strings.Contains(m.Name, "_exps."):
			want *= 2 // experts of a token
		case m.Name == "output.weight" || m.Name == "token_embd.weight":
			want -= 2 * from
		}
		if met != want {
			t.Errorf("%s met %d inputs, want %d", m.Name, met, want)
		}
	}
	for _, name := range []string{"blk.0.attn_q.weight", "blk.1.attn_output.weight", "blk.1.ffn_gate_inp.weight", "blk.0.ffn_down_exps.weight"} {
		if len(seen[name].Squares) == 0 {
			t.Errorf("%s was not seen among %d", name, len(seen))
		}
	}
	// The last layers see every token where no logits are wanted, too.
	inputs, err = e.Observe(t.Context(), backend.ObserveRequest{Lists: lists, Inputs: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range inputs {
		if got, want := m.Counts[0], seen[m.Name].Counts[0]; got != want {
			t.Errorf("%s met %d inputs without logits, %d with", m.Name, got, want)
		}
	}
	for what, c := range map[string]struct {
		list []int32
		want error
	}{"an id": {[]int32{1, 1 << 20}, protocol.ErrInvalid}, "a list": {make([]int32, 257), protocol.ErrContextLength}} {
		if _, err := e.Observe(t.Context(), backend.ObserveRequest{Lists: [][]int32{c.list}, Inputs: true}, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	stop := errors.New("stop")
	if _, err := e.Observe(t.Context(), backend.ObserveRequest{Lists: lists, Logits: true}, func(int, int, []float32) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("a caller that stops: %v", err)
	}
	st, err := e.Stats(t.Context())
	if err != nil || st.KVPagesUsed != 0 {
		t.Errorf("%d pages are held afterwards, %v", st.KVPagesUsed, err)
	}
}
