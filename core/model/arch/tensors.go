package arch

import (
	"strconv"
	"strings"
)

// Names of tensors outside the layers.
const (
	EmbedName    = "token_embd.weight"
	PositionName = "position_embd.weight"
	TypesName    = "token_types.weight"
	PerLayerName = "per_layer_token_embd.weight"
	PerLayerProj = "per_layer_model_proj"
	PerLayerNorm = "per_layer_proj_norm"
	EmbedProj    = "token_embd_proj" // of a narrow embedding, see Embed.Width
	HeadProj     = "output_proj"
	HeadName     = "output.weight"
	HeadBias     = "output.bias"
)

// DistancesName is the table of a layer's Distances.
const DistancesName = "attn_rel_b.weight"

// DeltaConvs are the convolutions of a delta net that is Apart: of queries, keys and values.
var DeltaConvs = [3]string{"ssm_conv1d_q", "ssm_conv1d_k", "ssm_conv1d_v"} //nolint:gochecknoglobals // names

// Role is the purpose of a tensor.
type Role uint8

// The roles. Vectors (norms, biases, sinks) are small and always served as float32.
const (
	Vector    Role = iota
	Embedding      // a row is read for each token
	Positions      // a row is added for each token
	Types          // a row is added by the token's type
	Product        // matrix of a linear layer
	Expert         // matrix of one expert: a token reads Used of Experts of its kind
	Routing        // chooses experts: small, and a rounded logit sends a row elsewhere
	HeadRole       // the output head
	Lookup         // a row is read for each token, and the whole never: it stays on disk
	Closing        // a small matrix behind the network: its whole error is in the result
)

// Tensor is one that a model has: a matrix (Rows, Cols), or with Rows == 0 a vector of Cols.
type Tensor struct {
	Name       string
	Rows, Cols int
	Role       Role
	Optional   bool
	Heads      int // heads whose rows a rotation pairs up: of q and k; 0: of no other

	Used, Experts int // of an expert

	ByHead ByHead
}

// ByHead says that the rows of a tensor, or its columns, are those of a delta net's value heads, which stand
// in two orders: side by side with those of the same key head, or tile by tile (one of each key head, then
// the next of each). The zero value is of no others.
type ByHead struct {
	KeyHeads, Heads int
	Columns, Tiled  bool
}

// Tensors visits every tensor that a model may have, until visit returns an error: the only list of tensors
// there is. What is not visited is refused, since a model with a tensor more computes something else. The
// list is not built: a hostile file may claim a million experts.
func Tensors(s *Spec, visit func(Tensor) error) error {
	l := newLister(s, visit)
	l.add(Tensor{Name: EmbedName, Rows: s.Vocab, Cols: s.EmbedWidth(), Role: Embedding})
	if s.Embed.Width > 0 {
		bias := Absent
		if s.Embed.Inner {
			bias = Required
		}
		l.linear(EmbedProj, s.Width, s.Embed.Width, bias)
		if !s.Embed.Inner {
			l.linear(HeadProj, s.Embed.Width, s.Width, Absent)
		}
	}
	l.prefix = s.Prefix
	l.embed(s)
	for n := range s.Layers {
		if !s.Repeats(n) {
			l.layer(s.TensorLayer(n), s.Layers[n])
		}
	}
	l.norm(&s.Norm, s.Width)
	l.prefix = ""
	if s.Kind != Encoder || s.Mask != nil {
		l.add(Tensor{Name: HeadName, Rows: s.Vocab, Cols: s.EmbedWidth(), Role: HeadRole, Optional: s.Head.Tied})
		l.bias("output", s.Vocab, s.Head.Bias)
	}
	s.steps(l.step)
	if e := s.Encoder; e != nil && l.err == nil {
		l.encoder(e)
	}
	return l.err
}

// encoder visits those of an encoder-decoder's first stack, which has the embedding in common with the second.
func (l *lister) encoder(e *Spec) {
	l.root, l.prefix = e.Prefix, e.Prefix
	l.embed(e)
	for n := range e.Layers {
		l.layer(n, e.Layers[n])
	}
	l.norm(&e.Norm, e.Width)
}

