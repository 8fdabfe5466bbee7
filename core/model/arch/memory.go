package arch

// Cache is the geometry of one attention's cache: for every position, and each of Heads, a key and a value.
type Cache struct {
	Layer            int // that it is of
	Heads            int
	KeyDim, ValueDim int
	Window           int  // positions that are still seen; 0: all
	Text             bool // of the encoder's text, and not of the sequence's own positions
	Latent           int  // values at the head of a key that are the value too, so that ValueDim is 0; 0: none
}

// Memory lists what a sequence keeps, in the order of the operations.
func Memory(s *Spec) []Cache {
	var out []Cache
	for n, layer := range s.Layers {
		for i := range layer {
			switch a := layer[i].Op.(type) {
			case Attention:
				if !a.Owns() {
					continue
				}
				out = append(out, Cache{Layer: n, Heads: a.KVHeads, KeyDim: a.KeyDim, ValueDim: a.ValueDim, Window: a.Window})
			case Cross:
				out = append(out, Cache{Layer: n, Heads: a.Heads, KeyDim: a.HeadDim, ValueDim: a.HeadDim, Text: true})
			case Latent:
				out = append(out, Cache{Layer: n, Heads: 1, KeyDim: a.KVRank + a.RopeDim, Latent: a.KVRank})
			}
		}
	}
	return out
}

// State is the geometry of one operation's fixed state, whose size does not depend on the number of positions.
type State struct {
	Layer  int // that it is of
	Values int // float32
}

// States lists the fixed states of a sequence, in the order of the operations. A state cannot be taken back
// to an earlier position.
func States(s *Spec) []State {
	var out []State
	for n, layer := range s.Layers {
		for i := range layer {
			switch op := layer[i].Op.(type) {
			case ShortConv:
				out = append(out, State{Layer: n, Values: (op.Kernel - 1) * s.Width})
			case Mamba1:
				out = append(out, State{Layer: n, Values: op.ConvState() + op.Inner*op.States})
			case Mamba2:
				out = append(out, State{Layer: n, Values: op.ConvState() + op.Inner()*op.States})
			case RGLRU:
				out = append(out, State{Layer: n, Values: op.ConvState() + op.Width})
			case Lightning:
				out = append(out, State{Layer: n, Values: op.Heads * op.HeadDim * op.HeadDim})
			case Delta:
				out = append(out, State{Layer: n, Values: op.ConvState() + op.Heads*op.KeyDim*op.ValueDim})
			}
		}
	}
	return out
}
