package arch

// Op is an operation of a layer: one of the structs of this file, which hold sizes and switches only. A field
// is added with the reference results of a published model that needs it.
type Op interface{ op() }

// Attention is soft-max attention over keys and values of the positions before (Vaswani et al. 2017; Ainslie
// et al. 2023 for heads that share keys). Tensors: attn_q, attn_k, attn_v, attn_output.
type Attention struct {
	Heads, KVHeads   int
	KeyDim, ValueDim int      // of a head
	Scale            float32  // of the scores; 0: 1/√KeyDim
	Position         Position // how scores know distances; nil: they do not
	Window           int      // positions that a row sees, itself included; 0: all before it
	Both             bool     // a row sees the positions behind it too; Window are then those to each side, without itself; 0: all
	QKNorm           QKNorm
	Clip             float32 // bound of the values of q, k and v; 0: none
	Cap              float32 // scores become Cap·tanh(score/Cap); 0: as they are
	Sinks            bool    // attn_sinks.weight: a logit for each head in the soft-max's denominator only
	Sub              Norm    // before attn_output (attn_sub_norm); zero: none
	QKVBias, OutBias Presence
	Temper           Temper
	Gated            bool // attn_q makes [query | gate] of each head, and the result is multiplied by σ(gate); ValueDim is KeyDim
	// HeadGated multiplies each head's result by σ of a logit that attn_gate (Heads, Width) makes of the row.
	HeadGated bool

	// From is 1 + the layer whose keys and values are read: then there is no attn_k, attn_v and attn_k_norm;
	// 0: its own.
	From     int
	KeyValue bool    // values are what attn_k makes, before its norm and its rotation: there is no attn_v
	ValueEps float32 // epsilon of an RMSNorm without weights over each head's values; 0: none
}

// Owns reports whether the attention keeps keys and values of its own.
func (a *Attention) Owns() bool { return a.From == 0 }

// QKNorm normalises queries and keys: attn_q_norm and attn_k_norm.
type QKNorm struct {
	Of    QKRange
	Kind  NormKind
	Eps   float32
	After bool // after the rotation, else before it
	Bare  bool // without weights
	// Biased is of LayerNorms that each head goes through: attn_q_norm.bias and attn_k_norm.bias.
	Biased bool
}

// QKRange is the range over which a QKNorm takes its mean.
type QKRange uint8

// The ranges.
const (
	NoQKNorm QKRange = iota
	PerHead          // each head alone, all with one weight (HeadDim)
	EachHead         // each head alone, with a weight of its own (Heads, HeadDim)
	WholeRow         // all heads of a row together (Heads·HeadDim)
)

// Temper scales the queries of far positions: q·(1 + Beta·ln(1 + ⌊pos/Original⌋)) (Llama 4). Zero: none.
type Temper struct {
	Beta     float32
	Original int
}

// Cross is soft-max attention of a decoder's rows over the states of the encoder, which see all of the text
// and know no distances (Vaswani et al. 2017). Tensors: cross_attn_q, cross_attn_k, cross_attn_v,
// cross_attn_output.
type Cross struct {
	Heads, HeadDim int
	Scale          float32  // of the scores; 0: 1/√HeadDim
	Bias           Presence // of all four
}

// GLU is the gated feed-forward network down(act(gate(h)) · up(h)) (Shazeer 2020). Tensors: ffn_gate, ffn_up, ffn_down.
type GLU struct {
	Hidden int
	// Sparse cuts the gate off before act: max(gate(h) − mean − Cut·deviation, 0), by the mean and the
	// standard deviation of a row.
	Sparse bool
	Cut    float32
	Act    Act
	Sub    Norm     // before ffn_down (ffn_sub_norm); zero: none
	Bias   Presence // of all three
}

// MLP is the plain feed-forward network down(act(up(h))). Tensors: ffn_up, ffn_down.
type MLP struct {
	Hidden int
	Act    Act
	Sub    Norm // before ffn_down; zero: none
	Bias   Presence
}

// Act is the function between the matrices of a feed-forward network. The zero value is SiLU.
type Act struct {
	Kind    ActKind
	A, B, C float32 // parameters, see the kinds
}

// ActKind names a function.
type ActKind uint8

