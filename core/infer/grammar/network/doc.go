// Package network compiles expressions into a grammar's network: places that are passed by bytes, and rules
// that call each other (Thompson's construction, with calls). It proves that a network can be followed, that
// no rule begins with itself, and knows how far each place is from the end of its rule.
//
// It knows no tokens and no texts: package grammar follows a network. A Network is not changed once it is
// made, so it may be used concurrently.
package network
