package weights

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// A File is one whose bytes a model or an adapter is made of, under the name that goes into its hash.
type File struct{ Name, Path string }

// HashFiles is the sha256, in hexadecimal, over the lines "NAME LENGTH SHA256" of the files sorted by name, each line
// with its newline and each SHA256 in hexadecimal.
func HashFiles(files []File) (string, error) {
	return hashFiles(files, func(f File) (string, int64, error) { return hashFile(f.Path) })
}

func hashFiles(files []File, sum func(File) (string, int64, error)) (string, error) {
	sorted := slices.SortedFunc(slices.Values(files), func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	var lines strings.Builder
	for _, f := range sorted {
		h, n, err := sum(f)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&lines, "%s %d %s\n", f.Name, n, h)
	}
	all := sha256.Sum256([]byte(lines.String()))
	return hex.EncodeToString(all[:]), nil
}

// hashFile streams a file: a mapping would evict the pages that are being served.
func hashFile(path string) (sum string, n int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, fmt.Errorf("weights: hash: %w", err)
	}
	defer f.Close() //nolint:errcheck // opened for reading: nothing to lose
	h := sha256.New()
	n, err = io.CopyBuffer(h, struct{ io.Reader }{f}, make([]byte, 1<<18))
	if err != nil {
		return "", 0, fmt.Errorf("weights: hash: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), n, nil
}
