package transformer

import (
	"errors"

	"edged/core/infer/sample"
	"edged/core/infer/transformer/attention"
	"edged/core/infer/transformer/batch"
	"edged/core/infer/transformer/bind"
	"edged/core/infer/transformer/feedforward"
	"edged/core/infer/transformer/parts"
	"edged/core/infer/transformer/position"
	"edged/core/infer/transformer/recurrent"
	"edged/core/infer/transformer/streams"
	"edged/core/model/arch"
	"edged/quant"
	"edged/quant/kernel"
)

// network is a model as compile makes it of its Spec.
type network struct {
	embed      *quant.Matrix // (Vocab, EmbedWidth)
	widen      parts.Linear  // (Width, EmbedWidth) of an embedding that is narrower; else empty
	narrow     parts.Linear  // (EmbedWidth, Width) before the head; empty with widen
	inner      bool          // positions, types and innerNorm are of the narrow row
	innerNorm  parts.Norm
	scale      float32 // of an embedded token
	embedNorm  parts.Norm
	positions  *quant.Matrix // (positions, Width), learned; nil where there are none
	offset     int           // row of position 0
	types      *quant.Matrix // (types, Width), added by a token's type; nil where there are none
	perLayer   *streams.Rows // rows that layers read beside x; nil: none
	units      []batch.Unit
	end        batch.Unit           // the norm before the head
	head       parts.Linear         // (Vocab, Width)
	headScale  float32              // of the logits
	headCap    float32              // of the logits; 0: none
	dense      []stage              // behind the pooling
	score      []stage              // that make a score
	mask       []stage              // between the states and the head
	ropes      []position.Rope      // those that differ
	distances  []*position.Table    // tables of learned distances
	crosses    []*attention.Cross   // attention to the encoder's text
	linears    []parts.Linear       // all of them, by id
	ids        map[string]int       // by GGUF name of the weight
	norms      []parts.Norm         // those that adapters can change
	normIDs    map[string]int       // their ids, 1 and more, by GGUF name without .weight
	attentions []*attention.Grouped // by index
	mixture    bool                 // some part chooses experts
	predict    *streams.Predict     // of the layer that is compiled; its correction shares the router
	info       Info
}

// compile binds the tensors of a Spec: one unit for each part of a layer, by the type of its operation. It
// never asks which family a model is of: what differs is a field of the Spec.
func compile(src bind.Source, spec *arch.Spec, k kernel.Kernels) (network, error) {
	b := &bind.Builder{Src: src, Spec: spec, K: k, IDs: map[string]int{}, CacheOf: make([]int, len(spec.Layers))}
	net := &network{}
	net.embed = b.Matrix(arch.EmbedName, spec.Vocab, spec.EmbedWidth())
	if spec.Embed.Width > 0 {
		net.widen = b.Linear(arch.EmbedProj, spec.Width, spec.Embed.Width)
		b.Weigh(&net.widen, 1, 1)
		if !spec.Embed.Inner {
			net.narrow = b.Linear(arch.HeadProj, spec.Embed.Width, spec.Width)
			b.Weigh(&net.narrow, 1, 1)
		}
	}
	b.Prefix = spec.Prefix
	net.scale = parts.Factor(spec.Embed.Scale)
	if net.inner = spec.Embed.Inner; net.inner {
		net.innerNorm = b.Fixed(&spec.Embed.Norm, spec.SumWidth())
	} else {
		net.embedNorm = b.Norm(&spec.Embed.Norm, spec.Width)
	}
	net.offset = spec.Embed.Offset
	if spec.Embed.Positions > 0 {
		net.positions = positions(b)
	} else if spec.Embed.Waves.Rows > 0 {
		net.positions = position.Waves(&spec.Embed.Waves, spec.Width)
	}
	if spec.Embed.Types > 0 {
		net.types = b.Matrix(spec.Prefix+arch.TypesName, spec.Embed.Types, spec.SumWidth())
	}
	net.perLayer = streams.NewRows(b)
	for n, layer := range spec.Layers {
		b.Prefix, b.Layer = spec.LayerName(spec.TensorLayer(n), ""), n
		counted := b.Parameters
		for i := range layer {
			net.unit(b, &layer[i])
		}
		if spec.Repeats(n) {
			b.Parameters = counted
		}
	}
	b.Prefix = spec.Prefix
	net.end = batch.Unit{Pre: b.Norm(&spec.Norm, spec.Width), Keep: 1, Scale: 1}
	b.Prefix = ""
	net.dense = stages(b, spec.Dense)
	if spec.Score != nil {
		net.score = stages(b, spec.Score.Steps)
	}
	if spec.Mask != nil {
		net.mask = stages(b, spec.Mask.Steps)
	} else if spec.Kind == arch.Encoder {
		return net.finish(b)
	}
	net.head = b.Linear("output", spec.Vocab, spec.EmbedWidth())
	net.head.Multiple = batch.LCM(net.head.Multiple, sample.PeakLen) // a peak is found by one thread
	net.headScale, net.headCap = parts.Factor(spec.Head.Scale), spec.Head.Cap
	if spec.Head.Tied {
		b.Parameters -= int64(spec.Vocab) * int64(spec.EmbedWidth())
	}
	return net.finish(b)
}

