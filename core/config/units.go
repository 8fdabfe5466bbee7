package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes. In text it is a number with a unit: "64 MiB", "1GB", "512 B"; "0" needs none.
type Size int64

// sizeUnit is a unit of Size.
type sizeUnit struct {
	name  string
	bytes int64
}

// sizeUnits are the units of Size: the binary ones, the decimal ones, and last the byte, which the others end in.
func sizeUnits() []sizeUnit {
	return []sizeUnit{
		{"TiB", 1 << 40},
		{"GiB", 1 << 30},
		{"MiB", 1 << 20},
		{"KiB", 1 << 10},
		{"TB", 1e12},
		{"GB", 1e9},
		{"MB", 1e6},
		{"kB", 1e3},
		{"B", 1},
	}
}

// parseSize reads a size such as "64 MiB".
func parseSize(s string) (Size, error) {
	text := strings.TrimSpace(s)
	if text == "0" {
		return 0, nil
	}
	for _, u := range sizeUnits() {
		number, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		number = strings.TrimSpace(number)
		for _, r := range number {
			if (r < '0' || r > '9') && r != '.' {
				return 0, fmt.Errorf("%q is not a size such as \"64 MiB\"", s)
			}
		}
		n, err := strconv.ParseFloat(number, 64)
		if err != nil {
			return 0, fmt.Errorf("%q is not a size such as \"64 MiB\"", s)
		}
		bytes := n * float64(u.bytes)
		// 1<<53 is where float64 stops holding every whole number; no machine of this world has as much memory.
		if bytes > 1<<53 {
			return 0, fmt.Errorf("%q is too large", s)
		}
		return Size(math.Round(bytes)), nil
	}
	return 0, fmt.Errorf("%q has no unit: write it such as \"64 MiB\" (B, kB, MB, GB, KiB, MiB, GiB)", s)
}

// String writes the size in the largest binary unit that divides it.
func (s Size) String() string {
	if s == 0 {
		return "0"
	}
	for _, u := range sizeUnits()[:4] {
		if int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + " " + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + " B"
}

// parseDuration reads a duration such as "1s" or "1m30s". "0" needs no unit.
func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(strings.TrimSpace(s))
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration such as \"1s\", \"50ms\" or \"10m\"", s)
	}
	return d, nil
}
