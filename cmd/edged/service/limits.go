package service

import (
	"fmt"
	"path/filepath"
	"strings"

	"edged/cmd/edged/cli"
	"edged/core/protocol/backend"
)

// What the unit needs beside the model, in bytes: the daemon (40 MiB), the tokenizer with a vocabulary of
// 250k pieces, the run time of the backend, and the page cache of everything else that they read.
const besideModel = 256 << 20

// limitStep rounds limits to figures that a person can read.
const limitStep = 64 << 20

// systemdLimits is a drop-in for edged.service that follows from a memory plan.
//
// MemoryLow keeps the mapped weights in memory when other services want some: without it a backup at night
// pushes them out, and the next answer reads the SD card instead. MemoryMax makes a plan that was wrong the
// service's own problem, which the backend's supervisor repairs, instead of the machine's. MemorySwapMax:
// keys and values in a swap file on an SD card are slower than no answer.
func systemdLimits(model string, p backend.MemoryPlan) string {
	up := func(n int64) int64 { return (n + limitStep - 1) / limitStep * (limitStep >> 20) }
	low, most := up(p.Total), up(p.Total+p.Total/16+besideModel)
	var b strings.Builder
	fmt.Fprintf(&b, "# Written by: edged check --systemd-limits\n")
	fmt.Fprintf(
		&b,
		"# For %s: weights %s, derived %s, attention cache %s, scratch %s, adapters %s.\n",
		filepath.Base(
			model,
		),
		cli.BytesText(p.Weights),
		cli.BytesText(p.Derived),
		cli.BytesText(p.KV),
		cli.BytesText(p.Scratch),
		cli.BytesText(p.Adapters),
	)
	fmt.Fprintf(&b, "[Service]\nMemoryLow=%dM\nMemoryMax=%dM\nMemorySwapMax=0\n", low, most)
	return b.String()
}
