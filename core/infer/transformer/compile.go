package transformer

import (
	"errors"

	"edged/core/infer/sample"
	"edged/core/model/arch"
	"edged/quant"
	"edged/quant/kernel"
)

// network is a model as compile makes it of its Spec.
type network struct {
	embed      *quant.Matrix // (Vocab, EmbedWidth)
	widen      linear        // (Width, EmbedWidth) of an embedding that is narrower; else empty
	narrow     linear        // (EmbedWidth, Width) before the head; empty with widen
	scale      float32       // of an embedded token
	embedNorm  norm
	positions  *quant.Matrix // (positions, Width), learned; nil where there are none
	offset     int           // row of position 0
	types      *quant.Matrix // (types, Width), added by a token's type; nil where there are none
	perLayer   *perLayer     // rows that layers read beside x; nil: none
	units      []unit
	end        unit           // the norm before the head
	head       linear         // (Vocab, Width)
	headScale  float32        // of the logits
	headCap    float32        // of the logits; 0: none
	dense      []stage        // behind the pooling
	score      []stage        // that make a score
	mask       []stage        // between the states and the head
	ropes      []rope         // those that differ
	distances  []*distances   // tables of learned distances
	crosses    []*cross       // attention to the encoder's text
	linears    []linear       // all of them, by id
	ids        map[string]int // by GGUF name of the weight
	norms      []norm         // those that adapters can change
	normIDs    map[string]int // their ids, 1 and more, by GGUF name without .weight
	attentions []*attention   // by index
	mixture    bool           // some part chooses experts
	info       Info
}

// compile binds the tensors of a Spec: one unit for each part of a layer, by the type of its operation. It never asks which
// family a model is of: what differs is a field of the Spec.
func compile(src source, spec *arch.Spec, k kernel.Kernels) (network, error) {
	b := &builder{src: src, spec: spec, k: k, net: network{ids: map[string]int{}}}
	net := &b.net
	net.embed = b.matrix(arch.EmbedName, spec.Vocab, spec.EmbedWidth())
	if spec.Embed.Width > 0 {
		net.widen, net.narrow = b.linear(arch.EmbedProj, spec.Width, spec.Embed.Width), b.linear(arch.HeadProj, spec.Embed.Width, spec.Width)
		b.weigh(&net.widen, 1, 1)
		b.weigh(&net.narrow, 1, 1)
	}
	b.prefix = spec.Prefix
	net.scale, net.embedNorm = factor(spec.Embed.Scale), b.norm(&spec.Embed.Norm, spec.Width)
	net.offset = spec.Embed.Offset
	if spec.Embed.Positions > 0 {
		net.positions = b.positions()
	} else if spec.Embed.Waves.Rows > 0 {
		net.positions = waves(&spec.Embed.Waves, spec.Width)
	}
	if spec.Embed.Types > 0 {
		net.types = b.matrix(spec.Prefix+arch.TypesName, spec.Embed.Types, spec.Width)
	}
	b.cacheOf = make([]int, len(spec.Layers))
	net.perLayer = b.perLayer()
	for n, layer := range spec.Layers {
		b.prefix, b.layer = spec.LayerName(n, ""), n
		for i := range layer {
			b.unit(&layer[i])
		}
	}
	b.prefix = spec.Prefix
	net.end = unit{pre: b.norm(&spec.Norm, spec.Width), keep: 1, scale: 1}
	b.prefix = ""
	net.dense = b.stages(spec.Dense)
	if spec.Score != nil {
		net.score = b.stages(spec.Score.Steps)
	}
	if spec.Mask != nil {
		net.mask = b.stages(spec.Mask.Steps)
	} else if spec.Kind == arch.Encoder {
		return b.finish()
	}
	net.head = b.linear("output", spec.Vocab, spec.EmbedWidth())
	net.head.multiple = lcm(net.head.multiple, sample.PeakLen) // a peak is found by one thread
	net.headScale, net.headCap = factor(spec.Head.Scale), spec.Head.Cap
	if spec.Head.Tied {
		net.info.Parameters -= int64(spec.Vocab) * int64(spec.EmbedWidth())
	}
	return b.finish()
}

// unit compiles one part of a layer.
func (b *builder) unit(sub *arch.Sub) {
	u := unit{
		pre: b.norm(&sub.Pre, b.spec.Width), wire: sub.Wire, fromNorm: sub.FromNorm,
		keep: factor(sub.Keep), scale: factor(sub.Scale),
	}
	switch op := sub.Op.(type) {
	case arch.Attention:
		u.op = b.attention(&op)
	case arch.Latent:
		u.op = b.latent(&op)
	case arch.Cross:
		u.op = b.cross(&op)
	case arch.ShortConv:
		u.op = b.shortConv(&op)
	case arch.Mamba1:
		u.op = b.mamba1(&op)
	case arch.Mamba2:
		u.op = b.mamba2(&op)
	case arch.Delta:
		u.op = b.deltaNet(&op)
	case arch.RGLRU:
		u.op = b.rglru(&op)
	case arch.Lightning:
		u.op = b.lightning(&op)
	case arch.GLU:
		u.op = b.glu(&op)
	case arch.MLP:
		u.op = b.mlp(&op)
	case arch.MoE:
		u.op = b.experts(&op)
		b.net.mixture = true
	case arch.PerLayer:
		u.op = b.beside(op.Act)
	case arch.AltUpPredict:
		u.op = b.predict(&op)
	case arch.AltUpCorrect:
		u.op = b.correct(&op)
	case arch.AltUpSpread:
		u.op = b.spread(op.Streams)
	case arch.AltUpGather:
		u.op = b.gather(op.Streams)
	case arch.Laurel:
		u.op = b.laurel(&op)
	default:
		b.fail("an operation of the kind %T is not supported", op)
	}
	u.post, u.after = b.norm(&sub.Post, b.spec.Width), b.norm(&sub.After, b.spec.Width)
	u.joint = b.norm(&sub.Joint, b.spec.Width)
	b.net.units = append(b.net.units, u)
}

// positions binds the learned positions, of which there need not be as many as the context that the file names.
func (b *builder) positions() *quant.Matrix {
	rows := b.spec.Embed.Positions
	name := b.spec.Prefix + arch.PositionName
	if m := b.src.Matrix(name); m != nil {
		rows = m.Rows
	}
	return b.matrix(name, rows, b.spec.Width)
}

// finish closes the network; weights has proved that no tensor was left out.
func (b *builder) finish() (network, error) {
	if b.err != nil {
		return network{}, b.err
	}
	if b.last == nil {
		return network{}, errors.New("a model without attention or a state is not supported")
	}
	*b.last = true
	var most int64
	for f, n := range b.formats {
		if n > most || n == most && f < b.net.info.Format {
			most, b.net.info.Format = n, f
		}
	}
	if b.net.head.w != nil {
		b.net.info.HeadBytes = matrixBytes(b.net.head.w)
		b.net.info.WeightBytes += b.net.info.HeadBytes
	}
	return b.net, nil
}
