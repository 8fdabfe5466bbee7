// Package mixtures holds the families of decoders whose feed-forward networks are experts that a router
// chooses: one file for each. All lists them. A mixture that is also served under the name of a dense family
// (Mixtral) or in one of its layers only (Gemma 4) is in package decoders.
package mixtures

import "edged/core/model/arch/family"

// All lists the families of this package, in the order of docs/models.md.
func All() []family.Family {
	return []family.Family{
		qwen2moe(),
		qwen3moe(),
		olmoe(),
		phimoe(),
		ernie45moe(),
		glm4moe(),
		minimaxm2(),
		gptoss(),
		deepseek(),
		deepseek2(),
		granitemoe(),
	}
}
