package arch

import (
	"errors"
	"math"
	"strings"
	"testing"
)

// small is a Spec that is sound.
func small() *Spec {
	s := &Spec{Family: "small", Width: 64, Vocab: 70, Context: 128, Norm: RMS("output_norm", 1e-5)}
	s.Add(
		Sub{Pre: RMS("attn_norm", 1e-5), Op: Attention{Heads: 4, KVHeads: 2, KeyDim: 16, ValueDim: 16, Position: Rope{Dim: 16, Base: 1e4}}},
		Sub{Pre: RMS("ffn_norm", 1e-5), Op: GLU{Hidden: 96}},
	)
	return s
}

func TestCheckRefuses(t *testing.T) {
	if err := small().Check(); err != nil {
		t.Fatal(err)
	}
	attention := func(change func(a *Attention)) func(s *Spec) {
		return func(s *Spec) {
			a := s.Layers[0][0].Op.(Attention)
			change(&a)
			s.Layers[0][0].Op = a
		}
	}
	rope := func(change func(r *Rope)) func(s *Spec) {
		return attention(func(a *Attention) {
			r := a.Position.(Rope)
			change(&r)
			a.Position = r
		})
	}
	scaling := func(x Scaling) func(s *Spec) { return rope(func(r *Rope) { r.Scaling = x }) }
	nan := math.NaN()
	for want, change := range map[string]func(s *Spec){
		"number of layers is 0":                      func(s *Spec) { s.Layers = nil },
		"hidden size is 131073":                      func(s *Spec) { s.Width = 1<<17 + 1 },
		"embedding rows is 0":                        func(s *Spec) { s.Vocab = 0 },
		"context length is -1":                       func(s *Spec) { s.Context = -1 },
		"embedding scale is NaN":                     func(s *Spec) { s.Embed.Scale = float32(nan) },
		"cap of the logits is -1":                    func(s *Spec) { s.Head.Cap = -1 },
		"norm's epsilon is 0":                        func(s *Spec) { s.Norm.Eps = 0 },
		"unknown kind <nil>":                         func(s *Spec) { s.Layers[0][1].Op = nil },
		"without attention":                          func(s *Spec) { s.Layers[0] = s.Layers[0][1:] },
		"feed-forward size is 0":                     func(s *Spec) { s.Layers[0][1].Op = MLP{} },
		"9 of 8 experts":                             func(s *Spec) { s.Layers[0][1].Op = MoE{Experts: 8, Used: 9, Hidden: 1} },
		"4 attention heads cannot share 3":           attention(func(a *Attention) { a.KVHeads = 3 }),
		"sliding window is -1":                       attention(func(a *Attention) { a.Window = -1 }),
		"attention scale is +Inf":                    attention(func(a *Attention) { a.Scale = float32(math.Inf(1)) }),
		"turns 15 dimensions of a head of 16":        rope(func(r *Rope) { r.Dim = 15 }),
		"turns 18 dimensions":                        rope(func(r *Rope) { r.Dim = 18 }),
		"RoPE base is NaN":                           rope(func(r *Rope) { r.Base = nan }),
		`RoPE scaling "su"`:                          scaling(Scaling{Kind: "su", Factor: 2, Original: 9}),
		"scaling factor is 0":                        scaling(Scaling{Kind: Linear}),
		"original context length is 0":               scaling(Scaling{Kind: YaRN, Factor: 2}),
		"frequency factors 2 and 2":                  scaling(Scaling{Kind: Llama3, Factor: 2, Original: 9, LowFreq: 2, HighFreq: 2}),
		"beta_fast 1 and beta_slow 2":                scaling(Scaling{Kind: YaRN, Factor: 2, Original: 9, BetaFast: 1, BetaSlow: 2}),
		"has 7 values, want one for each of 8 pairs": scaling(Scaling{Factors: make([]float32, 7)}),
		"value 0 is 0":                               scaling(Scaling{Factors: make([]float32, 8)}),
	} {
		s := small()
		change(s)
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrUnsupported) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestTensors lists a small model by hand.
func TestTensors(t *testing.T) {
	s := small()
	s.Head = Head{Tied: true, Bias: Absent}
	var got []string
	err := Tensors(s, func(x Tensor) error {
		name := x.Name
		if x.Optional {
			name += "?"
		}
		got = append(got, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "token_embd.weight blk.0.attn_norm.weight blk.0.attn_q.weight blk.0.attn_q.bias? blk.0.attn_k.weight blk.0.attn_k.bias? " +
		"blk.0.attn_v.weight blk.0.attn_v.bias? blk.0.attn_output.weight blk.0.attn_output.bias? blk.0.ffn_norm.weight " +
		"blk.0.ffn_gate.weight blk.0.ffn_gate.bias? blk.0.ffn_up.weight blk.0.ffn_up.bias? blk.0.ffn_down.weight blk.0.ffn_down.bias? " +
		"output_norm.weight output.weight?"
	if strings.Join(got, " ") != want {
		t.Errorf("%s\nwant %s", strings.Join(got, " "), want)
	}
}