// embed visits what is added to a token's row, and its norm.
func (l *lister) embed(s *Spec) {
	if s.Embed.Positions > 0 {
		l.add(Tensor{Name: PositionName, Rows: s.Embed.Positions, Cols: s.SumWidth(), Role: Positions})
	}
	if s.Embed.Types > 0 {
		l.add(Tensor{Name: TypesName, Rows: s.Embed.Types, Cols: s.SumWidth(), Role: Types})
	}
	l.norm(&s.Embed.Norm, s.SumWidth())
	if p := &s.Embed.PerLayer; p.Width > 0 {
		n := len(s.Layers) * p.Width
		l.add(Tensor{Name: PerLayerName, Rows: p.Rows, Cols: n, Role: Lookup})
		l.linear(PerLayerProj, n, s.Width, Absent)
		l.vector(PerLayerNorm+".weight", p.Width)
	}
}

// Unread reports whether a container may hold a tensor, by its name here, that nothing reads: keys and values
// of a layer that reads those of another, which some writers keep.
func (s *Spec) Unread(name string) bool {
	pattern, numbers := SplitNumbers(strings.TrimPrefix(name, s.Prefix))
	if len(numbers) != 1 {
		return false
	}
	switch pattern {
	case "blk.N.attn_k.weight", "blk.N.attn_v.weight", "blk.N.attn_k_norm.weight", "blk.N.attn_k.bias", "blk.N.attn_v.bias":
	default:
		return false
	}
	layer, err := strconv.Atoi(numbers[0])
	if err != nil || layer >= len(s.Layers) {
		return false
	}
	for i := range s.Layers[layer] {
		if a, ok := s.Layers[layer][i].Op.(Attention); ok && !a.Owns() {
			return true
		}
	}
	return false
}

// LayerTensors visits those of layer n alone.
func LayerTensors(s *Spec, n int, visit func(Tensor) error) error {
	l := newLister(s, visit)
	l.layer(n, s.Layers[n])
	return l.err
}

// LayerName is the name of a module of a layer: "blk.N.PART".
func LayerName(layer int, part string) string { return "blk." + strconv.Itoa(layer) + "." + part }

// LayerName is the name of a module of a layer: "blk.N.PART" behind the stack's prefix.
func (s *Spec) LayerName(layer int, part string) string { return s.Prefix + LayerName(layer, part) }

// lister carries the state of a visit.
type lister struct {
	visit  func(Tensor) error
	width  int
	rows   int    // see PerLayerRows
	root   string // of the stack
	prefix string // of the layer
	err    error
}

func newLister(s *Spec, visit func(Tensor) error) *lister {
	return &lister{visit: visit, width: s.Width, rows: s.Embed.PerLayer.Width, root: s.Prefix}
}

func (l *lister) layer(n int, layer Layer) {
	if l.err != nil {
		return
	}
	l.prefix = l.root + LayerName(n, "")
	defer func() { l.prefix = l.root }()
	for i := range layer {
		sub := &layer[i]
		l.norm(&sub.Pre, l.width)
		switch op := sub.Op.(type) {
		case Attention:
			l.attention(&op)
		case Latent:
			l.latent(&op)
		case Cross:
			l.cross(&op)
		case ShortConv:
			l.linear("shortconv.in_proj", 3*l.width, l.width, op.Bias)
			l.add(Tensor{Name: "shortconv.conv.weight", Rows: l.width, Cols: op.Kernel, Role: Vector})
			l.bias("shortconv.conv", l.width, op.Bias)
			l.linear("shortconv.out_proj", l.width, l.width, op.Bias)
		case Mamba1:
			l.mamba1(&op)
		case Mamba2:
			l.mamba2(&op)
		case Delta:
			l.delta(&op)
		case RGLRU:
			l.rglru(&op)
		case Lightning:
			n := op.Heads * op.HeadDim
			for _, name := range []string{"attn_q", "attn_k", "attn_v", "attn_gate"} {
				l.linear(name, n, l.width, Absent)
			}
			l.vector("attn_sub_norm.weight", n)
			l.linear("attn_output", l.width, n, Absent)
		case GLU:
			l.linear("ffn_gate", op.Hidden, l.width, op.Bias)
			l.linear("ffn_up", op.Hidden, l.width, op.Bias)
			l.norm(&op.Sub, op.Hidden)
			l.linear("ffn_down", l.width, op.Hidden, op.Bias)
		case MLP:
			l.linear("ffn_up", op.Hidden, l.width, op.Bias)
			l.norm(&op.Sub, op.Hidden)
			l.linear("ffn_down", l.width, op.Hidden, op.Bias)
		case MoE:
			l.experts(&op)
		case PerLayer:
			l.perLayer()
		case AltUpPredict:
			l.vector("altup_router_norm.weight", l.width)
			l.linear("altup_router", op.Streams, l.width, Absent)
			l.linear("altup_predict_coef", op.Streams*op.Streams, op.Streams, Absent)
		case AltUpCorrect:
			l.linear("altup_correct_coef", op.AltUp.Streams, op.AltUp.Streams, Absent)
			if op.Scaled {
				l.vector("altup_correct_scale.weight", l.width)
			}
			l.perLayer()
			l.vector("post_norm.weight", l.width)
		case AltUpSpread:
			l.streams("altup_proj.", op.Streams)
		case AltUpGather:
			l.streams("altup_unembd_proj.", op.Streams)
		case Laurel:
			l.linear("laurel_l", op.Rank, l.width, Absent)
			l.linear("laurel_r", l.width, op.Rank, Absent)
			l.vector("laurel_post_norm.weight", l.width)
		}
		l.norm(&sub.Post, l.width)
		l.norm(&sub.Joint, l.width)
		l.norm(&sub.After, l.width)
	}
}

