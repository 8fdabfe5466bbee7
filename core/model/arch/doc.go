// Package arch is the vocabulary in which a model's architecture is described: as data, a Spec, which lists
// every layer with its operations (Attention, GLU, MoE, Mamba2, …), the norms and wires between them, and
// what stands before and behind the layers.
//
// A Spec is made from a file's hyper-parameters by one function for each family: package keys reads the
// hyper-parameters, package family says what else is to be known of a family, and package families, with the
// packages below it, lists those that are served.
//
// Everything else derives from a Spec. Tensors is the only list of a model's tensors: package weights loads
// exactly those, repairs them as the Spec's Fixes say and refuses any other. Memory and States list what a
// sequence keeps. Package transformer compiles a Spec by the types of its operations; adapters and
// requantisation ask it for shapes and roles. None of them knows a family's name, and a test holds that.
//
// The package holds no bytes and no arithmetic, and reads no file. All of it is plain values, which may be
// read concurrently.
//
// # How to add an operation
//
// A struct in op.go, its tensors in tensors.go, its bounds in check.go, what it keeps of a sequence in
// memory.go, and its forward pass in a package below transformer, named in the switch of transformer's
// compile.go. A field is added only with the reference results of a published model that needs it.
package arch
