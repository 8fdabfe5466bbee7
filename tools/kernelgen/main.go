// Command kernelgen compiles the C kernels and writes them as Go assembly, which is checked in: building edged needs no C
// compiler, changing a kernel does.
//
//	go run ./tools/kernelgen          # from the repository's root: all units
//	go run ./tools/kernelgen avx2       # those whose output name contains a word
//
// It works on the object file, so any compiler that writes ELF will do; llvm-objdump is used for the comments and for the
// checks. A kernel must be a leaf: no stack, no calls, no relocations but PC-relative ones to constants, which are
// appended to the function and patched here, no register that Go reserves. Anything else stops the generator.
//
// Functions are declared in C as KERNEL NAME(name)(type arg, …); that line is what the Go declaration is made of: pointers
// become unsafe.Pointer, everything else is a 64-bit int.
package main

import (
	"fmt"
	"os"
	"strings"
)

func main() {
	words := os.Args[1:]
	for _, u := range units() {
		if !wanted(u.out, words) {
			continue
		}
		if err := write(u); err != nil {
			fmt.Fprintln(os.Stderr, "kernelgen:", err)
			os.Exit(1)
		}
	}
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

// write generates u and replaces its files.
func write(u unit) error {
	asm, decl, err := generate(u, ".")
	if err != nil {
		return fmt.Errorf("%s: %w", u.src, err)
	}
	if err := os.WriteFile(u.asmPath("."), asm, 0o644); err != nil { //nolint:gosec // source files are public
		return err
	}
	return os.WriteFile(u.declPath("."), decl, 0o644) //nolint:gosec // source files are public
}