func (l *lister) perLayer() {
	l.linear("inp_gate", l.rows, l.width, Absent)
	l.linear("proj", l.width, l.rows, Absent)
}

// streams are matrices of the model, one for each stream but the first.
func (l *lister) streams(name string, n int) {
	own := l.prefix
	l.prefix = l.root
	for i := range n - 1 {
		l.linear(name+strconv.Itoa(i), l.width, l.width, Absent)
	}
	l.prefix = own
}

func (l *lister) attention(a *Attention) {
	q, k, v := a.Heads*a.KeyDim, a.KVHeads*a.KeyDim, a.KVHeads*a.ValueDim
	if a.Gated {
		q *= 2
	}
	_, turned := a.Position.(Rope)
	matrix := func(name string, rows, heads int) {
		t := Tensor{Name: name + ".weight", Rows: rows, Cols: l.width, Role: Product}
		if turned {
			t.Heads = heads
		}
		l.add(t)
		l.bias(name, rows, a.QKVBias)
	}
	matrix("attn_q", q, a.Heads)
	if a.Owns() {
		matrix("attn_k", k, a.KVHeads)
	}
	if a.Owns() && !a.KeyValue {
		matrix("attn_v", v, 0)
	}
	if n := &a.QKNorm; !n.Bare {
		for _, x := range []struct {
			name  string
			heads int
		}{{"attn_q_norm.weight", a.Heads}, {"attn_k_norm.weight", a.KVHeads}} {
			if x.name == "attn_k_norm.weight" && !a.Owns() {
				continue
			}
			switch n.Of {
			case PerHead:
				l.vector(x.name, a.KeyDim)
				if n.Biased {
					l.vector(strings.TrimSuffix(x.name, "weight")+"bias", a.KeyDim)
				}
			case EachHead:
				l.add(Tensor{Name: x.name, Rows: x.heads, Cols: a.KeyDim, Role: Vector})
			case WholeRow:
				l.vector(x.name, x.heads*a.KeyDim)
			}
		}
	}
	if d, ok := a.Position.(Distances); ok && d.Own {
		l.add(Tensor{Name: DistancesName, Rows: d.Buckets, Cols: a.Heads, Role: Vector})
	}
	if a.Sinks {
		l.vector("attn_sinks.weight", a.Heads)
	}
	if a.HeadGated {
		l.linear("attn_gate", a.Heads, l.width, Absent)
	}
	l.norm(&a.Sub, a.Heads*a.ValueDim)
	l.linear("attn_output", l.width, a.Heads*a.ValueDim, a.OutBias)
}

func (l *lister) cross(c *Cross) {
	n := c.Heads * c.HeadDim
	l.linear("cross_attn_q", n, l.width, c.Bias)
	l.linear("cross_attn_k", n, l.width, c.Bias)
	l.linear("cross_attn_v", n, l.width, c.Bias)
	l.linear("cross_attn_output", l.width, n, c.Bias)
}

