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

// rankCase is a pair of rank.json or judge.json.
type rankCase struct {
	IDs   []int32 `json:"ids"`
	Types []int32 `json:"types"`
	Logit float64 `json:"logit"`
	Yes   float64 `json:"logit_yes"`
	No    float64 `json:"logit_no"`
	Score float64 `json:"score"`
}

// TestRank: logits and scores of pairs are sentence-transformers' from cross-encoders, and transformers' from a decoder that is asked.
func TestRank(t *testing.T) {
	race.SkipArithmetic(t)
	dir := filepath.Join(oracle.Dir(t), "encoders")
	for path, file := range map[string]string{
		"bert-rank/hf": "rank.json", "xlmr-rank/xlmr-rank-F16.gguf": "rank.json", "modernbert-rank/hf": "rank.json",
		"qwen3-judge/hf": "judge.json", "qwen3-judge/qwen3-judge-F16.gguf": "judge.json",
	} {
		t.Run(path, func(t *testing.T) {
			e, info := load(t, backend.LoadRequest{Path: filepath.Join(dir, path), Precision: backend.Exact, MaxSequences: 2})
			name, _ := filepath.Split(path)
			var want struct {
				Yes   int32      `json:"yes"`
				No    int32      `json:"no"`
				Pairs []rankCase `json:"pairs"`
			}
			text, err := os.ReadFile(filepath.Join(dir, name, "oracle", file))
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(text, &want); err != nil {
				t.Fatal(err)
			}
			req := backend.RankRequest{Yes: want.Yes, No: want.No}
			for _, p := range want.Pairs {
				req.Lists = append(req.Lists, p.IDs)
				if p.Types != nil {
					req.Types = append(req.Types, p.Types)
				}
			}
			if info.Kind == "encoder" && (!info.Does(backend.TaskRank) || info.Does(backend.TaskEmbed)) {
				t.Errorf("tasks %v", info.Tasks)
			}
			got, err := e.Rank(t.Context(), req)
			if err != nil || len(got) != len(want.Pairs) {
				t.Fatalf("%d results, %v", len(got), err)
			}
			for i, p := range want.Pairs {
				logit := p.Logit
				if file == "judge.json" {
					logit = p.Yes - p.No
				}
				if !(math.Abs(float64(got[i].Logit)-logit) <= 1e-3) || !(math.Abs(float64(got[i].Score)-p.Score) <= 1e-3) {
					t.Errorf("pair %d: %+v, want logit %.5f, score %.5f", i, got[i], logit, p.Score)
				}
			}
			one := req
			if one.Lists = req.Lists[1:2]; req.Types != nil {
				one.Types = req.Types[1:2]
			}
			if alone, err := e.Rank(t.Context(), one); err != nil || alone[0] != got[1] {
				t.Errorf("alone a pair has another score: %v, %v", alone, err)
			}
			if _, err := e.Fill(t.Context(), backend.FillRequest{Lists: req.Lists[:1], Positions: [][]int32{{0}}}); !errors.Is(err, protocol.ErrUnsupported) {
				t.Errorf("filling masks: %v", err)
			}
			if info.Kind == "decoder" {
				req.Yes, req.No = 0, 0
				if _, err := e.Rank(t.Context(), req); !errors.Is(err, protocol.ErrUnsupported) {
					t.Errorf("a decoder that is not told its answers: %v", err)
				}
			}
		})
	}
}

// TestFill: guesses of masked tokens are transformers', and what cannot be asked for is refused.
func TestFill(t *testing.T) {
	race.SkipArithmetic(t)
	dir := filepath.Join(oracle.Dir(t), "encoders")
	for _, name := range []string{"bert-mlm", "roberta-mlm", "modernbert-mlm"} {
		t.Run(name, func(t *testing.T) {
			e, info := load(t, backend.LoadRequest{Path: filepath.Join(dir, name, "hf"), Precision: backend.Exact})
			if !info.Does(backend.TaskFill) || info.Does(backend.TaskGenerate) {
				t.Errorf("tasks %v", info.Tasks)
			}
			var want struct {
				Lists []struct {
					IDs       []int32        `json:"ids"`
					Positions []int32        `json:"positions"`
					Top       [][][2]float64 `json:"top10"`
					Best      []float64      `json:"probability_of_best"`
				} `json:"lists"`
			}
			text, err := os.ReadFile(filepath.Join(dir, name, "oracle/mlm.json"))
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(text, &want); err != nil {
				t.Fatal(err)
			}
			req := backend.FillRequest{Top: 10}
			for _, l := range want.Lists {
				req.Lists, req.Positions = append(req.Lists, l.IDs), append(req.Positions, l.Positions)
			}
			got, err := e.Fill(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			for i, l := range want.Lists {
				for k := range l.Positions {
					var ids, order []int32
					for _, x := range l.Top[k] {
						order = append(order, int32(x[0]))
					}
					for _, g := range got[i][k] {
						ids = append(ids, g.ID)
					}
					if !slices.Equal(ids, order) {
						t.Errorf("list %d, mask %d: %v, want %v", i, k, ids, order)
					}
					if p := float64(got[i][k][0].Prob); !(math.Abs(p-l.Best[k]) <= 1e-4) {
						t.Errorf("list %d, mask %d: probability %.6f, want %.6f", i, k, p, l.Best[k])
					}
				}
			}
			for what, bad := range map[string]backend.FillRequest{
				"top":       {Lists: req.Lists[:1], Positions: [][]int32{{0}}, Top: -1},
				"positions": {Lists: req.Lists[:1]},
				"position":  {Lists: req.Lists[:1], Positions: [][]int32{{int32(len(req.Lists[0]))}}},
				"below":     {Lists: req.Lists[:1], Positions: [][]int32{{-1}}},
			} {
				if _, err := e.Fill(t.Context(), bad); !errors.Is(err, protocol.ErrInvalid) {
					t.Errorf("%s: %v, want invalid", what, err)
				}
			}
			if _, err := e.Rank(t.Context(), backend.RankRequest{Lists: req.Lists[:1]}); !errors.Is(err, protocol.ErrUnsupported) {
				t.Errorf("ranking: %v", err)
			}
		})
	}
}
