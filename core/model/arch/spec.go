package arch

import "slices"

// Spec describes what a model computes: every layer with its geometry, the norms and scales between them, and how
// its tensors differ from what their names promise. It is made by Read and then only read.
type Spec struct {
	Kind    Kind
	Family  string // a name of the table: "llama", "gpt2", …
	Width   int    // hidden size
	Vocab   int    // rows of the embedding
	Context int    // positions that the model was made for
	Drafts  int    // layers behind the last that guess further tokens; their tensors are passed over
	Embed   Embed
	Layers  []Layer
	Norm    Norm   // before the head; zero: none
	Head    Head   // of a decoder, and of an encoder that has a Mask
	Pool    Pool   // what a text's vector is
	Dense   []Step // that the vector goes through before it is normalised
	Score   *Score // of a reranker; nil: none
	Mask    *Mask  // of an encoder that fills masks: Head is behind it; nil: none

	// Encoder is an encoder-decoder's first stack, an encoder of the same width and vocabulary with the same
	// embedding; nil: none.
	Encoder *Spec
	// Prefix begins the names of this stack's tensors, except the embedding's and the head's:
	// "enc.", "dec."; "": nothing.
	Prefix string

	// TensorsOf are the numbers of layers in the names of their tensors, where several layers share theirs
	// (ALBERT); nil: each has its own.
	TensorsOf []int

	Fixes []Fix // what the container's tensors need, see fix.go
	// Permuted says that the rows of q and k stand in the order that llama.cpp's converter gives them (pair
	// by pair), where the model's own order is one half after the other. An adapter from the other container
	// is turned.
	Permuted bool
	// Folded says that the matrices hold factors that a folder of the family has apart.
	Folded bool
}

// Kind is the purpose of a model.
type Kind uint8

// The kinds of models.
const (
	Decoder Kind = iota // goes on with a text
	Encoder             // reads whole texts, every position seeing all others, and gives a vector of each or of the text
	// EncoderDecoder answers a text with another: the Spec is the decoder's, whose Cross parts read what
	// Spec.Encoder has made of the text.
	EncoderDecoder
)

// String is the kind's name in messages.
func (k Kind) String() string {
	switch k {
	case Encoder:
		return "encoder"
	case EncoderDecoder:
		return "encoder-decoder"
	default:
		return "decoder"
	}
}

// Pool says how the states of a text's tokens become one vector.
type Pool struct {
	Kind      PoolKind
	Normalize bool // the vector is scaled to length 1
}

// PoolKind is which states count.
type PoolKind uint8

// The kinds of pooling.
const (
	PoolNone PoolKind = iota // the rows of all tokens, as they are
	PoolMean                 // of all tokens
	PoolCLS                  // the first token's
	PoolLast                 // the last token's
	PoolMax                  // the largest value of all tokens, for each dimension
	PoolRoot                 // the sum over all tokens, divided by the root of their number
	PoolRise                 // the mean of all tokens, token i with weight i, counted from 1
)

// Layer holds the parts of one block of a model, in order: most have two parts, attention and a feed-forward network.
type Layer []Sub

// Sub is one part of a layer, x being the residual stream:
//
//	h = Pre(x)
//	x = After(Keep·x + Scale·Post(Op(h)))
//
// Zero norms change nothing, and zero factors are 1.
type Sub struct {
	Pre   Norm
	Op    Op
	Post  Norm
	After Norm
	Scale float32 // of the part's result (Granite's residual multiplier)
	Keep  float32 // of the residual stream
	Wire  Wire
	// Joint is of a part that runs Parallel: both results are added up, each behind its own Post, and the
	// norm of the sum is what joins x (Gemma 4's experts beside a network); zero: each joins x by itself.
	Joint Norm
	// FromNorm takes the residual from the normalised input: x = Keep·h + …
	FromNorm bool
}

// Wire says what the input of a part is.
type Wire uint8

// The wires.
const (
	Serial   Wire = iota // x with the results of all parts before
	Parallel             // x as the part before has read it, through a norm of its own (GPT-NeoX)
	Shared               // the normalised input of the part before (GPT-J, Cohere; Falcon-H1's two mixers)
)

