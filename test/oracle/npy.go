package oracle

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// NPY reads a float32 array of version 1.0 in C order.
func NPY(tb testing.TB, path string) []float32 {
	tb.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	if len(data) < 10 || !bytes.HasPrefix(data, []byte("\x93NUMPY\x01\x00")) {
		tb.Fatalf("%s: not an .npy file of version 1.0", path)
	}
	n := 10 + int(binary.LittleEndian.Uint16(data[8:]))
	header := string(data[10:n])
	if !strings.Contains(header, "'<f4'") || strings.Contains(header, "'fortran_order': True") {
		tb.Fatalf("%s: %s", path, header)
	}
	size := 1
	_, shape, _ := strings.Cut(header, "'shape'")
	for _, d := range regexp.MustCompile(`\d+`).FindAllString(shape, -1) {
		v, err := strconv.Atoi(d)
		if err != nil {
			tb.Fatal(err)
		}
		size *= v
	}
	if len(data)-n != 4*size {
		tb.Fatalf("%s: %d bytes for %d values", path, len(data)-n, size)
	}
	out := make([]float32, size)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[n+4*i:]))
	}
	return out
}
