package main

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// unit is one compilation of one C file, which becomes one pair of a Go assembly file and its declarations.
type unit struct {
	arch   string // GOARCH
	dir    string // package directory, from the repository's root
	src    string // C file in csrc, or, with a slash, from the root; every .h beside it counts as its source too
	out    string // OUT_ARCH.s and OUT_ARCH.go are written
	suffix string // what NAME(x) adds to x
	cc     string
	flags  []string
}

// csrc is where the C is that all instruction sets share.
const csrc = "quant/kernel/csrc"

// path is the C file from the root.
func (u unit) path() string {
	if strings.Contains(u.src, "/") {
		return u.src
	}
	return path.Join(csrc, u.src)
}

// headers lists what u may include: the .h beside it, and the kernels' arguments.
func (u unit) headers(root string) ([]string, error) {
	names, err := filepath.Glob(filepath.Join(root, path.Dir(u.path()), "*.h"))
	if err == nil && strings.Contains(u.src, "/") {
		names = append(names, filepath.Join(root, csrc, "args.h"))
	}
	return names, err
}

// units lists everything that is generated: each source for each instruction set.
func units() []unit {
	const (
		x86  = "plugins/backend-generic/x86"
		neon = "plugins/backend-neon/neon"
	)
	sets := []unit{
		{"amd64", x86, "", "avx512", "Avx512", "clang-19", flags(amd64Flags, "-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mprefer-vector-width=512 -mfma -mf16c")},
		{"amd64", x86, "", "avx2", "Avx2", "clang-19", flags(amd64Flags, "-mavx2 -mfma -mf16c")},
		{"arm64", neon, "", "base", "Neon", "aarch64-linux-gnu-gcc-12", flags(arm64Flags, "-mcpu=cortex-a72")},
		// Without -fno-schedule-insns, wide kernels spill.
		{"arm64", neon, "", "dot", "Dot", "aarch64-linux-gnu-gcc-12", flags(arm64Flags, "-mcpu=cortex-a76 -fno-schedule-insns")},
	}
	var us []unit
	for _, u := range sets {
		set := u.out
		for _, name := range []string{"gemm", "gemv", "few", "fewtile", "func", "lowrank", "pack", "recur", "tile", "vector"} {
			u.src, u.out = name+".c", set+"_"+name
			if u.dir == neon && (name == "tile" || name == "fewtile") {
				continue // NEON reads rows, see docs/adr/0008-tiles.md
			}
			if u.dir == neon && name == "gemm" {
				u.src = neon + "/csrc/" + u.src // written for NEON alone
			}
			us = append(us, u)
		}
		if u.dir == neon {
			u.src, u.out = neon+"/csrc/rows.c", set+"_rows"
			if set == "base" {
				// For 32 weights of Q4_0 4.74 cycles instead of 4.83, and of Q6_K 10.8 instead of 11.6.
				u.flags = append(slices.Clone(u.flags), "-frename-registers", "-fno-schedule-insns")
			}
			us = append(us, u)
		}
	}
	return append(us, unit{
		"arm64", neon, neon + "/csrc/mmla.c", "mmla_gemm", "Mmla", "aarch64-linux-gnu-gcc-12",
		flags(arm64Flags, "-march=armv8.2-a+dotprod+i8mm -fno-schedule-insns"),
	})
}

// commonFlags: freestanding code without calls, tables or traps, that computes in the order in which it is written:
// no contraction of a·b + c but where an intrinsic says so.
const commonFlags = "-std=gnu11 -Wall -Werror -Wno-unused-function -Wno-unused-but-set-variable -O3 -fomit-frame-pointer -ffreestanding -fno-builtin -fno-jump-tables -fno-asynchronous-unwind-tables " +
	"-fno-stack-protector -ffp-contract=off"

// amd64Flags: clang's scheduler would spill in the wide kernels, its strength reduction keeps a register for every
// address, its vectoriser makes stack arrays of ours.
const amd64Flags = "-fpic -fcf-protection=none -mno-red-zone -fno-vectorize -fno-slp-vectorize -fno-unroll-loops -mllvm -enable-misched=false -mllvm -disable-lsr"

// arm64Flags leave to the compiler what Go's ABI0 leaves to a leaf: all but R18 (platform), R28 (g), R29 (frame), R30
// (link).
const arm64Flags = "-fno-tree-vectorize -mcmodel=tiny -ffixed-x18 -ffixed-x28 -ffixed-x29 -ffixed-x30"

// flags joins flag lists; for arm64 it adds the registers that C would save and Go does not.
func flags(parts ...string) []string {
	all := strings.Fields(commonFlags)
	for _, p := range parts {
		all = append(all, strings.Fields(p)...)
		if p == arm64Flags {
			for i := 8; i <= 15; i++ {
				all = append(all, fmt.Sprintf("-fcall-used-v%d", i))
			}
			for i := 19; i <= 27; i++ {
				all = append(all, fmt.Sprintf("-fcall-used-x%d", i))
			}
		}
	}
	return all
}
