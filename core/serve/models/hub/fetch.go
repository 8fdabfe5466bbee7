package hub

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Bounds of headers.
const (
	piece     = 256 << 10 // of a GGUF file's header, whose length nothing tells
	maxHeader = 256 << 20
	maxSmall  = 64 << 20 // a file that is no weights
)

// Headers writes what can be known of a model without its weights into a folder: whole small files, and of
// files of weights their headers, with a hole as long as the rest. It returns the model's path there. Files
// get their sizes and checksums where the list lacked them.
func (c *Client) Headers(ctx context.Context, l Listing, choice *Choice, dir string) (string, error) {
	for i := range choice.Files {
		f := &choice.Files[i]
		if f.SHA256 == "" || f.Size <= 0 {
			seen, err := c.Look(ctx, l, f.Name)
			if err != nil {
				return "", err
			}
			*f = seen
		}
		if f.Size < 0 {
			return "", fmt.Errorf("hub: %w: it does not tell the size of %s", ErrRefused, f.Name)
		}
		to := filepath.Join(dir, choice.Local(*f))
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return "", err
		}
		if err := c.header(ctx, l, *f, to); err != nil {
			return "", err
		}
	}
	if choice.Folder {
		return dir, nil
	}
	return filepath.Join(dir, choice.Local(choice.Files[0])), nil
}

// Local returns the local path of a file of a model, relative to the folder that it is fetched into or to its own.
func (c Choice) Local(f File) string {
	switch {
	case c.Folder:
		return filepath.FromSlash(f.Name)
	case len(c.Files) == 1:
		return c.Name + ".gguf"
	}
	return filepath.Base(f.Name) // the parts find each other by their names
}

func (c *Client) header(ctx context.Context, l Listing, f File, to string) (err error) {
	out, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	r := &remote{c: c, l: l, f: f}
	switch {
	case strings.HasSuffix(f.Name, ".gguf"):
		err = r.gguf(ctx, out)
	case strings.HasSuffix(f.Name, ".safetensors"):
		err = r.safetensors(ctx)
	case f.Size > maxSmall:
		err = fmt.Errorf("hub: %w: %s has %d bytes, which is no such file", ErrRefused, f.Name, f.Size)
	default:
		err = r.have(ctx, f.Size, f.Size)
	}
	if err == nil {
		_, err = out.WriteAt(r.data, 0)
	}
	if err == nil {
		err = out.Truncate(f.Size)
	}
	return err
}

// remote is the beginning of a file on the hub.
type remote struct {
	c    *Client
	l    Listing
	f    File
	data []byte
	at   int64
}

// have fetches until n bytes are there, in steps.
func (r *remote) have(ctx context.Context, n, step int64) error {
	if n > r.f.Size || n > maxHeader {
		return fmt.Errorf("hub: %s: its header ends beyond the file, or beyond %d MiB", r.f.Name, maxHeader>>20)
	}
	missing := n - int64(len(r.data))
	if missing <= 0 {
		return nil
	}
	var b bytes.Buffer
	err := r.c.Read(ctx, r.l, r.f, int64(len(r.data)), max(missing, step), &b, nil)
	r.data = append(r.data, b.Bytes()...)
	return err
}

// safetensors: eight bytes that say how long the header is, and the header.
func (r *remote) safetensors(ctx context.Context) error {
	if err := r.have(ctx, 8, 8); err != nil {
		return err
	}
	n := binary.LittleEndian.Uint64(r.data)
	if n > maxHeader-8 {
		return fmt.Errorf("hub: %s: its header has %d bytes", r.f.Name, n)
	}
	return r.have(ctx, 8+int64(n), 0) //nolint:gosec // bounded above
}

// take returns the next n bytes.
func (r *remote) take(ctx context.Context, n uint64) ([]byte, error) {
	if n > maxHeader {
		return nil, fmt.Errorf("hub: %s: its header is longer than %d MiB", r.f.Name, maxHeader>>20)
	}
	end := r.at + int64(n) //nolint:gosec // bounded above
	if err := r.have(ctx, end, piece); err != nil {
		return nil, err
	}
	b := r.data[r.at:end]
	r.at = end
	return b, nil
}

func (r *remote) u32(ctx context.Context) (uint32, error) {
	b, err := r.take(ctx, 4)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}

func (r *remote) u64(ctx context.Context) (uint64, error) {
	b, err := r.take(ctx, 8)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b), nil
}

func (r *remote) text(ctx context.Context) (string, error) {
	n, err := r.u64(ctx)
	if err != nil {
		return "", err
	}
	b, err := r.take(ctx, n)
	return string(b), err
}

// sizes are those of GGUF's kinds of values; 0: it has none of its own.
var sizes = []uint64{1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8} //nolint:gochecknoglobals // a table

// The kinds of values that have no size of their own.
const (
	ggufText = 8
	ggufList = 9
)

