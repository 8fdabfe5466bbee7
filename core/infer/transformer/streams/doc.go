// Package streams holds what reads or writes something of a row beside the residual stream: several streams
// of which each layer computes one (AltUp's Predict, Correct, Spread and Gather), values that a token has for
// every layer (Rows, Add), and a low-rank branch beside attention (Laurel).
package streams
