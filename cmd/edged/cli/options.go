package cli

import "strings"

// OneOf refuses the value of a flag that is none of those allowed; "" among them is not named.
func OneOf(name, value string, allowed []string) error {
	var names []string
	for _, a := range allowed {
		if a == value {
			return nil
		}
		if a != "" {
			names = append(names, a)
		}
	}
	return Usagef("--%s %q is none of %s", name, value, strings.Join(names, ", "))
}

// CountSet counts the flags that were given.
func CountSet(flags ...string) int {
	n := 0
	for _, f := range flags {
		if f != "" {
			n++
		}
	}
	return n
}
