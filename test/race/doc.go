// Package race tells a test whether the race detector watches it. A test that computes for long within one goroutine is
// skipped then: the detector makes it ten times slower and finds nothing in it; scripts/test runs its package once more
// without. It is not for product code, which behaves the same in both builds.
package race

import "testing"

// SkipArithmetic skips t where the race detector is on: its time goes into one goroutine's arithmetic.
func SkipArithmetic(t *testing.T) {
	t.Helper()
	if Enabled {
		t.Skip("arithmetic of one goroutine: it runs without the race detector, which makes it ten times slower and finds nothing in it")
	}
}