// The functions.
const (
	SiLU        ActKind = iota // x·σ(x)
	GELUTanh                   // GELU by its tanh formula ("gelu_new", "gelu_pytorch_tanh")
	GELUErf                    // GELU ("gelu")
	QuickGELU                  // x·σ(A·x)
	ReLU                       // max(x, 0)
	ReLUSquared                // max(x, 0)²
	XIELU                      // A·x² + C·x where x > 0, B·(eˣ − 1 − x) + C·x elsewhere (Huang and Schlag 2025)
	ClampedSiLU                // gate min(g, B)·σ(A·min(g, B)), times the input clamped to ±B plus 1 (gpt-oss)
	Identity                   // x
	Tanh                       // tanh x
)

// MoE is a mixture of gated experts behind a router (Shazeer et al. 2017). Tensors: ffn_gate_inp, ffn_gate.E, ffn_up.E,
// ffn_down.E; ffn_gate_shexp, ffn_up_shexp, ffn_down_shexp of the shared expert.
type MoE struct {
	Experts, Used int
	Hidden        int
	Act           Act
	Bias          Presence // of the experts' matrices
	Router        Router
	Shared        int  // width of an expert that every row goes through; 0: none
	SharedGate    bool // its result is multiplied by σ(ffn_gate_inp_shexp · h)
	Plain         bool // experts, the shared one too, are down(act(up(h))) and have no gate
	Scaled        bool // each expert's weight is multiplied by its value of ffn_down_exps.scale
}

// Router says how the logits of ffn_gate_inp become experts and weights. The zero value is Mixtral's: the
// largest logits are chosen, and the weights are the soft-max over the chosen.
type Router struct {
	Kind        RouterKind
	Bias        Presence // of ffn_gate_inp: added to the logits
	Corrected   bool     // exp_probs_b is added to the scores for choosing only (DeepSeek-V3's correction)
	Groups      int      // experts are chosen from UsedGroups of so many groups; 0 or 1: from all
	UsedGroups  int
	BestOfGroup int     // a group's score is the sum of so many of its best scores: 1 (DeepSeek-V2) or 2 (V3)
	Normalise   bool    // divide the weights of the chosen by their sum …
	Add, Least  float32 // … plus Add, or by Least where it is larger
	Scale       float32 // of the weights at the end; 0: 1
	Eps         float32 // the router reads norm(x)/√width by an RMSNorm whose weight is ffn_gate_inp.scale, not the normalised input; 0: that
	Jitter      float32 // of SparseMixer: half the relative distance to the best beyond which a logit is cut
}

// RouterKind is how logits become scores.
type RouterKind uint8

// The kinds of router.
const (
	SoftmaxChosen RouterKind = iota // the soft-max over the chosen
	Softmax                         // over all experts
	Sigmoid                         // of each
	SparseMixer                     // two experts by two soft-maxes cut at a threshold (PhiMoE; Liu et al. 2023)
)

// Latent is multi-head latent attention (DeepSeek-V2, 2024): of a position only a compressed row of KVRank
// values and one rotated key of RopeDim values are cached; a head's keys and values are linear in the
// compressed row, so that its queries are turned into that space instead (attn_k_b) and its result back
// (attn_v_b). Tensors: attn_q, or attn_q_a, attn_q_a_norm and attn_q_b; attn_kv_a_mqa, attn_kv_a_norm,
// attn_k_b.HEAD, attn_v_b.HEAD, attn_output.
type Latent struct {
	Heads    int
	QRank    int // 0: queries are not compressed
	KVRank   int
	NopeDim  int // of a head's query: values that do not turn
	RopeDim  int // and those that do
	ValueDim int
	Scale    float32 // of the scores; 0: 1/√(NopeDim+RopeDim)
	Position Rope    // Dim 0: nothing turns (Kimi-Linear)
	Eps      float32 // of the norms of the compressed rows
}

// ShortConv is LFM2's mixer (Liquid AI 2025): with [B, C, x] = in(h), out(C · conv(B · x)) by a causal
// convolution over each channel by itself. Its state is the last Kernel-1 inputs of the convolution. Tensors:
// shortconv.in_proj, shortconv.conv (Width, Kernel), shortconv.out_proj.
type ShortConv struct {
	Kernel int // positions that a row sees, itself included
	Bias   Presence
}

