package cli

import (
	"fmt"
	"strings"
)

// BytesText writes a number of bytes for people.
func BytesText(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	default:
		return fmt.Sprintf("%d B", n)
	}
}

// MadeOf says what an adapter consists of.
func MadeOf(kind string, rank, virtual int, targets []string) string {
	switch kind {
	case "soft_prompt":
		return fmt.Sprintf("a soft prompt of %d virtual tokens", virtual)
	case "dora":
		return fmt.Sprintf("DoRA of rank %d on %s", rank, strings.Join(targets, ", "))
	case "lora", "":
		return fmt.Sprintf("rank %d on %s", rank, strings.Join(targets, ", "))
	default:
		return fmt.Sprintf("%s on %s", kind, strings.Join(targets, ", "))
	}
}
