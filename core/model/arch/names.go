package arch

import (
	"strconv"
	"strings"
)

// SplitNumbers replaces the parts of a dotted name that are numbers by N and E, in this order.
func SplitNumbers(name string) (pattern string, numbers []string) {
	parts := strings.Split(name, ".")
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 31)
		if err != nil || strconv.FormatUint(n, 10) != p || len(numbers) == 2 {
			continue
		}
		parts[i] = [...]string{"N", "E"}[len(numbers)]
		numbers = append(numbers, p)
	}
	return strings.Join(parts, "."), numbers
}

// JoinNumbers puts numbers back into a pattern of SplitNumbers.
func JoinNumbers(pattern string, numbers []string) string {
	parts := strings.Split(pattern, ".")
	for i, p := range parts {
		switch {
		case p == "N" && len(numbers) > 0:
			parts[i] = numbers[0]
		case p == "E" && len(numbers) > 1:
			parts[i] = numbers[1]
		}
	}
	return strings.Join(parts, ".")
}
