package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
)

// readLog adds up the instructions of qemu's log by function. A block is described as
//
//	IN: symbol
//	0x00011000:  d503201f  nop
//
// (or with OBJD-T: and the bytes in hexadecimal), and running it is
//
//	Trace 0: 0x7f0a8c0001c0 [flags/address/flags/flags] symbol
func readLog(r io.Reader) (map[string]int64, error) {
	sizes := map[uint64]int64{} // instructions of the block at an address
	counts := map[string]int64{}
	var block uint64
	lines := bufio.NewReaderSize(r, 1<<20)
	for {
		l, err := lines.ReadSlice('\n')
		if err == io.EOF {
			return counts, nil
		}
		if err != nil {
			return nil, err
		}
		l = bytes.TrimSpace(l)
		switch {
		case bytes.HasPrefix(l, []byte("Trace ")):
			_, rest, ok := bytes.Cut(l, []byte("["))
			fields, symbol, ok2 := bytes.Cut(rest, []byte("]"))
			parts := bytes.Split(fields, []byte("/"))
			if !ok || !ok2 || len(parts) < 2 {
				return nil, fmt.Errorf("qemu's log: %q", l)
			}
			at, err := strconv.ParseUint(string(parts[1]), 16, 64)
			if err != nil {
				return nil, fmt.Errorf("qemu's log: %w", err)
			}
			counts[string(bytes.TrimSpace(symbol))] += sizes[at]
		case bytes.HasPrefix(l, []byte("IN:")):
			block = 0
		case bytes.HasPrefix(l, []byte("OBJD-T:")):
			sizes[block] += int64(len(bytes.TrimSpace(l[7:])) / 8)
		case bytes.HasPrefix(l, []byte("0x")):
			addr, rest, _ := bytes.Cut(l, []byte(":"))
			at, err := strconv.ParseUint(string(addr[2:]), 16, 64)
			if err != nil {
				return nil, fmt.Errorf("qemu's log: %w", err)
			}
			if block == 0 {
				block = at
				sizes[block] = 0
			}
			if len(bytes.TrimSpace(rest)) > 0 { // else the bytes follow
				sizes[block]++
			}
		}
	}
}

// report prints what b has more than a, by function, as a table.
func report(out io.Writer, a, b map[string]int64, steps int64) error {
	type row struct {
		name string
		n    int64
	}
	var rows []row
	var total int64
	for name, n := range b {
		if d := (n - a[name]) / steps; d != 0 {
			rows = append(rows, row{name, d})
			total += d
		}
	}
	sort.Slice(rows, func(i, j int) bool { return rows[i].n > rows[j].n })
	var t strings.Builder
	fmt.Fprintf(&t, "| function | instructions | %% |\n| --- | ---: | ---: |\n| all | %d | 100 |\n", total)
	var rest int64
	for i, r := range rows {
		if i >= 15 {
			rest += r.n
			continue
		}
		fmt.Fprintf(&t, "| `%s` | %d | %.1f |\n", short(r.name), r.n, 100*float64(r.n)/float64(total))
	}
	fmt.Fprintf(&t, "| others | %d | %.1f |\n", rest, 100*float64(rest)/float64(total))
	_, err := io.WriteString(out, t.String())
	return err
}

// short is a symbol without the path to its package and without its calling convention.
func short(symbol string) string {
	return strings.TrimSuffix(symbol[strings.LastIndexByte(symbol, '/')+1:], ".abi0")
}
