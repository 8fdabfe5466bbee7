// Package bind binds the tensors of a model by name. A Builder proves the shapes that operations ask for,
// numbers what adapters and caches refer to (linear layers, norms, attentions, states), and counts what a
// token reads. It is used once, while a model is compiled.
package bind