func (l *lister) mamba1(m *Mamba1) {
	l.linear("ssm_in", 2*m.Inner, l.width, m.Bias)
	l.add(Tensor{Name: "ssm_conv1d.weight", Rows: m.Inner, Cols: m.Kernel, Role: Vector})
	l.bias("ssm_conv1d", m.Inner, m.ConvBias)
	l.linear("ssm_x", m.Rank+2*m.States, m.Inner, Absent)
	norms := m.Norms()
	l.norm(&norms[0], m.Rank)
	l.norm(&norms[1], m.States)
	l.norm(&norms[2], m.States)
	l.linear("ssm_dt", m.Inner, m.Rank, Required)
	l.add(Tensor{Name: "ssm_a.weight", Rows: m.Inner, Cols: m.States, Role: Vector})
	l.vector("ssm_d.weight", m.Inner)
	l.linear("ssm_out", l.width, m.Inner, m.Bias)
}

func (l *lister) mamba2(m *Mamba2) {
	l.linear("ssm_in", m.Inner()+m.Channels()+m.Heads, l.width, m.InBias)
	l.add(Tensor{Name: "ssm_conv1d.weight", Rows: m.Channels(), Cols: m.Kernel, Role: Vector})
	l.bias("ssm_conv1d", m.Channels(), m.ConvBias)
	l.vector("ssm_dt.bias", m.Heads)
	l.vector("ssm_a.weight", m.Heads)
	l.vector("ssm_d.weight", m.Heads)
	l.norm(&m.Norm, m.Inner())
	l.linear("ssm_out", l.width, m.Inner(), m.OutBias)
}

func (l *lister) latent(a *Latent) {
	q := a.Heads * (a.NopeDim + a.RopeDim)
	if a.QRank > 0 {
		l.linear("attn_q_a", a.QRank, l.width, Optional)
		l.vector("attn_q_a_norm.weight", a.QRank)
		l.linear("attn_q_b", q, a.QRank, Absent)
	} else {
		l.linear("attn_q", q, l.width, Absent)
	}
	l.linear("attn_kv_a_mqa", a.KVRank+a.RopeDim, l.width, Optional)
	l.vector("attn_kv_a_norm.weight", a.KVRank)
	for h := 0; h < a.Heads && l.err == nil; h++ {
		l.linear("attn_k_b."+strconv.Itoa(h), a.KVRank, a.NopeDim, Absent)
		l.linear("attn_v_b."+strconv.Itoa(h), a.ValueDim, a.KVRank, Absent)
	}
	l.linear("attn_output", l.width, a.Heads*a.ValueDim, Optional)
}

func (l *lister) delta(d *Delta) {
	keys, values := d.KeyHeads*d.KeyDim, d.Heads*d.ValueDim
	l.linear("attn_q", keys, l.width, Absent)
	l.linear("attn_k", keys, l.width, Absent)
	if d.Rank > 0 {
		l.kimi(d, keys, values)
		return
	}
	heads := ByHead{KeyHeads: d.KeyHeads, Heads: d.Heads, Tiled: d.Tiled}
	l.add(Tensor{Name: "attn_v.weight", Rows: values, Cols: l.width, Role: Product, ByHead: heads})
	l.add(Tensor{Name: "attn_gate.weight", Rows: values, Cols: l.width, Role: Product, ByHead: heads})
	l.add(Tensor{Name: "ssm_beta.weight", Rows: d.Heads, Cols: l.width, Role: Product, ByHead: heads})
	l.add(Tensor{Name: "ssm_alpha.weight", Rows: d.Heads, Cols: l.width, Role: Product, ByHead: heads})
	l.convolutions(d)
	l.vector("ssm_dt.bias", d.Heads)
	l.vector("ssm_a.weight", d.Heads)
	l.vector("ssm_norm.weight", d.ValueDim)
	heads.Columns = true
	l.add(Tensor{Name: "ssm_out.weight", Rows: l.width, Cols: values, Role: Product, ByHead: heads})
}

