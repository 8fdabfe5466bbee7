package transformer

import (
	"encoding/binary"
	"testing"
)

func TestSum(t *testing.T) {
	t.Parallel()
	buf := make([]byte, 300)
	for i := range buf {
		buf[i] = byte(i*7 + 1)
	}
	for lo := range 9 {
		for n := range 200 {
			p := buf[lo : lo+n]
			got := sum(p)
			// Which words are aligned is the allocator's affair: the sum is that of one of the eight phases.
			found := false
			for phase := range 8 {
				var want int64
				for at := phase; at+8 <= n; at += 8 {
					want += int64(binary.NativeEndian.Uint64(p[at:]))
				}
				found = found || got == want
			}
			if !found {
				t.Fatalf("%d bytes from %d: %d", n, lo, got)
			}
		}
	}
}
