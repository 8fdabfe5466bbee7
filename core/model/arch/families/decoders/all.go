// Package decoders holds the families of decoders whose layers are attention and one feed-forward network: one file for each, or for a
// few that share one network. All lists them. Those that choose experts in most layers are in package mixtures, those that keep a
// state of fixed size in package recurrent.
package decoders

import "edged/core/model/arch/family"

// All lists the families of this package, in the order of docs/models.md.
func All() []family.Family {
	return []family.Family{
		llama(),
		mistral(),
		qwen2(),
		qwen3(),
		gpt2(),
		mixtral(),
		olmo2(),
		granite(),
		gemma(),
		gemma2(),
		vaultgemma(),
		gemma3(),
		gemma3n(),
		gemma4(),
		phi3(),
		phi(),
		smollm3(),
		cohere(),
		cohere2(),
		glm4(),
		glm(),
		stablelm(),
		starcoder2(),
		gptneox(),
		gptj(),
		codegen(),
		falcon(),
		olmo(),
		exaone4(),
		hunyuan(),
		ernie(),
		helium(),
		nemotron(),
		arcee(),
		apertus(),
		seedoss(),
		ministral(),
		mistral3(),
		bloom(),
		mpt(),
		opt(),
		openaigpt(),
		bitnet(),
		cwm(),
		graniteswa(),
		internlm2(),
		minicpm(),
	}
}
