package keys

import (
	"edged/core/model/arch"
)

// Act reads the activation's name, "" for a missing key, and refuses one that is not known.
func (k *Keys) Act(names string, def arch.ActKind) arch.Act {
	v := k.String(names)
	if v == "" {
		return arch.Act{Kind: def}
	}
	a, ok := Acts()[v]
	if !ok {
		k.Unsupported("%s %q is not an activation that is served", k.Say(names), v)
	}
	return a
}

// Acts are transformers' names (ACT2FN).
func Acts() map[string]arch.Act {
	silu, erf, tanh := arch.Act{Kind: arch.SiLU}, arch.Act{Kind: arch.GELUErf}, arch.Act{Kind: arch.GELUTanh}
	return map[string]arch.Act{
		"silu": silu, "swish": silu, "gelu": erf, "gelu_python": erf, "gelu_new": tanh, "gelu_fast": tanh,
		"gelu_pytorch_tanh": tanh, "gelu_python_tanh": tanh, "quick_gelu": {Kind: arch.QuickGELU, A: 1.702}, "relu": {Kind: arch.ReLU},
		"relu2": {Kind: arch.ReLUSquared}, "relu_squared": {Kind: arch.ReLUSquared}, "xielu": {Kind: arch.XIELU},
	}
}

// ActOf is Act for a family with one activation only: a folder may name it or not.
func (k *Keys) ActOf(names string, want arch.ActKind) arch.Act {
	a := k.Act(names, want)
	if a.Kind != want {
		k.Unsupported("%s %q with this family", k.Say(names), k.String(names))
	}
	return a
}
