// Package adapter holds adapters that are bound to a model: low-rank factors beside linear layers (LoRA,
// DoRA), beside the embedding, norms that take the place of the model's, and virtual tokens before a text or
// beside it (soft prompts, prefixes, adaption prompts).
//
// Bind proves an adapter's file against a Base, which describes the model, and lays the factors out as the
// kernels read them. The products themselves are in package batch, attention to virtual tokens is in package
// attention. An Adapter does not change once it is bound; Bind may run beside a forward pass.
package adapter
