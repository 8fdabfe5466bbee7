// Package conformance holds what every plugin must pass, in whatever language it is written: the promises of the two
// contracts that a test can see from outside. docs/plugins.md says how to run it on a plugin's binary.
//
// It must not know an implementation. The suites run subtests; they may run in parallel with other tests.
package conformance