// unit compiles one part of a layer.
func (n *network) unit(b *bind.Builder, sub *arch.Sub) {
	u := batch.Unit{
		Pre: b.Norm(&sub.Pre, b.Spec.Width), Wire: sub.Wire, FromNorm: sub.FromNorm,
		Keep: parts.Factor(sub.Keep), Scale: parts.Factor(sub.Scale),
	}
	switch op := sub.Op.(type) {
	case arch.Attention:
		a := attention.New(b, &op)
		n.attentions, u.Op = append(n.attentions, a), a
	case arch.Latent:
		l := attention.NewLatent(b, &op)
		n.attentions, u.Op = append(n.attentions, &l.Core), l
	case arch.Cross:
		c := attention.NewCross(b, &op)
		n.attentions, n.crosses, u.Op = append(n.attentions, &c.Grouped), append(n.crosses, c), c
	case arch.ShortConv:
		u.Op = recurrent.NewShortConv(b, &op)
	case arch.Mamba1:
		u.Op = recurrent.NewMamba1(b, &op)
	case arch.Mamba2:
		u.Op = recurrent.NewMamba2(b, &op)
	case arch.Delta:
		u.Op = recurrent.NewDelta(b, &op)
	case arch.RGLRU:
		u.Op = recurrent.NewRGLRU(b, &op)
	case arch.Lightning:
		u.Op = recurrent.NewLightning(b, &op)
	case arch.GLU:
		u.Op = feedforward.NewGLU(b, &op)
	case arch.MLP:
		u.Op = feedforward.NewMLP(b, &op)
	case arch.MoE:
		u.Op = feedforward.NewExperts(b, &op)
		n.mixture = true
	case arch.PerLayer:
		u.Op = streams.NewAdd(b, op.Act)
	case arch.AltUpPredict:
		n.predict = streams.NewPredict(b, &op)
		u.Op = n.predict
	case arch.AltUpCorrect:
		u.Op = streams.NewCorrect(b, &op, n.predict)
	case arch.AltUpSpread:
		u.Op = streams.NewSpread(b, op.Streams)
	case arch.AltUpGather:
		u.Op = streams.NewGather(b, op.Streams)
	case arch.Laurel:
		u.Op = streams.NewLaurel(b, &op)
	default:
		b.Fail("an operation of the kind %T is not supported", op)
	}
	u.Post, u.After = b.Norm(&sub.Post, b.Spec.Width), b.Norm(&sub.After, b.Spec.Width)
	u.Joint = b.Norm(&sub.Joint, b.Spec.Width)
	n.units = append(n.units, u)
}

// positions binds the learned positions, of which there need not be as many as the context that the file names.
func positions(b *bind.Builder) *quant.Matrix {
	rows := b.Spec.Embed.Positions
	name := b.Spec.Prefix + arch.PositionName
	if m := b.Src.Matrix(name); m != nil {
		rows = m.Rows
	}
	return b.Matrix(name, rows, b.Spec.SumWidth())
}

// finish closes the network; weights has proved that no tensor was left out.
func (n *network) finish(b *bind.Builder) (network, error) {
	if b.Err != nil {
		return network{}, b.Err
	}
	if b.Last == nil {
		return network{}, errors.New("a model without attention or a state is not supported")
	}
	*b.Last = true
	var most int64
	for f, bytes := range b.Formats {
		if bytes > most || bytes == most && f < n.info.Format {
			most, n.info.Format = bytes, f
		}
	}
	n.info.Parameters, n.info.WeightBytes = b.Parameters, b.WeightBytes
	if n.head.W != nil {
		n.info.HeadBytes = parts.Bytes(n.head.W)
		n.info.WeightBytes += n.info.HeadBytes
	}
	n.linears, n.ids, n.norms, n.normIDs, n.ropes, n.distances = b.Linears, b.IDs, b.Norms, b.NormIDs, b.Ropes, b.Distances
	return *n, nil
}
