package config

import (
	"fmt"
	"strings"
)

// unknown writes the sentence for a key that does not exist.
func (s *settings) unknown(key string) string {
	if s.sections[key] {
		return key + " is a section: name one of its keys"
	}
	if near := s.nearest(key); near != "" {
		return fmt.Sprintf("unknown key %s: did you mean %s?", oneLine(key), near)
	}
	return "unknown key " + oneLine(key)
}

// nearest finds the key that was most likely meant: the same name in another section first (broker for mqtt.broker),
// then the smallest edit distance, if it is small against the key's length.
func (s *settings) nearest(key string) string {
	const longest = 80 // no key comes near; it bounds the distance's work
	if len(key) > longest {
		return ""
	}
	key = strings.ReplaceAll(strings.ToLower(key), "-", "_")
	last := key[strings.LastIndexByte(key, '.')+1:]
	best, least := "", max(2, len(key)/3)+1
	for _, f := range s.fields {
		_, name, _ := strings.Cut(f.key, ".")
		d := distance(key, f.key)
		if name == last {
			d = min(d, 1)
		} else if !strings.Contains(key, ".") {
			d = min(d, distance(key, name)+1)
		}
		if d < least {
			best, least = f.key, d
		}
	}
	if !strings.Contains(key, ".") {
		for _, f := range s.fields { // a section that is misspelt: [mqqt]
			section, _, _ := strings.Cut(f.key, ".")
			if d := distance(key, section); d < least {
				best, least = "["+section+"]", d
			}
		}
	}
	return best
}

// distance is the number of letters to insert, delete, replace or swap with their neighbour that turns a into b
// (optimal string alignment).
func distance(a, b string) int {
	prev2 := make([]int, len(b)+1)
	prev := make([]int, len(b)+1)
	row := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], prev2[j-2]+1)
			}
		}
		prev2, prev, row = prev, row, prev2
	}
	return prev[len(b)]
}
