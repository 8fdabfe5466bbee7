package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// readFolder returns the instructions of all functions in the generated files of dir.
func readFolder(dir string) (map[string][]string, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*_arm64.s"))
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s: no assembly", dir)
	}
	funcs := map[string][]string{}
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
	insnLine = regexp.MustCompile(`^\tWORD \$0x[0-9a-f]{8} // (.*)$`)
	target   = regexp.MustCompile(`0x[0-9a-f]+ <\w+(?:\+(0x[0-9a-f]+))?>$`)
)

// readFunctions adds the functions of one file: lines of instructions as llvm-objdump wrote them.
func readFunctions(funcs map[string][]string, text string) {
	name := ""
	for l := range strings.SplitSeq(text, "\n") {
		if g := funcLine.FindStringSubmatch(l); g != nil {
			name = g[1]
		} else if g := insnLine.FindStringSubmatch(l); g != nil {
			funcs[name] = append(funcs[name], g[1])
		}
	}
}

// loop is the body of a loop; its last instruction jumps to the first.
type loop struct {
	insns []string
}

// innermost finds the longest loop that holds no other: what remains of a kernel besides it is short.
func innermost(insns []string) (loop, error) {
	var best loop
	after := 0 // a loop that begins earlier holds another one
	for i, in := range insns {
		g := target.FindStringSubmatch(in)
		if g == nil {
			continue
		}
		off, err := strconv.ParseInt("0"+g[1], 0, 64)
		if g[1] != "" {
			off, err = strconv.ParseInt(g[1], 0, 64)
		}
		if err != nil {
			return loop{}, err
		}
		to := int(off / 4)
		if to > i || to < after {
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

// text is the loop for an assembler.
func (l loop) text() string {
	var b strings.Builder
	b.WriteString("loop:\n")
	for _, in := range l.insns {
		b.WriteString("\t" + target.ReplaceAllString(in, "loop") + "\n")
	}
	return b.String()
}

var totalCycles = regexp.MustCompile(`(?m)^Total Cycles:\s+(\d+)`)

// cycles returns what one iteration takes in the steady state: the difference of a long and a short run.
func (c core) cycles(ctx context.Context, tool string, l loop) (float64, error) {
	total := func(iterations int) (float64, error) {
		cmd := exec.CommandContext(ctx, tool, "-march=aarch64", "-mcpu="+c.cpu, "-mattr="+c.attrs, "-iterations="+strconv.Itoa(iterations)) //nolint:gosec // the tool is the user's choice
		cmd.Stdin = strings.NewReader(l.text())
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