// kimi visits those of a delta net whose states decay by key channel, but for queries and keys.
func (l *lister) kimi(d *Delta, keys, values int) {
	l.linear("attn_v", values, l.width, Absent)
	l.linear("ssm_beta", d.Heads, l.width, Absent)
	l.linear("ssm_f_a", d.Rank, l.width, Absent)
	l.linear("ssm_f_b", keys, d.Rank, Absent)
	l.linear("ssm_g_a", d.Rank, l.width, Absent)
	l.linear("ssm_g_b", values, d.Rank, Absent)
	l.convolutions(d)
	l.vector("ssm_dt.bias", keys)
	l.vector("ssm_a.weight", d.Heads)
	l.vector("ssm_norm.weight", d.ValueDim)
	l.linear("attn_output", l.width, values, Absent)
}

// convolutions visits that of a delta net, or its three.
func (l *lister) convolutions(d *Delta) {
	if d.Apart == [3]int{} {
		l.add(Tensor{Name: "ssm_conv1d.weight", Rows: d.Channels(), Cols: d.Kernel, Role: Vector})
		return
	}
	for i, rows := range d.Apart {
		l.add(Tensor{Name: DeltaConvs[i] + ".weight", Rows: rows, Cols: d.Kernel, Role: Vector})
	}
}

func (l *lister) rglru(r *RGLRU) {
	l.linear("lru_x", r.Width, l.width, Required)
	l.linear("lru_y", r.Width, l.width, Required)
	l.add(Tensor{Name: "lru_conv.weight", Rows: r.Width, Cols: r.Kernel, Role: Vector})
	l.bias("lru_conv", r.Width, Required)
	block := r.Width / r.Blocks
	for i := 0; i < r.Blocks && l.err == nil; i++ {
		l.linear("lru_in."+strconv.Itoa(i), block, block, Required)
		l.linear("lru_rec."+strconv.Itoa(i), block, block, Required)
	}
	l.vector("lru_param.weight", r.Width)
	l.linear("lru_out", l.width, r.Width, Required)
}

func (l *lister) experts(m *MoE) {
	l.add(Tensor{Name: "ffn_gate_inp.weight", Rows: m.Experts, Cols: l.width, Role: Routing})
	l.bias("ffn_gate_inp", m.Experts, m.Router.Bias)
	if m.Router.Corrected {
		l.vector("exp_probs_b.bias", m.Experts)
	}
	if m.Router.Eps != 0 {
		l.vector("ffn_gate_inp.scale.weight", l.width)
	}
	if m.Scaled {
		l.vector("ffn_down_exps.scale.weight", m.Experts)
	}
	if m.Shared > 0 {
		if m.SharedGate {
			l.vector("ffn_gate_inp_shexp.weight", l.width)
		}
		if !m.Plain {
			l.linear("ffn_gate_shexp", m.Shared, l.width, Absent)
		}
		l.linear("ffn_up_shexp", m.Shared, l.width, Absent)
		l.linear("ffn_down_shexp", l.width, m.Shared, Absent)
	}
	for e := 0; e < m.Experts && l.err == nil; e++ {
		of := func(name string, rows, cols int) {
			name += "." + strconv.Itoa(e)
			l.add(Tensor{Name: name + ".weight", Rows: rows, Cols: cols, Role: Expert, Used: m.Used, Experts: m.Experts})
			l.bias(name, rows, m.Bias)
		}
		if !m.Plain {
			of("ffn_gate", m.Hidden, l.width)
		}
		of("ffn_up", m.Hidden, l.width)
		of("ffn_down", l.width, m.Hidden)
	}
}

func (l *lister) linear(name string, rows, cols int, bias Presence) {
	l.add(Tensor{Name: name + ".weight", Rows: rows, Cols: cols, Role: Product})
	l.bias(name, rows, bias)
}

func (l *lister) norm(n *Norm, width int) {
	if n.Kind == NoNorm || n.Name == "" {
		return
	}
	if n.Kind == Factor {
		width = 1
	}
	l.vector(n.Name+".weight", width)
	if n.Kind == LayerNorm {
		l.bias(n.Name, width, n.Bias)
	}
}

func (l *lister) bias(name string, n int, p Presence) {
	if p != Absent {
		l.add(Tensor{Name: name + ".bias", Cols: n, Optional: p == Optional})
	}
}

func (l *lister) vector(name string, n int) { l.add(Tensor{Name: name, Cols: n}) }

func (l *lister) add(t Tensor) {
	if l.err == nil {
		t.Name = l.prefix + t.Name
		l.err = l.visit(t)
	}
}