// Embed describes the computation before the first layer.
type Embed struct {
	// Width is the length of a token's row, of which token_embd_proj (Spec.Width, Width) makes what goes
	// through the layers; before the head output_proj (Width, Spec.Width) makes such a row again. 0: rows are
	// Spec.Width long, and there are no such matrices.
	Width int
	// Inner says that positions, types and the norm are of that row, that token_embd_proj, which has a bias,
	// reads their sum, and that there is no output_proj (ALBERT, ELECTRA).
	Inner     bool
	Scale     float32 // of the token's row; 0: 1
	Norm      Norm    // over the sum; zero: none
	Positions int     // rows of position_embd.weight, which is added; 0: none
	Offset    int     // row of position 0 (2 in OPT)
	Waves     Waves   // that follow from a formula, in place of Positions; zero: none
	Types     int     // rows of token_types.weight, of which each token's type chooses one that is added; 0: none

	PerLayer PerLayerRows // what layers read of the token beside x; zero: nothing
}

// PerLayerRows are rows of Width values of which each token has one for every layer, for PerLayer:
//
//	(√Width·table[token] + norm(W·x/√Spec.Width)) / √2
//
// x being the embedded token. Of the table, which can be half of a model, a token reads one row. Tensors:
// per_layer_token_embd (Rows, layers·Width), per_layer_model_proj (layers·Width, Spec.Width),
// per_layer_proj_norm (Width).
type PerLayerRows struct {
	Width int // 0: none
	Rows  int // of the table; tokens behind it read the first
	Eps   float32
}

// Waves are sinusoidal positions (Vaswani et al. 2017), which no file needs to hold: of position p, sin(p·f)
// for each of the Width/2 frequencies f, then the cosines. Frequency i of n is 10000^(−i/n), or with Last
// 10000^(−i/(n−1)).
type Waves struct {
	Rows int  // positions, Offset included; 0: none
	Last bool // the last frequency is 1/10000
}

// Head makes logits of the normalised stream: cap(Scale·(W·h + bias)).
type Head struct {
	Tied  bool     // W is the embedding
	Bias  Presence // of output.bias
	Scale float32  // 0: 1
	Cap   float32  // cap(y) = Cap·tanh(y/Cap); 0: none
}

// Presence says whether a tensor that a part can do without has to be there.
type Presence uint8

// The kinds of presence. What is optional is used wherever the file has it.
const (
	Optional Presence = iota
	Required
	Absent
)

// Norm is a normalisation over the last dimension of its input.
type Norm struct {
	Kind NormKind
	Name string   // of its tensors NAME.weight and NAME.bias, without the layer's prefix; "": it has no weight
	Bias Presence // of NAME.bias; RMS norms have none
	Eps  float32
}

// NormKind is the formula of a norm.
type NormKind uint8

// The kinds of norm.
const (
	NoNorm    NormKind = iota
	RMSNorm            // x / √(mean(x²) + eps) · w (Zhang and Sennrich 2019)
	LayerNorm          // (x − mean(x)) / √(var(x) + eps) · w + b (Ba et al. 2016)
	Factor             // x · w, w being one value
)

// RMS is an RMSNorm whose weight is name.weight.
func RMS(name string, eps float32) Norm { return Norm{Kind: RMSNorm, Name: name, Eps: eps} }

// LN is a LayerNorm whose weight is name.weight and whose bias, where it has one, is name.bias.
func LN(name string, eps float32, bias Presence) Norm {
	return Norm{Kind: LayerNorm, Name: name, Eps: eps, Bias: bias}
}

// EmbedWidth is the length of the embedding's rows.
func (s *Spec) EmbedWidth() int {
	if s.Embed.Width > 0 {
		return s.Embed.Width
	}
	return s.Width
}

// SumWidth is the length of the row that positions and types are added to.
func (s *Spec) SumWidth() int {
	if s.Embed.Inner {
		return s.Embed.Width
	}
	return s.Width
}

// TensorLayer is the number of a layer in the names of its tensors.
func (s *Spec) TensorLayer(layer int) int {
	if s.TensorsOf == nil {
		return layer
	}
	return s.TensorsOf[layer]
}

// Repeats reports whether a layer computes with tensors that one before it has brought.
func (s *Spec) Repeats(layer int) bool {
	return s.TensorsOf != nil && slices.Index(s.TensorsOf, s.TensorsOf[layer]) < layer
}

// Streams is the number of streams of a row that AltUpSpread of the first layer makes, x included; 1: there is none.
func (s *Spec) Streams() int {
	if len(s.Layers) > 0 {
		for i := range s.Layers[0] {
			if op, ok := s.Layers[0][i].Op.(AltUpSpread); ok {
				return op.Streams
			}
		}
	}
	return 1
}

// Add appends a layer.
func (s *Spec) Add(subs ...Sub) { s.Layers = append(s.Layers, subs) }
