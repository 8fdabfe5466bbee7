// Package digest names what files hold by one sha256: of a model, of an adapter. Sums are remembered by
// device, inode, size and modification time.
//
// It must not know what the bytes mean. All functions may be called concurrently.
package digest

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

	Mapping *mmap.Mapping // hashed instead of Path where it is set: the path may name another file by now
}

// Files is the sha256, in hexadecimal, over the lines "NAME LENGTH SHA256" of the files sorted by name, each
// line with its newline and each SHA256 in hexadecimal, and then the further lines. It reads all of the
// files: Cached remembers.
func Files(files []File, further ...string) (string, error) { return all(files, further, hashFile) }

// Cached is Files with the sums of the files memoised in dir. A memo that cannot be read or written costs time only.
func Cached(dir string, files []File, further ...string) (string, error) {
	return all(files, further, func(f File) (string, int64, error) { return hashMemo(dir, f) })
}

func all(files []File, further []string, one func(File) (string, int64, error)) (string, error) {
	lines, err := hashLines(files, one)
	if err != nil {
		return "", err
	}
	s := sha256.Sum256([]byte(lines + strings.Join(append(slices.Clip(further), ""), "\n")))
	return hex.EncodeToString(s[:]), nil
}

func hashLines(files []File, one func(File) (string, int64, error)) (string, error) {
	sorted := slices.SortedFunc(slices.Values(files), func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	var lines strings.Builder
	for _, f := range sorted {
		h, n, err := one(f)
		if err != nil {
			return "", fmt.Errorf("hash: %w", err)
		}
		fmt.Fprintf(&lines, "%s %d %s\n", f.Name, n, h)
	}
	return lines.String(), nil
}

// hashFile returns the sha256 and the length of a file.
func hashFile(f File) (sum string, n int64, err error) {
	h := sha256.New()
	if f.Mapping != nil {
		// In steps whose pages are dropped again, so that hashing a model does not make it resident at once.
		const step = 16 << 20
		b := f.Mapping.Bytes()
		for off := 0; off < len(b); off += step {
			end := min(off+step, len(b))
			h.Write(b[off:end])
			_ = f.Mapping.AdviseRange(off, end-off, mmap.DontNeed) // a hint
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
	if f.Mapping != nil {
		info = f.Mapping.Info()
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