// Mamba2 is the selective scan with one decay for each head (Dao and Gu 2024). With [z, x, B, C, dt] = in(h):
// a causal convolution over each channel of x, B and C by itself and a SiLU; dt = softplus(dt + ssm_dt),
// limited; for each head the state S = exp(dt·A)·S + dt·x⊗B and y = S·C + D·x; out of y, gated by SiLU(z) and
// normalised. Its state are the last Kernel-1 inputs of the convolution, and S. Tensors: ssm_in, ssm_conv1d
// (channels, Kernel), ssm_dt.bias, ssm_a, ssm_d (Heads), ssm_out.
type Mamba2 struct {
	Heads, HeadDim  int
	States          int // N: values of a row of B and of C
	Groups          int // of heads: those of a group share a B and a C, and the mean of the norm
	Kernel          int // positions that the convolution sees, the row's own included
	Norm            Norm
	NormFirst       bool       // the norm comes before the gate, else behind it
	Least, Most     float32    // limits of dt; Most 0: none above
	Logs            bool       // ssm_a holds ln(-A), else A
	Scales          [5]float32 // of z, x, B, C and dt as in() gives them; 0: 1
	InBias, OutBias Presence
	ConvBias        Presence
}

// Inner is the number of values of all heads.
func (m *Mamba2) Inner() int { return m.Heads * m.HeadDim }

// Channels is the width of the convolution: x, B and C.
func (m *Mamba2) Channels() int { return m.Inner() + 2*m.Groups*m.States }

// ConvState is the part of the state that the convolution keeps, in whole cache lines.
func (m *Mamba2) ConvState() int { return ((m.Kernel-1)*m.Channels() + 15) &^ 15 }

// Mamba1 is the selective scan with a decay for each channel and state (Gu and Dao 2023). With [x, z] =
// in(h): x = SiLU(conv(x)) over each channel by itself; [dt, B, C] = ssm_x(x), which may be normalised; dt =
// softplus(ssm_dt(dt)); for each channel S = exp(dt·A)·S + dt·x·B and y = S·C + D·x; out of y·SiLU(z). Its
// state are the last Kernel-1 inputs of the convolution, and S. Tensors: ssm_in, ssm_conv1d (Inner, Kernel),
// ssm_x, ssm_dt, ssm_a (Inner, States), ssm_d (Inner), ssm_out; of norms ssm_dt_norm, ssm_b_norm and
// ssm_c_norm.
type Mamba1 struct {
	Inner, States, Rank int
	Kernel              int
	Norm                Norm // of dt, B and C, its name being only "ssm" where they have weights; zero: none
	Logs                bool // ssm_a holds ln(-A), else A
	Bias, ConvBias      Presence
}

// ConvState is the part of the state that the convolution keeps, in whole cache lines.
func (m *Mamba1) ConvState() int { return ((m.Kernel-1)*m.Inner + 15) &^ 15 }

// Norms are those of dt, B and C.
func (m *Mamba1) Norms() [3]Norm {
	out := [3]Norm{m.Norm, m.Norm, m.Norm}
	if m.Norm.Name != "" {
		out[0].Name, out[1].Name, out[2].Name = "ssm_dt_norm", "ssm_b_norm", "ssm_c_norm"
	}
	return out
}

func (Mamba1) op() {}
func (Mamba2) op() {}

// Delta is the gated delta net (Yang et al. 2024) of Qwen3-Next and Qwen3.5. Of a row h, [q k v] =
// SiLU(conv(W h)) by a causal convolution over each channel, heads of q and k of length 1, q over √KeyDim.
// With the decay e = exp(ssm_a·softplus(ssm_alpha·h + ssm_dt)) and b = σ(ssm_beta·h) the state of a value
// head, (KeyDim, ValueDim), becomes S = e·S + k ⊗ b·(v − (e·S)ᵀk), and the head's result is
// norm(Sᵀq)·SiLU(attn_gate·h). Its state is the last Kernel−1 inputs of the convolution and S. Tensors:
// attn_q, attn_k, attn_v, attn_gate, ssm_beta, ssm_alpha, ssm_conv1d (channels of q, k and v, Kernel),
// ssm_dt.bias, ssm_a, ssm_norm, ssm_out.
type Delta struct {
	KeyHeads, Heads  int // of queries and keys, of values
	KeyDim, ValueDim int // of a head
	Kernel           int
	Tiled            bool    // value head h reads key head h mod KeyHeads, else h/(Heads/KeyHeads)
	Logs             bool    // ssm_a holds ln(-A), else A, the factor of the decay above
	Eps              float32 // of ssm_norm
	// Apart are the channels that stand in ssm_conv1d_q, ssm_conv1d_k and ssm_conv1d_v, one behind the other
	// in the place of one ssm_conv1d: those of q, k and v, or thirds of all, as transformers 5.24 writes
	// them. Zero: there is one.
	Apart   [3]int
	Doubled bool // b is 2·σ(ssm_beta·h)
	// Rank is of Kimi's form (Kimi Team 2025), whose states decay by key channel: e =
	// exp(ssm_a·softplus(ssm_f_b·ssm_f_a·h + ssm_dt)), with ssm_dt (Heads, KeyDim) and an ssm_a for each
	// head, and whose results are gated by σ(ssm_g_b·ssm_g_a·h); the inner size of both products. There is no
	// ssm_alpha and no attn_gate, KeyHeads is Heads, and ssm_out is called attn_output. 0: none of that.
	Rank int
}

