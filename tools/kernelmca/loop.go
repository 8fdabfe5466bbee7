package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// readFolder returns the instructions of all functions in the generated files of dir.
func readFolder(dir string) (map[string][]uint32, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*_arm64.s"))
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s: no assembly", dir)
	}
	funcs := map[string][]uint32{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		readFunctions(funcs, string(text))
	}
	return funcs, nil
}

var (
	funcLine = regexp.MustCompile(`^TEXT ·(\w+)\(SB\)`)
	word     = regexp.MustCompile(`WORD \$0x([0-9a-f]{8})`)
)

// readFunctions adds the functions of one file: their words up to the constants.
func readFunctions(funcs map[string][]uint32, text string) {
	name := ""
	for l := range strings.SplitSeq(text, "\n") {
		if g := funcLine.FindStringSubmatch(l); g != nil {
			name = g[1]
		} else if strings.HasPrefix(l, "\t// constants") {
			name = ""
		}
		if name == "" {
			continue
		}
		for _, g := range word.FindAllStringSubmatch(l, -1) {
			if w, err := strconv.ParseUint(g[1], 16, 32); err == nil {
				funcs[name] = append(funcs[name], uint32(w))
			}
		}
	}
}

// jump tells how many instructions further w jumps; false: it is no jump.
func jump(w uint32) (int, bool) {
	switch {
	case w>>26 == 0x05: // B
		return int(int32(w<<6) >> 6), true //nolint:gosec // a signed field
	case w>>24 == 0x54 && w&0x10 == 0, w>>24&0x7e == 0x34: // B.cond, CBZ, CBNZ
		return int(int32(w<<8) >> 13), true //nolint:gosec // a signed field
	case w>>24&0x7e == 0x36: // TBZ, TBNZ
		return int(int32(w<<13) >> 18), true //nolint:gosec // a signed field
	default:
		return 0, false
	}
}

// loop is the body of a loop; its last instruction jumps to the first.
type loop struct {
	insns []uint32
}

// innermost finds the longest loop that holds no other: what remains of a kernel besides it is short.
func innermost(insns []uint32) (loop, error) {
	var best loop
	after := 0 // a loop that begins earlier holds another one
	for i, in := range insns {
		off, ok := jump(in)
		to := i + off
		if !ok || off > 0 || to < after {
			continue
		}
		after = i + 1
		if i+1-to > len(best.insns) {
			best.insns = insns[to : i+1]
		}
	}
	if best.insns == nil {
		return loop{}, errors.New("no loop")
	}
	return best, nil
}

// around is the loop around the innermost one, with n times the inner one written out in it, less its jumps:
// a super-block.
func around(insns []uint32, n int) (loop, error) {
	inner, err := innermost(insns)
	if err != nil || n == 1 {
		return inner, err
	}
	at := cap(insns) - cap(inner.insns) // where it stands
	end := at + len(inner.insns)
	for i := end; i < len(insns); i++ {
		off, ok := jump(insns[i])
		if to := i + off; ok && off < 0 && to <= at {
			l := slices.Clone(insns[to:at])
			for range n {
				l = append(l, inner.insns[:len(inner.insns)-1]...)
			}
			return loop{append(l, insns[end:i+1]...)}, nil
		}
	}
	return loop{}, errors.New("no loop around the inner one")
}

var target = regexp.MustCompile(`#-\d+$`)

// text is the loop for an assembler, by llvm-mc.
func (l loop) text(ctx context.Context, tool string) (string, error) {
	var in strings.Builder
	for _, w := range l.insns {
		fmt.Fprintf(&in, "0x%02x 0x%02x 0x%02x 0x%02x\n", w&255, w>>8&255, w>>16&255, w>>24)
	}
	cmd := exec.CommandContext(
		ctx,
		tool,
		"--disassemble",
		"--triple=aarch64",
		"--mattr=+all",
	) //nolint:gosec // the tool is the user's choice
	cmd.Stdin = strings.NewReader(in.String())
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", tool, err)
	}
	var b strings.Builder
	b.WriteString("loop:\n")
	n := 0
	for line := range strings.SplitSeq(string(out), "\n") {
		line, _, _ = strings.Cut(line, "//")
		line = strings.Join(strings.Fields(line), " ")
		if line == "" || strings.HasPrefix(line, ".") {
			continue
		}
		n++
		if n == len(l.insns) {
			line = target.ReplaceAllString(line, "loop")
		}
		b.WriteString("\t" + line + "\n")
	}
	if n != len(l.insns) {
		return "", fmt.Errorf("%s: %d instructions of %d words", tool, n, len(l.insns))
	}
	return b.String(), nil
}

var totalCycles = regexp.MustCompile(`(?m)^Total Cycles:\s+(\d+)`)

// cycles returns what one iteration takes in the steady state: the difference of a long and a short run.
func (c core) cycles(ctx context.Context, tool, text string) (float64, error) {
	total := func(iterations int) (float64, error) {
		cmd := exec.CommandContext(
			ctx,
			tool,
			"-march=aarch64",
			"-mcpu="+c.cpu,
			"-mattr="+c.attrs,
			"-iterations="+strconv.Itoa(iterations),
		) //nolint:gosec // the tool is the user's choice
		cmd.Stdin = strings.NewReader(text)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return 0, fmt.Errorf("%s: %w", tool, err)
		}
		g := totalCycles.FindSubmatch(out)
		if g == nil {
			return 0, fmt.Errorf("%s: no total in its answer", tool)
		}
		return strconv.ParseFloat(string(g[1]), 64)
	}
	const short, long = 50, 250
	a, err := total(short)
	if err != nil {
		return 0, err
	}
	b, err := total(long)
	return (b - a) / (long - short), err
}
