package weights

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"edged/core/model/mmap"
)

// A File is one whose bytes a model or an adapter is made of, under the name that goes into its hash.
type File struct {
	Name string
	Path string

	mapping *mmap.Mapping // hashed instead of Path where it is set: the path may name another file by now
}

// HashFiles is the sha256, in hexadecimal, over the lines "NAME LENGTH SHA256" of the files sorted by name, each line
// with its newline and each SHA256 in hexadecimal.
func HashFiles(files []File) (string, error) {
	lines, err := hashLines(files, hashFile)
	return sum(lines), err
}

// Hash identifies what the model computes with: HashFiles over its configuration and weights, and what Requantize did.
// It reads all of the files: HashCached remembers.
func (m *Model) Hash() (string, error) { return m.hash(hashFile) }

// HashCached is Hash with the sums of the files memoised in dir, by device, inode, size and modification time. A memo
// that cannot be read or written costs time only.
func (m *Model) HashCached(dir string) (string, error) {
	return m.hash(func(f File) (string, int64, error) { return hashMemo(dir, f) })
}

func (m *Model) hash(one func(File) (string, int64, error)) (string, error) {
	lines, err := hashLines(m.files, one)
	if err != nil {
		return "", err
	}
	var done strings.Builder
	for _, r := range m.recoded {
		done.WriteString("requantized " + r + "\n")
	}
	return sum(lines + done.String()), nil
}

func hashLines(files []File, one func(File) (string, int64, error)) (string, error) {
	sorted := slices.SortedFunc(slices.Values(files), func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	var lines strings.Builder
	for _, f := range sorted {
		h, n, err := one(f)
		if err != nil {
			return "", fmt.Errorf("weights: hash: %w", err)
		}
		fmt.Fprintf(&lines, "%s %d %s\n", f.Name, n, h)
	}
	return lines.String(), nil
}

func sum(text string) string {
	s := sha256.Sum256([]byte(text))
	return hex.EncodeToString(s[:])
}

// hashFile returns the sha256 and the length of a file.
func hashFile(f File) (sum string, n int64, err error) {
	h := sha256.New()
	if f.mapping != nil {
		// In steps whose pages are dropped again, so that hashing a model does not make it resident at once.
		const step = 16 << 20
		b := f.mapping.Bytes()
		for off := 0; off < len(b); off += step {
			end := min(off+step, len(b))
			h.Write(b[off:end])
			_ = f.mapping.AdviseRange(off, end-off, mmap.DontNeed) // a hint
		}
		return hex.EncodeToString(h.Sum(nil)), int64(len(b)), nil
	}
	file, err := os.Open(f.Path)
	if err != nil {
		return "", 0, err
	}
	defer file.Close() //nolint:errcheck // opened for reading: nothing to lose
	n, err = io.CopyBuffer(h, struct{ io.Reader }{file}, make([]byte, 1<<18))
	return hex.EncodeToString(h.Sum(nil)), n, err
}

// settled is the age from which a file's modification time is trusted: a write within one tick of a coarse clock leaves
// the time as it was.
const settled = 2 * time.Second

// hashMemo is hashFile with a memo: dir/hashes/DEVICE-INODE-SIZE-MTIME holds the sum.
func hashMemo(dir string, f File) (sum string, n int64, err error) {
	var info fs.FileInfo
	if f.mapping != nil {
		info = f.mapping.Info()
	} else if info, err = os.Stat(f.Path); err != nil {
		return "", 0, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return hashFile(f)
	}
	memo := filepath.Join(dir, "hashes", fmt.Sprintf("%d-%d-%d-%d", stat.Dev, stat.Ino, info.Size(), info.ModTime().UnixNano()))
	if text, err := os.ReadFile(memo); err == nil {
		old := strings.TrimSpace(string(text))
		if raw, err := hex.DecodeString(old); err == nil && len(raw) == sha256.Size {
			return old, info.Size(), nil
		}
	}
	sum, n, err = hashFile(f)
	if err == nil && n == info.Size() && time.Since(info.ModTime()) > settled {
		_ = writeMemo(memo, sum) // without it the next start hashes again
	}
	return sum, n, err
}

// writeMemo writes a file that is there as a whole or not at all.
func writeMemo(path, text string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".tmp-")
	if err != nil {
		return err
	}
	_, err = tmp.WriteString(text + "\n")
	if e := tmp.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
	}
	return err
}
