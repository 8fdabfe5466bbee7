package lora

import "math"

// Never is the start position of an activated adapter in a text that does not call it.
const Never = math.MaxInt32

// ActiveFrom is the position from which an adapter changes the rows of a text of n tokens: 0 for one that is
// always on, that of the last place of its Invocation, or Never. Source: huggingface/peft,
// src/peft/tuners/lora/variants.py (calculate_alora_offsets).
func ActiveFrom(invocation []int32, n int, token func(i int) int32) int {
	if len(invocation) == 0 {
		return 0
	}
	for at := n - len(invocation); at >= 0; at-- {
		i := 0
		for i < len(invocation) && token(at+i) == invocation[i] {
			i++
		}
		if i == len(invocation) {
			return at
		}
	}
	return Never
}

// Virtual is the number of virtual tokens of its soft prompt or prefix.
func (a *Adapter) Virtual() int {
	n := 0
	if a.Prompt != nil {
		n = a.Prompt.Rows
	}
	if len(a.Prefix) > 0 {
		n += a.Prefix[0].K.Rows
	}
	return n
}
