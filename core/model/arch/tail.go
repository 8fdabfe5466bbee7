package arch

// Step is one layer over single vectors behind a network, y = norm(act(W·x + b)): of the heads that make a
// score or a guess of a state, and of the dense layers of an embedder. Tensors: NAME.weight (Out, In),
// NAME.bias, and those of the norm.
type Step struct {
	Name    string
	In, Out int
	Bias    Presence
	Act     Act
	Norm    Norm // zero: none
}

// Score says how a text, of a query and a document, becomes a number that says how well they fit.
type Score struct {
	Pool  PoolKind // the state that counts
	Steps []Step   // of which the last makes one logit, or two: for and against; none: of a decoder that is asked yes or no
	Act   ScoreAct

	// Yes and No are the tokens of a decoder's answers: the logit is the difference of theirs. Both 0: the
	// one who asks says it.
	Yes, No int32
}

// ScoreAct makes a score of a logit.
type ScoreAct uint8

// The activations of a score. Of two logits it is always the share of the first in their soft-max, the
// Logistic of the difference.
const (
	Logistic ScoreAct = iota // 1/(1 + e⁻ˣ), which a cross-encoder means that does not say
	AsLogit                  // the logit itself
)

// Mask says how the state of a masked token becomes logits of what may stand there: Head is behind the Steps.
type Mask struct{ Steps []Step }

// Names of the steps of heads.
const (
	ScoreName   = "cls"        // the layer before it
	ScoreOut    = "cls.output" // makes the logits
	ScoreNorm   = "cls.norm"
	MaskName    = "mask.dense"
	MaskNorm    = "mask.norm"
	HeadModule  = "output"
	DensePrefix = "dense_" // and the number of the step in modules.json, as in GGUF
)

// Tasks lists what a model is for, in the words of the plugin protocol.
func (s *Spec) Tasks() []string {
	var out []string
	if s.Kind != Encoder {
		out = append(out, "generate")
	}
	if s.Score != nil {
		out = append(out, "rank")
	}
	if s.Mask != nil {
		out = append(out, "fill")
	}
	if s.Kind == Decoder && s.Score == nil || s.Kind == Encoder && s.Pool.Kind != PoolNone {
		out = append(out, "embed")
	}
	return out
}

// VectorLen is the length of a text's vector.
func (s *Spec) VectorLen() int {
	if n := len(s.Dense); n > 0 {
		return s.Dense[n-1].Out
	}
	return s.Width
}

// steps visits those of all heads.
func (s *Spec) steps(visit func(*Step)) {
	var all [][]Step
	if s.Mask != nil {
		all = append(all, s.Mask.Steps)
	}
	if s.Score != nil {
		all = append(all, s.Score.Steps)
	}
	for _, steps := range append(all, s.Dense) {
		for i := range steps {
			visit(&steps[i])
		}
	}
}

// checkSteps proves them: of each list every step reads what the one before it gives.
func (c *checker) checkSteps(s *Spec) {
	s.steps(func(x *Step) {
		c.within("input of "+x.Name, x.In, 1, MaxWidth)
		c.within("output of "+x.Name, x.Out, 1, MaxWidth)
		c.norm(&x.Norm)
	})
	chain := func(steps []Step) {
		in := s.Width
		for i := range steps {
			if steps[i].In != in {
				c.fail(ErrInvalid, "%s reads %d values, and the step before it gives %d", steps[i].Name, steps[i].In, in)
			}
			in = steps[i].Out
		}
	}
	chain(s.Dense)
	if s.Mask != nil {
		chain(s.Mask.Steps)
		if n := len(s.Mask.Steps); n > 0 && s.Mask.Steps[n-1].Out != s.EmbedWidth() {
			c.fail(ErrInvalid, "%s gives %d values, and the head reads %d", s.Mask.Steps[n-1].Name, s.Mask.Steps[n-1].Out, s.EmbedWidth())
		}
		if s.Kind != Encoder {
			c.fail(ErrUnsupported, "a %s that fills masks", s.Kind)
		}
	}
	if s.Score != nil {
		chain(s.Score.Steps)
		if n := len(s.Score.Steps); n == 0 && s.Kind != Decoder {
			c.fail(ErrInvalid, "a score without a layer that makes it")
		} else if n > 0 && s.Score.Steps[n-1].Out > 2 {
			c.fail(ErrUnsupported, "a head with %d labels: only one that says how well two texts fit is served", s.Score.Steps[n-1].Out)
		}
	}
}

// step visits a Step's tensors.
func (l *lister) step(x *Step) {
	l.add(Tensor{Name: x.Name + ".weight", Rows: x.Out, Cols: x.In, Role: Closing})
	l.bias(x.Name, x.Out, x.Bias)
	l.norm(&x.Norm, x.Out)
}