// skip passes over n values of a kind.
func (r *remote) skip(ctx context.Context, kind uint32, n uint64, depth int) error {
	switch {
	case kind == ggufText:
		for range n {
			if _, err := r.text(ctx); err != nil {
				return err
			}
		}
		return nil
	case kind == ggufList && depth < 4:
		for range n {
			of, err := r.u32(ctx)
			if err != nil {
				return err
			}
			count, err := r.u64(ctx)
			if err != nil {
				return err
			}
			if err := r.skip(ctx, of, count, depth+1); err != nil {
				return err
			}
		}
		return nil
	case int(kind) >= len(sizes) || sizes[kind] == 0 || n > maxHeader/sizes[kind]:
		return fmt.Errorf("hub: %s: it is no GGUF file that can be read: a value of kind %d", r.f.Name, kind)
	}
	_, err := r.take(ctx, n*sizes[kind])
	return err
}

// gguf walks over the header of a GGUF file (version 2 and 3), and fetches the few tensors that are settings
// in the form of tensors: they are read with it.
func (r *remote) gguf(ctx context.Context, out io.WriterAt) error {
	magic, err := r.take(ctx, 4)
	if err != nil {
		return err
	}
	version, err := r.u32(ctx)
	if err != nil {
		return err
	}
	if string(magic) != "GGUF" || version < 2 || version > 3 {
		return fmt.Errorf("hub: %s: it is no GGUF file of version 2 or 3", r.f.Name)
	}
	count, err := r.u64(ctx)
	if err != nil {
		return err
	}
	keys, err := r.u64(ctx)
	if err != nil {
		return err
	}
	align := uint64(32)
	for range keys {
		key, err := r.text(ctx)
		if err != nil {
			return err
		}
		kind, err := r.u32(ctx)
		if err != nil {
			return err
		}
		at := r.at
		if err := r.skip(ctx, kind, 1, 0); err != nil {
			return err
		}
		if key == "general.alignment" && kind == 4 {
			align = uint64(binary.LittleEndian.Uint32(r.data[at:]))
		}
	}
	type setting struct{ offset, bytes uint64 }
	var settings []setting
	for range count {
		name, err := r.text(ctx)
		if err != nil {
			return err
		}
		n, err := r.u32(ctx)
		if err != nil {
			return err
		}
		values := uint64(1)
		for range n {
			d, err := r.u64(ctx)
			if err != nil {
				return err
			}
			values *= min(d, math.MaxUint32)
		}
		if _, err := r.u32(ctx); err != nil {
			return err
		}
		offset, err := r.u64(ctx)
		if err != nil {
			return err
		}
		if strings.HasPrefix(name, "rope_f") && n == 1 && values <= 1<<16 {
			settings = append(settings, setting{offset, 4 * values})
		}
	}
	if align == 0 || align > 1<<20 {
		return fmt.Errorf("hub: %s: its general.alignment is %d", r.f.Name, align)
	}
	start := (uint64(r.at) + align - 1) / align * align //nolint:gosec // not negative
	for _, s := range settings {
		from := start + s.offset
		if s.offset > math.MaxInt64/2 || from+s.bytes > uint64(r.f.Size) { //nolint:gosec // not negative
			return fmt.Errorf("hub: %s: a tensor lies beyond its end", r.f.Name)
		}
		var b bytes.Buffer
		if err := r.c.Read(ctx, r.l, r.f, int64(from), int64(s.bytes), &b, nil); err != nil { //nolint:gosec // within the file
			return err
		}
		if _, err := out.WriteAt(b.Bytes(), int64(from)); err != nil { //nolint:gosec // within the file
			return err
		}
	}
	r.data = r.data[:r.at]
	return nil
}

// errDamaged means that what came is not what the hub says.
var errDamaged = errors.New("damaged")

