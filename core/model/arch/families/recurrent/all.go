// Package recurrent holds the families of decoders that keep a state of fixed size beside keys and values, or
// instead of them: scans, delta nets and short convolutions, and the hybrids of these with attention. One
// file for each; All lists them.
package recurrent

import "edged/core/model/arch/family"

// All lists the families of this package, in the order of docs/models.md.
func All() []family.Family {
	return []family.Family{
		lfm2(),
		lfm2moe(),
		lfm3(),
		mamba2(),
		qwen35(),
		qwen35moe(),
		qwen3next(),
		granitehybrid(),
		bamba(),
		falconh1(),
		nemotronh(),
		mamba(),
		falconmamba(),
		jamba(),
		recurrentgemma(),
		olmohybrid(),
		kimilinear(),
		minimax(),
	}
}
