// Package parts holds what operations are made of: Linear and Norm, which are weights with a name by which
// adapters find them, the activation functions, and loops over vectors of float32 whose order of additions is
// fixed.
//
// Products are in package batch, since they go over all rows of a batch at once.
package parts
