package adapters

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"edged/core/config"
	"edged/core/model/digest"
	"edged/core/model/lora"
)

// store is the folder of the copies: SHA256/ holds the files of one content, named as lora.Files names them, and
// index.json what was served under which name. A copy is there as a whole or not at all: it is written beside, synced,
// and renamed. Names that begin with a dot are on their way in or out.
type store struct{ dir string }

// Names in the store.
const (
	indexName   = "index.json"
	passingMark = "."
	ggufName    = "adapter.gguf"
)

// maxIndex bounds the index that is read: 1024 names take a tenth of it.
const maxIndex = 4 << 20

// known is the index entry of a name.
type known struct {
	SHA256     string `json:"sha256"`
	Generation int    `json:"generation"`
	Signer     string `json:"signer,omitempty"`
}

// open makes the folder and removes what an earlier process left half done.
func (s *store) open() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	list, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		if strings.HasPrefix(e.Name(), passingMark) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(s.dir, e.Name())))
		}
	}
	return err
}

func validSum(sum string) bool {
	return len(sum) == 64 && strings.Trim(sum, "0123456789abcdef") == ""
}

// path returns the path that the backend loads: the folder of a PEFT adapter, the file of a GGUF one.
func (s *store) path(sum string) string {
	dir := filepath.Join(s.dir, sum)
	if file := filepath.Join(dir, ggufName); isFile(file) {
		return file
	}
	return dir
}

func isFile(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular()
}

// has tells whether a whole and unchanged copy is there.
func (s *store) has(sum string) bool {
	if !validSum(sum) {
		return false
	}
	got, err := hashOf(s.path(sum))
	return err == nil && got == sum
}

// Files lists the files that are served of a PEFT folder or a GGUF file, without their signatures.
func Files(path string) ([]string, error) {
	files, err := lora.Files(path)
	if err != nil {
		return nil, err
	}
	paths := make([]string, len(files))
	for i, file := range files {
		paths[i] = file.Path
	}
	return paths, nil
}

// Check reads the headers of a PEFT folder or a GGUF file, without the model: every Folder rejects what it
// has an error for.
func Check(path string) error {
	_, err := lora.ReadHeader(path)
	return err
}

func hashOf(path string) (string, error) {
	files, err := lora.Files(path)
	if err != nil {
		return "", err
	}
	return digest.Files(files)
}

// list returns the hashes of the copies.
func (s *store) list() ([]string, error) {
	list, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var sums []string
	for _, e := range list {
		if validSum(e.Name()) {
			sums = append(sums, e.Name())
		}
	}
	return sums, nil
}

// detach takes a copy out of the store; discard then removes it. A process that has it mapped keeps the mapping.
func (s *store) detach(sum string) (discard func() error, err error) {
	out, err := os.MkdirTemp(s.dir, passingMark+"out-")
	if err != nil {
		return nil, err
	}
	err = os.Rename(filepath.Join(s.dir, sum), filepath.Join(out, sum))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, os.Remove(out))
	}
	return func() error { return os.RemoveAll(out) }, nil
}

// begin makes the folder of a copy that is being written.
func (s *store) begin() (string, error) { return os.MkdirTemp(s.dir, passingMark+"in-") }

// commit gives a written copy its place. A damaged one that is there already is replaced.
func (s *store) commit(tmp, sum string) error {
	place := filepath.Join(s.dir, sum)
	if s.has(sum) {
		return os.RemoveAll(tmp)
	}
	discard, err := s.detach(sum)
	if err != nil {
		return err
	}
	err = os.Rename(tmp, place)
	if err == nil {
		err = syncDir(s.dir)
	}
	return errors.Join(err, discard())
}

// copyFile copies a regular file of at most limit bytes and syncs it.
func copyFile(from, to string, limit int64) (n int64, err error) {
	in, size, err := openRegular(from)
	if err != nil {
		return 0, err
	}
	defer in.Close() //nolint:errcheck // opened for reading: nothing to lose
	if size > limit {
		return 0, tooLarge(from, size, limit)
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	n, err = io.Copy(out, io.LimitReader(in, limit+1))
	if err == nil && n > limit {
		err = tooLarge(from, n, limit)
	}
	if err == nil {
		err = out.Sync()
	}
	return n, errors.Join(err, out.Close())
}

// openRegular opens a file that cannot make a reader wait for ever, as a pipe can.
func openRegular(path string) (*os.File, int64, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, info.Size(), nil
}

func tooLarge(path string, n, limit int64) error {
	return fmt.Errorf("%s is too large: %d bytes or more, and adapters.max_size is %d", filepath.Base(path), n, limit)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readIndex returns what was served; nothing where that cannot be read: it costs no more than a new proof.
func (s *store) readIndex() map[string]known {
	file, _, err := openRegular(filepath.Join(s.dir, indexName))
	if err != nil {
		return nil
	}
	defer file.Close() //nolint:errcheck // opened for reading: nothing to lose
	var index map[string]known
	data, err := io.ReadAll(io.LimitReader(file, maxIndex))
	if err != nil || json.Unmarshal(data, &index) != nil {
		return nil
	}
	for name, k := range index {
		if !config.ValidFileName(name) || !validSum(k.SHA256) || k.Generation < 1 {
			delete(index, name)
		}
	}
	return index
}

// writeIndex replaces the index as a whole.
func (s *store) writeIndex(index map[string]known) error {
	data, err := json.MarshalIndent(index, "", "  ")
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(s.dir, passingMark+"index-")
	if err != nil {
		return err
	}
	_, err = tmp.Write(append(data, '\n'))
	if err == nil {
		err = tmp.Sync()
	}
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), filepath.Join(s.dir, indexName))
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return syncDir(s.dir)
}
