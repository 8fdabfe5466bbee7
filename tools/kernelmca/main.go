// Command kernelmca asks llvm-mca how many cycles the inner loops of the arm64 kernels take on the cores of
// the Raspberry Pi, and prints a table for docs/benchmarks/arm.md:
//
//	go run ./tools/kernelmca            # from the repository's root: all kernels
//	go run ./tools/kernelmca gemvQ4     # those whose name contains a word
//	go run ./tools/kernelmca -asm gemvQ40Dot | llvm-mca-19 -march=aarch64 -mcpu=neoverse-n1 -bottleneck-analysis
//
// It reads the checked-in assembly and needs llvm-mc and llvm-mca 16 or newer. What it prints is a
// model's bound for data in the first-level cache, no measurement: LLVM describes the Cortex-A72 by the Cortex-A57's
// tables, and has none of the Cortex-A76, for which the Neoverse N1, the same design for servers, stands in.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	asm := flag.Bool("asm", false, "print the loops themselves")
	dir := flag.String("dir", "plugins/backend-neon/neon", "folder of the generated assembly")
	mca := flag.String("mca", "llvm-mca-19", "the program")
	mc := flag.String("mc", "llvm-mc-19", "the disassembler")
	flag.Parse()
	if err := run(context.Background(), os.Stdout, *dir, *mca, *mc, *asm, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "kernelmca:", err)
		os.Exit(1)
	}
}

// run prints the loops or what they cost.
func run(ctx context.Context, out io.Writer, dir, mca, mc string, asm bool, words []string) error {
	funcs, err := readFolder(dir)
	if err != nil {
		return err
	}
	if !asm {
		if _, err := io.WriteString(out, header); err != nil {
			return err
		}
	}
	for _, k := range kernels() {
		if !wanted(k.name, words) {
			continue
		}
		loop, err := around(funcs[k.name], k.inner)
		if err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
		text, err := loop.text(ctx, mc)
		if err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
		if asm {
			if _, err := io.WriteString(out, text); err != nil {
				return err
			}
			continue
		}
		cycles, err := k.core.cycles(ctx, mca, text)
		if err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
		if _, err := io.WriteString(out, k.row(loop, cycles)); err != nil {
			return err
		}
	}
	return nil
}

// wanted tells whether name contains one of the words; no words want everything.
func wanted(name string, words []string) bool {
	for _, w := range words {
		if strings.Contains(name, w) {
			return true
		}
	}
	return len(words) == 0
}
