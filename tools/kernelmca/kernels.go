package main

import "fmt"

// core is a processor as llvm-mca knows it.
type core struct {
	name  string
	cpu   string
	attrs string
	ghz   float64 // of the board
}

// kernel is a function whose inner loop is looked at.
type kernel struct {
	name   string
	core   core
	blocks float64 // rows × blocks of 32 columns that one iteration reads
	bytes  float64 // of a block as stored; 0: a panel in the cache
	tokens float64
	inner  int // iterations of the inner loop in one of the loop around it; 1: the inner loop is all
}

const header = `| kernel | core | instructions | cycles | cycles for 32 weights | bytes/cycle | GB/s a core | multiply-adds/cycle |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |
`

// kernels lists the loops: matrix × vector of each format on rows as they are stored, matrix × matrix on packed panels.
func kernels() []kernel {
	formats := []struct {
		name   string
		blocks float64
		bytes  float64
		inner  int
	}{
		{"rowsQ40", 8, 18, 1},
		{"gemvQ41", 1, 20, 1},
		{"gemvQ50", 1, 22, 1},
		{"gemvQ51", 1, 24, 1},
		{"rowsQ80", 8, 34, 1},
		{"rowsIQ4NL", 8, 18, 1},
		{"gemvMXFP4", 1, 17, 1},
		{"gemvQ4K", 8, 18, 1},
		{"gemvQ5K", 8, 22, 4},
		{"rowsQ6K", 8, 26.25, 1},
		{"gemvIQ4XS", 8, 17, 1},
		// Two blocks in one step; the scales are counted at 4 bytes for 64 columns.
		{"rowsBnB", 4, 18, 1},
	}
	sets := []struct {
		suffix string
		core   core
		gemms  []string
	}{
		{"Neon", core{"Cortex-A72", "cortex-a72", "", 1.5}, []string{"gemm8Small", "gemm8SmallOff", "gemm8", "gemm8Off", "gemm4Two"}},
		{"Dot", core{"Cortex-A76", "neoverse-n1", "+dotprod", 2.4}, []string{"gemm8", "gemm8Off", "gemm8Two"}},
	}
	const lanes = 4
	newer := core{"Neoverse N2", "neoverse-n2", "", 0} // with SMMLA, which no Raspberry Pi has
	var ks []kernel
	for _, s := range sets {
		for _, f := range formats {
			ks = append(ks, kernel{f.name + s.suffix, s.core, lanes * f.blocks, f.bytes, 1, f.inner})
		}
		for _, g := range s.gemms {
			ks = append(ks, kernel{g + s.suffix, s.core, lanes, 0, float64(g[4] - '0'), 1})
		}
	}
	for _, g := range []string{"gemm8Dot", "gemm8OffDot", "gemm8TwoDot", "gemm8Mmla", "gemm8OffMmla", "gemm8TwoMmla"} {
		ks = append(ks, kernel{g, newer, lanes, 0, 8, 1})
	}
	return ks
}

// row is a line of the table.
func (k kernel) row(l loop, cycles float64) string {
	perBlock := cycles / k.blocks
	stream := "| | "
	if k.bytes > 0 {
		stream = fmt.Sprintf("%.1f | %.1f ", k.bytes/perBlock, k.bytes/perBlock*k.core.ghz)
	}
	return fmt.Sprintf(
		"| %s | %s | %d | %.1f | %.2f | %s| %.1f |\n",
		k.name,
		k.core.name,
		len(l.insns),
		cycles,
		perBlock,
		stream,
		32*k.tokens/perBlock,
	)
}
