// Command kernelgen compiles the C kernels and writes them as Go assembly, which is checked in: building edged needs no C
// compiler, changing a kernel does.
//
//	go run ./tools/kernelgen            # from the repository's root: all units
//	go run ./tools/kernelgen avx2       # those whose output name contains a word
//	go run ./tools/kernelgen -check     # generates anew and compares, byte by byte (make generate-check)
//
// Beside the assembly it writes, for each instruction set, the table of its kernels by format and shape, and for all of them the
// checksums in kernels.sum, which a test compares without a compiler.
//
// It works on the object file, so any compiler that writes ELF will do; llvm-objdump is used for the checks. A kernel must be a leaf: no stack, no calls, no relocations but PC-relative ones to constants, which are
// appended to the function and patched here, no register that Go reserves. Anything else stops the generator.
//
// Functions are declared in C as KERNEL NAME(name)(type arg, …); that line is what the Go declaration is made of: pointers
// become unsafe.Pointer, everything else is a 64-bit int.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
)

func main() {
	check := flag.Bool("check", false, "write nothing, and compare with what is there")
	flag.Parse()
	if err := run(flag.Args(), *check); err != nil {
		fmt.Fprintln(os.Stderr, "kernelgen:", err)
		os.Exit(1)
	}
}

// run generates, or compares.
func run(words []string, check bool) error {
	sums, err := readSums(".")
	if err != nil {
		return err
	}
	put := write
	if check {
		put = compare
	}
	for _, u := range units() {
		if !wanted(u.out, words) {
			continue
		}
		asm, decl, err := generate(u, ".")
		if err != nil {
			return fmt.Errorf("%s: %w", u.src, err)
		}
		inputs, err := u.checksum(".")
		if err != nil {
			return err
		}
		s := sum{inputs, digest(asm), digest(decl)}
		if check && s != sums[u.out] {
			return fmt.Errorf("%s: %s tells other checksums", u.out, sumsPath)
		}
		sums[u.out] = s
		if err := put(u.asmPath("."), asm); err != nil {
			return err
		}
		if err := put(u.declPath("."), decl); err != nil {
			return err
		}
	}
	for _, t := range tables() {
		text, err := t.write(".")
		if err != nil {
			return err
		}
		if err := put(t.path("."), text); err != nil {
			return err
		}
	}
	if check {
		return nil
	}
	return writeSums(".", sums)
}

// write replaces a file.
func write(name string, text []byte) error {
	return os.WriteFile(name, text, 0o644) //nolint:gosec // source files are public
}

// compare says where a file differs from text.
func compare(name string, text []byte) error {
	have, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if bytes.Equal(have, text) {
		return nil
	}
	at := 0
	for at < min(len(have), len(text)) && have[at] == text[at] {
		at++
	}
	return fmt.Errorf("%s is not what comes of its sources: first difference in line %d", name, 1+bytes.Count(have[:at], []byte("\n")))
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
