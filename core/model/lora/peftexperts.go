package lora

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"edged/core/model/arch"
)

// A target_parameters adapter changes tensors that are no linear layer's: the matrices of all experts, stored
// as one tensor, and a router's. Of experts A is (experts · r, in), an expert's ranks after another's, and B
// (out, r · experts), a rank's experts after another's; where two tensors of one module have adapters, that
// of the first one stands under base_layer. Source: huggingface/peft, src/peft/tuners/lora/layer.py
// (ParamWrapper).

// expertParameters are the tensors of experts in the order in which transformers' modules register them.
func expertParameters() []string { return []string{"gate_up_proj", "down_proj"} }

// parameterOf tells which tensor the factors that PEFT calls module are of, "" where they are a linear layer's.
func (c *peftConfig) parameterOf(module string, modules map[string]*parts) (parameter string, err error) {
	levels := strings.Count(module, ".base_layer")
	name := strings.ReplaceAll(module, ".base_layer", "")
	if len(c.Parameters) == 0 || c.targets.set() && c.targets.match(name, nil) {
		return "", nil
	}
	named := func(parameter string) bool {
		full := name + "." + parameter
		return slices.ContainsFunc(c.Parameters, func(p string) bool { return full == p || strings.HasSuffix(full, "."+p) })
	}
	if named("weight") {
		return "weight", nil
	}
	var wrapped []string // the innermost first
	for _, p := range expertParameters() {
		if named(p) {
			wrapped = append(wrapped, p)
		}
	}
	depth := 0
	for modules[name+strings.Repeat(".base_layer", depth)] != nil {
		depth++
	}
	if depth != len(wrapped) || levels >= depth {
		return "", fmt.Errorf("module %s has tensors, but target_parameters %q names %d tensors of it; the served ones are weight, %s",
			name, c.Parameters, len(wrapped), strings.Join(expertParameters(), " and "))
	}
	return wrapped[depth-1-levels], nil
}

// parameters brings the factors of target_parameters under the names of their tensors.
func (c *peftConfig) parameters(dir string, modules map[string]*parts) (map[string]*parts, error) {
	if len(c.Parameters) == 0 {
		return modules, nil
	}
	out := map[string]*parts{}
	for module, p := range modules {
		parameter, err := c.parameterOf(module, modules)
		switch name := strings.ReplaceAll(module, ".base_layer", ""); {
		case err != nil:
			return nil, adapterError(dir, ErrUnsupported, "%s", err.Error())
		case parameter == "" || parameter == "weight":
			out[name] = p
		default:
			a, b := &p.t[halfA], &p.t[halfB]
			r := c.ranks.find(name+"."+parameter, c.Rank)
			p.experts = a.rows / int(r)
			if p.experts < 1 || p.experts > arch.MaxExperts || a.rows != p.experts*int(r) || b.cols != a.rows {
				return nil, adapterError(dir, ErrInvalid, "tensors %s (%d, %d) and %s (%d, %d) are not of a whole number of experts of rank %g", a.name, a.rows, a.cols, b.name, b.rows, b.cols, r)
			}
			for _, which := range []half{halfSize, halfBias, halfTrain} {
				if t := &p.t[which]; t.rows > 0 {
					return nil, adapterError(dir, ErrUnsupported, "tensor %s (%d): only A and B are served of the experts' tensors; train without DoRA and biases", t.name, t.rows)
				}
			}
			out[name+"."+parameter] = p
		}
	}
	return out, nil
}

// addExperts cuts the factors of all experts into those of each, and of each matrix that an expert's tensor holds.
func (a *Adapter) addExperts(l *rawDelta, m Base) error {
	_, numbers := arch.SplitNumbers(l.module)
	into, alternating := []string{"blk.N.ffn_down.E"}, false
	if lastWord(l.module) == "gate_up_proj" {
		into = []string{"blk.N.ffn_gate.E", "blk.N.ffn_up.E"}
		stack := m.Network().StackOf("blk.N.ffn_gate_up_exps")
		alternating = stack != nil && stack.Alternating
	}
	matrix := func(pattern string, expert int) string {
		return arch.JoinNumbers(pattern, []string{numbers[0], strconv.Itoa(expert)}) + ".weight"
	}
	n, rank := len(into), l.rank()/l.experts
	if l.b.rows%n != 0 || len(numbers) == 0 || m.Matrix(matrix(into[0], l.experts-1)) == nil || m.Matrix(matrix(into[0], l.experts)) != nil {
		return a.fail(ErrMismatch, "tensors %s (%d, %d) and %s (%d, %d) are of %d experts of rank %d, which the %s model has not got there: it was trained on another model",
			l.a.name, l.a.rows, l.a.cols, l.b.name, l.b.rows, l.b.cols, l.experts, rank, m.Network().Family)
	}
	if err := a.finite(&l.a, &l.b); err != nil {
		return err
	}
	size := l.b.format.RowBytes(1)
	rows := l.b.rows / n
	for e := range l.experts {
		for i, pattern := range into {
			b, err := a.arena.Alloc(rows * rank * size)
			if err != nil {
				return err
			}
			for o := range rows {
				from := i*rows + o
				if alternating {
					from = o*n + i
				}
				for k := range rank {
					copy(b[(o*rank+k)*size:(o*rank+k+1)*size], l.b.data[(from*l.b.cols+k*l.experts+e)*size:])
				}
			}
			one := *l
			each := len(l.a.data) / l.experts
			one.a = rawTensor{l.a.name, l.a.format, rank, l.a.cols, l.a.data[e*each : (e+1)*each]}
			one.b = rawTensor{l.b.name, l.b.format, rows, rank, b}
			if err := a.add(&one, m, matrix(pattern, e), false); err != nil {
				return err
			}
		}
	}
	return nil
}

// blockDiagonal is use_bdlora: factors of some modules are blocks on a diagonal, of which the file has the
// blocks one above the other (huggingface/peft, BdLoraConfig).
type blockDiagonal struct {
	Blocks int      `json:"nblocks"`
	A      []string `json:"target_modules_bd_a"`
	B      []string `json:"target_modules_bd_b"`
}

// spread makes whole factors of the blocks.
func (d *blockDiagonal) spread(dir, module string, p *parts) error {
	named := func(list []string) bool {
		return slices.ContainsFunc(list, func(s string) bool { return strings.Contains(lastWord(module), s) })
	}
	t := &p.t[halfB]
	switch a, b := named(d.A), named(d.B); {
	case a && b:
		return adapterError(dir, ErrInvalid, "module %s is in target_modules_bd_a and in target_modules_bd_b", module)
	case a:
		t = &p.t[halfA]
	case !b:
		return nil
	}
	n := d.Blocks
	if n < 1 || n > maxRank || t.rows%n != 0 || int64(len(t.data))*int64(n) > maxDense {
		return adapterError(dir, ErrInvalid, "tensor %s (%d, %d) is not made of the %d blocks that use_bdlora gives", t.name, t.rows, t.cols, n)
	}
	if t.rows == 0 {
		return nil
	}
	size := len(t.data) / t.rows // of a row of a block
	out := make([]byte, len(t.data)*n)
	for r := range t.rows {
		copy(out[(r*n+r/(t.rows/n))*size:], t.data[r*size:(r+1)*size])
	}
	t.cols, t.data = t.cols*n, out
	return nil
}
