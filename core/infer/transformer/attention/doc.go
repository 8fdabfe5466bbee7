// Package attention holds the operations that read positions other than their own from a cache: grouped-query
// attention (Grouped), latent attention (Latent), and a decoder's attention to the states of an encoder
// (Cross). All three end in the same loop over pages, in attention.go.
package attention