// Channels is the number of values of a row that the convolution goes over.
func (d *Delta) Channels() int { return 2*d.KeyHeads*d.KeyDim + d.Heads*d.ValueDim }

// ConvState is the part of the state that the convolution keeps, in whole cache lines.
func (d *Delta) ConvState() int { return ((d.Kernel-1)*d.Channels() + 15) &^ 15 }

// RGLRU is Griffin's recurrent block (De et al. 2024): out(Act(lru_y·h) · s), s being the states of
// real-gated linear recurrent units, one for each channel, over x = conv(lru_x·h) by a causal convolution
// over each channel by itself. With the gates r and g, σ of block-diagonal products of x, a =
// exp(-8·softplus(lru_param)·r) and s = a·s + √(1 - a²)·x·g, without the root at position 0. Its state are
// the last Kernel-1 inputs of the convolution, and s. Tensors: lru_x, lru_y, lru_conv (Width, Kernel),
// lru_rec.BLOCK and lru_in.BLOCK (Width/Blocks both ways), lru_param, lru_out; all but lru_param with biases.
type RGLRU struct {
	Width, Blocks int
	Kernel        int
	Act           Act
}

// ConvState is the part of the state that the convolution keeps, in whole cache lines.
func (r *RGLRU) ConvState() int { return ((r.Kernel-1)*r.Width + 15) &^ 15 }

// Lightning is linear attention whose heads forget at fixed rates (Qin et al. 2024): with q, k and v =
// SiLU(W·h), the state of head n, counted from 1, is S = exp(-Slope·2^(-8n/Heads))·S + k⊗v, and the result
// σ(attn_gate·h) · norm(qᵀS), the norm being over all heads of a row. Its state is S. Tensors: attn_q,
// attn_k, attn_v, attn_gate, attn_sub_norm (Heads·HeadDim), attn_output.
type Lightning struct {
	Heads, HeadDim int
	Slope          float32
	Eps            float32
}

func (RGLRU) op()     {}
func (Lightning) op() {}

// PerLayer adds to a row what its token has for the layer, see PerLayerRows: proj(act(inp_gate(h)) · row).
// Tensors: inp_gate, proj.
type PerLayer struct{ Act Act }

func (Delta) op() {}

// AltUp is alternating updates (Baykal et al. 2023): of several streams of a row a layer computes the first,
// which is x, and by it changes the others. Its router reads norm(x)/Width, and tanh of what it gives, one
// value for each stream, makes coefficients. Tensors: altup_router (Streams, Width), altup_router_norm.
type AltUp struct {
	Streams int
	Eps     float32
}

// AltUpPredict adds to every stream j the sum of c[j,i] times stream i, c being what altup_predict_coef
// (Streams², Streams) makes.
type AltUpPredict AltUp

// AltUpCorrect adds to what AltUpPredict of the same layer has made of every stream j (1 + c[j]) times the
// difference between x and what it has made of the first, c being what altup_correct_coef (Streams, Streams)
// makes. Then it adds to all streams but the first what the token has for the layer, see PerLayer, of x times
// altup_correct_scale (Width) where it is Scaled. Tensors beside: inp_gate, proj, post_norm.
type AltUpCorrect struct {
	AltUp  AltUp
	Act    Act
	Scaled bool
}

// AltUpSpread makes the streams but the first of x: altup_proj.I · x, each as long as x.
type AltUpSpread struct{ Streams int }

// AltUpGather gives the sum of the streams but the first, each altup_unembd_proj.I · stream, as long as x.
type AltUpGather struct{ Streams int }

// Laurel is a low-rank branch beside attention (Menghani et al. 2024): h + norm(laurel_r · laurel_l · h), the
// norm being laurel_post_norm.
type Laurel struct {
	Rank int
	Eps  float32
}

func (PerLayer) op()     {}
func (AltUpPredict) op() {}
func (AltUpCorrect) op() {}
func (AltUpSpread) op()  {}
func (AltUpGather) op()  {}
func (Laurel) op()       {}
func (ShortConv) op()    {}
func (Attention) op()    {}
func (Latent) op()       {}
func (Cross) op()        {}
func (GLU) op()          {}
func (MLP) op()          {}
func (MoE) op()          {}
