package transformer

import (
	"fmt"

	"edged/core/infer/kv"
	"edged/core/infer/transformer/attention"
	"edged/core/infer/transformer/batch"
	"edged/core/infer/transformer/feedforward"
	"edged/core/infer/transformer/recurrent"
	"edged/core/infer/transformer/streams"
	"edged/core/model/arch"
	"edged/quant/kernel"
)

// PlanMemory returns the bytes of one KV page and those of the scratch that New would reserve for a model of
// this Spec. The scratch is an upper bound: what a batch never touches, the system never hands out. Only o's
// KV, Context, MaxRows and threads matter.
func PlanMemory(spec *arch.Spec, o Options) (kvBytesPerPage, scratch int64, err error) {
	if err := spec.Check(); err != nil {
		return 0, 0, fmt.Errorf("transformer: %w", err)
	}
	if o.Kernels == nil {
		o.Kernels = kernel.Portable{}
	}
	if o, err = o.resolve(spec); err != nil {
		return 0, 0, fmt.Errorf("transformer: %w", err)
	}
	z := scratchSizes(spec, &o)
	return kv.PageBytes(spec, o.KV), z.Total(), nil
}

// scratchSizes computes what a model needs: of each buffer the most that one of its operations asks for. o is resolved.
func scratchSizes(spec *arch.Spec, o *Options) batch.Sizes {
	z := batch.Sizes{
		Rows: o.MaxRows, Width: spec.Width, ActCols: spec.Width,
		Items: max(o.ThreadsPrefill, o.ThreadsDecode) * batch.SplitItems, Spans: (o.Context + kernel.SpanPositions - 1) / kernel.SpanPositions,
	}
	z.Need(batch.BufX, spec.Width)
	z.Need(batch.BufD, spec.Width)
	z.Need(batch.BufH, spec.Width)
	if spec.Kind != arch.Encoder {
		z.NeedAll(batch.BufLogits, int64(min(o.MaxRows, batch.HeadRows))*int64(spec.Vocab))
		z.NeedAll(batch.BufLora, int64(min(o.MaxRows, batch.HeadRows))*int64(spec.Vocab))
	}
	z.Need(batch.BufLora, spec.Width)
	if n := spec.Streams(); n > 1 {
		streams.Room(&z, n)
	}
	if p := &spec.Embed.PerLayer; p.Width > 0 {
		streams.RowsRoom(&z, len(spec.Layers)*p.Width)
	}
	for _, layer := range spec.Layers {
		for i := range layer {
			if layer[i].Wire != arch.Serial {
				z.Need(batch.BufE, spec.Width)
			}
			opRoom(&z, spec, layer[i].Op)
		}
	}
	return z
}

// opRoom makes room for one operation.
func opRoom(z *batch.Sizes, spec *arch.Spec, op arch.Op) {
	switch op := op.(type) {
	case arch.Attention:
		attention.Room(z, &op)
	case arch.Latent:
		attention.LatentRoom(z, &op)
	case arch.Cross:
		attention.CrossRoom(z, &op)
	case arch.ShortConv:
		recurrent.ShortConvRoom(z)
	case arch.Mamba1:
		recurrent.Mamba1Room(z, &op)
	case arch.Mamba2:
		recurrent.Mamba2Room(z, &op)
	case arch.Delta:
		recurrent.DeltaRoom(z, &op)
	case arch.RGLRU:
		recurrent.RGLRURoom(z, &op)
	case arch.Lightning:
		recurrent.LightningRoom(z, &op)
	case arch.GLU:
		z.Hidden(op.Hidden, 2)
	case arch.MLP:
		z.Hidden(op.Hidden, 1)
	case arch.MoE:
		feedforward.ExpertsRoom(z, &op)
	case arch.Laurel:
		z.Hidden(op.Rank, 1)
	case arch.AltUpCorrect, arch.PerLayer:
		z.Hidden(spec.Embed.PerLayer.Width, 1)
	}
}