// Fetch fetches a model into a folder of models, whole or not at all: what was fetched lies in .pull-NAME
// there until everything is complete and has its checksum, and is used again by another Fetch. got is told of
// each piece, also of those that were there; cache is a folder as the hub's own client keeps one, from which
// files are taken that are there; "": none.
func (c *Client) Fetch(ctx context.Context, l Listing, choice Choice, dir, cache string, got func(n int64)) error {
	part := filepath.Join(dir, ".pull-"+choice.Name)
	if err := os.MkdirAll(part, 0o755); err != nil { //nolint:gosec // the service, another user, reads what people fetch
		return err
	}
	lock, err := os.OpenFile(filepath.Join(dir, ".pull-"+choice.Name+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close() //nolint:errcheck // nothing was written
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("hub: another edged is fetching %s at this moment", choice.Name)
	}
	if err := Room(dir, choice); err != nil {
		return err
	}
	for _, f := range choice.Files {
		came := false
		err := c.fetch(ctx, l, f, filepath.Join(part, choice.Local(f)), cached(cache, l, f), func(n int64) { came = came || n > 0; got(n) })
		switch {
		case err != nil && came && ctx.Err() == nil && !errors.Is(err, errDamaged):
			return fmt.Errorf("%w; what was fetched is kept, and the next pull goes on from there", err)
		case err != nil:
			return err
		}
	}
	if choice.Folder {
		err = os.Rename(part, filepath.Join(dir, choice.Name))
	} else {
		// The first part last: with it, the others are looked for.
		for i := len(choice.Files) - 1; i >= 0 && err == nil; i-- {
			name := choice.Local(choice.Files[i])
			err = os.Rename(filepath.Join(part, name), filepath.Join(dir, name))
		}
		if err == nil {
			err = os.RemoveAll(part)
		}
	}
	if err != nil {
		return err
	}
	return errors.Join(syncDir(dir), os.Remove(lock.Name()))
}

// Room refuses what the disk of a folder of models has no room for, beside what an earlier Fetch has left
// there. Sizes that the hub has not told yet count as nothing. The folder may be missing: then the nearest
// one above it counts.
func Room(dir string, choice Choice) error {
	part := filepath.Join(dir, ".pull-"+choice.Name)
	need := int64(0)
	for _, f := range choice.Files {
		need += max(f.Size, 0)
	}
	for _, f := range choice.Files {
		for _, name := range []string{choice.Local(f), unfinished(choice, f)} {
			if info, err := os.Stat(filepath.Join(part, name)); err == nil {
				need -= info.Size()
			}
		}
	}
	var st unix.Statfs_t
	at := dir
	for err := unix.Statfs(at, &st); err != nil; err = unix.Statfs(at, &st) {
		if !errors.Is(err, fs.ErrNotExist) || at == filepath.Dir(at) {
			return fmt.Errorf("hub: %s: %w", at, err)
		}
		at = filepath.Dir(at)
	}
	if free := int64(st.Bavail) * int64(st.Bsize); need > free { //nolint:gosec,unconvert // sizes of a disk; their types differ by system
		return fmt.Errorf("hub: %s has %d MiB free, and %s takes %d MiB more", dir, free>>20, choice.Name, need>>20)
	}
	return nil
}

// unfinished is the name of a file until it is whole. Its sum is in it, so that another revision does not go
// on with this one's bytes.
func unfinished(c Choice, f File) string {
	return c.Local(f) + "." + f.SHA256[:min(8, len(f.SHA256))] + ".part"
}

// fetch brings one file, or proves that it is there.
func (c *Client) fetch(ctx context.Context, l Listing, f File, to, source string, got func(n int64)) error {
	if info, err := os.Stat(to); err == nil && info.Size() == f.Size { // it has its name only after it was proved
		got(f.Size)
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil { //nolint:gosec // as above
		return err
	}
	part := to + "." + f.SHA256[:min(8, len(f.SHA256))] + ".part"
	out, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o644) //nolint:gosec // as above
	if err != nil {
		return err
	}
	err = c.fill(ctx, l, f, out, source, got)
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	return os.Rename(part, to)
}

// fill completes a file and proves it.
func (c *Client) fill(ctx context.Context, l Listing, f File, out *os.File, source string, got func(n int64)) error {
	hash := sha256.New()
	have, err := io.Copy(hash, io.LimitReader(out, f.Size))
	if err != nil {
		return err
	}
	if f.SHA256 == "" && have > 0 { // nothing would tell whether it is the same file's beginning
		hash.Reset()
		have = 0
	}
	if _, err := out.Seek(have, io.SeekStart); err != nil {
		return err
	}
	if err := out.Truncate(have); err != nil {
		return err
	}
	got(have)
	to := io.MultiWriter(out, hash)
	if in, err := os.Open(source); source != "" && err == nil && have == 0 {
		n, err := io.Copy(to, io.LimitReader(in, f.Size))
		_ = in.Close()
		if err != nil {
			return err
		}
		got(n)
		have = n
	}
	if err := c.Read(ctx, l, f, have, -1, to, func(n int) { got(int64(n)) }); err != nil {
		return err
	}
	if sum := hex.EncodeToString(hash.Sum(nil)); f.SHA256 != "" && sum != f.SHA256 {
		if source != "" { // what the cache holds is damaged
			got(-f.Size)
			if err := out.Truncate(0); err != nil {
				return err
			}
			if _, err := out.Seek(0, io.SeekStart); err != nil {
				return err
			}
			return c.fill(ctx, l, f, out, "", got)
		}
		return errors.Join(
			fmt.Errorf(
				"hub: %s: %w: its sha256 is %s, and the hub says %s: what was fetched is thrown away",
				f.Name,
				errDamaged,
				sum,
				f.SHA256,
			),
			out.Truncate(0),
		)
	}
	return nil
}

// cached is a file of the commit in a cache of the hub's own client; "": it is not there.
func cached(cache string, l Listing, f File) string {
	if cache == "" {
		return ""
	}
	file := filepath.Join(cache, "models--"+strings.ReplaceAll(l.Repo, "/", "--"), "snapshots", l.Commit, filepath.FromSlash(f.Name))
	if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() || info.Size() != f.Size {
		return ""
	}
	return file
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
